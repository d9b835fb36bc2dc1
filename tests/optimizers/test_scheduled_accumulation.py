"""A real update for each effective batch, and nothing else changes."""

import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_eff.optimizers import ScheduledAccumulation
from keras_eff.optimizers.gradient_noise import noise_from_squares

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(52, 4)).astype("float32")
Y = GENERATOR.normal(size=(52, 1)).astype("float32")
MICRO = [8] * 6 + [4]
PHASES = [[24] * 6 + [4], [16] * 6 + [4], [40] * 5 + [12] * 2]

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=0.1),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.1),
    "ema": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01)
    ),
}
MODES = {
    "graph": {},
    "xla": {"jit_compile": True},
    "eager": {"run_eagerly": True},
}
by_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
by_slots = pytest.mark.parametrize("slots", [1, 4])
# Every optimizer in a graph; one without and one with branches of its own
# in all modes.
by_case = pytest.mark.parametrize(
    ("name", "mode"),
    [(name, "graph") for name in OPTIMIZERS]
    + [(name, m) for name in ("sgd", "loss_scale") for m in ("xla", "eager")],
)


class Expect(keras.callbacks.Callback):
    """Hands the plan of an epoch to the optimizer."""

    def __init__(self, examples, batch_sizes):
        super().__init__()
        self.plan = np.array([examples, batch_sizes])

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.restart()

    def on_train_batch_begin(self, batch, logs=None):
        slots = self.model.optimizer.num_slots
        part = self.plan[:, batch : batch + slots]
        missing = slots - part.shape[1]
        padded = np.pad(part, ((0, 0), (0, missing)), constant_values=1)
        self.model.optimizer.expect(*padded.tolist())


