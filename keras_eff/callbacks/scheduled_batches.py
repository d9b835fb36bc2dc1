"""Batches whose size is read anew at each epoch of one `model.fit`."""

import functools
import random
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class ScheduledBatches(keras.utils.PyDataset):
    """A `PyDataset` of examples in batches of a size that may change.

    Made by `BatchSizeSchedule.batch`. Every pass yields every example once;
    the last batch of a pass is smaller where the size does not divide.

    Args:
        source: `Arrays` or `Stream`, where the examples come from.
        in_force: callable that returns `(epoch, batch_size)` as of now.
    """

    def __init__(
        self,
        source: "Arrays | Stream",
        in_force: Callable[[], tuple[int, int]],
    ):
        super().__init__()
        self.source = source
        self.in_force = in_force
        # `fit` reads this once and keeps it for all epochs; the object that
        # it keeps must know the number of the epoch at hand.
        self._num_batches = LiveInteger(
            lambda: -(-self.num_examples // self.in_force()[1])
        )

    @property
    def num_examples(self) -> int:
        """Examples in a pass."""
        return self.source.num_examples

    @property
    def num_batches(self) -> "LiveInteger":
        """Batches in a pass at the batch size in force when it is used."""
        return self._num_batches

    def __getitem__(self, index: int) -> Any:
        return self.source.read(index, *self.in_force())

    def on_epoch_begin(self) -> None:
        """Starts a pass; Keras calls it."""
        self.source.restart()


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
        self.shuffle = shuffle
        self.seed = random.randrange(2**31) if seed is None else seed
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)

    def restart(self) -> None:
        """Does nothing: a read depends on its arguments alone."""

    def read(self, index: int, epoch: int, batch_size: int) -> Any:
        """Returns copies of the examples of batch `index` of an epoch."""
        start = index * batch_size
        ids = self._order(epoch)[start : start + batch_size]
        # Indexing with an array copies. A view would let Keras under
        # MirroredStrategy write into the user's arrays (Keras 3.15).
        return keras.tree.map_structure(lambda leaf: leaf[ids], self.data)

    def _draw_order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.num_examples)
        generator = np.random.default_rng((self.seed, epoch))
        return generator.permutation(self.num_examples)


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
        self._lock = threading.Lock()
        self._is_over = True

    def restart(self) -> None:
        """Makes the next read the first one of a new pass."""
        with self._lock:
            self._is_over = True

    def read(self, index: int, epoch: int, batch_size: int) -> Any:
        """Returns the next batch of the pass, or the first of a new one.

        Args:
            index: ignored. `fit(shuffle=True)` asks for the batches of a
                `PyDataset` in any order; a stream has only its own.
            epoch: ignored, for the same reason.
            batch_size: integer, holds from the first read of a pass on.

        Raises:
            RuntimeError: if the dataset is shorter or longer than its
                cardinality says.
        """
        with self._lock:
            if self._is_over:
                self._batch_size, self._left = batch_size, self.num_examples
                batches = self.dataset.batch(batch_size).prefetch(
                    tf.data.AUTOTUNE
                )
                self._iterator = iter(batches)
            return self._read_next()

    def _read_next(self) -> Any:
        expected = min(self._batch_size, self._left)
        batch = next(self._iterator, ())
        size = max(map(len, keras.tree.flatten(batch)), default=0)
        self._left -= size
        self._is_over = self._left <= 0
        has_more = self._is_over and next(self._iterator, None) is not None
        if size != expected or has_more:
            raise RuntimeError(
                "The dataset must have as many examples as its cardinality "
                f"says. Received: cardinality={self.num_examples}, and "
                f"{'more' if self._is_over else 'fewer'} examples"
            )
        return batch


@functools.total_ordering
class LiveInteger:
    """An integer that is read anew each time it is used.

    Args:
        read: callable that returns the integer.
    """

    def __init__(self, read: Callable[[], int]):
        self._read = read

    def __index__(self) -> int:
        return self._read()

    def __int__(self) -> int:
        return self._read()

    def __float__(self) -> float:
        return float(self._read())

    def __bool__(self) -> bool:
        return self._read() != 0

    def __eq__(self, other: object) -> bool:
        return self._read() == other

    def __lt__(self, other: float) -> bool:
        return self._read() < other

    def __hash__(self) -> int:
        return hash(self._read())

    def __sub__(self, other: float) -> float:
        return self._read() - other

    def __rsub__(self, other: float) -> float:
        return other - self._read()

    def __truediv__(self, other: float) -> float:
        return self._read() / other

    def __rtruediv__(self, other: float) -> float:
        return other / self._read()

    def __format__(self, spec: str) -> str:
        return format(self._read(), spec)

    def __repr__(self) -> str:
        return repr(self._read())
