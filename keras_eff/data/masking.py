"""Keep the marked examples of a `tf.data.Dataset`."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


def mask_elements(dataset: tf.data.Dataset, mask) -> tf.data.Dataset:
    """Returns the elements whose position is marked, of known cardinality.

    Args:
        dataset: `tf.data.Dataset` of as many elements as `mask` has.
        mask: bool array of shape `(n,)`.
    """
    # Zipping a mask is faster than a lookup in the predicate (measured:
    # benchmarks/results/pruning.json): the filter reads what is there.
    marks = tf.data.Dataset.from_tensor_slices(mask)
    kept = tf.data.Dataset.zip((dataset, marks)).filter(_mark).map(_element)
    return _of_size(kept, int(np.sum(mask)))


def mask_batches(dataset: tf.data.Dataset, mask, size) -> tf.data.Dataset:
    """Returns the marked examples in batches again, of known cardinality.

    Only the last batch may be smaller.

    Args:
        dataset: `tf.data.Dataset` of batches, of as many examples in all as
            `mask` has.
        mask: bool array of shape `(n,)`.
        size: integer, examples in a batch, before and after.
    """
    marks = tf.constant(mask)

    def gather(start, batch):
        num_rows = tf.cast(_num_rows(batch), tf.int64)
        # Else a dataset of another length would be pruned at wrong places.
        tf.debugging.assert_equal(
            num_rows,
            tf.minimum(len(mask) - start, size),
            f"The batches must hold {len(mask)} examples, {size} each.",
        )
        end = start + num_rows
        rows = tf.where(marks[start:end])[:, 0]
        return end, keras.tree.map_structure(
            lambda leaf: tf.gather(leaf, rows), batch
        )

    kept = dataset.scan(tf.constant(0, tf.int64), gather).rebatch(size)
    return _of_size(kept, -(-int(np.sum(mask)) // size))


def _of_size(dataset, size) -> tf.data.Dataset:
    return dataset.apply(tf.data.experimental.assert_cardinality(size))


def _num_rows(batch) -> Any:
    leaf = keras.tree.flatten(batch)[0]
    is_ragged = isinstance(leaf, tf.RaggedTensor)
    return leaf.nrows() if is_ragged else tf.shape(leaf)[0]


def _mark(element, mark):
    return mark


def _element(element, mark):
    return element