def linear(optimizer, **kwargs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    kwargs = {"jit_compile": False, "auto_scale_loss": False, **kwargs}
    model.compile(optimizer, "mse", **kwargs)
    return model


def fit(model, batch_size, callbacks=(), epochs=1):
    data = (X, Y)
    options = {"shuffle": False, "verbose": 0, "callbacks": [*callbacks]}
    model.fit(*data, batch_size=batch_size, epochs=epochs, **options)


def weights_of(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def reference(weights, phases, rate=0.01, momentum=0.9):
    """Momentum SGD on the mean squared error, by effective batch."""
    inputs = np.c_[X, np.ones(len(X))].astype("float64")
    weights, velocity = weights.astype("float64"), 0.0
    for sizes in phases:
        start = seen = 0
        for micro, size in zip(MICRO, sizes, strict=True):
            seen += micro
            if seen - start >= size:
                x, y = inputs[start:seen], Y[start:seen, 0]
                gradient = 2 * x.T @ (x @ weights - y) / len(x)
                velocity = momentum * velocity - rate * gradient
                weights, start = weights + velocity, seen
    return weights


@by_slots
@by_mode
def test_three_phases_with_ragged_tails_follow_numpy(mode, slots):
    optimizer = ScheduledAccumulation(OPTIMIZERS["sgd"](), num_slots=slots)
    model = linear(optimizer, steps_per_execution=slots, **mode)
    expected = reference(weights_of(model), PHASES)
    for sizes in PHASES:
        fit(model, 8, [Expect(MICRO, sizes)])
    np.testing.assert_allclose(weights_of(model), expected, atol=1e-6)
    assert int(optimizer.iterations) == 3 + 4 + 2


@by_case
def test_an_effective_batch_acts_like_a_batch(name, mode):
    make, mode = OPTIMIZERS[name], MODES[mode]
    large = linear(make(), **mode)
    fit(large, 24, epochs=2)
    small = linear(ScheduledAccumulation(make()), **mode)
    fit(small, 8, [Expect(MICRO, PHASES[0])], epochs=2)
    np.testing.assert_allclose(weights_of(small), weights_of(large), atol=1e-6)
    assert int(small.optimizer.iterations) == int(large.optimizer.iterations)


@by_case
def test_without_accumulation_it_is_the_inner_optimizer(name, mode):
    slots = 4 if name == "adam" else 1
    make = OPTIMIZERS[name]
    mode = {"steps_per_execution": slots, **MODES[mode]}
    plain = linear(make(), **mode)
    wrapped = linear(ScheduledAccumulation(make(), num_slots=slots), **mode)
    for model in (plain, wrapped):
        fit(model, 8, epochs=2)
    np.testing.assert_array_equal(weights_of(wrapped), weights_of(plain))


def test_sparse_and_missing_gradients_are_accumulated():
    table, unused = (keras.Variable(np.ones((3, 1))) for _ in range(2))
    optimizer = ScheduledAccumulation(keras.optimizers.SGD(1.0))
    optimizer.expect([1], [2])
    for rows in ([0, 2], [2, 2]):
        sparse = tf.IndexedSlices(np.ones((2, 1), "float32"), rows, [3, 1])
        optimizer.apply([sparse, None], [table, unused])
    np.testing.assert_allclose(table.numpy()[:, 0], [0.5, 1, -0.5])
    np.testing.assert_allclose(unused.numpy(), 1)


def test_an_overflow_skips_the_whole_update():
    variable = keras.Variable(1.0)
    inner = OPTIMIZERS["loss_scale"]()
    optimizer = ScheduledAccumulation(inner, measure_noise=True)
    optimizer.expect([1], [2])
    for gradient in (1.0, np.inf, 1.0, 1.0):
        optimizer.apply([tf.constant(gradient)], [variable])
    assert int(optimizer.iterations) == 1
    assert float(inner.dynamic_scale) == 2**14
    assert np.isfinite(variable.numpy())
    assert optimizer.noise[2] == 1


def test_mixed_precision_follows_float32():
    models = []
    for policy in ("float32", "mixed_float16"):
        inner = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.01), initial_scale=64.0
        )
        optimizer = ScheduledAccumulation(inner)
        keras.utils.set_random_seed(0)
        layer = keras.layers.Dense(1, dtype=policy)
        model = keras.Sequential([keras.Input((4,)), layer])
        model.compile(optimizer, "mse", auto_scale_loss=False)
        fit(model, 8, [Expect(MICRO, PHASES[0])], epochs=2)
        models.append(model)
    np.testing.assert_allclose(*map(weights_of, models), atol=1e-2)


def test_an_optimizer_that_is_built_keeps_its_state():
    plain = linear(OPTIMIZERS["sgd"]())
    model = linear(OPTIMIZERS["sgd"]())
    for each in (plain, model):
        fit(each, 8)
    model.optimizer = ScheduledAccumulation(model.optimizer)
    model.optimizer.build(model.trainable_variables)
    model.make_train_function(force=True)
    for each in (plain, model):
        fit(each, 8)
    np.testing.assert_array_equal(weights_of(model), weights_of(plain))


def test_restart_drops_what_is_accumulated():
    variable = keras.Variable(0.0)
    optimizer = ScheduledAccumulation(keras.optimizers.SGD(1.0), num_slots=2)
    optimizer.expect([1, 3], [4, 4])
    optimizer.apply([tf.constant(100.0)], [variable])
    optimizer.restart()
    for gradient in (4.0, 8.0):
        optimizer.apply([tf.constant(gradient)])
    assert float(variable) == -(4 + 3 * 8) / 4


def test_it_stands_for_its_inner_optimizer():
    inner = keras.optimizers.SGD(0.5, momentum=0.9)
    optimizer = ScheduledAccumulation(inner)
    optimizer.build([keras.Variable(1.0)])
    optimizer.learning_rate = 0.25
    assert float(inner.learning_rate) == float(optimizer.learning_rate) == 0.25
    assert optimizer.iterations is inner.iterations
    held = {id(variable) for variable in optimizer.variables}
    assert held > {id(variable) for variable in inner.variables}
    assert len(held) == len(optimizer.variables)


