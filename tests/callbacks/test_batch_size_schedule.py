import collections
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_eff as ke
from keras_eff.callbacks import BatchSizeSchedule

GROW_AND_SHRINK = ke.schedules.steps(8, {1: 16, 2: 4})


class SeenExamples(keras.Model):
    """Multiplies by a weight, and remembers the ids in the first column."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.seen = []

    def call(self, inputs):
        def remember(ids):
            self.seen.append(ids.astype(int).tolist())
            return ids

        ids = tf.numpy_function(remember, [inputs[:, 0]], tf.float32)
        ids.set_shape(inputs.shape[:1])
        return self.scale * ids[:, None]


class Epochs(keras.callbacks.Callback):
    """Cuts what the model has seen into epochs, and reads the rest."""

    def __init__(self):
        super().__init__()
        self.batches, self.steps, self.rates = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.model.seen.clear()

    def on_epoch_end(self, epoch, logs=None):
        self.batches.append([list(batch) for batch in self.model.seen])
        self.steps.append(int(self.params["steps"]))
        self.rates.append(float(self.model.optimizer.learning_rate))


def arrays(n=100):
    x = np.arange(n, dtype="float32")[:, None]
    return x, np.zeros((n, 1), "float32")


def fit(schedule, data, epochs=3, callbacks=(), compile_options=(), **options):
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-6), "mse", **dict(compile_options))
    epochs_seen = Epochs()
    model.fit(
        data,
        epochs=epochs,
        callbacks=[schedule, epochs_seen, *callbacks],
        **{"verbose": 0, **options},
    )
    return model, epochs_seen


def data_of(kind, schedule, n=100):
    if kind == "arrays":
        return schedule.batch(arrays(n), seed=0)
    dataset = tf.data.Dataset.from_tensor_slices(arrays(n))
    if kind == "shuffled tf.data":
        dataset = dataset.shuffle(n, seed=0)
    return schedule.batch(dataset)


kinds = pytest.mark.parametrize(
    "kind", ["arrays", "tf.data", "shuffled tf.data"]
)


@kinds
@pytest.mark.parametrize("fit_shuffle", [True, False])
@pytest.mark.parametrize("sizes", [(8, 16, 4), (16, 4, 8), (3, 100, 200)])
def test_every_example_once_an_epoch_growing_and_shrinking(
    kind, fit_shuffle, sizes
):
    changes = dict(enumerate(sizes[1:], start=1))
    schedule = BatchSizeSchedule(ke.schedules.steps(sizes[0], changes))
    model, epochs = fit(schedule, data_of(kind, schedule), shuffle=fit_shuffle)
    assert len(epochs.batches) == 3
    for batches, size in zip(epochs.batches, sizes, strict=True):
        seen = collections.Counter(id_ for batch in batches for id_ in batch)
        assert seen == collections.Counter(range(100))
        lengths = sorted((len(batch) for batch in batches), reverse=True)
        full, rest = divmod(100, size)
        assert lengths == [size] * full + [rest] * bool(rest)
    steps = [-(-100 // size) for size in sizes]
    assert epochs.steps == steps
    assert int(model.optimizer.iterations) == sum(steps)
    assert [row.updates for row in schedule.plan(100, 3).rows] == steps


def test_keras_alone_loses_data_when_the_batch_shrinks():
    """DESIGN trap 1; when this fails Keras has changed, and so may we."""

    class Shrinking(keras.utils.PyDataset):
        size = 16

        def __len__(self):
            return -(-64 // self.size)

        def __getitem__(self, index):
            part = slice(index * self.size, (index + 1) * self.size)
            return tuple(array[part] for array in arrays(64))

    dataset, epochs = Shrinking(), Epochs()
    shrink = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(
            dataset, "size", 16 if epoch == 0 else 8
        )
    )
    model = SeenExamples()
    model.compile("sgd", "mse")
    model.fit(
        dataset, epochs=2, callbacks=[shrink, epochs], verbose=0, shuffle=False
    )
    assert sum(map(len, epochs.batches[1])) == 32  # of 64


@kinds
@pytest.mark.parametrize(
    "compile_options",
    [{"steps_per_execution": 4}, {"run_eagerly": True}],
    ids=["4 steps an execution", "eagerly"],
)
def test_other_ways_to_run_a_step(kind, compile_options):
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    data = data_of(kind, schedule)
    model, epochs = fit(schedule, data, compile_options=compile_options)
    for batches in epochs.batches:
        ids = sorted(id_ for batch in batches for id_ in batch)
        assert ids == list(range(100))
    assert int(model.optimizer.iterations) == 13 + 7 + 25
    assert schedule.savings()[0].actual == 13 + 7 + 25


def test_xla_compiles_and_counts_right():
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=True)
    data = data_of("arrays", schedule)
    model.fit(data, epochs=3, callbacks=[schedule], verbose=0)
    assert int(model.optimizer.iterations) == 13 + 7 + 25


def test_the_progress_bar_shows_the_steps_of_each_epoch(capsys):
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    fit(schedule, data_of("arrays", schedule), verbose=1)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert re.findall(r"(\d+)/\1 ━+", shown) == ["13", "7", "25"]


def test_each_epoch_has_its_own_order_and_a_seed_repeats_it():
    orders = []
    for _ in range(2):
        schedule = BatchSizeSchedule(50)
        data = data_of("arrays", schedule)
        _, epochs = fit(schedule, data, epochs=2, shuffle=False)
        orders.append(epochs.batches)
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]


def test_a_slow_dataset_and_a_model_that_is_built_by_fit():
    """`fit` reads ahead before epoch 0; that must take nothing from it."""

    def slowly(x, y):
        return tf.numpy_function(
            lambda x: (time.sleep(0.002), x)[1], [x], tf.float32
        ), y

    dataset = tf.data.Dataset.from_tensor_slices(arrays(40))
    for _ in range(5):
        schedule = BatchSizeSchedule(ke.schedules.steps(2, {1: 5}))
        _, epochs = fit(schedule, schedule.batch(dataset.map(slowly)), 2)
        for batches in epochs.batches:
            ids = [id_ for batch in batches for id_ in batch]
            assert ids == list(range(40))


@kinds
def test_one_dataset_serves_many_fits_even_after_a_stop(kind):
    class StopAtBatch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 5

    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    data = data_of(kind, schedule)
    for stop in ([], [StopAtBatch()], []):
        _, epochs = fit(schedule, data, callbacks=stop)
        for batches in epochs.batches if not stop else ():
            ids = sorted(id_ for batch in batches for id_ in batch)
            assert ids == list(range(100))
    assert [len(batches) for batches in epochs.batches] == [13, 7, 25]


def test_users_arrays_are_never_changed():
    x, y = arrays()
    copies = x.copy(), y.copy()
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    fit(schedule, schedule.batch((x, y)))
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(y, copies[1])


def test_sample_weights_and_class_weights_reach_the_loss():
    x, y = np.ones((10, 1), "float32"), np.zeros(10, "int32")
    losses = []
    for data, options in (
        ((x, y), {}),
        ((x, y, np.full(10, 2.0, "float32")), {}),
        ((x, y), {"class_weight": {0: 3.0, 1: 1.0}}),
    ):
        schedule = BatchSizeSchedule(5)
        model = keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Dense(2, "softmax", False, "zeros"),
            ]
        )
        model.compile(
            keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy"
        )
        history = model.fit(
            schedule.batch(data), callbacks=[schedule], verbose=0, **options
        )
        losses.append(history.history["loss"][0])
    np.testing.assert_allclose(losses, np.log(2) * np.array([1, 2, 3]), 1e-5)


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        ("linear", [1e-3, 2e-3, 5e-4]),
        ("sqrt", [1e-3, 2**0.5 * 1e-3, 0.5**0.5 * 1e-3]),
        (None, [1e-3] * 3),
        (5e-3, [5e-3] * 3),
        (ke.schedules.linear(4e-3, 2e-3, epochs=2), [4e-3, 3e-3, 2e-3]),
    ],
    ids=str,
)
def test_the_learning_rate_follows_and_comes_back(rule, rates):
    schedule = BatchSizeSchedule(GROW_AND_SHRINK, learning_rate=rule)
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    epochs = Epochs()
    data = data_of("arrays", schedule)
    for _ in range(2):
        model.fit(data, epochs=3, callbacks=[schedule, epochs], verbose=0)
        assert float(model.optimizer.learning_rate) == np.float32(1e-3)
    assert epochs.rates == pytest.approx(rates * 2, rel=1e-6)
    plan = schedule.plan(100, 3, learning_rate=1e-3)
    assert [row.learning_rate for row in plan.rows] == pytest.approx(rates)


@pytest.mark.parametrize("rule", ["linear", 2.0], ids=str)
def test_reductions_by_reduce_lr_on_plateau_stay(rule):
    schedule = BatchSizeSchedule(
        ke.schedules.steps(8, {2: 16}), learning_rate=rule
    )
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.5, patience=1, min_delta=1e9, min_lr=0.0
    )
    model, epochs = fit(
        schedule, data_of("arrays", schedule), 4, callbacks=[plateau]
    )
    start = 1e-6 if rule == "linear" else 2.0
    growth = 2 if rule == "linear" else 1
    # Reduced at the ends of epochs 1, 2, 3; read before the reduction.
    expected = [start, start, start * growth / 2, start * growth / 4]
    assert epochs.rates == pytest.approx(expected, rel=1e-5)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-6 / 8)


def test_early_stopping_keeps_its_state_across_sizes():
    schedule = BatchSizeSchedule(ke.schedules.doubling(8, every=1))
    stop = keras.callbacks.EarlyStopping(
        monitor="loss", patience=3, min_delta=1e9
    )
    _, epochs = fit(schedule, data_of("arrays", schedule), 20, callbacks=[stop])
    assert stop.stopped_epoch == 3
    assert [len(batches) for batches in epochs.batches] == [13, 7, 4, 2]


def test_a_loss_scale_optimizer_is_scheduled_too():
    schedule = BatchSizeSchedule(ke.schedules.steps(8, {1: 16}))
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, dtype="mixed_float16")]
    )
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-4))
    model.compile(optimizer, "mse")
    rates = []
    read = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rates.append(
            float(optimizer.inner_optimizer.learning_rate)
        )
    )
    data = data_of("arrays", schedule)
    model.fit(data, epochs=2, callbacks=[schedule, read], verbose=0)
    assert rates == pytest.approx([1e-4, 2e-4])


@pytest.mark.parametrize("rule", [None, 0.5], ids=str)
def test_resuming_at_an_epoch_takes_its_size(rule):
    schedule = BatchSizeSchedule(GROW_AND_SHRINK, learning_rate=rule)
    _, epochs = fit(schedule, data_of("arrays", schedule), initial_epoch=2)
    assert [len(batches) for batches in epochs.batches] == [25]
    assert epochs.rates == pytest.approx([rule or 1e-6])


def test_a_rule_resumes_where_its_own_fit_ended():
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    data, epochs = data_of("arrays", schedule), Epochs()
    callbacks = [schedule, epochs]
    model.fit(data, epochs=2, callbacks=callbacks, verbose=0)
    model.fit(data, epochs=3, initial_epoch=2, callbacks=callbacks, verbose=0)
    assert epochs.rates == pytest.approx([1e-3, 2e-3, 5e-4])


def test_a_rule_refuses_a_checkpoint_that_may_be_scaled_already(tmp_path):
    """Else the factor of the checkpoint would be put on twice."""

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    for interrupt in ([Interrupt()], []):
        schedule = BatchSizeSchedule(ke.schedules.doubling(8, every=1))
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        error = KeyboardInterrupt if interrupt else ValueError
        message = None if interrupt else "Received: training from epoch 2"
        data = data_of("arrays", schedule)
        callbacks = [schedule, backup, *interrupt]
        with pytest.raises(error, match=message):
            model.fit(data, epochs=3, callbacks=callbacks, verbose=0)


def test_savings_count_updates_of_all_fits_and_of_a_stopped_epoch():
    schedule = BatchSizeSchedule(ke.schedules.steps(10, {1: 20}))

    class StopAtBatch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    data = data_of("arrays", schedule)
    model, _ = fit(schedule, data, epochs=2)
    (saving,) = schedule.savings()
    assert (saving.baseline, saving.actual) == (20, 10 + 5)
    model.fit(data, callbacks=[schedule, StopAtBatch()], verbose=0)
    (saving,) = schedule.savings()
    assert (saving.baseline, saving.actual) == (23, 10 + 5 + 3)
    assert saving.measured


def test_a_constant_size_saves_nothing():
    schedule = BatchSizeSchedule(10)
    fit(schedule, data_of("arrays", schedule, 95))
    assert schedule.savings()[0].saved_pct == 0


def test_an_interrupted_epoch_counts_as_far_as_it_went():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 5:
                raise KeyboardInterrupt

    schedule = BatchSizeSchedule(10)
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    large, small = data_of("arrays", schedule), data_of("arrays", schedule, 40)
    callbacks = [schedule, Interrupt()]
    with pytest.raises(KeyboardInterrupt):
        model.fit(large, callbacks=callbacks, verbose=0)
    model.fit(small, callbacks=[schedule], verbose=0)
    (saving,) = schedule.savings()
    assert (saving.baseline, saving.actual) == (9, 9)


def test_a_rate_set_after_an_interrupt_is_the_new_base():
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    schedule = BatchSizeSchedule(ke.schedules.steps(8, {1: 16}))
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    data, epochs = data_of("arrays", schedule), Epochs()
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, epochs=2, callbacks=[schedule, Interrupt()], verbose=0)
    model.optimizer.learning_rate = 5e-4
    model.fit(data, epochs=2, callbacks=[schedule, epochs], verbose=0)
    assert epochs.rates == pytest.approx([5e-4, 1e-3])


def test_a_rate_that_starts_at_zero_survives_another_setter():
    """A change of zero is no factor: the schedule's own rate follows."""
    rate = ke.schedules.linear(0.0, 2e-6, epochs=2)
    schedule = BatchSizeSchedule(8, learning_rate=rate)
    other = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(
            model.optimizer, "learning_rate", 7e-6
        )
    )
    model, rates = SeenExamples(), []
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    read = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: rates.append(
            float(model.optimizer.learning_rate)
        )
    )
    data = data_of("arrays", schedule)
    callbacks = [schedule, other, read]
    model.fit(data, epochs=2, callbacks=callbacks, verbose=0)
    assert rates == pytest.approx([0.0, 1e-6])


