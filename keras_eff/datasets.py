"""Real data for the demo, the examples and the benchmarks."""

import gzip
import os
import pathlib
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

DEBIAN_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")

# The names that the authors of the data set gave its four files.
_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


class Data(NamedTuple):
    """Images as float32 rows in `[0, 1]`, labels as int32, in two parts."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def digits() -> Data:
    """Returns scikit-learn's digits: 1,797 images of 8 x 8, 10 classes.

    Bundled with scikit-learn. A quarter, stratified by class, is the test
    part; the split is always the same.
    """
    import sklearn.datasets
    import sklearn.model_selection

    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = sklearn.model_selection.train_test_split(
        (x / 16).astype("float32"),  # gray levels 0 to 16
        y.astype("int32"),
        test_size=0.25,
        stratify=y,
        random_state=0,
    )
    return Data(x_train, y_train, x_test, y_test)


def fashion_mnist(folders: Sequence[pathlib.Path] | None = None) -> Data:
    """Returns Fashion-MNIST: 60,000 + 10,000 images of 28 x 28, 10 classes.

    Args:
        folders: paths that may hold the four gzipped IDX files; the first
            that does is read, and if none does `keras.datasets` downloads
            them. `None` means the cache of `keras.datasets`, then
            `DEBIAN_FOLDER`. Defaults to `None`.

    Raises:
        FileNotFoundError: if neither way gives the data.

    Reference:
    - [Xiao et al., 2017](https://arxiv.org/abs/1708.07747)
    """
    if folders is None:
        folders = (_keras_cache(), DEBIAN_FOLDER)
    for folder in folders:
        paths = {key: folder / name for key, name in _IDX_FILES.items()}
        if all(path.exists() for path in paths.values()):
            parts = {key: read_idx(path) for key, path in paths.items()}
            break
    else:
        parts = _download(folders)
    return Data(
        x_train=_as_rows(parts["x_train"]),
        y_train=parts["y_train"].astype("int32"),
        x_test=_as_rows(parts["x_test"]),
        y_test=parts["y_test"].astype("int32"),
    )


LOADERS = {"digits": digits, "fashion-mnist": fashion_mnist}


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads a gzipped IDX file of unsigned bytes.

    Args:
        path: path of the file.

    Raises:
        ValueError: if the file is no IDX file of unsigned bytes, or is cut.

    Reference:
    - [LeCun, the IDX format](http://yann.lecun.com/exdb/mnist/)
    """
    # Two zero bytes, the type (8 = unsigned byte), the number of axes, then
    # the size of each axis as a big-endian 32-bit integer.
    try:
        content = gzip.decompress(path.read_bytes())
        zeros, kind, num_axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{num_axes}I", content, offset=4)
    except (EOFError, gzip.BadGzipFile, struct.error, zlib.error) as error:
        raise ValueError(
            "The file must be a whole gzipped IDX file. Received: "
            f"path={str(path)!r}: {error}"
        ) from error
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes)
    if zeros or kind != 8 or values.size != np.prod(shape):
        raise ValueError(
            "The file must hold unsigned bytes in IDX format. Received: "
            f"path={str(path)!r}, type {kind}, shape {shape}, "
            f"{values.size} values"
        )
    return values.reshape(shape)


def _keras_cache() -> pathlib.Path:
    home = os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras")
    return pathlib.Path(home) / "datasets" / "fashion-mnist"


def _download(folders: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
    try:
        train, test = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises no narrower class.
        raise FileNotFoundError(
            "Fashion-MNIST is not on this machine. Either give it access to "
            "the internet once, for `keras.datasets.fashion_mnist.load_data()`"
            ", or install Debian's package: `apt-get install "
            "dataset-fashion-mnist`. Received: no files in "
            f"{[str(folder) for folder in folders]}; download: {error}"
        ) from error
    return dict(zip(_IDX_FILES, (*train, *test), strict=True))


def _as_rows(images: np.ndarray) -> np.ndarray:
    return (images.reshape(len(images), -1) / 255).astype("float32")
