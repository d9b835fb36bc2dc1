"""Sparse layers in place of Keras' own, and back with the zeros baked in."""

import warnings
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_eff import schedules
from keras_eff.convert.model_copy import Replacement
from keras_eff.convert.model_copy import copy_model
from keras_eff.convert.report import Report
from keras_eff.convert.sparse_forms import SPARSE_FORMS
from keras_eff.convert.sparse_forms import why_no_form
from keras_eff.convert.sparsity_plan import Plan
from keras_eff.layers.kernel_layer import KERNEL_OBJECTS
from keras_eff.layers.sparse_conv import SparseConv1D
from keras_eff.layers.sparse_layer import SparseLayer


def sparsify(
    model: keras.Model,
    sparsity: float | schedules.Schedule = 0.8,
    distribution: str = "uniform",
    granularity: str = "element",
    activation_sparsity: float | schedules.Schedule | None = None,
    update_every: int = 1,
    threshold: str = "exact",
    keep_dense: str | Sequence[str] | None = "first",
    where: str | Callable[[keras.layers.Layer], bool] | None = None,
    min_params: int = 0,
) -> tuple[keras.Model, Report]:
    """Returns a copy of a model whose large layers train sparse (SWAT).

    Each `Dense`, `Conv1D`, `Conv2D` and `EinsumDense` becomes a `SparseDense`
    and so on of the same name, weights, dtype policy, regularizers and
    `trainable` flag. The rest is copied, nested models included; layers called
    twice stay shared. With `sparsity=0.0` predictions are the same bit for
    bit. `strip_sparsity` is the way back.

    If the model is compiled, so is the copy, by `get_compile_config`: with an
    optimizer of the same settings that has taken no step yet. A loss that
    Keras cannot find again leaves the copy uncompiled, with a warning. The
    model that was given is left as it is.

    What it does not give: speed, except with `granularity="channel"`, see
    `keras_eff.layers.SparseDense`; and the accuracy of the model it is given:
    the weights set to zero are missed until it is trained on. The sparsity of
    the whole is lower than that asked for: biases, normalization and what the
    report calls skipped stay dense.

    Args:
        model: Functional or Sequential `keras.Model`.
        sparsity: float in `[0, 1)`, fraction of the weights set to zero in
            the products; with `"uniform"` also a `Schedule`. Defaults to
            `0.8`.
        distribution: string. `"uniform"`: the same for each layer. `"erk"`:
            less for smaller layers, `1 - s = eps sum(shape) / prod(shape)`,
            so that `sparsity` is that of all weights of the chosen layers
            together; those that would keep all stay dense. `"momentum"`:
            starts as `"uniform"`, from where the callback `SparsitySchedule`
            moves it between layers. Defaults to `"uniform"`.
        granularity: `"element"`, `"kernel"` or `"channel"`, see
            `keras_eff.layers.SparseConv2D`. With `"kernel"` layers that are
            no convolutions get `"element"`, as in the paper. Defaults to
            `"element"`.
        activation_sparsity: as in `SparseDense`. Defaults to `None`, that of
            the weights of the same layer.
        update_every: as in `SparseDense`. Defaults to `1`.
        threshold: as in `SparseDense`. Defaults to `"exact"`.
        keep_dense: `"first"`, as in the paper: with `"uniform"` the first
            such layer in call order stays dense, with `"erk"` and
            `"momentum"` none does, for they give it a share of its own.
            Names or paths: these layers stay dense. `None`: none does.
            Defaults to `"first"`.
        where: which layers: regular expression that is searched for in their
            paths, such as `"decoder/"`, or callable `layer -> bool`. Defaults
            to `None`, all.
        min_params: integer, layers with fewer weights in their kernel stay
            dense. Defaults to `0`.

    Returns:
        The new model and a `Report` with the sparsity of each layer, that of
        epoch 0. Skipped, each with its reason: what the arguments leave out,
        quantized layers, subclasses, other layers
        with matrices of their own, such as `DepthwiseConv2D`, what is inside
        another layer, such as `MultiHeadAttention`, and with `"channel"`
        layers with groups, sums over several axes or one input channel.

    Raises:
        ValueError: if an argument breaks its rule; if `model` is neither
            Functional nor Sequential, or one of its layers or its class
            cannot be copied.

    Example:
    >>> dense = keras.layers.Dense(10, name="dense")
    >>> last = keras.layers.Dense(2, name="last")
    >>> model = keras.Sequential([keras.Input((8,)), dense, last])
    >>> sparse, report = sparsify(model, sparsity=0.9)
    >>> report.sparsities, report.skipped
    ({'last': 0.9}, (('dense', 'the first layer stays dense'),))

    Reference:
    - [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
    """
    settings = {
        "sparsity": sparsity,
        "activation_sparsity": activation_sparsity,
        "granularity": granularity,
        "update_every": update_every,
        "threshold": threshold,
    }
    # Refuses them before the work starts: it takes all granularities.
    SparseConv1D(1, 1, name="sparsify", **settings)
    plan = Plan(
        sparsity, distribution, granularity, keep_dense, where, min_params
    )
    shares = plan.sparsities(model)

    def replace(layer):
        # One that is not in the plan is inside another layer.
        is_inside = type(layer) in SPARSE_FORMS
        default = "inside another layer" if is_inside else why_no_form(layer)
        share = shares.get(id(layer), default)
        if share is None or isinstance(share, str):
            return share
        return _sparse(layer, {**settings, "sparsity": share})

    copy, report = copy_model(model, replace)
    _compile_like(model, copy)
    return copy, report


