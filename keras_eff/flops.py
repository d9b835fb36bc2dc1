"""What a Keras model costs: FLOPs by layer, under a named convention.

FLOPs of one example, three columns that never mix:

- `dense_*`: every multiplication of the layer, zeros included;
- `forward`, `training`: without multiplications by zeros that a layer knows
  of (theoretical: stock hardware executes them all the same);
- `executed_*`: what the hardware is given to do.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras

from keras_eff import model_calls
from keras_eff.einsum_equation import EinsumEquation as EinsumEquation
from keras_eff.flop_records import CONVENTIONS as CONVENTIONS
from keras_eff.flop_records import Flops as Flops
from keras_eff.flop_records import LayerFlops as LayerFlops
from keras_eff.flop_records import Products as Products
from keras_eff.flop_records import Report as Report
from keras_eff.flop_records import Shape as Shape
from keras_eff.flop_records import Unsupported as Unsupported
from keras_eff.flop_records import check_convention
from keras_eff.flop_records import matmul as matmul

Sparsity = float | Callable[[Any], float]


Cost = Products | tuple[Products, ...] | Flops
Rule = Callable[[Any, Shape, Shape], Cost]
_RULES: dict[type, Rule] = {}

# These multiply no matrices. Everything that is neither here nor in `_RULES`
# is reported as unsupported.
_FREE = tuple(
    getattr(keras.layers, name)
    for name in (
        "Activation ActivityRegularization Add AlphaDropout Average"
        " AveragePooling1D AveragePooling2D AveragePooling3D"
        " BatchNormalization CategoryEncoding Concatenate Cropping1D"
        " Cropping2D Cropping3D Dropout ELU Embedding Flatten GaussianDropout"
        " GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D"
        " GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D"
        " GlobalMaxPooling3D GroupNormalization Identity InputLayer"
        " LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D"
        " MaxPooling3D Maximum Minimum Multiply Normalization PReLU Permute"
        " RMSNormalization ReLU RepeatVector Rescaling Reshape Softmax"
        " SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract"
        " UnitNormalization UpSampling1D UpSampling2D UpSampling3D"
        " ZeroPadding1D ZeroPadding2D ZeroPadding3D"
    ).split()
)


def rule(layer_class: type) -> Callable[[Rule], Rule]:
    """Registers how to count a layer class; used as a decorator.

    The function takes `(layer, input_shape, output_shape)`, shapes with the
    batch axis, and returns `Products`, or a tuple of them in the order of the
    data. It may return `Flops`, which count in convention "matmul" alone. A
    rule of a subclass wins over its base's. A rule that raises
    `NotImplementedError` has the layer listed as unsupported, with the message
    as the reason.

    Args:
        layer_class: class of the layers that the rule counts.

    Example:
    >>> class Twice(keras.layers.Dense):
    ...     def call(self, inputs):
    ...         return super().call(inputs) + super().call(inputs)
    >>> @rule(Twice)
    ... def _twice(layer, input_shape, output_shape):
    ...     return Products(forward=2 * matmul(input_shape[-1], output_shape))
    >>> model = keras.Sequential([keras.Input((4,)), Twice(3)])
    >>> count(model).forward
    48
    """

    def register(function: Rule) -> Rule:
        _RULES[layer_class] = function
        return function

    return register


@rule(keras.layers.Dense)
def _dense(layer, input_shape, output_shape):
    return Products(forward=matmul(input_shape[-1], output_shape))


@rule(keras.layers.EinsumDense)
def _einsum_dense(layer, input_shape, output_shape):
    equation = EinsumEquation.parse(layer.equation)
    return Products(forward=equation.flops(input_shape, layer.kernel.shape))


@rule(keras.layers.Conv1D)
@rule(keras.layers.Conv2D)
@rule(keras.layers.Conv3D)
def _conv(layer, input_shape, output_shape):
    # (*kernel_size, channels / groups, filters)
    terms = math.prod(layer.kernel.shape[:-1])
    forward = matmul(terms, output_shape)
    return Products(forward=forward, stride=math.prod(layer.strides))


@rule(keras.layers.DepthwiseConv1D)
@rule(keras.layers.DepthwiseConv2D)
def _depthwise_conv(layer, input_shape, output_shape):
    forward = matmul(math.prod(layer.kernel_size), output_shape)
    return Products(forward=forward, stride=math.prod(layer.strides))


@rule(keras.layers.SeparableConv1D)
@rule(keras.layers.SeparableConv2D)
def _separable_conv(layer, input_shape, output_shape):
    positions = math.prod(output_shape[1:]) // layer.filters
    kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
    depthwise, pointwise = (
        2 * positions * math.prod(kernel.shape) for kernel in kernels
    )
    return (
        Products(forward=depthwise, stride=math.prod(layer.strides)),
        Products(forward=pointwise),
    )


@rule(keras.layers.Conv1DTranspose)
@rule(keras.layers.Conv2DTranspose)
@rule(keras.layers.Conv3DTranspose)
def _conv_transpose(layer, input_shape, output_shape):
    # Each input entry meets (*kernel_size, filters) weights. The strides
    # are in the forward pass, and its gradient is a plain convolution.
    terms = math.prod(layer.kernel.shape[:-1])
    return Products(forward=matmul(terms, input_shape))


def count(
    model: keras.Model,
    convention: str = "matmul",
    sparsity: Sparsity | None = None,
) -> Report:
    """Counts the FLOPs that a Functional or Sequential model costs an example.

    A layer that is called twice counts twice. Layers without a rule, and
    layers whose shapes are not static, are listed in `.unsupported` with the
    reason and are not in the sums.

    With `sparsity` it answers what sparse layers would save: the theoretical
    columns are those of the model as if its layers had this sparsity, in
    weights and activations, in place of their own. The other columns stay:
    zeros alone save no time.

    Args:
        model: built `keras.Model`, Functional or Sequential.
        convention: string, one of `CONVENTIONS`. The input gradient costs a
            forward pass in `"matmul"`; nothing in the first layer with weights
            in `"standard"`; a forward pass at the input's resolution in
            `"swat"` (Raihan and Aamodt, 2020). Defaults to `"matmul"`.
        sparsity: float in `[0, 1)`, or a function `layer -> float`. Fraction
            of zeros to suppose. Defaults to `None`: the layers' own.

    Returns:
        A `Report`: `.forward`, `.training` (theoretical), `.executed_forward`,
        `.executed_training`, `.dense_forward`, `.dense_training`, `.layers`,
        `.unsupported`, `.convention`, `.as_if_sparse`.

    Raises:
        ValueError: if `convention` is unknown, a sparsity is outside `[0, 1)`,
            or the model is subclassed or not built.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> report = count(model)
    >>> report.forward, report.training
    (64, 192)
    >>> count(model, sparsity=0.75).training
    48.0
    """
    check_convention(convention)
    if sparsity is not None and not callable(sparsity):
        _check_sparsity(sparsity)
    rows, unsupported, is_first = [], [], True
    for path, layer, input_shape in model_calls.calls_of(model):
        name = type(layer).__name__
        try:
            cost = _cost_of(layer, input_shape)
            flops = _flops_of(cost, layer, convention, is_first, sparsity)
        except NotImplementedError as error:
            unsupported.append(Unsupported(path, name, str(error)))
        else:
            rows.append(LayerFlops(path=path, layer=name, **flops))
        is_first = is_first and not _has_parameters(layer)
    return Report(
        convention=convention,
        as_if_sparse=sparsity is not None,
        layers=tuple(rows),
        unsupported=tuple(unsupported),
        **_sums(rows),
    )


def _cost_of(layer: Any, input_shape: Any) -> Cost:
    if getattr(layer, "lora_enabled", False):
        raise NotImplementedError("LoRA adapters are not counted")
    for base in type(layer).__mro__:
        if base in _RULES:
            output_shape = layer.compute_output_shape(input_shape)
            if None in (*input_shape[1:], *output_shape[1:]):
                raise NotImplementedError(
                    f"shape {input_shape} is not static beyond the batch"
                )
            return _RULES[base](layer, input_shape, output_shape)
    if isinstance(layer, _FREE):
        return ()
    raise NotImplementedError("no rule for this layer; see flops.rule")


def _flops_of(cost, layer, convention, is_first, sparsity) -> dict[str, float]:
    if isinstance(cost, Flops):
        if convention != "matmul" or sparsity is not None:
            raise NotImplementedError(
                "its rule returns Flops, which are fixed: of convention "
                "'matmul' and its own sparsity; flops.Products are not"
            )
        return cost.to_dict()
    products = cost if isinstance(cost, tuple) else (cost,)
    if products and sparsity is not None:
        kept = 1 - float(_sparsity_of(layer, sparsity))
        products = [
            dataclasses.replace(p, weights_kept=kept, activations_kept=kept)
            for p in products
        ]
    return _sums(
        product.flops(convention, is_first=is_first and index == 0)
        for index, product in enumerate(products)
    )


def _sparsity_of(layer: Any, sparsity: Sparsity) -> float:
    if not callable(sparsity):
        return sparsity
    value = sparsity(layer)
    _check_sparsity(value, f" for layer {layer.name!r}")
    return value


def _check_sparsity(value: Any, where: str = "") -> None:
    if not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(
            "Argument `sparsity` must be in [0, 1): it is the fraction of "
            f"zeros, or a function that returns it. Received: "
            f"sparsity={value!r}{where}"
        )


def _has_parameters(layer: Any) -> bool:
    # `Normalization` keeps statistics of the data, which get no gradient.
    is_data = isinstance(layer, keras.layers.Normalization)
    return bool(getattr(layer, "weights", ())) and not is_data


def _sums(rows: Iterable[Flops]) -> dict[str, float]:
    rows = list(rows)
    return {
        field.name: sum(getattr(row, field.name) for row in rows)
        for field in dataclasses.fields(Flops)
    }
