import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_eff as ke
from keras_eff.callbacks import SparsitySchedule
from keras_eff.callbacks.sparsity_schedule import shares_of

GROW = ke.schedules.steps(0.5, {1: 0.8, 2: 0.9})
HALF = ke.schedules.constant(0.5)


def sparse(units, **kwargs):
    return ke.layers.SparseDense(units, **{"sparsity": GROW, **kwargs})


def momentum_optimizer(learning_rate=0.01):
    return keras.optimizers.SGD(learning_rate, momentum=0.9)


def model_of(layers, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((20,)), *layers])
    model.compile(optimizer or momentum_optimizer(), "mse", **options)
    return model


def branches_of(layers, optimizer=None, scales=(1.0, 1.0)):
    """The layers side by side; a scale of 0 makes one a dead branch."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20,))
    outputs = [
        scale * layer(inputs)
        for layer, scale in zip(layers, scales, strict=True)
    ]
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()(outputs))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer or momentum_optimizer(), "mse")
    return model


def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 20)).astype("float32")
    return x, x[:, :1] * 2


def is_kept(layer):
    return np.array(layer.sparse_kernel()) != 0


def kept(layer):
    return np.mean(is_kept(layer))


def sparsities(layer):
    """Those of the weights and of the activations."""
    return [float(value) for value in layer.selection.sparsities]


def fit(model, callback, epochs=3, **options):
    options = {"batch_size": 8, "verbose": 0, "shuffle": False, **options}
    return model.fit(*data(), epochs=epochs, callbacks=[callback], **options)


@pytest.mark.parametrize(
    "options", [{}, {"jit_compile": True}, {"run_eagerly": True}]
)
def test_layers_follow_their_schedules(options):
    """The traced step of epoch 0 sees the sparsity of the later ones."""
    first, second = sparse(30), sparse(1, activation_sparsity=0.25)
    nested = keras.Sequential([keras.Input((30,)), second])
    model = model_of([first, nested], **options)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            (kept(first), kept(second))
        )
    )
    history = model.fit(
        *data(),
        batch_size=8,
        epochs=3,
        callbacks=[SparsitySchedule(), look],
        verbose=0,
    )
    expected = [(0.5, 0.5), (0.2, 0.2), (0.1, 0.1)]
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    assert history.history["sparsity"] == pytest.approx([0.5, 0.8, 0.9])


def test_without_it_epoch_0_holds():
    layer = sparse(30)
    model = model_of([layer])
    model.fit(*data(), epochs=3, verbose=0)
    assert kept(layer) == pytest.approx(0.5)


@pytest.mark.parametrize("distribution", [None, "momentum"])
def test_a_resumed_fit_takes_the_sparsity_of_its_epoch(distribution):
    layers = [sparse(30), sparse(20)]
    model = model_of([*layers, keras.layers.Dense(1)])
    history = fit(model, SparsitySchedule(distribution), initial_epoch=2)
    assert history.history["sparsity"] == pytest.approx([0.9])


@pytest.mark.parametrize("distribution", [None, "momentum"])
def test_one_callback_serves_two_fits(distribution):
    layers = [sparse(30), sparse(20)]
    model = model_of([*layers, keras.layers.Dense(1)])
    callback = SparsitySchedule(distribution)
    logs = [fit(model, callback).history["sparsity"] for _ in range(2)]
    assert logs[0] == pytest.approx([0.5, 0.8, 0.9])
    assert logs[1] == pytest.approx([0.5, 0.8, 0.9])


def test_the_second_fit_of_a_callback_may_be_of_another_model():
    first, second = sparse(1), sparse(1)
    callback = SparsitySchedule()
    fit(model_of([first]), callback, epochs=1)
    fit(model_of([second]), callback)
    assert sparsities(first) == pytest.approx([0.5] * 2)
    assert sparsities(second) == pytest.approx([0.9] * 2)


def test_constant_layers_are_left_alone():
    constant, moving = sparse(30, sparsity=0.25), sparse(1)
    fit(model_of([constant, moving]), SparsitySchedule())
    assert kept(constant) == pytest.approx(0.75)


def test_the_log_counts_weights():
    model = model_of([sparse(30), sparse(1, sparsity=HALF)])
    history = fit(model, SparsitySchedule(), epochs=2)
    expected = [0.5, (600 * 0.8 + 30 * 0.5) / 630]
    assert history.history["sparsity"] == pytest.approx(expected)


# Sharing by momentum


def mean_gradients(model, layers):
    """A reference: after one step the momentum is a multiple of these."""
    x, y = data()
    kernels = [layer.kernel.value for layer in layers]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    gradients = tape.gradient(loss, kernels)
    return [
        np.abs(gradient)[is_kept(layer)].mean()
        for gradient, layer in zip(gradients, layers, strict=True)
    ]


@pytest.mark.parametrize(
    "optimizer", ["sgd", "adam", "accumulating", "scaling the loss"]
)
@pytest.mark.parametrize("every", [None, 1])
def test_momentum_shares_one_budget(optimizer, every):
    """In proportion to what moves among the weights kept up to then."""
    layers = [sparse(10), sparse(40)]
    # The learning rate is so low that the weights stay where they are.
    made = {
        "sgd": momentum_optimizer(1e-9),
        "adam": keras.optimizers.Adam(1e-9),
        "accumulating": ke.optimizers.ScheduledAccumulation(
            momentum_optimizer(1e-9)
        ),
        "scaling the loss": keras.optimizers.LossScaleOptimizer(
            momentum_optimizer(1e-9)
        ),
    }[optimizer]
    model = branches_of(layers, made, scales=(1.0, 0.3))
    gradients = mean_gradients(model, layers)
    # One step an epoch: before the second, the momentum is of the first.
    fit(model, SparsitySchedule("momentum", every), epochs=2, batch_size=32)
    shares = np.array(gradients) / np.sum(gradients)
    assert shares[0] > 0.6  # the other way round it would be below 0.4
    counts = [is_kept(layer).sum() for layer in layers]
    np.testing.assert_allclose(counts, 0.2 * 1000 * shares, atol=1.01)
    assert sum(counts) == pytest.approx(200, abs=2)


class Watch(keras.callbacks.Callback):
    """Notes the steps before which a layer's sparsity has changed."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.last = None
        self.changes = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        value = sparsities(self.layer)[0]
        if self.last not in (None, value):
            self.changes.append((self.epoch, batch))
        self.last = value


