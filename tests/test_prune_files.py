import json
import re

import click.testing
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_eff import cli
from keras_eff import prune_files


@pytest.fixture
def files(tmp_path):
    """A data file and a model file."""
    generator = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = (generator.normal(size=(80, 3)) + 2 * y[:, None]).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, activation="softmax")]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    return tmp_path


SMALL = {
    "keeps": [0.5],
    "scorers": ["el2n"],
    "policies": ["hard"],
    "epochs": 2,
    "seeds": 1,
    "batch_size": 8,
    "proxies": 1,
    "proxy_epochs": 1,
    "verbose": 0,
}


def test_a_fifth_is_held_out(files):
    found = prune_files.compare(
        files / "data.npz", files / "model.keras", **SMALL
    )
    assert found.num_examples == 64
    assert found.rows[0].mean("updates") == 64 / 8 * 2
    # 16 examples: an accuracy is a whole number of sixteenths.
    assert (found.rows[0].mean("accuracy") * 16).is_integer()


def test_each_training_starts_from_new_weights(files):
    """A model that is trained already must not help the pruned data."""
    model = keras.saving.load_model(files / "model.keras")
    arrays = np.load(files / "data.npz")
    model.fit(arrays["x"], arrays["y"], epochs=50, verbose=0)
    model.save(files / "trained.keras")
    found = [
        prune_files.compare(files / "data.npz", files / name, **SMALL)
        for name in ("model.keras", "trained.keras")
    ]
    assert [row.runs for row in found[0].rows] == [
        row.runs for row in found[1].rows
    ]


def test_what_layers_were_adapted_to_is_kept(files):
    """Raw columns around 1000: without their scale the model is at chance."""
    arrays = np.load(files / "data.npz")
    x = arrays["x"] * 20 + 1000
    np.savez(files / "raw.npz", x=x, y=arrays["y"])
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            normalization,
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(x, arrays["y"], verbose=0)
    model.save(files / "raw.keras")
    found = prune_files.compare(
        files / "raw.npz", files / "raw.keras", **SMALL | {"epochs": 10}
    )
    assert found.rows[0].mean("accuracy") >= 0.75


def test_a_vocabulary_is_kept(files):
    codes = np.array([[1001], [2002]] * 20)
    np.savez(files / "codes.npz", x=codes, y=np.arange(40) % 2)
    lookup = keras.layers.IntegerLookup(output_mode="one_hot")
    lookup.adapt(codes)
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="int64"),
            lookup,
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    model.save(files / "codes.keras")
    found = prune_files.compare(
        files / "codes.npz", files / "codes.keras", **SMALL | {"epochs": 8}
    )
    assert found.rows[0].mean("accuracy") == 1


def records(path, rows):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for features in rows:
            feature = {name: tf.train.Feature(**f) for name, f in features}
            example = tf.train.Example(
                features=tf.train.Features(feature=feature)
            )
            writer.write(example.SerializeToString())


def numbers(values):
    return {"float_list": tf.train.FloatList(value=values)}


def whole(value):
    return {"int64_list": tf.train.Int64List(value=[value])}


def test_records_are_read_like_arrays(files):
    arrays = np.load(files / "data.npz")
    rows = zip(arrays["x"], arrays["y"], strict=True)
    path = files / "data.tfrecord"
    records(path, [[("x", numbers(x)), ("y", whole(y))] for x, y in rows])
    found = [
        prune_files.compare(files / name, files / "model.keras", **SMALL)
        for name in ("data.npz", "data.tfrecord")
    ]
    assert [row.runs for row in found[0].rows] == [
        row.runs for row in found[1].rows
    ]


def test_records_may_hold_images(files):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (40, 4, 4, 3), dtype=np.uint8)
    pngs = [tf.io.encode_png(image).numpy() for image in images]
    path = files / "images.tfrecord"
    records(
        path,
        [
            [
                ("x", {"bytes_list": tf.train.BytesList(value=[png])}),
                ("y", whole(i % 2)),
            ]
            for i, png in enumerate(pngs)
        ],
    )
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.save(files / "images.keras")
    found = prune_files.compare(path, files / "images.keras", **SMALL)
    assert found.num_examples == 32


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty"),
        ([[("y", whole(1))]], "{'x': None, 'y': 'int64_list'}"),
        (
            [[("x", numbers([1, 2, 3])), ("y", numbers([1]))]],
            "'y': 'float_list'}, features ['x', 'y']",
        ),
    ],
)
def test_records_that_do_not_fit_are_named(files, rows, message):
    records(files / "bad.tfrecord", rows)
    with pytest.raises(ValueError, match=re.escape(message)):
        prune_files.compare(
            files / "bad.tfrecord", files / "model.keras", **SMALL
        )


def test_given_validation_data_are_used(files):
    arrays = dict(np.load(files / "data.npz"))
    np.savez(
        files / "both.npz",
        **arrays,
        x_val=arrays["x"][:7],
        y_val=arrays["y"][:7],
    )
    found = prune_files.compare(
        files / "both.npz", files / "model.keras", **SMALL
    )
    assert found.num_examples == 80
    sevenths = found.rows[0].mean("accuracy") * 7
    assert sevenths == pytest.approx(round(sevenths))


def test_the_command_prints_a_table_and_writes_what_it_found(files):
    out = files / "found.json"
    arguments = ["prune", str(files / "data.npz")]
    for option in (
        ("--model", str(files / "model.keras")),
        ("--keep", "0.5"),
        ("--by", "el2n"),
        ("--prefer", "hard"),
        ("--epochs", "1"),
        ("--seeds", "1"),
        ("--batch-size", "16"),
        ("--out", str(out)),
    ):
        arguments += option
    answer = click.testing.CliRunner().invoke(cli.main, arguments)
    assert answer.exit_code == 0, answer.output
    assert "el2n, hard" in answer.output
    assert len(json.loads(out.read_text())["rows"]) == 5
    before = out.read_bytes()
    again = click.testing.CliRunner().invoke(cli.main, arguments)
    assert again.exit_code == 1
    assert "Nothing is overwritten" in again.output
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 2))}, "Received: ['x']"),
        (
            {"x": np.zeros((3, 2)), "y": [0, 1, 0], "x_val": [1]},
            "Received: ['x', 'x_val', 'y']",
        ),
        ({"x": np.zeros((3, 2)), "y": [0, 1]}, "lengths {'x': 3, 'y': 2}"),
    ],
)
def test_data_that_do_not_fit_are_named(files, arrays, message):
    np.savez(files / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape(message)):
        prune_files.compare(files / "bad.npz", files / "model.keras", **SMALL)


def test_a_model_that_cannot_train_is_named(files):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(files / "plain.keras")
    with pytest.raises(ValueError, match="saved without `compile`"):
        prune_files.compare(files / "data.npz", files / "plain.keras", **SMALL)


def test_a_failure_is_told_without_a_traceback(files):
    np.savez(files / "bad.npz", x=np.zeros((3, 2)))
    answer = click.testing.CliRunner().invoke(
        cli.main,
        [
            "prune",
            str(files / "bad.npz"),
            "--model",
            str(files / "model.keras"),
        ],
    )
    assert answer.exit_code == 1
    assert answer.output.startswith("Error: The data file must hold")