def test_savings_are_those_of_what_was_trained_on():
    """Ragged passes, two data sets, and one that is only evaluated."""
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    large, small = data_of("arrays", schedule), data_of("arrays", schedule, 50)
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    model.evaluate(small, verbose=0)
    # 13 batches of 8 hold 100 examples, 7 hold 50.
    for data, baseline, updates in ((large, 39, 45), (small, 60, 69)):
        model.fit(data, epochs=3, callbacks=[schedule], verbose=0)
        model.evaluate(small, verbose=0)
        (saving,) = schedule.savings()
        assert (saving.baseline, saving.actual) == (baseline, updates)


def test_without_the_callback_the_first_size_holds():
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    epochs = Epochs()
    data = data_of("arrays", schedule)
    for callbacks in ([epochs], [schedule], [epochs]):
        model.fit(data, epochs=2, callbacks=callbacks, verbose=0)
    assert [len(batches) for batches in epochs.batches] == [13] * 4
    assert np.isfinite(model.evaluate(data, verbose=0))


# Smith et al. 2018; counts of shared/notes/batch.md section 1.
CIFAR = ke.schedules.steps(0.1, {60: 0.02, 120: 0.004, 160: 0.0008})
CIFAR_5 = ke.schedules.steps(0.5, {60: 0.1, 120: 0.02, 160: 0.004})
IMAGENET = ke.schedules.steps(3.0, {30: 0.3, 60: 0.03, 80: 0.003})


