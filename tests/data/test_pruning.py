import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_eff.data import prune
from keras_eff.data import select

NUM = 11
SCORES = np.array([5, 0, 7, 1, 9, 2, 8, 3, 6, 4, 10])
KEPT = [2, 4, 6, 8, 10]  # by hand: floor(0.5 * 11) = 5 scores above 5
X = np.arange(NUM * 3, dtype="float32").reshape(NUM, 3)
Y = np.arange(NUM) % 2
WEIGHTS = np.linspace(0.1, 1.1, NUM)


def selection(keep=0.5):
    return select(SCORES, keep=keep, prefer="hard")


def numbers(num=NUM):
    return tf.data.Dataset.range(num)


def values(dataset):
    return [np.asarray(element).tolist() for element in dataset]


def add_100(element):
    return element + 100


def is_any(element):
    return element >= 0


def test_a_dataset_keeps_the_selected_examples_in_their_order():
    assert values(numbers().apply(prune(selection()))) == KEPT


def test_the_size_of_a_pruned_dataset_is_known():
    assert int(numbers().apply(prune(selection())).cardinality()) == len(KEPT)


def test_a_pruned_dataset_can_be_read_again():
    dataset = numbers().apply(prune(selection()))
    assert values(dataset) == KEPT
    assert values(dataset) == KEPT
    assert values(dataset.repeat(2)) == KEPT * 2


def test_pruning_comes_before_batch_and_map():
    dataset = numbers().apply(prune(selection())).map(add_100).batch(2)
    assert values(dataset) == [[102, 104], [106, 108], [110]]
    assert int(dataset.cardinality()) == 3


def test_pruning_comes_before_shuffle():
    dataset = numbers().apply(prune(selection())).shuffle(NUM, seed=1)
    first, again = values(dataset), values(dataset)
    assert sorted(first) == sorted(again) == KEPT
    assert first != again


def test_pruning_comes_after_a_map_that_keeps_the_order():
    dataset = numbers().map(add_100, num_parallel_calls=2)
    kept = values(dataset.apply(prune(selection())))
    assert kept == [100 + position for position in KEPT]


def test_pruning_twice_takes_the_second_selection_among_the_kept():
    second = select([3, 1, 2, 5, 4], keep=0.4)
    dataset = numbers().apply(prune(selection())).apply(prune(second))
    assert values(dataset) == [KEPT[3], KEPT[4]]


def test_one_example_of_one_is_kept():
    dataset = numbers(1).apply(prune(select([0.5], keep=1.0)))
    assert values(dataset) == [0]
    assert int(dataset.cardinality()) == 1


def test_keeping_everything_changes_nothing():
    assert values(numbers().apply(prune(selection(1.0)))) == list(range(NUM))


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param((X, Y), id="x-y"),
        pytest.param((X, Y, WEIGHTS), id="x-y-weights"),
        pytest.param({"image": X, "label": Y}, id="dict"),
        pytest.param(({"a": X, "b": WEIGHTS}, Y), id="dict-in-a-tuple"),
    ],
)
def test_every_part_of_an_element_is_pruned_alike(elements):
    dataset = tf.data.Dataset.from_tensor_slices(elements)
    pruned = dataset.apply(prune(selection()))
    assert pruned.element_spec == dataset.element_spec
    assert len(list(pruned)) == len(KEPT)
    for position, element in zip(KEPT, pruned, strict=True):
        expected = [part[position] for part in keras.tree.flatten(elements)]
        for value, truth in zip(
            keras.tree.flatten(element), expected, strict=True
        ):
            np.testing.assert_array_equal(value, truth)


def test_elements_of_different_shapes_are_pruned_too():
    ragged = tf.ragged.constant([[i] * (i % 3) for i in range(NUM)])
    dataset = tf.data.Dataset.from_tensor_slices(ragged)
    kept = values(dataset.apply(prune(selection())))
    assert kept == [[i] * (i % 3) for i in KEPT]