@pytest.mark.parametrize(
    ("every", "steps_per_execution", "steps"),
    [
        (None, 1, [(1, 0)]),
        (3, 1, [(0, 3), (0, 6), (0, 9), (1, 0), (1, 3), (1, 6), (1, 9)]),
        (100, 1, [(1, 0)]),
        # 10 steps in executions that start at 0, 4 and 8: the multiples of 6
        # wait for the next, and a step that is not made counts for nothing.
        (6, 4, [(0, 8), (1, 0), (1, 8)]),
        # One that had to wait does not delay those after it.
        (3, 2, [(0, 4), (0, 6), (1, 0), (1, 4), (1, 6)]),
    ],
)
def test_shares_are_made_when_they_are_due(every, steps_per_execution, steps):
    layers = [sparse(30, sparsity=HALF), sparse(20, sparsity=HALF)]
    model = model_of(
        [*layers, keras.layers.Dense(1)],
        momentum_optimizer(0.001),
        steps_per_execution=steps_per_execution,
    )
    callback = SparsitySchedule("momentum", every=every)
    for _ in range(2):  # the second fit starts anew: by epoch, from step 0
        watch = Watch(layers[0])
        x, y = np.resize(data()[0], (40, 20)), np.ones((40, 1))
        model.fit(x, y, 4, epochs=2, callbacks=[callback, watch], verbose=0)
        assert watch.changes == steps