@pytest.mark.parametrize(
    ("schedule", "num_examples", "epochs", "kept", "dropped"),
    [
        (BatchSizeSchedule(128, CIFAR), 50_000, 200, 78_200, 78_000),
        (
            BatchSizeSchedule.from_learning_rate(CIFAR, 128, 5120),
            50_000,
            200,
            29_240,
            29_040,
        ),
        (
            BatchSizeSchedule.from_learning_rate(CIFAR_5, 640, 5120),
            50_000,
            200,
            6_500,
            6_300,
        ),
        (BatchSizeSchedule(8192, IMAGENET), 1_281_167, 90, 14_130, 14_040),
        (
            BatchSizeSchedule.from_learning_rate(IMAGENET, 8192, 65536),
            1_281_167,
            90,
            5_910,
            5_820,
        ),
        (
            BatchSizeSchedule(ke.schedules.steps(8192, {30: 81920})),
            1_281_167,
            90,
            5_670,
            5_580,
        ),
    ],
)
def test_plans_of_the_paper(schedule, num_examples, epochs, kept, dropped):
    assert schedule.plan(num_examples, epochs).updates == kept
    plan = schedule.plan(num_examples, epochs, drop_remainder=True)
    assert plan.updates == dropped


@pytest.mark.parametrize(
    ("rate", "size", "cap", "epochs", "sizes", "rates"),
    [
        (
            CIFAR_5,
            640,
            5120,
            (0, 60, 120, 160),
            [640, 3200, 5120, 5120],
            [0.5, 0.5, 0.16, 0.032],
        ),
        (
            IMAGENET,
            8192,
            65536,
            (0, 30, 60, 80),
            [8192, 65536, 65536, 65536],
            [3, 2.4, 0.24, 0.024],
        ),
        (
            ke.schedules.warmup(
                ke.schedules.steps(0.4, {4: 0.1}), epochs=2, start=0.1
            ),
            32,
            None,
            (0, 1, 2, 4),
            [32, 32, 32, 128],
            [0.1, 0.25, 0.4, 0.4],
        ),
    ],
)
def test_decay_becomes_growth_up_to_the_cap(
    rate, size, cap, epochs, sizes, rates
):
    schedule = BatchSizeSchedule.from_learning_rate(rate, size, cap)
    rows = schedule.plan(1_000_000, 200).rows
    assert [rows[epoch].batch_size for epoch in epochs] == sizes
    found = [rows[epoch].learning_rate for epoch in epochs]
    assert found == pytest.approx(rates)


