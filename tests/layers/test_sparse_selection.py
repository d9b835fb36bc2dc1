"""What a sparse layer selects, for how long, and what it stores of it."""

import itertools
import re

import checks
import keras
import numpy as np
import pytest
import references
import tensorflow as tf

import keras_eff as ke
from keras_eff.layers import SparseConv2D
from keras_eff.layers import SparseDense

granularities = pytest.mark.parametrize("granularity", ["element", "channel"])
modes = pytest.mark.parametrize("jit_compile", [None, False, True])
STATE = ("age", "kept_weights", "kept_activations")


def layer_of(granularity, update_every=3, **kwargs):
    keras.utils.set_random_seed(0)
    layer = SparseDense(
        4,
        sparsity=0.5,
        activation_sparsity=0.3,
        granularity=granularity,
        update_every=update_every,
        **kwargs,
    )
    layer.build((None, 10))
    return layer


def batch(index=0, size=8):
    return np.random.default_rng(index).normal(size=(size, 10)).astype("f4")


def state_of(layer):
    found = {w.name: w.numpy() for w in layer.non_trainable_weights}
    return [found[name] for name in STATE]


def learn(layer, index):
    """Other weights, as after a step."""
    generator = np.random.default_rng(100 + index)
    layer.kernel.assign(generator.normal(size=layer.kernel.shape))


