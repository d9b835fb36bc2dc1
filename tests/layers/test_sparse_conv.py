"""Sparse convolutions against loops over the places of the kernel."""

import re

import checks
import keras
import numpy as np
import pytest
import references
import tensorflow as tf

import keras_eff as ke
from keras_eff.layers import SparseConv1D
from keras_eff.layers import SparseConv2D

EAGER, GRAPH, XLA = None, False, True
# Odd sizes, and one that a stride of 2 divides.
SIZES = {SparseConv1D: (9,), SparseConv2D: (7, 8)}
WINDOWS = {SparseConv1D: (3,), SparseConv2D: (3, 2)}
CHANNELS, FILTERS = 6, 4

granularities = pytest.mark.parametrize(
    "granularity", ["element", "kernel", "channel"]
)
both = pytest.mark.parametrize("make", [SparseConv1D, SparseConv2D])


def inputs_of(make, groups=1):
    """Inputs and a kernel, with ties between entries and channels."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(3, *SIZES[make], CHANNELS)).astype("float32")
    shape = (*WINDOWS[make], CHANNELS // groups, FILTERS)
    kernel = generator.normal(size=shape).astype("float32")
    x[..., 1] = -x[..., 0]
    x[0, ..., 2] = np.float32(0.7)
    kernel[..., 1, :] = kernel[..., 0, :]
    return x, kernel, generator.normal(size=FILTERS).astype("float32")


def layer_with(make, kernel, bias, groups=1, **kwargs):
    layer = make(FILTERS, WINDOWS[make], groups=groups, **kwargs)
    layer.build((None, *SIZES[make], CHANNELS))
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    return layer


def expected_of(layer, x, kernel, bias):
    """Returns dy, and the reference's y, dx, dkernel and dbias."""
    operation = references.convolution(
        x.shape[1:-1],
        kernel.shape,
        layer.strides,
        layer.padding,
        layer.dilation_rate,
        layer.groups,
    )
    shape = layer.compute_output_shape(x.shape)
    dy = np.random.default_rng(7).normal(size=shape).astype("float32")
    sparsities = tuple(layer.asked_sparsities.values())
    y, dx, dkernel = references.sparse_operation(
        operation, x, kernel, dy, sparsities, layer.granularity
    )
    dbias = dy.sum(tuple(range(dy.ndim - 1)), "float64")
    return dy, (y + bias, dx, dkernel, dbias)


SETTINGS = [
    {},
    {"padding": "same"},
    {"strides": 2},
    {"strides": 2, "padding": "same"},
    {"dilation_rate": 2},
    {"dilation_rate": 2, "padding": "same"},
    {"padding": "causal"},
    {"padding": "causal", "strides": 2},
    {"padding": "causal", "dilation_rate": 2},
    {"groups": 2},
    {"groups": 2, "strides": 2, "padding": "same"},
]


def allowed(make, setting, granularity):
    is_causal = setting.get("padding") == "causal"
    is_grouped = setting.get("groups", 1) > 1
    return not (is_causal and make is SparseConv2D) and not (
        is_grouped and granularity == "channel"
    )


@pytest.mark.parametrize(
    ("make", "setting", "granularity"),
    [
        (make, setting, granularity)
        for make in (SparseConv1D, SparseConv2D)
        for setting in SETTINGS
        for granularity in ("element", "kernel", "channel")
        if allowed(make, setting, granularity)
    ],
)
def test_forward_and_gradients_follow_the_reference(make, setting, granularity):
    x, kernel, bias = inputs_of(make, setting.get("groups", 1))
    layer = layer_with(
        make, kernel, bias, sparsity=0.6, granularity=granularity, **setting
    )
    dy, expected = expected_of(layer, x, kernel, bias)
    # Graph: eager grouped convolutions compile at each call, Keras' own too.
    found = checks.forward_and_gradients(layer, x, dy, GRAPH)
    checks.is_close_to(found, expected)


@both
@granularities
@pytest.mark.parametrize("jit_compile", [EAGER, XLA])
@pytest.mark.parametrize("of_activations", [0.0, 0.3, 0.9])
def test_two_sparsities_in_eager_mode_and_xla(
    make, granularity, jit_compile, of_activations
):
    x, kernel, bias = inputs_of(make)
    layer = layer_with(
        make,
        kernel,
        bias,
        sparsity=0.7,
        activation_sparsity=of_activations,
        granularity=granularity,
        padding="same",
        strides=2,
    )
    dy, expected = expected_of(layer, x, kernel, bias)
    found = checks.forward_and_gradients(layer, x, dy, jit_compile)
    checks.is_close_to(found, expected)


