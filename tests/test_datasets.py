import gzip
import os
import re
import struct

import keras
import numpy as np
import pytest
import sklearn.datasets

from keras_eff import datasets
from keras_eff.datasets import fashion_mnist
from keras_eff.datasets import read_idx

FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


def idx(values, kind=8, zeros=0):
    """The IDX format by hand: zeros, type, axes, sizes, values."""
    values = np.asarray(values, np.uint8)
    header = struct.pack(">HBB", zeros, kind, values.ndim)
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return header + sizes + values.tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content))
    return path


def tiny_images(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (5, 2, 3)),
        "y_train": np.array([4, 0, 9, 9, 1]),
        "x_test": rng.integers(0, 256, (2, 2, 3)),
        "y_test": np.array([7, 3]),
    }


def write_all(folder, images):
    for part, values in images.items():
        write(folder / FILES[part], idx(values))
    return folder


def no_network():
    raise Exception("no network")


def test_digits_are_float32_rows_in_0_to_1_and_int32_labels():
    data = datasets.digits()
    assert data.x_train.shape == (1347, 64)
    assert data.x_test.shape == (450, 64)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
        assert (x.min(), x.max()) == (0.0, 1.0)
        assert len(x) == len(y)
        assert np.unique(y).tolist() == list(range(10))


def test_the_parts_of_digits_are_disjoint_and_together_all_of_them():
    data = datasets.digits()
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    rows = {tuple(row): label for row, label in zip(x, y, strict=True)}
    assert len(rows) == 1797  # no image twice: a row says which image it is
    parts = (data.x_train, data.y_train), (data.x_test, data.y_test)
    ours = [
        (tuple(row), label)
        for part in parts
        for row, label in zip(part[0] * 16.0, part[1], strict=True)
    ]
    assert len(ours) == 1797
    assert dict(ours) == rows


def test_the_parts_of_digits_hold_each_class_alike():
    data = datasets.digits()
    in_train = np.bincount(data.y_train)
    in_all = in_train + np.bincount(data.y_test)
    assert np.abs(in_train - 0.75 * in_all).max() <= 1


def test_digits_are_the_same_every_time():
    first = datasets.digits()
    np.random.seed(123)
    keras.utils.set_random_seed(321)
    for one, other in zip(first, datasets.digits(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4), (0, 3), (1, 1, 1)])
def test_an_idx_file_is_read_as_it_was_written(shape, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, shape)
    read = read_idx(write(tmp_path / "values.gz", idx(values)))
    assert read.dtype == np.uint8
    assert read.shape == shape
    np.testing.assert_array_equal(read, values)


def test_the_last_axis_of_an_idx_file_changes_fastest(tmp_path):
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])
    read = read_idx(write(tmp_path / "values.gz", content))
    assert read.tolist() == [[1, 2, 3], [4, 5, 255]]


SIX = idx([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("content", "received"),
    [
        pytest.param(SIX[:-1], "type 8, shape (2, 3), 5 values", id="cut"),
        pytest.param(SIX[:12], "type 8, shape (2, 3), 0 values", id="header"),
        pytest.param(
            SIX + b"\0", "type 8, shape (2, 3), 7 values", id="too-long"
        ),
        pytest.param(
            idx([1, 2], kind=13), "type 13, shape (2,), 2 values", id="float"
        ),
        pytest.param(
            idx([1, 2], zeros=1), "type 8, shape (2,), 2 values", id="magic"
        ),
    ],
)
def test_a_file_that_is_no_idx_file_of_bytes_is_refused(
    content, received, tmp_path
):
    path = write(tmp_path / "values.gz", content)
    message = f"in IDX format. Received: path={str(path)!r}, {received}"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_idx(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(gzip.compress(SIX)[:-9], id="gzip-cut"),
        pytest.param(SIX, id="not-gzipped"),
        pytest.param(gzip.compress(SIX[:8]), id="cut-in-the-sizes"),
        pytest.param(gzip.compress(SIX[:2]), id="cut-in-the-first-bytes"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_file_that_ends_early_or_is_not_gzipped_is_refused(content, tmp_path):
    path = tmp_path / "values.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"path={str(path)!r}")):
        read_idx(path)


def test_fashion_mnist_is_read_from_a_folder(tmp_path):
    images = tiny_images()
    data = fashion_mnist([write_all(tmp_path, images)])
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int32)
    expected = images["x_train"].reshape(5, 6) / 255
    np.testing.assert_allclose(data.x_train, expected, rtol=1e-6)
    expected = images["x_test"].reshape(2, 6) / 255
    np.testing.assert_allclose(data.x_test, expected, rtol=1e-6)
    assert data.y_train.tolist() == [4, 0, 9, 9, 1]
    assert data.y_test.tolist() == [7, 3]


def test_the_first_folder_with_all_four_files_is_read(tmp_path):
    incomplete = write_all(tmp_path / "incomplete", tiny_images(seed=1))
    (incomplete / FILES["y_test"]).unlink()
    wanted = write_all(tmp_path / "wanted", tiny_images(seed=2))
    later = write_all(tmp_path / "later", tiny_images(seed=3))
    data = fashion_mnist([tmp_path / "none", incomplete, wanted, later])
    expected = tiny_images(seed=2)["x_train"].reshape(5, 6) / 255
    np.testing.assert_allclose(data.x_train, expected, rtol=1e-6)


def test_the_cache_of_keras_is_read_first(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    write_all(tmp_path / "datasets" / "fashion-mnist", tiny_images())
    assert fashion_mnist().x_train.shape == (5, 6)


def test_the_folder_of_debian_is_read_next(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    folder = write_all(tmp_path / "debian", tiny_images())
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", folder)
    assert fashion_mnist().x_train.shape == (5, 6)


def test_without_data_the_error_names_both_ways_to_get_them(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", no_network)
    cache = tmp_path / "datasets" / "fashion-mnist"
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist()
    message = str(caught.value)
    assert "`keras.datasets.fashion_mnist.load_data()`" in message
    assert "`apt-get install dataset-fashion-mnist`" in message
    folders = [str(cache), str(tmp_path / "debian")]
    assert f"Received: no files in {folders}; download: no network" in message


def test_fashion_mnist_of_debian_is_the_published_data_set():
    paths = [datasets.DEBIAN_FOLDER / name for name in FILES.values()]
    if not all(path.exists() for path in paths):
        reason = "no data: apt-get install dataset-fashion-mnist"
        required = os.environ.get("KERAS_EFF_REQUIRE_DATA") == "1"
        (pytest.fail if required else pytest.skip)(reason)
    data = fashion_mnist([datasets.DEBIAN_FOLDER])
    assert data.x_train.shape == (60_000, 784)
    assert data.x_test.shape == (10_000, 784)
    assert np.bincount(data.y_train).tolist() == [6000] * 10
    assert np.bincount(data.y_test).tolist() == [1000] * 10
    assert (data.x_train.min(), data.x_train.max()) == (0.0, 1.0)
    # The mean that the data set's users normalize with.
    assert abs(data.x_train.mean() - 0.2860) < 1e-4
    assert data.y_train[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