def model_of(granularity, update_every=2):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((9, 9, 4)),
            SparseConv2D(
                6,
                3,
                sparsity=0.5,
                granularity=granularity,
                update_every=update_every,
                activation="relu",
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def images(size=48):
    generator = np.random.default_rng(1)
    x = generator.normal(size=(size, 9, 9, 4)).astype("float32")
    return x, x[:, :3, 0, 0]


@granularities
@modes
def test_a_selection_lasts_for_update_every_steps(granularity, jit_compile):
    layer = layer_of(granularity)

    def train(x):
        return layer(x, training=True)

    if jit_compile is not None:
        train = tf.function(train, jit_compile=jit_compile)
    states = []
    for step in range(7):
        learn(layer, step)
        train(tf.constant(batch(step)))
        states.append(state_of(layer))
    assert [float(age) for age, *_ in states] == [1, 2, 0, 1, 2, 0, 1]
    for index in (1, 2):
        kept = [state[index] for state in states]
        changes = [
            not np.array_equal(a, b) for a, b in itertools.pairwise(kept)
        ]
        assert changes == [False, False, True, False, False, True]


@granularities
def test_what_is_stored_follows_the_reference(granularity):
    layer, x = layer_of(granularity), batch()
    layer(x, training=True)
    _, of_weights, of_activations = state_of(layer)
    kernel = layer.kernel.numpy()
    if granularity == "channel":
        i = references.largest_channels(kernel, -2, 0.5)
        j = references.largest_channels(x, -1, 0.3)
        assert of_weights.tolist() == i
        assert of_activations.tolist() == j
    else:
        largest = references.kth_largest_magnitude
        assert of_weights == largest(kernel, kernel.size // 2)
        assert of_activations == largest(x, 56)  # ceil(0.7 * 80)


@granularities
@modes
def test_between_refreshes_the_stored_selection_is_used(
    granularity, jit_compile
):
    layer, x = layer_of(granularity), batch()
    layer(x, training=True)
    _, of_weights, of_activations = state_of(layer)
    learn(layer, 0)
    kernel, x = layer.kernel.numpy(), batch(1)
    if granularity == "channel":
        sparse_kernel, sparse_x = np.zeros_like(kernel), np.zeros_like(x)
        i, j = of_weights.astype(int), of_activations.astype(int)
        sparse_kernel[i], sparse_x[:, j] = kernel[i], x[:, j]
        fresh = references.keep_channels(kernel, -2, 0.5)
    else:
        sparse_kernel = np.where(np.abs(kernel) >= of_weights, kernel, 0)
        sparse_x = np.where(np.abs(x) >= of_activations, x, 0)
        fresh = references.keep_largest(kernel, 0.5)
    assert not np.array_equal(fresh, sparse_kernel)
    dy = np.ones((8, 4), "float32")
    found = checks.forward_and_gradients(layer, x, dy, jit_compile)
    expected = x @ sparse_kernel, dy @ sparse_kernel.T, sparse_x.T @ dy
    checks.is_close_to(found[:3], expected)
    # Inference, too.
    checks.is_close_to([layer(x).numpy()], expected[:1])
    np.testing.assert_array_equal(layer.sparse_kernel(), sparse_kernel)


@pytest.mark.parametrize(
    ("granularity", "work"), [("element", "While"), ("channel", "TopKV2")]
)
def test_between_refreshes_no_selection_work(granularity, work):
    """In a traced step it is in a branch, all of it."""
    places = {}
    for update_every in (1, 3):
        layer = layer_of(granularity, update_every)

        @tf.function
        def step(x, layer=layer):
            with tf.GradientTape() as tape:
                y = layer(x, training=True)
            return tape.gradient(y, layer.kernel.value)

        graph = step.get_concrete_function(tf.TensorSpec((8, 10))).graph
        definition = graph.as_graph_def()
        branches = [
            node
            for function in definition.library.function
            for node in function.node_def
        ]
        places[update_every] = [
            any(work in node.op for node in nodes)
            for nodes in (definition.node, branches)
        ]
        is_branch = any(node.op.endswith("If") for node in definition.node)
        assert is_branch == (update_every > 1)
    assert places[1][0]
    assert places[3] == [False, True]


@granularities
@pytest.mark.parametrize("update_every", [1, 2])
@pytest.mark.parametrize(
    ("is_trained", "jit_compile"),
    [(False, False), (True, False), (False, True)],
)
def test_inference_never_writes(
    granularity, update_every, is_trained, jit_compile
):
    model, (x, y) = model_of(granularity, update_every), images(24)
    model.compile("sgd", "mse", jit_compile=jit_compile)
    if is_trained:
        model.fit(x, y, batch_size=8, verbose=0)
    before = [w.numpy() for w in model.weights]
    model.predict(x, batch_size=10, verbose=0)
    model.evaluate(x, y, batch_size=10, verbose=0)
    model(x, training=False)
    model(x)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    if is_trained:  # The comparison would see a step.
        model.fit(x, y, batch_size=8, verbose=0)
        states = [w for w in model.non_trainable_weights if w.name == "age"]
        assert len(states) == (1 if update_every == 2 else 0)
        assert not any(
            np.array_equal(a, b.numpy())
            for a, b in zip(before, model.weights, strict=True)
            if b.trainable or b.name == "age"
        )


@granularities
@modes
def test_a_fresh_layer_selects_but_stores_nothing(granularity, jit_compile):
    fresh, always = (layer_of(granularity, every) for every in (3, 1))
    run = fresh
    if jit_compile is not None:
        run = tf.function(fresh, jit_compile=jit_compile)
    x = tf.constant(batch())
    np.testing.assert_allclose(run(x), always(x), rtol=1e-6)
    np.testing.assert_array_equal(fresh.sparse_kernel(), always.sparse_kernel())
    age, *kept = state_of(fresh)
    assert age == 0
    for values in kept:
        assert (values == -1).all()


@granularities
@pytest.mark.parametrize(
    ("update_every", "jit_compile"), [(1, False), (2, False), (2, True)]
)
def test_training_resumes_bit_for_bit(
    granularity, update_every, jit_compile, tmp_path
):
    (x, y), path = images(48), tmp_path / "model.keras"
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    whole = model_of(granularity, update_every)
    whole.compile("adam", "mse", jit_compile=jit_compile)
    whole.fit(x, y, **options)
    first = model_of(granularity, update_every)
    first.compile("adam", "mse", jit_compile=jit_compile)
    first.fit(x[:24], y[:24], **options)
    first.save(path)
    second = keras.saving.load_model(path)
    second.fit(x[24:], y[24:], **options)
    for a, b in zip(
        [*whole.variables, *whole.optimizer.variables],
        [*second.variables, *second.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    # What is stored matters: without it the same steps end elsewhere.
    if update_every > 1:
        third = keras.saving.load_model(path)
        for variable in third.non_trainable_variables:
            forgotten = 0.0 if variable.name == "age" else -1.0
            variable.assign(np.full(variable.shape, forgotten, "float32"))
        third.fit(x[24:], y[24:], **options)
        assert not all(
            np.array_equal(a, b)
            for a, b in zip(whole.variables, third.variables, strict=True)
        )


@pytest.mark.parametrize("threshold", ["exact", "sample"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9])
def test_reached_sparsity_is_that_asked_for(threshold, sparsity):
    """Of 153,600 weights and 204,800 activations."""
    keras.utils.set_random_seed(0)
    layer = SparseDense(
        300, sparsity=sparsity, threshold=threshold, update_every=2
    )
    generator = np.random.default_rng(0)
    scales = 10.0 ** generator.uniform(-1, 1, size=512)
    x = (generator.normal(size=(8, 50, 512)) * scales).astype("float32")
    layer(x, training=True)
    zeros = np.mean(np.array(layer.sparse_kernel()) == 0)
    assert abs(zeros - sparsity) < 0.002
    _, _, of_activations = state_of(layer)
    zeros = np.mean(np.abs(x) < of_activations)
    assert abs(zeros - sparsity) < (0.01 if threshold == "sample" else 0.002)


@pytest.mark.parametrize("granularity", ["element", "kernel", "channel"])
def test_sparsity_drifts_between_refreshes(granularity, record_property):
    """By how much is a figure for the report, not a promise."""
    x, y = images()
    keras.utils.set_random_seed(0)
    layer = SparseConv2D(
        16, 3, sparsity=0.8, granularity=granularity, update_every=1000
    )
    model = keras.Sequential(
        [
            keras.Input((9, 9, 4)),
            layer,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(x, y, batch_size=8, epochs=10, verbose=0)
    reached = float(np.mean(np.array(layer.sparse_kernel()) == 0))
    record_property("drift", reached - 0.8)
    assert 0 <= reached < 1
    if granularity == "channel":  # Their number is in the shapes.
        assert reached == 0.75


@pytest.mark.parametrize(
    "zero", [0.0, ke.schedules.constant(0.0)], ids=["number", "schedule"]
)
@modes
def test_sparsity_zero_keeps_what_becomes_smaller(zero, jit_compile):
    """Than all that there was when the selection was made."""
    layer = SparseDense(
        4, sparsity=zero, activation_sparsity=0.5, update_every=5
    )
    inputs = SparseDense(
        4, sparsity=0.5, activation_sparsity=zero, update_every=5
    )
    dy = np.ones((8, 4), "float32")
    for sparse in (layer, inputs):
        sparse(batch(), training=True)
    layer.kernel.assign(0.001 * layer.kernel)
    x = 0.001 * batch(1)
    y, dx, *_ = checks.forward_and_gradients(layer, x, dy, jit_compile)
    kernel = layer.kernel.numpy()
    checks.is_close_to([y, dx], [x @ kernel, dy @ kernel.T])
    _, _, dkernel, _ = checks.forward_and_gradients(inputs, x, dy, jit_compile)
    checks.is_close_to([dkernel], [x.T @ dy])


@pytest.mark.parametrize("update_every", [1, 2])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_schedule_changes_the_kept_share_without_a_new_trace(
    update_every, jit_compile
):
    layer = SparseDense(
        25,
        sparsity=ke.schedules.steps(0.5, {1: 0.8}),
        use_bias=False,
        update_every=update_every,
    )
    layer.build((None, 40))
    traces = []

    @tf.function(jit_compile=jit_compile)
    def kernel_used(x):
        traces.append(1)
        return layer(x, training=True)

    zeros = []
    for epoch in (0, 1, 2, 0):
        layer.set_epoch(epoch)
        for _ in range(update_every):
            used = kernel_used(tf.eye(40)).numpy()
        zeros.append(float(np.mean(used == 0)))
    assert zeros == [0.5, 0.8, 0.8, 0.5]
    assert len(traces) == 1
    names = [w.name for w in layer.non_trainable_weights]
    assert names[:2] == ["sparsity", "activation_sparsity"]


def test_a_schedule_acts_on_the_activations():
    layer = SparseDense(
        3,
        sparsity=0.0,
        activation_sparsity=ke.schedules.steps(0.5, {1: 0.9}),
        use_bias=False,
    )
    layer.build((None, 10))
    x, dy = batch(), np.ones((8, 3), "float32")
    for epoch, sparsity in ((0, 0.5), (1, 0.9)):
        layer.set_epoch(epoch)
        _, _, dkernel = checks.forward_and_gradients(layer, x, dy)
        expected = references.keep_largest(x, sparsity).T @ dy
        checks.is_close_to([dkernel], [expected])


def test_a_schedule_that_leaves_its_range_is_named():
    layer = SparseDense(
        3, sparsity=ke.schedules.steps(0.5, {4: 1.0}), name="bad"
    )
    layer.build((None, 10))
    message = "kept. Received: sparsity=1.0 (layer 'bad')"
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.set_epoch(4)
    assert float(layer.selection.sparsities[0]) == 0.5


@granularities
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("update_every", [1, 2])
def test_pure_types_train(granularity, dtype, update_every):
    layer = layer_of(granularity, update_every, dtype=dtype)
    for step in range(3):
        x = batch(step).astype(dtype) if dtype != "bfloat16" else batch(step)
        dy = tf.cast(tf.ones((8, 4)), dtype)
        y, *gradients = checks.forward_and_gradients(
            layer, tf.cast(x, dtype), dy, jit_compile=False
        )
        for tensor in (y, *gradients):
            assert tensor.dtype.name == dtype
            assert np.isfinite(tensor.astype("float64")).all()
    zeros = np.array(layer.sparse_kernel()).astype("float64") == 0
    assert zeros.mean() == 0.5


def test_a_new_sparsity_is_selected_at_once():
    """Not only once the stored selection is ten steps old."""
    grow = ke.schedules.steps(0.5, {1: 0.75})
    layer = ke.layers.SparseDense(20, sparsity=grow, update_every=10)
    x = np.random.default_rng(0).normal(size=(8, 40)).astype("float32")
    layer(x, training=True)
    assert np.mean(np.array(layer.sparse_kernel()) == 0) == 0.5
    layer.set_epoch(1)
    layer(x, training=True)
    assert np.mean(np.array(layer.sparse_kernel()) == 0) == 0.75


def test_an_epoch_is_nothing_to_a_layer_without_selection():
    ke.layers.SparseDense(20, sparsity=0.5).set_epoch(1)
    dense = ke.layers.SparseDense(20, sparsity=0)
    dense.build((None, 4))
    dense.set_epoch(1)
    assert dense.selection is None