@granularities
def test_channels_first_is_channels_last_transposed(granularity):
    """Under XLA, which has such convolutions on all devices."""
    x, kernel, bias = inputs_of(SparseConv2D)
    options = {"sparsity": 0.6, "granularity": granularity, "padding": "same"}
    last = layer_with(SparseConv2D, kernel, bias, **options)
    dy, expected = expected_of(last, x, kernel, bias)
    first = SparseConv2D(
        FILTERS,
        WINDOWS[SparseConv2D],
        data_format="channels_first",
        **options,
    )
    first.build((None, CHANNELS, *SIZES[SparseConv2D]))
    first.kernel.assign(kernel)
    first.bias.assign(bias)
    x, dy = (np.moveaxis(a, -1, 1) for a in (x, dy))
    y, dx, dkernel, dbias = checks.forward_and_gradients(first, x, dy, XLA)
    y, dx = (np.moveaxis(a, 1, -1) for a in (y, dx))
    checks.is_close_to([y, dx, dkernel, dbias], expected)


@granularities
def test_causal_convolution_with_channels_first(granularity):
    x, kernel, bias = inputs_of(SparseConv1D)
    options = {"sparsity": 0.6, "granularity": granularity, "padding": "causal"}
    last = layer_with(SparseConv1D, kernel, bias, **options)
    dy, expected = expected_of(last, x, kernel, bias)
    first = SparseConv1D(
        FILTERS,
        WINDOWS[SparseConv1D],
        data_format="channels_first",
        **options,
    )
    first.build((None, CHANNELS, *SIZES[SparseConv1D]))
    first.kernel.assign(kernel)
    first.bias.assign(bias)
    x, dy = (np.moveaxis(a, -1, 1) for a in (x, dy))
    y, dx, *others = checks.forward_and_gradients(first, x, dy, XLA)
    y, dx = (np.moveaxis(a, 1, -1) for a in (y, dx))
    checks.is_close_to([y, dx, *others], expected)


@both
def test_channels_that_are_not_selected_get_no_gradient(make):
    x, kernel, bias = inputs_of(make)
    x[..., 4] *= 9  # an input channel that is large, of small weights
    kernel[..., 4, :] /= 9
    layer = layer_with(
        make, kernel, bias, sparsity=0.5, granularity="channel", padding="same"
    )
    i = references.largest_channels(kernel, -2, 0.5)
    j = references.largest_channels(x, -1, 0.5)
    assert i != j
    dy = np.ones(layer.compute_output_shape(x.shape), "float32")
    _, dx, dkernel, _ = checks.forward_and_gradients(layer, x, dy)
    touched = [c for c in range(CHANNELS) if dx[..., c].any()]
    learning = [c for c in range(CHANNELS) if dkernel[..., c, :].any()]
    assert (touched, learning) == (i, j)


@pytest.mark.parametrize("granularity", ["element", "kernel"])
def test_masked_weights_receive_gradient(granularity):
    x, kernel, bias = inputs_of(SparseConv2D)
    layer = layer_with(
        SparseConv2D, kernel, bias, sparsity=0.8, granularity=granularity
    )
    masked = np.array(layer.sparse_kernel()) == 0
    dy, _ = expected_of(layer, x, kernel, bias)
    dkernel = checks.forward_and_gradients(layer, x, dy)[2]
    assert masked.mean() > 0.7
    assert (dkernel[masked] != 0).all()


@both
@granularities
def test_all_zero_inputs_give_finite_gradients(make, granularity):
    x, kernel, bias = inputs_of(make)
    layer = layer_with(
        make, kernel, bias, sparsity=0.8, granularity=granularity
    )
    dy, _ = expected_of(layer, x, kernel, bias)
    zeros = np.zeros_like(x)
    y, dx, dkernel, _ = checks.forward_and_gradients(layer, zeros, dy)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))
    assert not dkernel.any()
    assert np.isfinite(dx).all()
    assert dx.any()


@granularities
def test_all_zero_kernels_give_finite_gradients(granularity):
    x, kernel, bias = inputs_of(SparseConv2D)
    layer = layer_with(
        SparseConv2D, 0 * kernel, bias, sparsity=0.8, granularity=granularity
    )
    dy, _ = expected_of(layer, x, kernel, bias)
    y, dx, dkernel, _ = checks.forward_and_gradients(layer, x, dy)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))
    assert not dx.any()
    assert np.isfinite(dkernel).all()
    assert dkernel.any()