def test_fractions_are_rounded_and_capped():
    schedule = BatchSizeSchedule(
        ke.schedules.linear(10, 15, epochs=3), max_batch_size=14
    )
    sizes = [row.batch_size for row in schedule.plan(100, 4).rows]
    assert sizes == [10, 12, 13, 14]


def test_the_plan_is_a_dictionary_and_a_table():
    import rich.console

    plan = BatchSizeSchedule(GROW_AND_SHRINK).plan(100, 5)
    assert plan.to_dict()["updates"] == plan.updates == 13 + 7 + 25 * 3
    console = rich.console.Console(record=True, width=80)
    console.print(plan)
    shown = console.export_text()
    assert re.search(r"2-4 .* 4 .* 0.5 .* 75", shown)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "a batch size of 0 at epoch 0"),
        ({"batch_size": "8"}, ValueError, "Received: batch_size='8'"),
        (
            {"batch_size": lambda epoch: float("nan")},
            ValueError,
            "a batch size of nan at epoch 0",
        ),
        (
            {"batch_size": 8, "learning_rate": "cubic"},
            ValueError,
            "Received: learning_rate='cubic'",
        ),
        (
            {"batch_size": 8, "max_batch_size": 0},
            ValueError,
            "Received: max_batch_size=0",
        ),
        (
            {"batch_size": 64, "max_batch_size": 33.5},
            ValueError,
            "Received: max_batch_size=33.5",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        BatchSizeSchedule(**arguments)


def test_a_rate_of_zero_cannot_become_growth():
    rate = ke.schedules.steps(0.1, {3: 0.0})
    schedule = BatchSizeSchedule.from_learning_rate(rate, 8)
    message = "Received: a learning rate of 0.0 at 3"
    with pytest.raises(ValueError, match=re.escape(message)):
        schedule.plan(100, 4)


@pytest.mark.parametrize("size", [0, 32.5, "8"])
def test_growth_starts_from_a_whole_batch(size):
    with pytest.raises(ValueError, match=f"Received: batch_size={size!r}"):
        BatchSizeSchedule.from_learning_rate(0.1, size)


def test_a_keras_schedule_counts_steps_and_is_refused():
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    with pytest.raises(TypeError, match="Received: ExponentialDecay"):
        BatchSizeSchedule.from_learning_rate(rate, 8)


def test_an_interrupted_fit_is_taken_back_by_the_next():
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    schedule = BatchSizeSchedule(ke.schedules.steps(8, {1: 16}))
    model = SeenExamples()
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    data, epochs = data_of("arrays", schedule), Epochs()
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, epochs=2, callbacks=[schedule, Interrupt()], verbose=0)
    model.fit(data, epochs=2, callbacks=[schedule, epochs], verbose=0)
    assert epochs.rates == pytest.approx([1e-3, 2e-3])
    assert float(model.optimizer.learning_rate) == np.float32(1e-3)


