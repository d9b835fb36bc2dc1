"""Throughput by batch size; the model is as before, whatever happens."""

import json
import random
import sys
import time

import keras
import numpy as np
import pytest
import rich.console
import tensorflow as tf

import keras_eff as ke
from keras_eff.batch_size_table import BatchSizeRow
from keras_eff.batch_size_table import BatchSizes
from keras_eff.batch_size_table import has_flattened
from keras_eff.batch_size_table import predicted_bytes

QUICK = {"seconds_per_size": 0.001, "verbose": False}


def data(num_examples=64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_examples, 5)).astype("float32")
    return x, x[:, :1] - x[:, 1:2]


def compiled(model=None, **settings):
    keras.utils.set_random_seed(0)
    model = model or keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    settings = {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]} | (
        settings
    )
    model.compile(**settings)
    return model


def state(model):
    variables = [
        *model.variables,
        *model.metrics_variables,
        *model.optimizer.variables,
    ]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def assert_same(values, others):
    assert len(values) == len(others)
    for value, other in zip(values, others, strict=True):
        np.testing.assert_array_equal(value, other)


def full_above(limit, error=None):
    """A layer that is out of memory when a batch is above the limit."""

    class Full(keras.layers.Layer):
        def call(self, x):
            if x.shape[0] is not None and x.shape[0] > limit:
                raise error or tf.errors.ResourceExhaustedError(
                    None, None, "OOM when allocating tensor"
                )
            return x

    return keras.Sequential([keras.Input((5,)), Full(), keras.layers.Dense(1)])


def sizes_of(found):
    return [row.batch_size for row in found.rows]


# What is put back.


@pytest.mark.slow
@pytest.mark.parametrize("epochs_before", [0, 1])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"jit_compile": True},
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"optimizer": keras.optimizers.SGD.from_config, "metrics": None},
    ],
    ids=["graph", "xla", "eager", "steps_per_execution", "sgd"],
)
def test_training_goes_on_bit_for_bit_as_without_the_call(
    settings, epochs_before
):
    results = []
    for find in (False, True):
        chosen = dict(settings)
        if "optimizer" in chosen:
            config = {"learning_rate": 0.1, "momentum": 0.9, "use_ema": True}
            chosen["optimizer"] = chosen["optimizer"](config)
        model = compiled(**chosen)
        model.fit(*data(), epochs=epochs_before, verbose=0)
        if find:
            before = state(model)
            ke.find_batch_size(model, data(), [4, 16], **QUICK)
            if epochs_before:  # else it had less state
                assert_same(state(model), before)
        history = model.fit(*data(), batch_size=24, epochs=2, verbose=0)
        results.append(
            [*state(model), model.predict(data()[0], verbose=0)]
            + [np.array(values) for values in history.history.values()]
        )
    assert_same(*results)


def test_the_check_of_the_state_sees_a_step_too_many():
    results = []
    for steps in (0, 1):
        model = compiled()
        for _ in range(steps):
            model.train_on_batch(*data())
        model.fit(*data(), verbose=0)
        results.append(state(model))
    with pytest.raises(AssertionError):
        assert_same(*results)


def test_a_fresh_optimizer_is_as_fresh_as_built():
    model, other = compiled(), compiled()
    other.optimizer.build(other.trainable_variables)
    ke.find_batch_size(model, data(), [8], **QUICK)
    assert model.optimizer.iterations == 0
    for variable, fresh in zip(
        model.optimizer.variables, other.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(variable.numpy(), fresh.numpy())


def test_the_compiled_train_function_is_put_back():
    model = compiled()
    ke.find_batch_size(model, data(), [8], **QUICK)
    assert model.train_function is None
    model.fit(*data(), verbose=0)
    made = model.train_function
    ke.find_batch_size(model, data(), [8], **QUICK)
    assert model.train_function is made
    model.fit(*data(), verbose=0)


def test_new_metrics_are_left_at_zero():
    model = compiled()
    ke.find_batch_size(model, data(), [8], **QUICK)
    for variable in model.metrics_variables:
        assert not variable.numpy().any()


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), KeyboardInterrupt()], ids=type
)
def test_other_errors_are_passed_on_and_the_state_is_put_back(error):
    model = compiled(full_above(16, error), run_eagerly=True)
    model.train_on_batch(*data(8))
    before = state(model)
    with pytest.raises(type(error)):
        ke.find_batch_size(model, data(), **QUICK)
    assert_same(state(model), before)


