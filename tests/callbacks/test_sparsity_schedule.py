import keras
import numpy as np
import pytest

import keras_eff as ke
from keras_eff.callbacks import SparsitySchedule
from keras_eff.callbacks.sparsity_schedule import shares_of

GROW = ke.schedules.steps(0.5, {1: 0.8, 2: 0.9})


def sparse(units, **kwargs):
    return ke.layers.SparseDense(units, **{"sparsity": GROW, **kwargs})


def model_of(layers, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((20,)), *layers])
    optimizer = optimizer or keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "mse", **options)
    return model


def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 20)).astype("float32")
    return x, x[:, :1] * 2


def kept(layer):
    return np.mean(np.array(layer.sparse_kernel()) != 0)


def fit(model, callback, epochs=3, **options):
    options = {"batch_size": 8, "verbose": 0, **options}
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


def test_a_resumed_fit_takes_the_sparsity_of_its_epoch():
    layer = sparse(30)
    fit(model_of([layer]), SparsitySchedule(), epochs=3, initial_epoch=2)
    assert kept(layer) == pytest.approx(0.1)


def test_constant_layers_are_left_alone():
    constant, moving = sparse(30, sparsity=0.25), sparse(1)
    fit(model_of([constant, moving]), SparsitySchedule())
    assert kept(constant) == pytest.approx(0.75)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "accumulating"])
@pytest.mark.parametrize("every", [None, 3])
def test_momentum_shares_one_budget(optimizer, every):
    half = ke.schedules.constant(0.5)
    layers = [sparse(30, sparsity=half) for _ in range(2)]
    inner = keras.optimizers.SGD(0.01, momentum=0.9)
    made = {
        "sgd": inner,
        "adam": keras.optimizers.Adam(0.01),
        "accumulating": ke.optimizers.ScheduledAccumulation(inner),
    }[optimizer]
    model = model_of([*layers, keras.layers.Dense(1)], made)
    fit(model, SparsitySchedule("momentum", every=every))
    sizes = [600, 900]
    counts = [kept(layer) * n for layer, n in zip(layers, sizes, strict=True)]
    assert sum(counts) == pytest.approx(750, abs=3)
    assert abs(counts[0] - 300) > 20  # not uniform
    assert all(c <= 0.99 * n + 1 for c, n in zip(counts, sizes, strict=True))


def test_shares_follow_the_weights_the_caps_and_the_sizes():
    assert shares_of(60, [1, 2], [100, 100]) == pytest.approx([20, 40])
    assert shares_of(60, [0, 0], [100, 200]) == pytest.approx([20, 40])
    # 50 and 150 in proportion; the 51 above the cap go to the other.
    assert shares_of(200, [1, 3], [900, 100]) == pytest.approx([101, 99])
    assert shares_of(1e6, [1, 3], [10, 20]) == pytest.approx([9.9, 19.8])


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


def test_a_model_without_a_schedule_is_refused():
    model = model_of([sparse(1, sparsity=0.5)])
    with pytest.raises(ValueError, match="with a Schedule as `sparsity`"):
        fit(model, SparsitySchedule())


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


def test_an_optimizer_without_momentum_is_refused():
    model = model_of([sparse(1)], keras.optimizers.SGD(0.01))
    with pytest.raises(ValueError, match="needs an optimizer that keeps one"):
        fit(model, SparsitySchedule("momentum"))
