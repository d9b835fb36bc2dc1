"""Sparse einsum layers against `numpy.einsum`."""

import re

import checks
import keras
import numpy as np
import pytest
import references
import tensorflow as tf

from keras_eff.layers import SparseEinsumDense

EAGER, GRAPH, XLA = None, False, True


# equation: shape of the inputs, output_shape, bias_axes, axes of the channels
ONE_SUM = {
    "abc,cd->abd": ((3, 5, 7), (None, 4), "d", (-1, 0)),
    "abc,cde->abde": ((3, 5, 7), (None, 2, 3), "de", (-1, 0)),
    "...ab,bc->...ac": ((2, 3, 5, 7), (5, 4), "c", (-1, 0)),
    "ab...,bc->ac...": ((3, 7, 5), (4, None), None, (1, 0)),
    "abc,dc->abd": ((3, 5, 7), (None, 4), None, (-1, 1)),
    "abc,bcd->abd": ((3, 5, 7), (5, 4), "bd", (-1, 1)),
}
TWO_SUMS = {"abcd,cde->abe": ((3, 5, 2, 7), (None, 4), "e", None)}
EQUATIONS = ONE_SUM | TWO_SUMS


def layer_of(equation, **kwargs):
    """A built layer, its inputs and upstream gradient, with ties."""
    shape, output_shape, bias_axes, _ = EQUATIONS[equation]
    layer = SparseEinsumDense(
        equation, output_shape, bias_axes=bias_axes, **kwargs
    )
    layer.build((None, *shape[1:]))
    generator = np.random.default_rng(11)
    weights = [
        generator.normal(size=w.shape).astype("float32")
        for w in layer.trainable_weights
    ]
    weights[0].flat[:4] = [0.3, -0.3, 0.3, 0.3]
    x = generator.normal(size=shape).astype("float32")
    x.flat[:8] = 0.7
    for variable, value in zip(layer.trainable_weights, weights, strict=True):
        variable.assign(value)
    dy = generator.normal(size=layer(x).shape).astype("float32")
    return layer, x, weights, dy


def expected_of(layer, x, weights, dy):
    y, dx, dkernel = references.sparse_operation(
        references.einsum(layer.equation, x.ndim),
        x,
        weights[0],
        dy,
        tuple(layer.asked_sparsities.values()),
        layer.granularity,
        EQUATIONS[layer.equation][-1],
    )
    if layer.bias is None:
        return y, dx, dkernel
    bias = weights[1]
    first = tuple(range(dy.ndim - bias.ndim))
    return y + bias, dx, dkernel, dy.sum(first, "float64")


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize(
    ("equation", "granularity"),
    [(equation, "element") for equation in EQUATIONS]
    + [(equation, "channel") for equation in ONE_SUM],
)
@pytest.mark.parametrize("of_activations", [None, 0.0, 0.3])
def test_forward_and_gradients_follow_the_reference(
    equation, granularity, of_activations, jit_compile
):
    layer, x, weights, dy = layer_of(
        equation,
        sparsity=0.6,
        activation_sparsity=of_activations,
        granularity=granularity,
    )
    found = checks.forward_and_gradients(layer, x, dy, jit_compile)
    checks.is_close_to(found, expected_of(layer, x, weights, dy))


@pytest.mark.parametrize("equation", ONE_SUM)
def test_channels_that_are_not_selected_get_no_gradient(equation):
    layer, x, _, dy = layer_of(equation, sparsity=0.7, granularity="channel")
    of_inputs, of_kernel = EQUATIONS[equation][-1]
    _, dx, dkernel, *_ = checks.forward_and_gradients(layer, x, dy)
    for gradient, axis in ((dx, of_inputs), (dkernel, of_kernel)):
        rows = np.moveaxis(gradient, axis, 0)
        assert sum(row.any() for row in rows) == 3  # ceil(0.3 * 7)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_masked_weights_receive_gradient(equation):
    layer, x, _, dy = layer_of(equation, sparsity=0.8, activation_sparsity=0.0)
    masked = np.array(layer.sparse_kernel()) == 0
    dkernel = checks.forward_and_gradients(layer, x, dy)[2]
    assert masked.mean() > 0.6
    assert (dkernel[masked] != 0).all()