def test_other_data_than_those_of_batch_are_refused():
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    data_of("arrays", schedule)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Received: other data, of 4 steps"):
        model.fit(*arrays(), callbacks=[schedule], verbose=0)


def test_data_that_were_only_evaluated_are_no_training_data():
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.evaluate(data_of("arrays", schedule), verbose=0)
    with pytest.raises(ValueError, match="Received: other data"):
        model.fit(*arrays(), callbacks=[schedule], verbose=0)


def test_steps_per_epoch_is_refused():
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    with pytest.raises(ValueError, match="without `steps_per_epoch`"):
        fit(schedule, data_of("arrays", schedule), steps_per_epoch=5)


def test_a_schedule_that_is_not_pure_still_loses_nothing():
    sizes = np.random.default_rng(0).integers(3, 30, size=10_000)
    draw = iter(sizes.tolist())
    schedule = BatchSizeSchedule(lambda epoch: next(draw))
    _, epochs = fit(schedule, data_of("arrays", schedule))
    for batches in epochs.batches:
        ids = sorted(id_ for batch in batches for id_ in batch)
        assert ids == list(range(100))


def test_each_epoch_of_a_decay_is_asked_once():
    asked = []

    def rate_at(epoch):
        asked.append(epoch)
        return 0.1 / (1 + epoch)

    schedule = BatchSizeSchedule.from_learning_rate(rate_at, 8)
    schedule.plan(1000, 50)
    assert sorted(asked) == list(range(50))