def test_config_round_trip():
    config = ScheduledAccumulation(OPTIMIZERS["adamw"](), 4, True).get_config()
    again = ScheduledAccumulation.from_config(config)
    assert again.get_config() == config
    assert (again.num_slots, again.measure_noise) == (4, True)
    assert again.inner_optimizer.weight_decay == 0.1


@pytest.mark.parametrize("saved", ["plain", "wrapped"])
@pytest.mark.parametrize("loaded", ["plain", "wrapped"])
def test_weight_files_interchange(saved, loaded, tmp_path):
    def make(kind):
        inner = OPTIMIZERS["sgd"]()
        wrapped = kind == "wrapped"
        return linear(ScheduledAccumulation(inner) if wrapped else inner)

    first, second = make(saved), make(loaded)
    fit(first, 8)
    first.save_weights(tmp_path / "x.weights.h5")
    second.optimizer.build(second.trainable_variables)
    second.load_weights(tmp_path / "x.weights.h5")
    for model in (first, second):
        fit(model, 8)
    np.testing.assert_array_equal(weights_of(first), weights_of(second))
    assert int(second.optimizer.iterations.numpy()) == 14


def test_a_plain_backup_is_restored_under_the_wrapper(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def backup(name):
        return keras.callbacks.BackupAndRestore(tmp_path / name)

    plain, wrapped, whole = (
        linear(make())
        for make in (
            OPTIMIZERS["sgd"],
            lambda: ScheduledAccumulation(OPTIMIZERS["sgd"]()),
            OPTIMIZERS["sgd"],
        )
    )
    with pytest.raises(KeyboardInterrupt):
        fit(plain, 8, [backup("plain"), Interrupt()], epochs=3)
    fit(wrapped, 8, [backup("plain")], epochs=3)
    fit(whole, 8, epochs=3)
    np.testing.assert_array_equal(weights_of(wrapped), weights_of(whole))


LOAD = """
import sys
import keras, numpy as np
import keras_eff
model = keras.saving.load_model(sys.argv[1])
x, y = np.load(sys.argv[2]).values()
model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
np.savez(sys.argv[3], *model.get_weights())
"""


def test_a_model_file_trains_on_in_a_fresh_process(tmp_path):
    model = linear(ScheduledAccumulation(OPTIMIZERS["sgd"]()))
    fit(model, 8)
    paths = [str(tmp_path / name) for name in ("m.keras", "x.npz", "w.npz")]
    model.save(paths[0])
    np.savez(paths[1], X, Y)
    subprocess.run([sys.executable, "-c", LOAD, *paths], check=True)
    fit(model, 8)
    loaded = np.concatenate([w.ravel() for w in np.load(paths[2]).values()])
    np.testing.assert_allclose(loaded, weights_of(model), atol=1e-7)


STRATEGY = """
import json, sys
import keras, numpy as np, tensorflow as tf
from keras_eff.optimizers import ScheduledAccumulation

replicas = int(sys.argv[1])
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * replicas,
)
devices = [f"CPU:{index}" for index in range(replicas)]
generator = np.random.default_rng(0)
x = generator.integers(0, 9, size=(96, 4))
y = generator.normal(size=(96, 1)).astype("float32")
with tf.distribute.MirroredStrategy(devices).scope():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Embedding(9, 3),
        keras.layers.Flatten(),
        keras.layers.Dense(1),
    ])
    inner = keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.1)
    optimizer = ScheduledAccumulation(inner, measure_noise=True)
    model.compile(optimizer, "mse")
for window in (24, 8, 48):
    optimizer.expect([8], [window])
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
print(json.dumps({
    "weights": [w.ravel().tolist() for w in model.get_weights()],
    "iterations": int(optimizer.iterations.numpy()),
    "noise": optimizer.noise,
}))
"""


def test_two_replicas_train_like_one():
    one, two = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", STRATEGY, str(replicas)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.splitlines()[-1]
        )
        for replicas in (1, 2)
    )
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert one["iterations"] == two["iterations"] == 4 + 12 + 2
    # Twice as many, half as large micro-batches: another estimate of the same.
    assert one["noise"][2] == two["noise"][2] == 4 + 2
    assert one["noise"][0] == pytest.approx(two["noise"][0], rel=0.3)