@pytest.mark.parametrize("update_every", [1, 50])
def test_the_next_step_works_with_the_new_share(update_every):
    layers = [
        sparse(30, sparsity=HALF, update_every=update_every) for _ in range(2)
    ]
    # The learning rate is so low that the weights stay where they are.
    model = model_of([*layers, keras.layers.Dense(1)], momentum_optimizer(1e-9))
    fit(model, SparsitySchedule("momentum", every=2), epochs=1)
    for layer in layers:
        sparsity, _ = sparsities(layer)
        assert abs(sparsity - 0.5) > 0.01
        assert kept(layer) == pytest.approx(1 - sparsity, abs=0.002)


def test_a_dead_layer_keeps_a_weight_and_the_budget_holds():
    layers = [sparse(10), sparse(40)]
    model = branches_of(layers, scales=(0.0, 1.0))
    fit(model, SparsitySchedule("momentum"), epochs=2)
    counts = [is_kept(layer).sum() for layer in layers]
    assert counts == [1, 199]


def test_shares_follow_the_weights_the_bounds_and_the_sizes():
    assert shares_of(60, [1, 2], [100, 100]) == pytest.approx([20, 40])
    assert shares_of(60, [0, 0], [100, 200]) == pytest.approx([20, 40])
    # 50 and 150 in proportion; the 51 above the cap go to the other.
    assert shares_of(200, [1, 3], [900, 100]) == pytest.approx([101, 99])
    assert shares_of(1e6, [1, 3], [10, 20]) == pytest.approx([9.9, 19.8])
    # What a floor adds is taken from the others, evenly, down to theirs.
    assert shares_of(60, [0, 1], [100, 400]) == pytest.approx([1, 59])
    assert shares_of(60, [0, 1, 2], [99] * 3) == pytest.approx([1, 19.5, 39.5])
    assert shares_of(6, [0, 0, 1, 9], [99] * 4) == pytest.approx([1, 1, 1, 3])
    assert shares_of(0.5, [1, 3], [10, 20]) == pytest.approx([1, 1])
    # Of a single entry a cap of 0.99 is what can be asked.
    assert shares_of(5, [0, 1], [1, 10]) == pytest.approx([0.99, 4.01])


def test_a_layer_in_two_models_counts_once():
    shared, other = sparse(20, sparsity=HALF), sparse(20, sparsity=HALF)
    nested = []
    for _ in range(2):
        inputs = keras.Input((20,))
        outputs = keras.activations.relu(shared(inputs))
        nested.append(keras.Model(inputs, outputs))
    model = model_of([*nested, other, keras.layers.Dense(1)])
    fit(model, SparsitySchedule("momentum"), epochs=2)
    counts = [is_kept(layer).sum() for layer in (shared, other)]
    assert abs(counts[0] - 200) > 5
    assert sum(counts) == pytest.approx(400, abs=2)


# Two sparsities in a layer


@pytest.mark.parametrize(
    ("of_activations", "expected"),
    [
        (None, "the weights'"),
        (0.25, 0.25),
        (ke.schedules.steps(0.1, {1: 0.3}), 0.3),
    ],
    ids=["None", "number", "schedule"],
)
def test_momentum_shares_weights_alone(of_activations, expected):
    layers = [
        sparse(30, sparsity=HALF, activation_sparsity=of_activations)
        for _ in range(2)
    ]
    model = model_of([*layers, keras.layers.Dense(1)])
    history = fit(model, SparsitySchedule("momentum", every=2), epochs=2)
    for layer in layers:
        weights, activations = sparsities(layer)
        assert abs(weights - 0.5) > 0.01
        is_same = expected == "the weights'"
        assert activations == pytest.approx(weights if is_same else expected)
    assert history.history["sparsity"] == pytest.approx([0.5, 0.5])