def test_random_states_are_not_touched():
    model = compiled()
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    ke.find_batch_size(model, data(), [8, 16], **QUICK)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)


def test_two_optimizers_are_both_put_back():
    model = compiled()
    model.critic_optimizer = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="Received: optimizer='adam"):
        ke.find_batch_size(model, data(), [8], **QUICK)
    model.critic_optimizer.build(model.trainable_variables)
    step = model.train_step

    def train_step(data):
        logs = step(data)
        model.critic_optimizer.iterations.assign_add(1)
        return logs

    model.train_step = train_step
    ke.find_batch_size(model, data(), [8], **QUICK)
    assert model.critic_optimizer.iterations == 0


def test_mixed_float16_puts_the_loss_scale_back():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled()
        model.train_on_batch(*data())
        before = state(model)
        ke.find_batch_size(model, data(), [8], **QUICK)
        assert_same(state(model), before)
    finally:
        keras.config.set_dtype_policy("float32")


# Running out of memory.


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_out_of_memory_is_survived_and_ends_the_search(run_eagerly):
    model = compiled(full_above(16), run_eagerly=run_eagerly)
    found = ke.find_batch_size(model, data(256), [4, 16, 32, 64], **QUICK)
    assert sizes_of(found) == [4, 16, 32]
    assert [row.failed is None for row in found.rows] == [True, True, False]
    assert "OOM when allocating" in found.rows[-1].failed
    assert found.rows[-1].examples_per_second is None
    assert found.largest == 16
    model.fit(*data(16), batch_size=16, verbose=0)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("16 GB"),
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ],
    ids=repr,
)
def test_each_kind_of_out_of_memory_is_known(error):
    model = compiled(full_above(4, error), run_eagerly=True)
    found = ke.find_batch_size(model, data(), **QUICK)
    assert sizes_of(found) == [8]
    assert found.rows[0].failed
    assert found.batch_size is None
    assert found.largest is None


def test_a_real_allocation_that_fails_is_survived():
    class Huge(keras.layers.Layer):
        def call(self, x):
            num_huge = 2**46 if (x.shape[0] or 0) > 8 else 1
            return x + tf.zeros([num_huge])[0]

    model = compiled(
        keras.Sequential([keras.Input((5,)), Huge(), keras.layers.Dense(1)]),
        run_eagerly=True,
    )
    found = ke.find_batch_size(model, data(), [4, 8, 16, 32], **QUICK)
    assert sizes_of(found) == [4, 8, 16]
    assert "OOM when allocating" in found.rows[-1].failed
    assert found.largest == 8


def test_a_size_predicted_too_large_is_not_run():
    ran = []
    model = compiled(run_eagerly=True)
    step = model.train_step

    def train_step(data):
        ran.append(data[0].shape[0])
        return step(data)

    model.train_step = train_step
    found = ke.find_batch_size(
        model, data(), [4, 8, 16, 32], max_memory_bytes=0.5, **QUICK
    )
    measured = [row for row in found.rows if row.failed is None]
    if measured[-1].memory_bytes:
        assert sizes_of(found) == [4, 8, 16]
        assert set(ran) == {4, 8}
        assert "not run: about" in found.rows[-1].failed


@pytest.mark.parametrize(
    ("memory", "size", "expected"),
    [
        ([(8, 100)], 16, 0),
        ([(8, 100), (16, 180)], 32, 340),
        ([(8, 100), (16, 100), (32, 260)], 64, 580),
        ([(8, 100), (16, 60)], 32, 60),
        ([(8, None), (16, None)], 32, 0),
    ],
)
def test_memory_is_predicted_on_the_line_of_the_last_two(
    memory, size, expected
):
    rows = [BatchSizeRow(n, 1.0, 1.0, used) for n, used in memory]
    assert predicted_bytes(rows, size) == expected


# Where it flattens.


