import concurrent.futures
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_eff.callbacks import BatchSizeSchedule
from keras_eff.callbacks.batch_size_schedule.live_integer import LiveInteger
from keras_eff.callbacks.batch_size_schedule.sources import Arrays
from keras_eff.callbacks.batch_size_schedule.sources import Batched
from keras_eff.callbacks.batch_size_schedule.sources import Stream


def read_all(source, epoch, batch_size):
    read, total = source.reader(epoch, batch_size), source.num_examples
    return [
        read(start, min(batch_size, total - start))
        for start in range(0, total, batch_size)
    ]


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 99])
def test_a_pass_over_arrays_has_every_example_once(batch_size):
    x, y = np.arange(10), np.arange(10) * 2
    batches = read_all(Arrays((x, y), True, seed=0), 3, batch_size)
    seen = np.concatenate([batch[0] for batch in batches])
    assert sorted(seen.tolist()) == list(range(10))
    assert all((b[1] == b[0] * 2).all() for b in batches)
    assert [len(b[0]) for b in batches[:-1]] == [batch_size] * (
        len(batches) - 1
    )


def test_orders_follow_seed_and_epoch():
    def order(seed, epoch):
        source = Arrays(np.arange(50), True, seed)
        return source.reader(epoch, 50)(0, 50).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert Arrays(np.arange(5), False, 0).reader(7, 5)(0, 5).tolist() == [
        *range(5)
    ]


def test_the_global_seed_decides_where_none_is_given():
    orders = []
    for global_seed in (1, 1, 2):
        keras.utils.set_random_seed(global_seed)
        orders.append(Arrays(np.arange(5), True, None).order(0).tolist())
    assert orders[0] == orders[1] != orders[2]


def test_batches_are_copies():
    x = np.arange(6.0)
    Arrays(x, False, 0).reader(0, 6)(0, 6)[:] = -1
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_nests_keep_their_structure():
    data = ({"a": np.arange(4), "b": [np.ones((4, 2))]}, np.arange(4))
    x, y = Arrays(data, False, 0).reader(0, 3)(3, 1)
    assert x["a"].tolist() == y.tolist() == [3]
    assert x["b"][0].shape == (1, 2)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 99])
@pytest.mark.parametrize("read_in", [1, 3, 4, 10])
def test_a_pass_over_a_dataset_is_in_its_order(batch_size, read_in):
    """Also in other sizes than it is batched in, as inside an epoch."""
    read = Stream(tf.data.Dataset.range(10)).reader(0, batch_size)
    for _ in range(2):  # from the start again
        seen = [
            read(start, min(read_in, 10 - start)).numpy()
            for start in range(0, 10, read_in)
        ]
        assert np.concatenate(seen).tolist() == list(range(10))
    assert read(5, 2).numpy().tolist() == [5, 6]
    assert read(1, 2).numpy().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("claimed", "message"),
    [
        (3, "Received: 3 by its size, and more examples"),
        (4, "Received: 4 by its size, and more examples"),
        (6, "Received: 6 by its size, and fewer examples"),
        (7, "Received: 7 by its size, and fewer examples"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 9])
def test_a_dataset_of_another_size_than_it_says_is_refused(
    claimed, message, batch_size
):
    class Liar:
        """A dataset whose cardinality TensorFlow does not check."""

        def cardinality(self):
            return claimed

        element_spec = tf.TensorSpec((), tf.int64)

        def batch(self, size):
            return tf.data.Dataset.range(5).batch(size)

    with pytest.raises(RuntimeError, match=re.escape(message)):
        read_all(Stream(Liar()), 0, batch_size)


def test_tensorflow_also_refuses_a_false_cardinality():
    claim = tf.data.experimental.assert_cardinality(6)
    with pytest.raises(tf.errors.FailedPreconditionError):
        read_all(Stream(tf.data.Dataset.range(5).apply(claim)), 0, 2)