def test_activations_alone_follow_a_schedule():
    only = sparse(30, sparsity=0.25, activation_sparsity=GROW)
    history = fit(model_of([only, keras.layers.Dense(1)]), SparsitySchedule())
    assert sparsities(only) == pytest.approx([0.25, 0.9])
    assert "sparsity" not in history.history  # that of no weights has moved


def test_activations_alone_are_no_part_of_the_budget():
    only = sparse(30, sparsity=0.25, activation_sparsity=GROW)
    layers = [sparse(20, sparsity=HALF), sparse(20, sparsity=HALF)]
    model = model_of([only, *layers, keras.layers.Dense(1)])
    history = fit(model, SparsitySchedule("momentum"))
    assert sparsities(only) == pytest.approx([0.25, 0.9])
    counts = [is_kept(layer).sum() for layer in layers]
    assert sum(counts) == pytest.approx(600 / 2 + 400 / 2, abs=2)
    assert history.history["sparsity"] == pytest.approx([0.5] * 3)


# Frozen layers


@pytest.mark.parametrize("distribution", [None, "momentum"])
def test_a_frozen_layer_keeps_what_it_was_trained_to(distribution):
    base, *head = sparse(30, activation="relu"), sparse(20), sparse(20)
    model = model_of([base, *head, keras.layers.Dense(1)])
    fit(model, SparsitySchedule())
    before = np.array(base(data()[0]))
    base.trainable = False
    model.compile(momentum_optimizer(), "mse")
    history = fit(model, SparsitySchedule(distribution), epochs=2)
    np.testing.assert_array_equal(base(data()[0]), before)
    assert sparsities(base) == pytest.approx([0.9, 0.9])
    assert history.history["sparsity"] == pytest.approx([0.5, 0.8])
    counts = [is_kept(layer).sum() for layer in head]
    assert sum(counts) == pytest.approx((600 + 400) * 0.2, abs=2)


@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_a_frozen_layer_keeps_its_selection(granularity):
    """Frozen in the midst of the ten steps that a selection lasts."""
    layer = ke.layers.SparseDense(
        30, sparsity=0.5, granularity=granularity, update_every=10
    )
    model = model_of([layer, keras.layers.Dense(1)])
    x, y = data()
    model.fit(x[:27], y[:27], batch_size=3, epochs=1, verbose=0)
    before = np.array(layer(x))
    layer.trainable = False
    model.compile(momentum_optimizer(), "mse")
    model.fit(x[:6], y[:6], batch_size=3, verbose=0)
    np.testing.assert_array_equal(layer(x), before)
    # Negative control: one that trains selects anew.
    layer.trainable = True
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x[:6], y[:6], batch_size=3, verbose=0)
    assert (np.array(layer(x)) != before).any()


def test_layers_of_one_path_have_each_their_own_momentum():
    """Two models within a model may both have a layer `d`."""

    def block(name):
        inputs = keras.Input((20,))
        layer = ke.layers.SparseDense(
            20, sparsity=ke.schedules.constant(0.5), name=name
        )
        return keras.Model(inputs, layer(inputs)), layer

    def shares(names):
        keras.utils.set_random_seed(0)
        (one, a), (other, b) = (block(name) for name in names)
        inputs = keras.Input((20,))
        model = keras.Model(inputs, [one(inputs), other(inputs)])
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            ["mse", "mse"],
            loss_weights=[100.0, 0.01],
        )
        x = np.random.default_rng(0).normal(size=(32, 20))
        model.fit(
            x,
            [x, x],
            epochs=3,
            verbose=0,
            callbacks=[SparsitySchedule("momentum")],
        )
        assert (a.kernel.path == b.kernel.path) == (names[0] == names[1])
        return sparsities(a)[0], sparsities(b)[0]

    assert shares("dd") == pytest.approx(shares("de"), abs=1e-6)
    assert shares("dd")[0] < 0.1 < 0.9 < shares("dd")[1]