def test_arrays_keep_the_selected_rows_in_their_order():
    x, y = prune(selection())((X, Y))
    np.testing.assert_array_equal(x, X[[2, 4, 6, 8, 10]])
    np.testing.assert_array_equal(y, Y[[2, 4, 6, 8, 10]])


def test_a_nest_of_arrays_keeps_its_structure():
    data = ({"a": X, "b": WEIGHTS}, Y)
    inputs, y = prune(selection())(data)
    assert sorted(inputs) == ["a", "b"]
    np.testing.assert_array_equal(inputs["b"], WEIGHTS[KEPT])
    np.testing.assert_array_equal(y, Y[KEPT])


def test_one_array_and_one_tensor_are_pruned_like_a_pair():
    np.testing.assert_array_equal(prune(selection())(X), X[KEPT])
    of_tensor = prune(selection())(tf.constant(X))
    np.testing.assert_array_equal(of_tensor, X[KEPT])


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_pruned_arrays_are_copies_and_the_source_stays(keep):
    source = X.copy()
    pruned = prune(selection(keep))(source)
    pruned += 1000
    assert not np.shares_memory(pruned, source)
    np.testing.assert_array_equal(source, X)


def test_arrays_and_dataset_keep_the_same_examples():
    x, y = prune(selection())((X, Y))
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    pairs = list(dataset.apply(prune(selection())).as_numpy_iterator())
    np.testing.assert_array_equal(x, [pair[0] for pair in pairs])
    np.testing.assert_array_equal(y, [pair[1] for pair in pairs])


class Steps(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.known, self.run = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.known.append(self.params["steps"])
        self.run.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.run[-1] += 1


def test_fit_knows_and_runs_the_right_number_of_steps():
    # A warning, such as Keras' "ran out of data", would fail this test. With
    # the default `shuffle=True` Keras 3.15 warns at every tf.data.Dataset.
    dataset = tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS))
    train = dataset.apply(prune(selection(0.7))).shuffle(7).batch(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    steps = Steps()
    model.fit(train, epochs=3, callbacks=[steps], shuffle=False, verbose=0)
    expected = math.ceil(math.floor(0.7 * NUM) / 2)
    assert steps.run == [expected] * 3 == [4] * 3
    assert steps.known == [expected] * 3


@pytest.mark.parametrize(
    ("dataset", "received"),
    [
        pytest.param(numbers().batch(3), "cardinality=4", id="batched"),
        pytest.param(numbers(NUM + 1), "cardinality=12", id="longer"),
        pytest.param(numbers(NUM - 1), "cardinality=10", id="shorter"),
        pytest.param(numbers(0), "cardinality=0", id="empty"),
        pytest.param(numbers().repeat(), "cardinality=-1", id="infinite"),
        pytest.param(numbers().filter(is_any), "cardinality=-2", id="unknown"),
    ],
)
def test_a_dataset_that_was_not_scored_is_refused(dataset, received):
    message = (
        "needs `tf.data.experimental.assert_cardinality(n)`. Received: "
        f"{received} (-1 is infinite, -2 unknown), a selection from 11 examples"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        dataset.apply(prune(selection()))


def test_the_remedy_for_an_unknown_size_works():
    unknown = numbers().filter(is_any)
    known = unknown.apply(tf.data.experimental.assert_cardinality(NUM))
    assert values(known.apply(prune(selection()))) == KEPT


@pytest.mark.parametrize(
    ("data", "received"),
    [
        pytest.param(X[:-1], "arrays of shapes [(10, 3)]", id="shorter"),
        pytest.param(
            (X, Y[:-1]), "arrays of shapes [(11, 3), (10,)]", id="one-shorter"
        ),
        pytest.param(X.T, "arrays of shapes [(3, 11)]", id="transposed"),
        pytest.param(np.float32(3), "arrays of shapes [()]", id="a-number"),
        pytest.param(X[:0], "arrays of shapes [(0, 3)]", id="empty"),
    ],
)
def test_arrays_that_were_not_scored_are_refused(data, received):
    message = (
        "must hold the examples that were scored. Received: "
        f"{received}, a selection from 11 examples"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        prune(selection())(data)
