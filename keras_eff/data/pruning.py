"""Drop the examples that a `Selection` does not keep."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_eff.data.selection import Selection


def prune(selection: Selection) -> Callable[[Any], Any]:
    """Returns a transform that keeps the examples of a selection, in order.

    Apply it to the data that were scored, in the order in which they were
    scored: before `shuffle`, `repeat` and `batch`. Examples that are in memory
    are cheaper to prune as arrays: a dataset still runs through them all.

    Args:
        selection: `Selection`, from `select`.

    Returns:
        A function for `dataset.apply`. A `tf.data.Dataset` comes back with
        known cardinality; arrays, or a nest of them such as `(x, y)`, come
        back as copies.

    Raises:
        ValueError: from the transform, if the data do not have
            `selection.num_examples` elements, or are of unknown size.

    Example:
    >>> from keras_eff.data import select
    >>> kept = select([0.1, 0.9, 0.5, 0.7], keep=0.5)
    >>> dataset = tf.data.Dataset.range(4).apply(prune(kept))
    >>> [int(element) for element in dataset], int(dataset.cardinality())
    ([1, 3], 2)
    """

    def transform(data: Any) -> Any:
        if isinstance(data, tf.data.Dataset):
            return _prune_dataset(data, selection)
        return _prune_arrays(data, selection)

    return transform


def _prune_dataset(dataset, selection) -> tf.data.Dataset:
    size = int(dataset.cardinality())
    if size != selection.num_examples:
        raise ValueError(
            "The dataset must yield the examples that were scored, one by "
            "one: apply `prune` before `batch`; a dataset of unknown size "
            "needs `tf.data.experimental.assert_cardinality(n)`. Received: "
            f"cardinality={size} (-1 is infinite, -2 unknown), a selection "
            f"from {selection.num_examples} examples"
        )
    # Zipping a mask is faster than a lookup in the predicate (measured:
    # benchmarks/results/pruning.json): the filter reads what is there.
    mask = tf.data.Dataset.from_tensor_slices(selection.mask)
    kept = tf.data.Dataset.zip((dataset, mask)).filter(_is_kept).map(_element)
    return kept.apply(
        tf.data.experimental.assert_cardinality(len(selection.ids))
    )


def _is_kept(element, kept):
    return kept


def _element(element, kept):
    return element


def _prune_arrays(data, selection) -> Any:
    arrays = keras.tree.map_structure(np.asarray, data)
    shapes = [array.shape for array in keras.tree.flatten(arrays)]
    if any(shape[:1] != (selection.num_examples,) for shape in shapes):
        raise ValueError(
            "The arrays must hold the examples that were scored. Received: "
            f"arrays of shapes {shapes}, a selection from "
            f"{selection.num_examples} examples"
        )
    return keras.tree.map_structure(lambda array: array[selection.ids], arrays)
