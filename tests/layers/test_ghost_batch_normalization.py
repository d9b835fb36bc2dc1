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
    ramp = np.arange(batch, dtype="float32")[:, None]
    for mode in (EAGER, UNKNOWN_BATCH):
        layer = GhostBatchNormalization(ghost)
        layer.build(ramp.shape)
        y = train_once(layer, ramp, mode).ravel()
        # Each group climbs from below its mean to above it.
        starts = [0, *(np.flatnonzero(np.diff(y) < 0) + 1), batch]
        found = np.unique(np.diff(starts), return_counts=True)
        assert dict(zip(*map(np.ndarray.tolist, found), strict=True)) == sizes


@pytest.mark.parametrize("mode", [EAGER, GRAPH, XLA, UNKNOWN_BATCH])
@pytest.mark.parametrize(
    ("update", "mean", "variance"),
    [
        ("sequential", 0.88, 1.30),
        ("mean", 0.45, 1.15),
        ("scaled", 0.456584, 1.153950),
    ],
)
def test_vectors_of_the_note(update, mean, variance, mode):
    """shared/notes/batch.md, T5."""
    layer = GhostBatchNormalization(2, update, momentum=0.9, epsilon=0.0)
    layer.build((4, 1))
    y = train_once(layer, np.float32([[1], [3], [5], [9]]), mode).ravel()
    np.testing.assert_allclose(y, [-1, 1, -1, 1], rtol=1e-5)
    assert float(layer.moving_mean[0]) == pytest.approx(mean, abs=1e-6)
    assert float(layer.moving_variance[0]) == pytest.approx(variance, abs=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("update", ["sequential", "mean", "scaled"])
def test_each_update_follows_the_reference_for_uneven_groups(update, momentum):
    x = data((101, 5))
    layer = GhostBatchNormalization(10, update, momentum=momentum)
    layer(x, training=True)
    sizes = references.ghost_sizes(101, 10)
    groups = np.split(x, np.cumsum(sizes)[:-1])
    for moving, start, of in (
        (layer.moving_mean, 0.0, np.mean),
        (layer.moving_variance, 1.0, np.var),
    ):
        statistics = [of(group, axis=0) for group in groups]
        expected = references.moving_statistic(
            start, statistics, momentum, update
        )
        np.testing.assert_allclose(moving.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("update", ["sequential", "mean", "scaled"])
def test_a_step_of_many_groups_keeps_what_the_docstring_says(update):
    layer = GhostBatchNormalization(2, update, moving_mean_initializer="ones")
    layer(np.zeros((256, 3), "float32"), training=True)
    kept = 0.99**128 if update == "sequential" else 0.99
    np.testing.assert_allclose(layer.moving_mean.numpy(), kept, rtol=1e-5)


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


@pytest.mark.parametrize("update", ["sequential", "mean", "scaled"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((12, 5), -1), ((37, 4, 3), -1), ((9, 6, 4, 3), 1)]
)
def test_one_group_is_exact_in_a_graph_that_does_not_know_it(
    shape, axis, masked, update
):
    x = data(shape)
    mask = None
    if masked and axis == -1:
        mask = np.random.default_rng(3).random(shape[:-1]) < 0.6
    ours = GhostBatchNormalization(shape[0], update, axis=axis)
    theirs = keras.layers.BatchNormalization(axis=axis)
    results = []
    for layer in (ours, theirs):
        layer.build(shape)
        y = train_once(layer, x, UNKNOWN_BATCH, mask)
        results.append([y, *layer.get_weights()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_group_is_close_in_xla_that_does_not_know_it():
    """XLA fuses two graphs in two ways: equal up to rounding."""
    x = data((1000, 64))
    results = []
    for layer in (GhostBatchNormalization(1000), _plain()):
        layer.build(x.shape)
        spec = tf.TensorSpec((None, 64), tf.float32)

        @tf.function(input_signature=[spec], jit_compile=True)
        def run(x, layer=layer):
            return layer(x, training=True)

        results.append([np.array(run(x)), *layer.get_weights()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("batch", [11, 12])
@pytest.mark.parametrize("mode", [EAGER, XLA, UNKNOWN_BATCH])
def test_gradients_are_those_of_a_loop_over_groups(mode, batch):
    x, dy = data((batch, 5)), data((batch, 5), seed=7)
    ours, loop = GhostBatchNormalization(3), _plain()
    for layer in (ours, loop):
        layer.build(x.shape)
    sizes = references.ghost_sizes(batch, 3)

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


def test_static_shapes_survive_in_outputs_and_gradients():
    """The layer below may need them, as SparseDense does."""
    layer = GhostBatchNormalization(3)
    layer.build((None, 4, 5))

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 5), tf.float32)])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        gradient = tape.gradient(y, x)
        assert y.shape.as_list() == gradient.shape.as_list() == [None, 4, 5]

    run(data((11, 4, 5)))


def test_images_of_unknown_size():
    x = data((11, 4, 3, 5))
    layer, y, _, _ = layer_and_reference(x, 3)
    spec = tf.TensorSpec((None, None, None, 5), tf.float32)

    @tf.function(input_signature=[spec])
    def run(x):
        return layer(x, training=True)

    np.testing.assert_allclose(run(x), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("update", ["sequential", "mean", "scaled"])
@pytest.mark.parametrize("mode", [EAGER, XLA, UNKNOWN_BATCH])
def test_masked_entries_do_not_enter_the_statistics(mode, update):
    x = data((6, 5, 3))
    mask = np.random.default_rng(2).random((6, 5)) < 0.6
    mask[3:] = False  # the second group of three is masked out as a whole
    layer = GhostBatchNormalization(3, update, momentum=0.9)
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


@pytest.mark.parametrize("update", ["sequential", "mean", "scaled"])
def test_a_step_without_an_entry_leaves_the_moving_statistics(update):
    layer = GhostBatchNormalization(2, update)
    mask = np.zeros((4, 3), "bool")
    layer(data((4, 3, 5)), training=True, mask=mask)
    assert (layer.moving_mean.numpy() == 0).all()
    assert (layer.moving_variance.numpy() == 1).all()


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


def test_an_exported_model_predicts_the_same(tmp_path):
    x = data((12, 5))
    layers = [keras.Input((5,)), GhostBatchNormalization(3)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], verbose=0)
    model.export(tmp_path / "model", verbose=False)
    exported = tf.saved_model.load(tmp_path / "model")
    for batch in (1, 12):
        np.testing.assert_allclose(
            exported.serve(x[:batch]), model(x[:batch]), atol=1e-6
        )


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
        (
            {"update": "median"},
            "Argument `update` must be one of ('sequential', 'mean', "
            "'scaled'). Received: update='median' (layer 'bad')",
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