def test_a_frozen_model_is_refused():
    layer = sparse(1)
    layer.trainable = False
    with pytest.raises(ValueError, match="needs a sparse layer that trains"):
        fit(model_of([layer]), SparsitySchedule())


def test_layers_of_low_rank_follow_but_share_nothing():
    layer = sparse(30, lora_rank=2)
    model = model_of([layer, keras.layers.Dense(1)])
    fit(model, SparsitySchedule())
    assert kept(layer) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="and kernels that it trains"):
        fit(model, SparsitySchedule("momentum"))


# Where the layers are


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("distribution", [None, "momentum"])
def test_a_model_that_fit_builds_starts_at_epoch_0(distribution, run_eagerly):
    layers = [sparse(30), sparse(20)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(momentum_optimizer(), "mse", run_eagerly=run_eagerly)
    every = None if distribution is None else 2
    history = fit(model, SparsitySchedule(distribution, every=every))
    assert history.history["sparsity"] == pytest.approx([0.5, 0.8, 0.9])
    counts = [is_kept(layer).sum() for layer in layers]
    assert sum(counts) == pytest.approx(0.1 * (600 + 600), abs=2)


def test_a_model_that_fit_builds_cannot_start_later():
    callback = SparsitySchedule()
    fit(model_of([sparse(1)]), callback)  # is not remembered
    model = keras.Sequential([sparse(1, name="late")])
    model.compile("sgd", "mse")
    message = r"Add an `Input`.* Received: initial_epoch=2 \(layer 'late'\)"
    with pytest.raises(ValueError, match=message):
        fit(model, callback, initial_epoch=2)


def test_a_layer_that_is_never_called_stops_nothing():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = sparse(1), sparse(1)

        def build(self, input_shape):
            self.used.build(input_shape)

        def call(self, x):
            return self.used(x)

    model = Model()
    model.compile("sgd", "mse")
    history = fit(model, SparsitySchedule())
    assert history.history["sparsity"] == pytest.approx([0.5, 0.8, 0.9])
    assert not model.unused.built


def test_layers_within_a_layer_are_passed():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = sparse(1)

        def call(self, x):
            return self.dense(x)

    block = Block()
    fit(model_of([block]), SparsitySchedule(layers=[block.dense]))
    assert kept(block.dense) == pytest.approx(0.1)


def test_layers_of_others_are_left_alone():
    class Anneal(keras.layers.Layer):
        layers = 3  # not a list of them

        def set_epoch(self, epoch):
            raise AssertionError

        def call(self, x):
            return x

    layer = sparse(1)
    fit(model_of([Anneal(), layer]), SparsitySchedule())
    assert kept(layer) == pytest.approx(0.1)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distribution": "erk"}, "Received: distribution='erk'"),
        (
            {"distribution": "momentum", "every": 0},
            "must be a positive integer, or None. Received: every=0",
        ),
        (
            {"every": 5},
            "count epochs. Received: every=5, distribution=None",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparsitySchedule(**arguments)


@pytest.mark.parametrize(
    ("layers", "callback"),
    [
        ([sparse(1, sparsity=0.5)], SparsitySchedule()),
        ([keras.layers.Dense(1)], SparsitySchedule()),
        ([sparse(1)], SparsitySchedule(layers=[])),
        (
            [sparse(1, sparsity=0.5, activation_sparsity=GROW)],
            SparsitySchedule("momentum"),
        ),
    ],
    ids=["number", "dense", "none passed", "activations, momentum"],
)
def test_a_model_without_a_schedule_is_refused(layers, callback):
    message = f"with a Schedule as `sparsity`.*={callback.distribution!r}"
    with pytest.raises(ValueError, match=message):
        fit(model_of(layers), callback)


def test_an_optimizer_without_momentum_is_refused():
    model = model_of([sparse(1)], keras.optimizers.SGD(0.01))
    with pytest.raises(ValueError, match="needs an optimizer that keeps one"):
        fit(model, SparsitySchedule("momentum"))
