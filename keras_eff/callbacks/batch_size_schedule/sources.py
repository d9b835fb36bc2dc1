"""Where the examples of scheduled batches come from."""

import concurrent.futures
import functools
import itertools
import random
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Reads the examples `start` to `start + size` of an epoch's order.
Reader = Callable[[int, int], Any]


def source_of(
    data: Any, shuffle: bool, seed: int | None
) -> "Arrays | Stream | Batched":
    """Returns what reads the data; see `BatchSizeSchedule.batch`."""
    if isinstance(data, tf.data.Dataset):
        return Stream(data)
    if isinstance(data, keras.utils.PyDataset):
        return Batched(data, shuffle, seed)
    return Arrays(data, shuffle, seed)


class Arrays:
    """Examples in NumPy arrays, drawn in an order set by seed and epoch.

    Args:
        data: array, or nest (tuple, list, dictionary) of arrays with the same
            first axis, such as `(x, y)` or `(x, y, sample_weight)`.
        shuffle: bool, whether each epoch has its own order.
        seed: integer. `None` draws one from Python's `random`, which
            `keras.utils.set_random_seed` seeds.

    Raises:
        ValueError: if there are no examples, the first axes differ, or an
            array holds strings or objects.
    """

    def __init__(self, data: Any, shuffle: bool, seed: int | None):
        self.data = keras.tree.map_structure(np.asarray, data)
        leaves = keras.tree.flatten(self.data)
        lengths = {len(leaf) if leaf.ndim else 0 for leaf in leaves}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                "Argument `data` must hold arrays with the same number of "
                "examples, at least one. Received: arrays of shapes "
                f"{[leaf.shape for leaf in leaves]}"
            )
        if any(leaf.dtype.kind in "OSU" for leaf in leaves):
            raise ValueError(
                "Argument `data` must hold arrays of numbers; strings fit into "
                "a `tf.data.Dataset`. Received: arrays of dtypes "
                f"{[str(leaf.dtype) for leaf in leaves]}"
            )
        (self.num_examples,) = lengths
        self.order = functools.lru_cache(maxsize=2)(
            _Order(self.num_examples, shuffle, seed)
        )

    def reader(self, epoch: int, batch_size: int) -> Reader:
        """Returns what reads copies of the examples, in any order of calls."""
        ids = self.order(epoch)

        def read(start: int, size: int) -> Any:
            # `take` copies. A view would let Keras under MirroredStrategy
            # write into the user's arrays (Keras 3.15).
            chosen = ids[start : start + size]
            return keras.tree.map_structure(
                lambda leaf: np.take(leaf, chosen, axis=0), self.data
            )

        return read

    def on_epoch_begin(self) -> None:
        """Does nothing, as `on_epoch_end`."""

    def on_epoch_end(self) -> None:
        """Does nothing: a read depends on its arguments alone."""


class Stream:
    """Examples of an unbatched `tf.data.Dataset`, in its own order.

    Args:
        dataset: `tf.data.Dataset` of known, finite cardinality.

    Raises:
        ValueError: if the cardinality is unknown, infinite or zero, or an
            element is not a dense tensor.
    """

    def __init__(self, dataset: tf.data.Dataset):
        self.dataset = dataset
        self.num_examples = int(dataset.cardinality())
        if self.num_examples < 1:
            raise ValueError(
                "Argument `data` must be a dataset of known, finite size, "
                "unbatched: the number of steps follows from it. Apply "
                "`tf.data.experimental.assert_cardinality(n)`. Received: "
                f"cardinality={self.num_examples} "
                "(-1 is infinite, -2 unknown)"
            )
        specs = keras.tree.flatten(dataset.element_spec)
        if not all(isinstance(spec, tf.TensorSpec) for spec in specs):
            raise ValueError(
                "Argument `data` must yield dense tensors. Received: elements "
                f"{dataset.element_spec}"
            )

    def reader(self, epoch: int, batch_size: int) -> Reader:
        """Returns what reads one pass, batch after batch."""
        batches = self.dataset.batch(batch_size).prefetch(2)
        if batches.options().autotune.enabled is None:
            # Keras puts its own pipeline behind this one; two that tune
            # themselves take each other's time (see the benchmark).
            options = tf.data.Options()
            options.autotune.enabled = False
            batches = batches.with_options(options)
        return _InOrder(lambda: iter(batches), self.num_examples)

    def on_epoch_begin(self) -> None:
        """Does nothing, as `on_epoch_end`."""

    def on_epoch_end(self) -> None:
        """Does nothing: each pass has its own iterator."""