def test_noise_of_the_notes():
    assert noise_from_squares(9, 2, 1 / 8, 1 / 64) == (64, 1)


@pytest.mark.parametrize("scale", [None, 8.0])
@pytest.mark.parametrize("graph", [False, True])
def test_noise_is_measured_before_clipping(scale, graph):
    inner = keras.optimizers.SGD(
        0.1, clipnorm=1e-3, weight_decay=0.5, loss_scale_factor=scale
    )
    optimizer = ScheduledAccumulation(inner, measure_noise=True)
    variable = keras.Variable(np.zeros(5))
    optimizer.build([variable])
    assert np.isnan(optimizer.noise[:2]).all()
    assert optimizer.noise[2] == 0

    def apply(gradient):
        optimizer.apply([gradient * (scale or 1.0)], [variable])

    apply = tf.function(apply) if graph else apply
    generator = np.random.default_rng(1)
    trace = grad_sq = 0.0
    for _ in range(3):
        apply(tf.ones(5))  # an update alone measures nothing
        sizes, total = [4, 4, 2], 10
        gradients = generator.normal(size=(3, 5)).astype("float32")
        for size, gradient in zip(sizes, gradients, strict=True):
            optimizer.expect([size], [total])
            apply(tf.constant(gradient))
        optimizer.expect([1], [1])
        mean = np.average(gradients, axis=0, weights=sizes)
        new = noise_from_squares(
            np.mean(np.sum(gradients**2, axis=1)),
            np.sum(mean**2),
            np.mean(1 / np.array(sizes)),
            1 / total,
        )
        trace = 0.99 * trace + 0.01 * new[0]
        grad_sq = 0.99 * grad_sq + 0.01 * new[1]
    expected = np.array([trace, grad_sq]) / (1 - 0.99**3)
    np.testing.assert_allclose(optimizer.noise[:2], expected, rtol=1e-4)
    assert optimizer.noise[2] == 3
    optimizer.restart_noise()
    assert math.isnan(optimizer.noise[0])


def test_noise_is_not_measured_unless_asked():
    optimizer = ScheduledAccumulation(keras.optimizers.SGD(0.1))
    optimizer.expect([1], [2])
    variable = keras.Variable(np.zeros(3))
    for _ in range(2):
        optimizer.apply([tf.ones(3)], [variable])
    assert int(optimizer.iterations) == 1
    assert optimizer.noise[2] == 0


class Float8(keras.Variable):
    overwrite_with_gradient = True


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ScheduledAccumulation(keras.optimizers.SGD(), num_slots=0),
            "`num_slots` must be at least 1",
        ),
        (
            lambda: ScheduledAccumulation(
                keras.optimizers.SGD(gradient_accumulation_steps=2)
            ),
            "must not accumulate gradients itself",
        ),
        (
            lambda: ScheduledAccumulation(keras.optimizers.SGD()).apply([1.0]),
            "must pass the variables",
        ),
        (
            lambda: ScheduledAccumulation(keras.optimizers.SGD()).build(
                [Float8(1.0)]
            ),
            "overwritten with its gradient",
        ),
        *(
            (
                lambda row=row: ScheduledAccumulation(
                    keras.optimizers.SGD(), num_slots=2
                ).expect(row, [4, 4]),
                "one positive integer for each of the 2 slots",
            )
            for row in ([4], [4, 0], [4, 4, 4])
        ),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