@pytest.mark.parametrize(
    ("rates", "size", "flat"),
    [
        ([100], 8, False),
        ([100, 99], 8, False),
        ([100, 200, 400], 32, False),
        ([100, 200, 204, 205], 16, True),
        ([100, 200, 150, 400], 64, False),
        ([100, 200, 190, 180], 16, True),
        ([100, 96, 104], 8, True),
    ],
)
def test_where_throughput_flattens(rates, size, flat):
    rows = [BatchSizeRow(8 << k, rate) for k, rate in enumerate(rates)]
    assert BatchSizes(tuple(rows), 0.05, "process").batch_size == size
    assert has_flattened(rows, 0.05) == flat


def test_the_search_ends_where_throughput_flattens():
    model = compiled(run_eagerly=True)
    step = model.train_step

    def train_step(data):  # seconds in proportion to the batch
        time.sleep(0.01 * data[0].shape[0])
        return step(data)

    model.train_step = train_step
    found = ke.find_batch_size(
        model, data(), 8, tolerance=0.9, seconds_per_size=0.01, verbose=False
    )
    assert sizes_of(found) == [8, 16, 32]
    assert found.batch_size == 8


# What is measured.


def test_a_row_holds_rate_time_and_memory():
    found = ke.find_batch_size(compiled(), data(), [8, 32], **QUICK)
    for row in found.rows:
        assert row.seconds_per_step > 0
        rate = row.batch_size / row.seconds_per_step
        assert row.examples_per_second == pytest.approx(rate)
        assert row.memory_bytes is None or row.memory_bytes >= 0


@pytest.mark.parametrize(
    ("batch_sizes", "maximum", "expected"),
    [
        (8, None, [8, 16, 32, 64]),
        (6, 50, [6, 12, 24, 48]),
        (64, 64, [64]),
        ([3, 100], None, [3, 100]),
        ((5, 7), 7, [5, 7]),
    ],
)
def test_which_sizes_are_tried(batch_sizes, maximum, expected):
    found = ke.find_batch_size(
        compiled(), data(), batch_sizes, maximum, tolerance=0, **QUICK
    )
    assert sizes_of(found) == expected[: len(found.rows)]
    if not isinstance(batch_sizes, int):
        assert sizes_of(found) == expected


class Sizes(keras.Sequential):
    """Keeps the batches that its steps got."""

    def train_step(self, data):
        self.seen.append(keras.tree.map_structure(np.array, data))
        return super().train_step(data)


def seen_by_steps(source, size):
    model = Sizes([keras.Input((5,)), keras.layers.Dense(1)])
    compiled(model, run_eagerly=True)
    model.seen = []
    ke.find_batch_size(model, source, [size], **QUICK)
    return model.seen


def test_rows_repeat_where_a_batch_is_larger_than_the_data():
    x, y = data(10)
    seen = seen_by_steps((x, y), 25)
    assert len(seen) >= 4
    np.testing.assert_array_equal(seen[0][0][10:20], x)
    np.testing.assert_array_equal(seen[0][1][20:], y[:5])


def test_a_dataset_gives_its_first_rows():
    x, y = data(300)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    seen = seen_by_steps(dataset, 100)
    np.testing.assert_array_equal(seen[0][0], x[:100])
    seen = seen_by_steps(dataset.repeat(), 200)
    np.testing.assert_array_equal(seen[0][0][128:], x[:72])


def test_the_number_of_examples_of_a_dataset_is_the_largest_size():
    dataset = tf.data.Dataset.from_tensor_slices(data(20))
    with pytest.raises(
        ValueError, match="Received: batch_sizes=32, at most 20"
    ):
        ke.find_batch_size(compiled(), dataset, 32, **QUICK)
    ke.find_batch_size(compiled(), dataset.repeat(), 32, 64, **QUICK)


def test_sample_weights_and_dictionaries():
    inputs = {name: keras.Input((5,), name=name) for name in "ab"}
    outputs = keras.layers.Dense(1)(inputs["a"] + inputs["b"])
    model = compiled(keras.Model(inputs, outputs))
    x, y = data()
    weights = np.ones(64, "float32")
    for nest in (({"a": x, "b": x}, y, weights), ({"a": x, "b": x}, y, None)):
        found = ke.find_batch_size(model, nest, [8], **QUICK)
        assert found.batch_size == 8