def strip_sparsity(
    model: keras.Model, compact: bool = False
) -> tuple[keras.Model, Report]:
    """Returns a copy of a model without sparse layers, to export and keep.

    Each sparse layer becomes the Keras layer that it stands for, with the
    zeros of inference in its weights. Outputs are those of
    `model(x, training=False)` to rounding, files of it need no keras_eff, and
    no layer ranks weights any more: an exported graph has no `TopK` in it.
    Quantize, and compress, what comes back.

    What it does not give: with `compact=False`, a smaller or faster model;
    the zeros are stored and multiplied like other numbers. In both cases the
    sparsity of the activations, which only training uses, the stored
    selection and the weights that were not selected are gone: training on
    fills the zeros. The model that comes back is not compiled.

    Args:
        model: Functional or Sequential `keras.Model`.
        compact: bool. Whether layers with `granularity="channel"` get the
            smaller kernel of the channels that are kept, after a
            `keras.ops.take` of these. A `Sequential` that holds one, or an
            instance of a subclass, then becomes a plain Functional model.
            `Dense` layers whose inputs have a mask keep their size, for
            `take` drops masks. Defaults to `False`.

    Returns:
        The new model and a `Report` with the fraction of zeros in the weights
        of each layer, or with `compact=True` of the weights that are gone.
        Skipped, each with its reason: subclasses of the sparse layers, what
        is inside another layer, such as `TimeDistributed`, and, although
        converted, what keeps its size for a mask.

    Raises:
        ValueError: if `model` is neither Functional nor Sequential, if one of
            its layers or its class cannot be copied, or if `compact=True` and
            a `Sequential` is not built.

    Example:
    >>> from keras_eff.layers import SparseDense
    >>> dense = SparseDense(3, sparsity=0.5, granularity="channel", name="d")
    >>> model = keras.Sequential([keras.Input((8,)), dense])
    >>> plain, report = strip_sparsity(model)
    >>> type(plain.get_layer("d")).__name__, report.sparsities
    ('Dense', {'d': 0.5})
    >>> small, _ = strip_sparsity(model, compact=True)
    >>> model.count_params(), plain.count_params(), small.count_params()
    (27, 27, 15)
    """

    def replace(layer):
        if not isinstance(layer, SparseLayer):
            return None
        if type(layer) not in SPARSE_FORMS.values():
            return f"{type(layer).__name__} may have a rule of its own"
        return _stock(layer, compact)

    return copy_model(model, replace)


def _sparse(layer, settings):
    kind = SPARSE_FORMS[type(layer)]
    if settings["granularity"] not in kind.granularities:
        settings = {**settings, "granularity": "element"}
    config = layer.get_config()
    for name in {*KERNEL_OBJECTS, "quantization_config"} & config.keys():
        value = getattr(layer, name)
        if not isinstance(value, keras.layers.Layer):  # an activation's own
            config[name] = value  # which need not be registered
    sparsity = settings["sparsity"]
    return Replacement(
        kind(**config, **settings),
        fill=_set_by_name,
        sparsity=float(sparsity(0) if callable(sparsity) else sparsity),
    )


def _stock(layer, compact):
    activation = layer.activation
    if isinstance(activation, keras.layers.Layer):
        # One with weights of its own would be trained with the copy.
        activation = activation.from_config(activation.get_config())
    stock = layer.stock_layer(activation=activation)
    if not layer.built:
        return Replacement(stock)
    kernel = layer.sparse_kernel()
    channels, (of_inputs, of_kernel) = None, layer.channel_axes
    if compact and layer.granularity == "channel" and layer.selection:
        kept = layer.selection.of_weights(layer.merged_kernel())
        kept = ops.convert_to_numpy(kept)
        if len(kept) < kernel.shape[of_kernel]:
            channels = tuple(kept.astype(int).tolist())

    def fill(old, new):
        is_small = new.kernel.shape != kernel.shape
        part = ops.take(kernel, channels, of_kernel) if is_small else kernel
        new.kernel.assign(part)
        if old.bias is not None:
            new.bias.assign(old.bias)
        if new.activation is not old.activation:
            _copy_weights(old.activation, new.activation)

    return Replacement(
        stock,
        fill,
        sparsity=float(np.mean(ops.convert_to_numpy(kernel) == 0)),
        channels=channels,
        axis=of_inputs,
    )


def _copy_weights(old, new):
    if old.built and not new.built:
        new.build_from_config(old.get_build_config())
    for variable, value in zip(new.variables, old.variables, strict=True):
        variable.assign(value)


def _set_by_name(old, new):
    """The sparse layer has the variables of the Keras layer, and its own."""
    values = {variable.name: variable for variable in old.variables}
    for variable in new.variables:
        if variable.name in values:
            variable.assign(values[variable.name])


def _compile_like(model, copy):
    if not model.compiled:
        return
    try:
        copy.compile_from_config(model.get_compile_config())
    except (TypeError, ValueError) as error:
        warnings.warn(
            "The copy is not compiled: call `compile` on it, or register what "
            "Keras cannot find with "
            "`keras.saving.register_keras_serializable`. Received: "
            f"{str(error).splitlines()[0]}",
            stacklevel=3,
        )
