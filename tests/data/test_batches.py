import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_eff.data.batches import batches_of
from keras_eff.data.batches import num_rows
from keras_eff.data.batches import split
from keras_eff.data.batches import watched

X = np.arange(14, dtype="float32").reshape(7, 2)
Y = np.arange(7)


class Pairs(keras.utils.PyDataset):
    def __init__(self, size=3, shuffled=False, labelled=True):
        super().__init__()
        self.size, self.shuffled, self.labelled = size, shuffled, labelled
        self.random = np.random.default_rng(0)

    def __len__(self):
        return -(-7 // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        x = X[rows] + self.random.random() if self.shuffled else X[rows]
        return (x, Y[rows]) if self.labelled else (x,)


class Endless(Pairs):
    @property
    def num_batches(self):
        return None


def linear(inputs=2):
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(2)])


def read(batches, start=0):
    elements = [split(element) for element in batches.read(start)]
    x = np.concatenate([np.asarray(x) for x, _ in elements])
    labels = [y for _, y in elements]
    y = None if labels[0] is None else np.concatenate(labels)
    return x, y, [len(part) for part, _ in elements]


@pytest.mark.parametrize(
    ("dataset", "sizes"),
    [
        ((X, Y), [2, 2, 2, 1]),
        (tf.data.Dataset.from_tensor_slices((X, Y)), [2, 2, 2, 1]),
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(3), [3, 3, 1]),
        (Pairs(), [3, 3, 1]),
    ],
    ids=["arrays", "unbatched", "batched", "py_dataset"],
)
@pytest.mark.parametrize("model", [None, linear()], ids=["alone", "model"])
def test_every_form_gives_the_same_rows_in_order(dataset, sizes, model):
    batches = batches_of(dataset, 2, model)
    x, y, found = read(batches)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert found == sizes
    assert batches.num_batches == len(sizes)
    x, y, _ = read(batches, start=2)
    np.testing.assert_array_equal(x, X[sum(sizes[:2]) :])


@pytest.mark.parametrize(
    ("dataset", "number"),
    [
        ((X, Y), 7),
        (tf.data.Dataset.from_tensor_slices((X, Y)), 7),
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(3), None),
    ],
)
def test_the_number_of_examples_is_told_where_it_is_known(dataset, number):
    assert batches_of(dataset, 2).num_examples == number


@pytest.mark.parametrize(
    "pool",
    [
        X,
        (X,),
        tf.constant(X),
        tf.data.Dataset.from_tensor_slices(X),
        tf.data.Dataset.from_tensor_slices((X,)),
        tf.data.Dataset.from_tensor_slices(X).batch(4),
        Pairs(labelled=False),
    ],
)
def test_a_pool_without_labels_is_read(pool):
    x, y, _ = read(batches_of(pool, 2))
    np.testing.assert_array_equal(x, X)
    assert y is None


def test_a_dictionary_is_one_input():
    (element,) = batches_of({"a": X, "b": Y}).read(0)
    x, y = split(element)
    assert sorted(x) == ["a", "b"]
    assert y is None
    assert num_rows(element) == 7


def test_watching_changes_nothing_and_sees_all():
    seen = []
    batches = watched(batches_of(X, 3), lambda e: seen.append(len(e)))
    x, _, _ = read(batches)
    np.testing.assert_array_equal(x, X)
    assert seen == [3, 3, 1]
    read(batches)
    assert seen == [3, 3, 1]  # of the first pass alone


def test_unknown_lengths_within_an_example_are_no_batches():
    dataset = tf.data.Dataset.from_generator(
        lambda: ((np.ones(n), n) for n in (2, 2)),
        output_signature=(
            tf.TensorSpec((None,), tf.float64),
            tf.TensorSpec((), tf.int64),
        ),
    )
    assert read(batches_of(dataset, 2))[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("dataset", "needs_labels", "message"),
    [
        (
            [X, Y],
            False,
            "`(x, y)` arrays, `(x,)` or `x` or a `tf.data.Data",
        ),
        ([X, Y], False, "Received: list"),
        ((X, Y, Y), False, "Received: tuple"),
        (5, False, "Received: int"),
        ((X,), True, "`keras.utils.PyDataset` of pairs. Received: tuple"),
        (np.float32(3), False, "Received: lengths [0]"),
        (
            tf.data.Dataset.from_tensor_slices((X, Y, Y)),
            False,
            "must yield pairs `(x, y)`, `(x,)` or `x`. Received: elements",
        ),
        (
            Pairs(labelled=False),
            True,
            "must yield pairs `(x, y)`. Received: elements",
        ),
        (Pairs(shuffled=True), False, "first batch differs between two passes"),
        (Endless(), False, "Received: a PyDataset without end"),
        (
            tf.data.Dataset.from_tensor_slices((X, X)).batch(
                2, drop_remainder=True
            ),
            False,
            "batch it with `drop_remainder=False`, or pass arrays",
        ),
    ],
)
def test_other_data_are_named(dataset, needs_labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        batches_of(dataset, 2, needs_labels=needs_labels)