@both
@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_sparsity_zero_is_keras_bit_for_bit(make, dtype, jit_compile):
    x, *_ = inputs_of(make)
    options = {
        "strides": 2,
        "padding": "same",
        "activation": "gelu",
        "dtype": dtype,
    }
    results = []
    for layer_of, sparse in ((make, {"sparsity": 0.0}), (make.stock, {})):
        keras.utils.set_random_seed(0)
        layer = layer_of(FILTERS, WINDOWS[make], **options, **sparse)
        following = keras.layers.Dense(2)  # has the next seed
        following.build((None, 3))
        layer.build(x.shape)
        dy = tf.ones(layer.compute_output_shape(x.shape), layer.compute_dtype)
        results.append(
            [
                *checks.forward_and_gradients(layer, x, dy, jit_compile),
                *layer.get_weights(),
                following.kernel.numpy(),
            ]
        )
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@both
@granularities
def test_the_stock_layer_computes_with_the_sparse_kernel(make, granularity):
    x, kernel, bias = inputs_of(make)
    layer = layer_with(
        make,
        kernel,
        bias,
        sparsity=0.6,
        granularity=granularity,
        activation="relu",
        strides=2,
        padding="same",
        kernel_regularizer="l2",
        name="named",
    )
    stock = layer.stock_layer()
    assert type(stock) is make.stock
    stock.build(x.shape)
    stock.set_weights([layer.sparse_kernel(), bias])
    np.testing.assert_allclose(layer(x), stock(x), rtol=1e-5, atol=1e-5)
    expected = make.stock(
        FILTERS,
        WINDOWS[make],
        activation="relu",
        strides=2,
        padding="same",
        kernel_regularizer="l2",
        name="named",
    )
    assert stock.get_config() == expected.get_config()


def test_other_layers_keep_their_names():
    keras.backend.clear_session()
    SparseConv2D(2, 3)
    assert keras.layers.Conv2D(2, 3).name == "conv2d"


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_images_of_any_size(data_format):
    """The ReLU packs its bits along an axis of unknown size."""
    is_last = data_format == "channels_last"
    sizes = (None, None, 6) if is_last else (6, None, None)
    layer = SparseConv2D(
        4,
        3,
        sparsity=0.5,
        granularity="channel",
        data_format=data_format,
        activation="relu",
    )
    layer.build((None, *sizes))

    @tf.function(input_signature=[tf.TensorSpec((None, *sizes))])
    def run(x):
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
        return y, tape.gradient(y, layer.kernel.value)

    x = np.random.default_rng(0).normal(size=(2, *(n or 7 for n in sizes)))
    y, gradient = run(x.astype("float32"))
    with tf.GradientTape() as tape:
        expected = layer(x.astype("float32"), training=True)
    assert np.array(gradient).any()
    checks.is_close_to(
        [y.numpy(), gradient.numpy()],
        [
            expected.numpy(),
            tape.gradient(expected, layer.kernel.value).numpy(),
        ],
    )


def test_a_mask_stops_where_that_of_keras_does():
    """Steps that a stride skips have no mask."""
    x = keras.layers.Masking()(np.ones((2, 8, 3), "float32"))
    with pytest.warns(UserWarning, match="destroy the mask information"):
        y = SparseConv1D(2, 3, strides=2)(x)
    assert getattr(y, "_keras_mask", None) is None


def test_savings_count_the_stride():
    layer = SparseConv2D(8, 3, sparsity=0.75, strides=2, granularity="channel")
    layer.build((None, 9, 9, 4))
    theoretical, executed = layer.savings()
    dense = 3 * 2 * (3 * 3 * 4) * (4 * 4 * 8)
    assert theoretical.baseline == dense
    assert theoretical.actual == executed.actual == pytest.approx(dense / 4)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (
            SparseConv2D,
            {"granularity": "filter"},
            "Argument `granularity` must be one of ['element', 'kernel', "
            "'channel']. Received: granularity='filter' (layer 'bad')",
        ),
        (
            SparseConv2D,
            {"granularity": "channel", "groups": 2},
            "With granularity='channel' a convolution must have one group: "
            "groups have channels of their own. Received: groups=2 "
            "(layer 'bad')",
        ),
        (
            SparseConv1D,
            {"sparsity": 1},
            "Argument `sparsity` must be in [0, 1), or a Schedule of such "
            "numbers (of `keras_eff.schedules`: it is saved with the layer). "
            "It is the fraction of zeros, not the fraction kept. "
            "Received: sparsity=1 (layer 'bad')",
        ),
        (SparseConv2D, {"padding": "causal"}, "padding"),
        (SparseConv2D, {"filters": 0}, "filters=0"),
        (SparseConv1D, {"strides": 2, "dilation_rate": 2}, "dilation_rate"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**{"filters": 4, "kernel_size": 3, "name": "bad", **arguments})


def test_channels_must_fill_the_groups():
    layer = SparseConv1D(4, 3, groups=2, name="bad")
    message = (
        "Argument `groups` must divide the channels of the input. Received: "
        "groups=2, input of shape (None, 8, 3) (layer 'bad')"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.build((None, 8, 3))


def test_a_schedule_needs_thresholds():
    message = (
        "With granularity='channel' the argument `sparsity` must be a number"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        SparseConv2D(
            2,
            3,
            sparsity=ke.schedules.constant(0.5),
            granularity="channel",
        )