@pytest.mark.parametrize(
    ("dataset", "cardinality"),
    [
        (tf.data.Dataset.range(3).repeat(), -1),
        (tf.data.Dataset.range(3).filter(lambda x: x > 1), -2),
        (tf.data.Dataset.range(0), 0),
    ],
)
def test_a_dataset_without_a_size_is_refused(dataset, cardinality):
    message = f"Received: cardinality={cardinality} "
    with pytest.raises(ValueError, match=re.escape(message)):
        Stream(dataset)


def test_ragged_elements_are_refused():
    ragged = tf.ragged.constant([[1], [2, 3]])
    dataset = tf.data.Dataset.from_tensor_slices(ragged)
    with pytest.raises(ValueError, match="Received: elements RaggedTensorSpec"):
        Stream(dataset)


def test_strings_of_a_dataset_pass_through():
    dataset = tf.data.Dataset.from_tensor_slices(["a", "b", "c"])
    (batch,) = read_all(Stream(dataset), 0, 3)
    assert batch.numpy().tolist() == [b"a", b"b", b"c"]


def test_two_threads_share_a_pass_without_losing_an_example():
    batches = BatchSizeSchedule(2).batch(tf.data.Dataset.range(2000))
    batches.on_epoch_begin()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        batches = list(pool.map(batches.__getitem__, range(1000)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(2000))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.ones((3, 2)), np.ones(4)), "shapes [(3, 2), (4,)]"),
        (np.array(["a", "b"]), "arrays of dtypes ['<U1']"),
        (np.ones((0, 2)), "shapes [(0, 2)]"),
        (np.float32(3), "shapes [()]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(data, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Arrays(data, True, 0)


def test_a_live_integer_behaves_as_the_integer_of_the_moment():
    box = [3]
    live = LiveInteger(lambda: box[0])
    for number in (3, 8, 1, 0):
        box[0] = number
        assert list(range(live)) == list(range(number))
        assert int(live) == live == number == float(live)
        assert bool(live) == bool(number)
        assert (live > 2, live >= 3, live < 3, live <= 2, live != 3) == (
            number > 2,
            number >= 3,
            number < 3,
            number <= 2,
            number != 3,
        )
        assert (live - 1, 10 - live) == (number - 1, 10 - number)
        assert live / 2 == number / 2
        assert (live + 0.5, 2 * live, live // 2, live % 2) == (
            number + 0.5,
            2 * number,
            number // 2,
            number % 2,
        )
        assert f"{live:3d}|{live}|{live!r}" == f"{number:3d}|{number}|{number}"
        assert hash(live) == hash(number)
        assert "%d" % live == str(number)  # noqa: UP031, as Progbar does
    box[0] = 4
    assert 10 / live == 2.5


def test_by_index_outside_of_fit_and_by_order_in_it():
    for source in (np.arange(10), tf.data.Dataset.range(10)):
        batches = BatchSizeSchedule(3).batch(source, shuffle=False)
        assert [np.array(batches[i]).tolist() for i in (2, 0)] == [
            [6, 7, 8],
            [0, 1, 2],
        ]
        batches.on_epoch_begin()
        assert np.array(batches[2]).tolist() == [0, 1, 2]
        batches.on_epoch_end()


@pytest.mark.parametrize("count", [0, None])
def test_a_py_dataset_without_an_end_is_refused(count):
    class Endless(keras.utils.PyDataset):
        num_batches = count

    with pytest.raises(ValueError, match=f"Received: num_batches={count}"):
        Batched(Endless(), True, 0)


def test_a_py_dataset_with_uneven_batches_is_refused_when_read():
    class Uneven(keras.utils.PyDataset):
        num_batches = 3

        def __getitem__(self, index):
            return np.arange([1, 5, 2][index])

    with pytest.raises(RuntimeError, match="4 by its size, and more"):
        read_all(Batched(Uneven(), False, 0), 0, 2)
