"""Keep the marked examples of a `tf.data.Dataset`."""

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
    return kept.apply(
        tf.data.experimental.assert_cardinality(int(np.sum(mask)))
    )


def _mark(element, mark):
    return mark


def _element(element, mark):
    return element