def test_all_zero_inputs_give_finite_gradients():
    layer, x, _, dy = layer_of("abc,cde->abde", sparsity=0.8)
    y, dx, dkernel, _ = checks.forward_and_gradients(layer, 0 * x, dy)
    np.testing.assert_array_equal(y, np.broadcast_to(layer.bias, y.shape))
    assert not dkernel.any()
    assert np.isfinite(dx).all()
    assert dx.any()


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_sparsity_zero_is_keras_bit_for_bit(equation, dtype, jit_compile):
    shape, output_shape, bias_axes, _ = EQUATIONS[equation]
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    results = []
    for make, sparse in (
        (SparseEinsumDense, {"sparsity": 0.0}),
        (keras.layers.EinsumDense, {}),
    ):
        keras.utils.set_random_seed(0)
        layer = make(
            equation, output_shape, bias_axes=bias_axes, dtype=dtype, **sparse
        )
        layer.build(shape)
        following = keras.layers.Dense(2)  # has the next seed
        following.build((None, 3))
        dy = tf.ones(layer(x).shape, layer.compute_dtype)
        results.append(
            [
                *checks.forward_and_gradients(layer, x, dy, jit_compile),
                *layer.get_weights(),
                following.kernel.numpy(),
            ]
        )
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_stock_layer_computes_with_the_sparse_kernel(equation):
    layer, x, weights, _ = layer_of(equation, sparsity=0.6, name="named")
    stock = layer.stock_layer()
    assert type(stock) is keras.layers.EinsumDense
    assert stock.name == "named"
    stock.build(x.shape)
    stock.set_weights([layer.sparse_kernel(), *weights[1:]])
    np.testing.assert_allclose(layer(x), stock(x), rtol=1e-5, atol=1e-5)


def test_an_attention_block_of_einsum_layers_trains():
    def project(equation, shape, bias_axes, granularity):
        return SparseEinsumDense(
            equation,
            shape,
            sparsity=0.5,
            granularity=granularity,
            bias_axes=bias_axes,
        )

    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    heads = [
        project("abc,cde->abde", (None, 2, 4), "de", granularity)(inputs)
        for granularity in ("element", "channel", "element")
    ]
    attended = keras.ops.nn.dot_product_attention(*heads)
    mixed = project("abcd,cde->abe", (None, 8), "e", "element")(attended)
    model = keras.Model(inputs, mixed)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x = np.random.default_rng(0).normal(size=(64, 6, 8)).astype("float32")
    losses = model.fit(x, x.mean(1, keepdims=True) + 0 * x, epochs=8, verbose=0)
    assert losses.history["loss"][-1] < 0.5 * losses.history["loss"][0]


def test_savings_count_the_letters_that_are_summed():
    layer = SparseEinsumDense("abcd,cde->abe", (None, 4), sparsity=0.75)
    layer.build((None, 5, 2, 8))
    theoretical, executed = layer.savings()
    dense = 3 * 2 * (2 * 8) * (5 * 4)
    assert theoretical.baseline == executed.actual == dense
    assert theoretical.actual == pytest.approx(dense / 4)


@pytest.mark.parametrize(
    ("equation", "shape", "message"),
    [
        (
            "abcd,cde->abe",
            (None, 4),
            "With granularity='channel' the argument `equation` must sum over "
            "one axis, the channels. Received: equation='abcd,cde->abe' "
            "(layer 'bad')",
        ),
        (
            "abc,bc->abc",
            (4, 4),
            "one axis, the channels. Received: equation='abc,bc->abc'",
        ),
    ],
)
def test_channels_need_one_sum(equation, shape, message):
    layer = SparseEinsumDense(
        equation, shape, granularity="channel", name="bad"
    )
    ndim = len(equation.split(",")[0])
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.build((None, 4, 4, 4)[:ndim])


def test_bad_arguments_are_named():
    message = (
        "Argument `granularity` must be one of ['element', 'channel']. "
        "Received: granularity='kernel' (layer 'bad')"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        SparseEinsumDense("ab,bc->ac", 4, granularity="kernel", name="bad")
