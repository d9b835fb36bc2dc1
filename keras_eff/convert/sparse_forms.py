"""Which layers have a sparse form, and why the others have none."""

import keras

from keras_eff import flops
from keras_eff.convert.model_copy import layers_inside
from keras_eff.layers.sparse_conv import SparseConv1D
from keras_eff.layers.sparse_conv import SparseConv2D
from keras_eff.layers.sparse_dense import SparseDense
from keras_eff.layers.sparse_einsum_dense import SparseEinsumDense
from keras_eff.layers.sparse_layer import SparseLayer

SPARSE_FORMS = {
    form.stock: form
    for form in (SparseDense, SparseConv1D, SparseConv2D, SparseEinsumDense)
}


def why_no_form(layer: keras.Operation) -> str | None:
    """Returns why a layer cannot become sparse, if it has a matrix.

    Args:
        layer: any layer of a model.

    Returns:
        String, or `None` for a layer that can, and for one without a matrix.
    """
    name = type(layer).__name__
    if isinstance(layer, SparseLayer):
        return "is sparse already"
    if isinstance(layer, tuple(SPARSE_FORMS)):
        if type(layer) not in SPARSE_FORMS:
            return f"{name} may have a rule of its own"
        if layer.quantization_mode is not None:
            return f"is quantized to {layer.quantization_mode}"
        is_einsum = isinstance(layer, keras.layers.EinsumDense)
        if is_einsum and len(_equation_of(layer).kernel) == 1:
            return "its kernel is a vector"
        return None
    return f"{name} has no sparse form" if _has_matrix(layer) else None


def why_no_channels(layer: keras.layers.Layer) -> str | None:
    """Returns why no input channels of a layer can be left out.

    Args:
        layer: layer of a type in `SPARSE_FORMS`.

    Returns:
        String, or `None` for a layer with channels that can.
    """
    if getattr(layer, "groups", 1) > 1:
        return f"groups={layer.groups} have channels of their own"
    axis = -2
    if isinstance(layer, keras.layers.EinsumDense):
        equation = _equation_of(layer)
        if len(equation.summed) != 1:
            return (
                f"sums over {len(equation.summed)} axes, so it has no channels"
            )
        axis = equation.kernel.index(equation.summed)
    if layer.built and layer.kernel.shape[axis] < 2:
        return "has one input channel"
    return None


def _equation_of(layer):
    return flops.EinsumEquation.parse(layer.equation)


def _has_matrix(layer):
    """Whether a layer has weights of two or more axes itself."""
    if not isinstance(layer, keras.layers.Layer):
        return False
    inner = {id(w) for la in layers_inside(layer) for w in la.weights}
    own = [w for w in layer.weights if id(w) not in inner]
    return any(len(weight.shape) > 1 for weight in own)
