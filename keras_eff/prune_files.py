"""What `keras-eff prune` does: a comparison from files, without a script."""

import pathlib
from typing import Any

import keras
import numpy as np

from keras_eff.data.compare import compare as compare_arrays
from keras_eff.data.comparison import Comparison

_HELD_OUT = 0.2


def compare(
    data: pathlib.Path, model_path: pathlib.Path, **settings: Any
) -> Comparison:
    """Compares pruned training data with all and with random ones.

    Args:
        data: `.npz` file with `x`, `y`, and, as a pair, `x_val` and `y_val`.
        model_path: `.keras` file of a compiled classifier. Each training
            starts from newly drawn weights.
        **settings: further arguments of `keras_eff.data.compare`.

    Raises:
        ValueError: if arrays are missing or not of one length, or the model
            is not compiled.
    """
    train, validation = _arrays_of(data)
    model = keras.saving.load_model(model_path)
    if not model.compiled:
        raise ValueError(
            "The model must be compiled: its optimizer and loss train it. "
            f"Received: {str(model_path)!r}, saved without `compile`"
        )

    def model_fn() -> keras.Model:
        fresh = keras.models.clone_model(model)
        fresh.compile_from_config(model.get_compile_config())
        return fresh

    return compare_arrays(train, validation, model_fn, **settings)


def _arrays_of(path: pathlib.Path):
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    names = {"x", "y"} | ({"x_val", "y_val"} & set(arrays))
    if not names <= set(arrays) or len(names) == 3:
        raise ValueError(
            "The data file must hold `x` and `y`, and both or none of `x_val` "
            f"and `y_val`. Received: {sorted(arrays)}"
        )
    lengths = {name: len(arrays[name]) for name in sorted(names)}
    if lengths["x"] != lengths["y"] or (
        "x_val" in lengths and lengths["x_val"] != lengths["y_val"]
    ):
        raise ValueError(
            f"Examples and labels must be as many. Received: lengths {lengths}"
        )
    if "x_val" in names:
        return (arrays["x"], arrays["y"]), (arrays["x_val"], arrays["y_val"])
    return _split(arrays["x"], arrays["y"])


def _split(x, y):
    from sklearn.model_selection import train_test_split

    parts = train_test_split(
        x, y, test_size=_HELD_OUT, stratify=y, random_state=0
    )
    return (parts[0], parts[2]), (parts[1], parts[3])