def test_a_model_that_is_not_built_is_built_with_its_first_weights():
    results = []
    for find in (False, True):
        model = compiled(keras.Sequential([keras.layers.Dense(1)]))
        if find:
            ke.find_batch_size(model, data(), [8], **QUICK)
        model.fit(*data(), verbose=0)
        results.append(model.get_weights())
    assert_same(*results)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_sizes": 0}, "positive integers. Received: batch_sizes=0"),
        ({"batch_sizes": [8, 1.5]}, "Received: batch_sizes=1.5"),
        ({"batch_sizes": True}, "Received: batch_sizes=True"),
        ({"batch_sizes": []}, r"ascending.* Received: \[\]"),
        ({"batch_sizes": [16, 8]}, r"ascending.* Received: \[16, 8\]"),
        (
            {"batch_sizes": 128},
            "exceed.* Received: batch_sizes=128, at most 64",
        ),
        ({"max_batch_size": -1}, "Received: max_batch_size=-1"),
        (
            {"batch_sizes": [8, 16], "max_batch_size": 8},
            r"Received: batch_sizes=\[8, 16\], at most 8",
        ),
        ({"seconds_per_size": 0}, "positive. Received: seconds_per_size=0"),
        ({"max_memory_bytes": -1}, "positive. Received: max_memory_bytes=-1"),
        ({"tolerance": 1}, r"\[0, 1\).* Received: tolerance=1"),
        ({"data": (np.ones((0, 5)), np.ones((0, 1)))}, r"Received: .*\(0, 5\)"),
        ({"data": (np.ones((9, 5)), np.ones((8, 1)))}, r"Received: .*\(8, 1\)"),
        ({"data": ()}, r"at least one example.* Received: .*\[\]"),
        ({"data": None}, "at least one example.* Received: "),
        ({"data": 3.0}, r"at least one example.* Received: .*\(\)"),
        (
            {"data": tf.data.Dataset.range(0)},
            r"at least one example.* Received: .*\[\]",
        ),
        (
            {"model": keras.Sequential(name="plain")},
            "must be compiled.* Received: model='plain'",
        ),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    arguments = {"model": compiled(), "data": data(), "verbose": False} | (
        arguments
    )
    with pytest.raises(ValueError, match=message):
        ke.find_batch_size(**arguments)


# The record.


def record():
    rows = (
        BatchSizeRow(8, 100.0, 0.08, 1_000_000),
        BatchSizeRow(16, 102.0, 0.157, 2_000_000),
        BatchSizeRow(32, failed="OOM [shape] when"),
    )
    return BatchSizes(rows, 0.05, "process")


def test_to_dict_is_ready_for_json():
    content = json.loads(json.dumps(record().to_dict()))
    assert content["batch_size"] == 8
    assert content["largest"] == 16
    assert content["memory_source"] == "process"
    assert content["rows"][0]["memory_bytes"] == 1_000_000
    assert content["rows"][2]["failed"] == "OOM [shape] when"


def test_the_table_tells_the_size_and_why_one_failed():
    console = rich.console.Console(width=100)
    with console.capture() as capture:
        console.print(record())
    text = capture.get()
    for part in ("Batch size 8", "here", "OOM [shape] when", "of the process"):
        assert part in text


def test_the_progress_bar_is_shown_on_request(capsys):
    settings = {**QUICK, "verbose": True}
    ke.find_batch_size(compiled(), data(), [8], **settings)
    assert "batch sizes" in capsys.readouterr().out


def test_plot_overwrites_nothing(tmp_path):
    path = tmp_path / "old.png"
    path.write_text("old")
    with pytest.raises(FileExistsError, match=r"Received: path='.*old.png'"):
        record().plot(path)
    assert path.read_text() == "old"


def test_plot_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"keras-eff\[plots\].*Received: path"
    ):
        record().plot(tmp_path / "new.png")


def test_plot_writes_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    record().plot(tmp_path / "new.png")
    assert (tmp_path / "new.png").read_bytes().startswith(b"\x89PNG")
