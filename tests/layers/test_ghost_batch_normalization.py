import re

import keras
import numpy as np
import pytest
import references
import tensorflow as tf

from keras_eff.layers import GhostBatchNormalization

EAGER, GRAPH, XLA, UNKNOWN_BATCH = "eager", "graph", "xla", "unknown batch"


def data(shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(2.0, 3.0, size=shape).astype("float32")


def train_once(layer, x, mode, mask=None):
    def run(x):
        return layer(x, training=True, mask=mask)

    if mode in (GRAPH, XLA):
        run = tf.function(run, jit_compile=mode == XLA)
    if mode == UNKNOWN_BATCH:
        spec = tf.TensorSpec((None, *x.shape[1:]), tf.float32)
        run = tf.function(run, input_signature=[spec])
    return np.array(run(tf.constant(x)))


def layer_and_reference(x, ghost, axis=-1):
    """A layer with odd weights, and what NumPy makes of the same."""
    layer = GhostBatchNormalization(ghost, axis=axis, momentum=0.9)
    layer.build(x.shape)
    channels = x.shape[axis]
    generator = np.random.default_rng(1)
    gamma, beta, mean = generator.normal(size=(3, channels)).astype("float32")
    variance = generator.uniform(0.5, 2, channels).astype("float32")
    layer.set_weights([gamma, beta, mean, variance])
    y, mean, variance = references.ghost_batch_normalization(
        np.moveaxis(x, axis, -1), ghost, gamma, beta, mean, variance, 0.9, 1e-3
    )
    return layer, np.moveaxis(y, -1, axis), mean, variance


@pytest.mark.parametrize("mode", [EAGER, GRAPH, XLA, UNKNOWN_BATCH])
@pytest.mark.parametrize("ghost", [1, 2, 3, 5, 12, 40])
def test_training_and_moving_statistics_follow_the_reference(ghost, mode):
    x = data((12, 5))
    layer, y, mean, variance = layer_and_reference(x, ghost)
    found = train_once(layer, x, mode)
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-4)
    np.testing.assert_allclose(
        layer.moving_variance.numpy(), variance, rtol=1e-4
    )
    inference = np.array(layer(x))
    gamma, beta = layer.gamma.numpy(), layer.beta.numpy()
    expected = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(inference, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", [EAGER, XLA, UNKNOWN_BATCH])
@pytest.mark.parametrize(
    ("shape", "axis"), [((13, 4, 3, 2), -1), ((13, 2, 4, 3), 1), ((9, 6, 5), 2)]
)
def test_any_axis(shape, axis, mode):
    x = data(shape)
    layer, y, mean, variance = layer_and_reference(x, 4, axis)
    found = train_once(layer, x, mode)
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-4)
    np.testing.assert_allclose(
        layer.moving_variance.numpy(), variance, rtol=1e-4
    )


@pytest.mark.parametrize("mode", [EAGER, GRAPH, XLA, UNKNOWN_BATCH])
@pytest.mark.parametrize("batch", range(1, 12))
def test_any_batch_size_even_one(batch, mode):
    x = data((batch, 3))
    layer, y, mean, _ = layer_and_reference(x, 2)
    np.testing.assert_allclose(train_once(layer, x, mode), y, atol=1e-4)
    np.testing.assert_allclose(
        layer.moving_mean.numpy(), mean, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("batch", "ghost", "sizes"),
    [
        (101, 10, {10: 9, 11: 1}),  # shared/notes/batch.md, T14
        (255, 128, {127: 1, 128: 1}),
        (12, 1, {2: 6}),
        (7, 2, {2: 2, 3: 1}),
        (80, 32, {26: 1, 27: 2}),  # 2.5 groups round up
        (5, 40, {5: 1}),
        (1, 4, {1: 1}),
    ],
)
def test_groups_are_contiguous_and_even(batch, ghost, sizes):
    layer = GhostBatchNormalization(ghost)
    for size in (batch, tf.constant(batch)):
        groups, num_groups = layer._groups_of(size)
        groups = np.array(groups)
        assert (np.diff(groups) >= 0).all()
        assert int(num_groups) == len(set(groups.tolist()))
        found = np.unique(np.bincount(groups), return_counts=True)
        assert dict(zip(*map(np.ndarray.tolist, found), strict=True)) == sizes


def test_vector_of_the_note():
    """shared/notes/batch.md, T5."""
    layer = GhostBatchNormalization(2, momentum=0.9, epsilon=0.0)
    x = np.float32([[1], [3], [5], [9]])
    y = np.array(layer(x, training=True)).ravel()
    np.testing.assert_allclose(y, [-1, 1, -1, 1], rtol=1e-5)
    assert float(layer.moving_mean[0]) == pytest.approx(0.88)
    assert float(layer.moving_variance[0]) == pytest.approx(1.30)