def test_an_optimizer_with_its_own_schedule_gets_a_factor():
    rate = keras.optimizers.schedules.ExponentialDecay(
        1e-3, 13, 0.5, staircase=True
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    schedule = BatchSizeSchedule(GROW_AND_SHRINK)
    data, rates = data_of("arrays", schedule), []
    read = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: rates.append(
            float(model.optimizer.learning_rate)
        )
    )
    callbacks = [schedule, read]
    model.fit(data, epochs=2, callbacks=callbacks, verbose=0)
    assert rates == pytest.approx([1e-3, 2 * 0.5e-3])
    restored = model.optimizer.get_config()["learning_rate"]
    assert restored["class_name"] == "ExponentialDecay"
    model.fit(data, epochs=1, callbacks=callbacks, verbose=0)
    assert rates[2] == pytest.approx(0.5e-3)  # 20 of 13 updates


class Unregistered(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 1e-3


@pytest.mark.parametrize(
    ("rate", "rule", "message"),
    [
        (Unregistered(), "linear", "must be serializable for a factor"),
        (
            keras.optimizers.schedules.ExponentialDecay(1e-3, 9, 0.5),
            0.02,
            "two schedules cannot both set it",
        ),
    ],
)
def test_an_optimizers_schedule_that_cannot_be_scaled_is_refused(
    rate, rule, message
):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    schedule = BatchSizeSchedule(GROW_AND_SHRINK, learning_rate=rule)
    data = data_of("arrays", schedule)
    with pytest.raises(ValueError, match=message):
        model.fit(data, callbacks=[schedule], verbose=0)
