"""The noise scale follows its definition; measuring it changes nothing."""

import itertools
import math
import sys

import keras
import numpy as np
import pytest

import keras_eff as ke
from keras_eff.optimizers.gradient_noise import corrected
from keras_eff.optimizers.gradient_noise import noise_from_squares

KEYS = ("noise_scale", "noise_trace", "noise_grad_sq")
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(256, 4)).astype("float32")
Y = X[:, :1] + GENERATOR.normal(size=(256, 1)).astype("float32")


def model_of(optimizer=None, **kwargs):
    """Has statistics, seeds and metrics that a forward pass changes."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(6),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, kernel_regularizer="l2"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, "mse", metrics=["mae"], **kwargs)
    return model


def fit(model, *callbacks, epochs=2, **kwargs):
    kwargs = {"batch_size": 16, "verbose": 0, "shuffle": False, **kwargs}
    return model.fit(X, Y, epochs=epochs, callbacks=[*callbacks], **kwargs)


def accumulating(batch_size=64):
    inner = keras.optimizers.SGD(0.05, momentum=0.9)
    optimizer = ke.optimizers.ScheduledAccumulation(inner)
    optimizer.expect([16], [batch_size])
    return optimizer


def probing(**kwargs):
    settings = {"data": (X, Y), "num_batches": 4, "batch_size": 16, **kwargs}
    return ke.callbacks.GradientNoiseScale(**settings)


def arrays_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(variable) for variable in variables]


def test_gaussian_gradients_give_the_true_noise_scale():
    """|G|^2 = 1 and 64 parameters of unit variance: a noise scale of 64."""
    draws, num_batches, batch_size, size = 4000, 8, 8, 64
    generator = np.random.default_rng(0)
    # A mean over `batch_size` examples has their variance over `batch_size`.
    small = generator.normal(size=(draws, num_batches, size), scale=8**-0.5)
    small += np.full(size, size**-0.5)
    trace, grad_sq = noise_from_squares(
        np.mean(np.sum(small**2, axis=2), axis=1),
        np.sum(small.mean(axis=1) ** 2, axis=1),
        1 / batch_size,
        1 / (num_batches * batch_size),
    )
    assert trace.mean() / grad_sq.mean() == pytest.approx(64, rel=0.02)
    # The mean of the ratios is another, wrong number.
    assert np.mean(trace / grad_sq) != pytest.approx(64, rel=0.02)


def test_unequal_micro_batches_give_the_same():
    draws, sizes = 20_000, np.array([2, 6, 16])
    generator = np.random.default_rng(0)
    small = generator.normal(size=(draws, 3, 16)) / np.sqrt(sizes)[:, None]
    small += 0.25
    large = np.average(small, axis=1, weights=sizes)
    trace, grad_sq = noise_from_squares(
        np.mean(np.sum(small**2, axis=2)),
        np.mean(np.sum(large**2, axis=1)),
        np.mean(1 / sizes),
        1 / sizes.sum(),
    )
    assert trace == pytest.approx(16, rel=0.02)
    assert grad_sq == pytest.approx(1, rel=0.02)


def test_equal_squares_mean_no_noise():
    assert noise_from_squares(2, 2, 1 / 8, 1 / 64)[0] == 0


@pytest.mark.parametrize(
    ("trace", "grad_sq", "expected"),
    [
        (64.0, 1.0, 64.0),
        (0.0, 2.0, 0.0),
        (64.0, 0.0, math.nan),
        (64.0, -1.0, math.nan),
        (math.nan, math.nan, math.nan),
    ],
)
def test_the_noise_scale_is_nan_where_undefined(
    trace, grad_sq, expected, monkeypatch
):
    noise = ke.callbacks.GradientNoiseScale()
    monkeypatch.setattr(noise, "_noise", (trace, grad_sq, 1))
    assert noise.noise_scale == pytest.approx(expected, nan_ok=True)


def test_running_means_are_corrected_for_their_start():
    trace = grad_sq = 0.0
    for _ in range(3):
        trace, grad_sq = 0.9 * trace + 0.1 * 5, 0.9 * grad_sq + 0.1 * 2
    found = corrected(trace, grad_sq, 3, 0.9)
    assert found == pytest.approx((5, 2, 3))
    assert corrected(0.0, 0.0, 0, 0.9) == pytest.approx(
        (math.nan, math.nan, 0), nan_ok=True
    )


def test_a_probe_measures_the_trace_of_the_covariance():
    """Of the gradients of all examples, computed one by one in NumPy."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    noise = probing(num_batches=16, batch_size=16, ema=0.9)
    fit(model, noise, epochs=30)
    residual = model.predict(X, verbose=0) - Y
    gradients = 2 * residual * np.c_[X, np.ones(len(X))]
    mean = gradients.mean(axis=0)
    trace = np.sum((gradients - mean) ** 2, axis=1).sum() / (len(X) - 1)
    record = noise.history[-1]
    assert record.trace == pytest.approx(trace, rel=0.1)
    # Each probe sees all examples, so the large batch has no variance left.
    assert record.grad_sq == pytest.approx(
        np.sum(mean**2) - record.trace / len(X), rel=1e-3
    )
    assert record.noise_scale == record.trace / record.grad_sq