@pytest.mark.parametrize("mode", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize(("batch", "ghost"), [(12, 12), (12, 40), (3, 2)])
def test_one_group_is_batch_normalization_bit_for_bit(batch, ghost, mode):
    x = data((batch, 4, 5))
    ours, theirs = GhostBatchNormalization(ghost), _plain()
    for layer in (ours, theirs):
        layer.build(x.shape)
    np.testing.assert_array_equal(
        train_once(ours, x, mode), train_once(theirs, x, mode)
    )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluation_is_batch_normalization_bit_for_bit():
    x = data((12, 5))
    ours, theirs = GhostBatchNormalization(2), _plain()
    ours(x, training=True)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    for batch in (1, 5, 12):
        np.testing.assert_array_equal(ours(x[:batch]), theirs(x[:batch]))


def test_small_ghosts_differ_from_the_whole_batch():
    """Negative control of the two tests above."""
    x = data((12, 5))
    ours, theirs = GhostBatchNormalization(3), _plain()
    y = np.array(ours(x, training=True))
    assert np.abs(y - np.array(theirs(x, training=True))).max() > 0.1


@pytest.mark.parametrize("mode", [EAGER, XLA, UNKNOWN_BATCH])
def test_gradients_are_those_of_a_loop_over_groups(mode):
    x, dy = data((11, 5)), data((11, 5), seed=7)
    ours, loop = GhostBatchNormalization(3), _plain()
    for layer in (ours, loop):
        layer.build(x.shape)
    sizes = references.ghost_sizes(11, 3)

    def gradients(layer, split):
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                parts = [layer(part, training=True) for part in split(x)]
                y = tf.concat(parts, axis=0)
            weights = [w.value for w in layer.trainable_weights]
            return tape.gradient(y, [x, *weights], output_gradients=dy)

        if mode == XLA:
            run = tf.function(run, jit_compile=True)
        if mode == UNKNOWN_BATCH:
            spec = tf.TensorSpec((None, 5), tf.float32)
            run = tf.function(run, input_signature=[spec])
        return [np.array(gradient) for gradient in run(tf.constant(x))]

    expected = gradients(loop, lambda x: tf.split(x, sizes))
    for a, b in zip(gradients(ours, lambda x: [x]), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("mode", [EAGER, XLA])
def test_masked_entries_do_not_enter_the_statistics(mode):
    x = data((6, 5, 3))
    mask = np.random.default_rng(2).random((6, 5)) < 0.6
    mask[3:] = False  # the second group of three is masked out as a whole
    layer = GhostBatchNormalization(3, momentum=0.9)
    layer.build(x.shape)
    y = train_once(layer, x, mode, mask=tf.constant(mask))
    seen = x[:3][mask[:3]]
    expected = (x[:3] - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-3)
    np.testing.assert_allclose(y[:3], expected, rtol=1e-4, atol=1e-4)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(
        layer.moving_mean.numpy(), 0.1 * seen.mean(0), rtol=1e-4
    )
    np.testing.assert_allclose(
        layer.moving_variance.numpy(), 0.9 + 0.1 * seen.var(0), rtol=1e-4
    )


def test_a_frozen_layer_uses_and_keeps_its_moving_statistics():
    x = data((12, 5))
    layer = GhostBatchNormalization(3)
    layer.build(x.shape)
    layer.trainable = False
    before = layer.get_weights()
    np.testing.assert_array_equal(layer(x, training=True), layer(x))
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_interchange_with_batch_normalization():
    x = data((12, 5))
    ours, theirs = GhostBatchNormalization(3), _plain()
    ours(x, training=True)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_array_equal(ours(x), theirs(x))
    names = [[w.name for w in layer.weights] for layer in (ours, theirs)]
    assert names[0] == names[1]


def test_fit_with_a_ragged_last_batch_then_predict_one():
    x = data((23, 5))
    model = keras.Sequential(
        [
            keras.Input((5,)),
            GhostBatchNormalization(4),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], batch_size=8, verbose=0)
    one = model.predict(x[:1], verbose=0)
    np.testing.assert_allclose(
        one, model.predict(x, verbose=0)[:1], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"ghost_batch_size": True},
            "Received: ghost_batch_size=True (layer 'bad')",
        ),
        ({"ghost_batch_size": 0}, "Received: ghost_batch_size=0 (layer 'bad')"),
        (
            {"ghost_batch_size": 2.5},
            "Received: ghost_batch_size=2.5 (layer 'bad')",
        ),
        (
            {"synchronized": True},
            "Received: synchronized=True (layer 'bad')",
        ),
        ({"renorm": True}, "Received: renorm=True (layer 'bad')"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GhostBatchNormalization(**arguments, name="bad")


@pytest.mark.parametrize("axis", [0, -2])
def test_the_batch_axis_is_refused(axis):
    layer = GhostBatchNormalization(axis=axis)
    message = f"Received: axis={axis}, inputs of shape (4, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.build((4, 3))


def _plain():
    return keras.layers.BatchNormalization()
