import re

import checks
import keras
import numpy as np
import pytest
import references
import tensorflow as tf

import keras_eff as ke
from keras_eff.layers import SparseDense

EAGER, GRAPH, XLA = None, False, True


def data(shape=(7, 5), units=4):
    """Odd sizes, with ties in the inputs and in the kernel."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=shape).astype("float32")
    kernel = generator.normal(size=(shape[-1], units)).astype("float32")
    x[..., 1] = x[..., 0] = np.float32(0.7)
    kernel[0], kernel[1] = 0.3, -0.3
    bias = generator.normal(size=units).astype("float32")
    dy = generator.normal(size=(*shape[:-1], units)).astype("float32")
    return x, kernel, bias, dy


def layer_with(kernel, bias, **kwargs):
    layer = SparseDense(kernel.shape[1], **kwargs)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel, bias])
    return layer


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("of_activations", [None, 0.0, 0.5])
@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.8, 0.95])
def test_forward_and_gradients_follow_the_paper(
    sparsity, of_activations, jit_compile
):
    x, kernel, bias, dy = data()
    layer = layer_with(
        kernel, bias, sparsity=sparsity, activation_sparsity=of_activations
    )
    found = checks.forward_and_gradients(layer, x, dy, jit_compile)
    if of_activations is None:
        of_activations = sparsity
    expected = references.swat(x, kernel, bias, dy, sparsity, of_activations)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
def test_inner_axes_count_as_more_examples(jit_compile):
    x, kernel, bias, dy = data(shape=(3, 6, 5))
    layer = layer_with(kernel, bias, sparsity=0.6)
    y, dx, dkernel, dbias = checks.forward_and_gradients(
        layer, x, dy, jit_compile
    )
    rows, dy_rows = x.reshape(-1, 5), dy.reshape(-1, 4)
    expected = references.swat(rows, kernel, bias, dy_rows, 0.6, 0.6)
    np.testing.assert_allclose(y.reshape(-1, 4), expected[0], atol=1e-5)
    np.testing.assert_allclose(dx.reshape(-1, 5), expected[1], atol=1e-5)
    np.testing.assert_allclose(dkernel, expected[2], atol=1e-5)
    np.testing.assert_allclose(dbias, expected[3], atol=1e-5)


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("shape", [(7, 5), (3, 6, 5)])
def test_sparsity_zero_is_dense_bit_for_bit(shape, dtype, jit_compile):
    x, kernel, bias, dy = data(shape)
    options = {"activation": "gelu", "dtype": dtype}
    sparse = layer_with(kernel, bias, sparsity=0.0, **options)
    dense = keras.layers.Dense(4, **options)
    dense.build((None, 5))
    dense.set_weights([kernel, bias])
    dy = tf.cast(dy, sparse.compute_dtype)
    ours = checks.forward_and_gradients(sparse, x, dy, jit_compile)
    theirs = checks.forward_and_gradients(dense, x, dy, jit_compile)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_sparsity_zero_trains_like_dense_bit_for_bit():
    x, *_ = data((64, 5))
    weights = []
    for make in (keras.layers.Dense, SparseDense):
        options = {"sparsity": 0.0} if make is SparseDense else {}
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), make(3, **options)])
        model.compile("adam", "mse")
        model.fit(x, x[:, :3], epochs=2, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("of_activations", [None, 0.0, 0.7])
@pytest.mark.parametrize("shape", [(7, 5), (3, 6, 5)])
def test_channels_follow_the_reference(shape, of_activations, jit_compile):
    """Features 0 and 1 tie, in the inputs and in the kernel."""
    x, kernel, bias, dy = data(shape)
    layer = layer_with(
        kernel,
        bias,
        sparsity=0.6,
        activation_sparsity=of_activations,
        granularity="channel",
    )
    found = checks.forward_and_gradients(layer, x, dy, jit_compile)
    y, dx, dkernel = references.sparse_operation(
        references.einsum("nf,fu->nu", 2),
        x.reshape(-1, 5),
        kernel,
        dy.reshape(-1, 4),
        tuple(layer.asked_sparsities.values()),
        "channel",
    )
    dbias = dy.reshape(-1, 4).sum(0, "float64")
    expected = (y + bias).reshape(dy.shape), dx.reshape(shape), dkernel, dbias
    checks.is_close_to(found, expected)
    # ceil(0.4 * 5) features are used, the others get no gradient.
    assert [found[1][..., c].any() for c in range(5)].count(True) == 2


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
def test_the_relu_of_channels_is_keras_relu(jit_compile):
    """A width that is no multiple of 8, and outputs that are exactly 0."""
    x, kernel, _, dy = data((7, 5), units=13)
    x[0] = 0
    layer = layer_with(
        kernel,
        np.zeros(13, "float32"),
        sparsity=0.0,
        activation_sparsity=0.4,
        granularity="channel",
        activation="relu",
    )
    dense = keras.layers.Dense(13, activation="relu")
    dense.build((None, 5))
    dense.set_weights(layer.get_weights())
    y, dx, _, dbias = checks.forward_and_gradients(layer, x, dy, jit_compile)
    expected = checks.forward_and_gradients(dense, x, dy, jit_compile)
    assert (y[0] == 0).all()
    checks.is_close_to([y, dx, dbias], [expected[i] for i in (0, 1, 3)])


def test_masked_weights_receive_gradient_and_can_come_back():
    x, kernel, bias, dy = data()
    layer = layer_with(kernel, bias, sparsity=0.8, activation_sparsity=0.0)
    masked = references.keep_largest(kernel, 0.8) == 0
    _, _, dkernel, _ = checks.forward_and_gradients(layer, x, dy)
    assert masked.sum() >= 14
    assert (dkernel[masked] != 0).all()


def test_the_output_gradient_is_never_sparsified():
    """Negative control: with a sparse dy the input gradient differs."""
    x, kernel, bias, dy = data()
    layer = layer_with(kernel, bias, sparsity=0.8)
    _, dx, _, dbias = checks.forward_and_gradients(layer, x, dy)
    sparse_dy = references.keep_largest(dy, 0.8)
    wrong = sparse_dy @ references.keep_largest(kernel, 0.8).T
    assert np.abs(dx - wrong).max() > 0.1
    np.testing.assert_allclose(dbias, dy.sum(0), rtol=1e-5)


def test_selection_is_made_in_full_precision():
    """In bfloat16 these two weights tie; in float32 one is larger."""
    kernel = np.float32([[1.0], [1.0001]])
    layer = SparseDense(1, sparsity=0.5, use_bias=False, dtype="mixed_bfloat16")
    layer.build((None, 2))
    layer.set_weights([kernel])
    assert np.array(layer(np.float32([[1, 0]]))).astype("f4") == 0
    assert np.array(layer(np.float32([[0, 1]]))).astype("f4") == 1


def test_inference_uses_the_same_sparse_weights():
    x, kernel, bias, _ = data()
    layer = layer_with(kernel, bias, sparsity=0.6)
    expected = x @ references.keep_largest(kernel, 0.6) + bias
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        layer(x, training=True), expected, rtol=1e-5, atol=1e-6
    )


def test_all_zero_inputs_give_zero_gradients_not_nan():
    _, kernel, bias, dy = data()
    layer = layer_with(kernel, bias, sparsity=0.8)
    zeros = np.zeros((7, 5), "float32")
    y, dx, dkernel, _ = checks.forward_and_gradients(layer, zeros, dy)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (7, 4)))
    np.testing.assert_array_equal(dkernel, np.zeros((5, 4)))
    assert np.isfinite(dx).all()


def test_every_dense_argument_works_as_in_dense():
    layer = SparseDense(
        2,
        sparsity=0.0,
        activation="relu",
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer="l2",
        bias_regularizer="l1",
        activity_regularizer=keras.regularizers.L2(0.5),
        kernel_constraint="non_neg",
        bias_constraint="unit_norm",
        name="named",
    )
    y = layer(np.ones((1, 3), "float32"))
    assert np.array(y).tolist() == [[4, 4]]
    # 0.01 * 6 + 0.01 * 2 + 0.5 * (16 + 16) / batch of 1
    assert float(sum(layer.losses)) == pytest.approx(16.08)
    assert layer.kernel.constraint is layer.kernel_constraint
    assert layer.bias.constraint is layer.bias_constraint


def test_a_mask_passes_through():
    x = keras.Input((4, 5))
    y = SparseDense(2)(keras.layers.Masking()(x))
    assert y._keras_mask is not None


def test_dense_weights_are_set_and_back():
    _, kernel, bias, _ = data()
    sparse = layer_with(kernel, bias, sparsity=0.5)
    dense = keras.layers.Dense(4)
    dense.build((None, 5))
    dense.set_weights(sparse.get_weights())
    np.testing.assert_array_equal(dense.kernel.numpy(), kernel)


def test_savings_are_derived_from_shapes_per_example():
    layer = SparseDense(10, sparsity=0.8, activation_sparsity=0.5)
    layer.build((None, 6, 100))
    theoretical, executed = layer.savings()
    dense = 3 * 2 * 100 * 10 * 6
    assert (theoretical.technique, executed.technique) == ("swat", "swat")
    assert theoretical.unit == "flops_theoretical_per_example"
    assert theoretical.baseline == executed.baseline == dense
    assert theoretical.actual == pytest.approx(dense * (0.2 + 0.2 + 0.5) / 3)
    assert executed.actual == dense
    assert not theoretical.measured
    assert not executed.measured


def test_savings_are_empty_where_shapes_are_unknown():
    layer = SparseDense(10)
    assert layer.savings() == []
    layer.build((None, None, 100))
    assert layer.savings() == []


def test_training_does_not_collapse_at_80_percent():
    digits = ke.datasets.digits()
    accuracy = {}
    for sparsity in (0.0, 0.8):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((64,)),
                SparseDense(64, sparsity=sparsity, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(
            "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        model.fit(digits.x_train, digits.y_train, epochs=15, verbose=0)
        _, accuracy[sparsity] = model.evaluate(
            digits.x_test, digits.y_test, verbose=0
        )
    assert accuracy[0.0] > 0.95
    assert accuracy[0.8] > accuracy[0.0] - 0.04


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "Received: units=0 (layer 'bad')"),
        ({"units": 2.5}, "Received: units=2.5 (layer 'bad')"),
        (
            {"sparsity": 1.0},
            "Argument `sparsity` must be in [0, 1), or a Schedule of such "
            "numbers (of `keras_eff.schedules`: it is saved with the layer). "
            "It is the fraction of zeros, not the fraction kept. "
            "Received: sparsity=1.0 (layer 'bad')",
        ),
        ({"units": True}, "Received: units=True (layer 'bad')"),
        ({"sparsity": "0.5"}, "Received: sparsity='0.5' (layer 'bad')"),
        ({"sparsity": -0.1}, "Received: sparsity=-0.1 (layer 'bad')"),
        (
            {"sparsity": float("nan")},
            "Received: sparsity=nan (layer 'bad')",
        ),
        (
            {"activation_sparsity": 1.5},
            "Received: activation_sparsity=1.5 (layer 'bad')",
        ),
        (
            {"granularity": "kernel"},
            "Argument `granularity` must be one of ['element', 'channel']. "
            "Received: granularity='kernel' (layer 'bad')",
        ),
        (
            {"threshold": "guess"},
            "Argument `threshold` must be one of ['exact', 'sample']. "
            "Received: threshold='guess' (layer 'bad')",
        ),
        (
            {"update_every": 0},
            "Argument `update_every` must be a positive integer. Received: "
            "update_every=0 (layer 'bad')",
        ),
        (
            {"update_every": 2.0},
            "Received: update_every=2.0 (layer 'bad')",
        ),
        (
            {"sparsity": ke.schedules.constant(1.0)},
            "Received: sparsity=1.0 (layer 'bad')",
        ),
        (
            {
                "activation_sparsity": ke.schedules.constant(0.5),
                "granularity": "channel",
            },
            "With granularity='channel' the argument `activation_sparsity` "
            "must be a number: the shapes of the products follow from it. "
            "Received: activation_sparsity=",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SparseDense(**{"units": 3, "name": "bad", **arguments})