@pytest.mark.parametrize("every", [None, 3])
def test_a_probe_does_not_change_training(every):
    plain, probed = model_of(), model_of()
    noise = probing(every=every)
    without, with_noise = fit(plain), fit(probed, noise)
    for a, b in zip(arrays_of(plain), arrays_of(probed), strict=True):
        np.testing.assert_array_equal(a, b)
    for key, values in without.history.items():
        assert with_noise.history[key] == values
    assert np.isfinite(with_noise.history["noise_scale"]).all()
    (saving,) = noise.savings()
    assert saving.is_cost
    assert saving.actual > 0


def test_a_scaled_loss_does_not_scale_the_noise():
    records = []
    for optimizer in (
        keras.optimizers.SGD(0.0),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0)),
    ):
        noise = probing()
        fit(model_of(optimizer), noise, epochs=1)
        records.append(noise.history[0])
    assert records[0].trace == pytest.approx(records[1].trace, rel=1e-3)
    assert records[0].grad_sq == pytest.approx(records[1].grad_sq, rel=1e-3)


def test_accumulation_is_measured_in_passing():
    plain, measured = model_of(accumulating()), model_of(accumulating())
    noise = ke.callbacks.GradientNoiseScale()
    for _ in range(2):
        fit(plain)
        history = fit(measured, noise).history
    for a, b in zip(plain.get_weights(), measured.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert noise.savings() == []
    last = noise.history[-1]
    assert [history[key][-1] for key in KEYS] == [
        noise.noise_scale,
        last.trace,
        last.grad_sq,
    ]
    assert last.trace > 0
    assert [record.updates for record in noise.history] == [12, 16]
    assert measured.optimizer.noise[2] == 8  # the second `fit` alone
    assert measured.optimizer.measure_noise is False
    assert last.to_dict()["epoch"] == 1


def test_both_ways_find_the_same_noise():
    """Of a model that stands still, over the same examples."""
    optimizer = accumulating(256)
    optimizer.learning_rate = 0.0
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    accumulated = ke.callbacks.GradientNoiseScale()
    fit(model, accumulated, epochs=30, shuffle=True)
    probed = probing(num_batches=16)
    fit(model, probed, epochs=30)
    found, expected = accumulated.history[-1], probed.history[-1]
    assert found.trace == pytest.approx(expected.trace, rel=0.1)
    assert found.noise_scale == pytest.approx(expected.noise_scale, rel=0.1)


def test_without_accumulated_batches_it_is_nan():
    noise = ke.callbacks.GradientNoiseScale()
    history = fit(model_of(accumulating(16)), noise, epochs=1).history
    assert all(math.isnan(history[key][0]) for key in KEYS)
    assert math.isnan(noise.noise_scale)


def test_an_interrupted_fit_leaves_nothing_to_the_next():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model, noise = model_of(accumulating()), ke.callbacks.GradientNoiseScale()
    with pytest.raises(KeyboardInterrupt):
        fit(model, noise, Interrupt())
    fit(model, noise)
    assert model.optimizer.measure_noise is False
    assert len(noise.history) == 2


def test_plot_writes_a_picture_of_its_own(tmp_path):
    pytest.importorskip("matplotlib")
    noise = probing()
    fit(model_of(), noise)
    noise.plot(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")


def test_plot_overwrites_nothing_and_names_the_extra(tmp_path, monkeypatch):
    noise = ke.callbacks.GradientNoiseScale()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"keras-eff\[plots\]"):
        noise.plot(tmp_path / "noise.png")
    (tmp_path / "noise.png").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrites nothing"):
        noise.plot(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"ema": 1.0}, r"`ema` must be in \[0, 1\)"),
        ({"every": 0}, "`every` must be at least 1"),
        ({"every": 2, "data": None}, "needs `data`"),
        ({"num_batches": 1}, "at least 2 micro-batches"),
        ({"batch_size": 0}, "at least 1 example"),
        ({"num_batches": 17}, "at least num_batches . batch_size = 272"),
        ({"data": (X, Y[:9])}, "arrays of the same length"),
    ],
)
def test_errors_say_what_is_wrong(kwargs, message):
    with pytest.raises(ValueError, match=message):
        probing(**kwargs)