class Batched:
    """Examples of a `keras.utils.PyDataset`, taken out of its batches.

    Its batches may have any sizes as long as all but the last are as large
    as the first. More than one of its `workers` read ahead, as threads.

    Args:
        dataset: `keras.utils.PyDataset` with a finite number of batches.
        shuffle: bool, whether its batches are read in a new order each epoch.
        seed: integer or `None`, as in `Arrays`.

    Raises:
        ValueError: if it has no batches, or is infinite.
    """

    def __init__(
        self, dataset: keras.utils.PyDataset, shuffle: bool, seed: int | None
    ):
        self.dataset = dataset
        count = dataset.num_batches
        if not count:
            raise ValueError(
                "Argument `data` must be a PyDataset with a finite number of "
                f"batches, at least one. Received: num_batches={count}"
            )
        first, last = _length(dataset[0]), _length(dataset[count - 1])
        self.num_examples = (count - 1) * first + last
        self._order = _Order(count, shuffle, seed)

    def reader(self, epoch: int, batch_size: int) -> Reader:
        """Returns what reads one pass, batch after batch."""
        return _InOrder(lambda: self._read_batches(epoch), self.num_examples)

    def on_epoch_begin(self) -> None:
        """Tells the dataset that an epoch begins."""
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Tells the dataset that its epoch is over."""
        self.dataset.on_epoch_end()

    def _read_batches(self, epoch: int) -> Iterator[Any]:
        ids = iter(self._order(epoch).tolist())
        workers = self.dataset.workers
        if workers <= 1:
            yield from map(self.dataset.__getitem__, ids)
            return
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            ahead = [
                pool.submit(self.dataset.__getitem__, id_)
                for id_ in itertools.islice(ids, 2 * workers)
            ]
            while ahead:
                yield ahead.pop(0).result()
                for id_ in itertools.islice(ids, 1):
                    ahead.append(pool.submit(self.dataset.__getitem__, id_))


class _Order:
    """Returns the order of an epoch, by seed and epoch."""

    def __init__(self, count: int, shuffle: bool, seed: int | None):
        self.count = count
        self.shuffle = shuffle
        self.seed = random.randrange(2**31) if seed is None else seed

    def __call__(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng((self.seed, epoch)).permutation(self.count)


class _InOrder:
    """Reads chunks of examples one after another, in other sizes.

    Args:
        start: callable that returns an iterator of chunks for a new pass.
        num_examples: integer, how many the chunks must hold together.

    Raises:
        RuntimeError: when read, if the chunks hold fewer or more.
    """

    def __init__(self, start: Callable[[], Iterator[Any]], num_examples: int):
        self._start = start
        self._num_examples = num_examples
        self._chunks = None

    def __call__(self, start: int, size: int) -> Any:
        if self._chunks is None or start < self._position:
            self._chunks, self._chunk, self._position = self._start(), None, 0
        if start > self._position:  # asked for by a reader out of order
            self._take(start - self._position)
        return self._take(size)

    def _take(self, size: int) -> Any:
        parts = []
        while size:
            if self._chunk is None:
                self._chunk = next(self._chunks, None)
                self._used = 0
            if self._chunk is None:
                self._refuse("fewer")
            length = _length(self._chunk)
            took = min(size, length - self._used)
            parts.append(_part(self._chunk, self._used, took))
            self._used += took
            self._position += took
            size -= took
            if self._used == length:
                self._chunk = None
        if self._position == self._num_examples:
            if self._chunk is not None or next(self._chunks, None) is not None:
                self._refuse("more")
        if len(parts) == 1:
            return parts[0]
        return keras.tree.map_structure(_join, *parts)

    def _refuse(self, count: str) -> None:
        raise RuntimeError(
            "The dataset must have as many examples as its size says. "
            f"Received: {self._num_examples} by its size, and {count} examples"
        )


def _length(batch: Any) -> int:
    return len(keras.tree.flatten(batch)[0])


def _part(chunk: Any, start: int, size: int) -> Any:
    def cut(leaf):
        if not tf.is_tensor(leaf):
            return np.array(leaf[start : start + size])  # see `Arrays`
        # A slice costs as much as a small step; most chunks go on whole.
        is_whole = size == len(leaf)
        return leaf if is_whole else leaf[start : start + size]

    return keras.tree.map_structure(cut, chunk)


def _join(*leaves: Any) -> Any:
    if tf.is_tensor(leaves[0]):
        return tf.concat(leaves, axis=0)
    return np.concatenate(leaves)