def test_nothing_to_measure_names_the_remedies():
    noise = ke.callbacks.GradientNoiseScale()
    with pytest.raises(ValueError, match=r"`data=\(x, y\)`.*or accumulate"):
        fit(model_of(), noise)


def test_a_schedule_follows_the_measured_noise():
    """Accumulation measures in passing; the batch grows as far as it says."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(256, 4)).astype("float32")
    y = x.sum(1, keepdims=True) + 3 * generator.normal(size=(256, 1))
    noise = ke.callbacks.GradientNoiseScale(ema=0.9)
    schedule = ke.callbacks.BatchSizeSchedule(
        16,
        learning_rate=None,
        max_batch_size=64,
        max_physical_batch_size=8,
        adaptive=noise,
    )
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-2), "mse")
    history = model.fit(
        schedule.batch((x, y), seed=0),
        epochs=6,
        callbacks=[schedule, noise],
        verbose=0,
    ).history
    sizes = history["batch_size"]
    for epoch, (before, after) in enumerate(itertools.pairwise(sizes)):
        scale = history["noise_scale"][epoch]
        grows = scale >= 2 * before and 2 * before <= 64
        assert after == (2 * before if grows else before)
    assert sizes[0] == 16
    assert sizes[-1] == 64


def test_an_overflow_of_half_types_is_no_measurement():
    """Else it would stay in the running means for the rest of `fit`."""
    noise = probing(every=1)
    model = model_of()
    values = iter([(8.0, 2.0), (float("inf"), float("nan")), (8.0, 2.0)])
    fit(model, noise)
    noise._means = (0.0, 0.0, 0)
    noise._probe.measure = lambda: next(values)
    for _ in range(3):
        noise._take_probe()
    assert noise.noise_scale == pytest.approx(4)


def test_the_record_has_the_batch_size_of_a_schedule_before_it():
    schedule = ke.callbacks.BatchSizeSchedule(ke.schedules.steps(4, {1: 8}))
    noise = probing()
    model = model_of()
    model.fit(
        schedule.batch((X, Y)),
        epochs=2,
        callbacks=[schedule, noise],
        verbose=0,
    )
    assert [record.batch_size for record in noise.history] == [4, 8]
