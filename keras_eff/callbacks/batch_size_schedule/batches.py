"""Batches whose sizes are planned anew at each epoch of one `model.fit`."""

import functools
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_eff.callbacks.batch_size_schedule.live_integer import LiveInteger
from keras_eff.callbacks.batch_size_schedule.phases import Phase
from keras_eff.callbacks.batch_size_schedule.sources import Arrays
from keras_eff.callbacks.batch_size_schedule.sources import Batched
from keras_eff.callbacks.batch_size_schedule.sources import Stream


class EpochBatches:
    """The batches of one epoch, in order: what each step is fed with.

    A batch is the part of an update that one step holds: all of it, or, with
    `max_physical_batch_size`, at most so many examples.

    Args:
        epoch: integer, the epoch's number.
        phases: sequence of `Phase`, the epoch's.
        max_physical_batch_size: integer, or `None` for no limit.

    Attributes:
        starts, sizes: int arrays of shape `(batches,)`, the first example of
            each batch and how many it has.
        batch_sizes: int array of shape `(batches,)`, examples of the update
            that the batch belongs to.
        updates: int array of shape `(batches,)`, updates done after it.
        phase_of: int array of shape `(batches,)`, index into `phases`.
    """

    def __init__(
        self,
        epoch: int,
        phases: Sequence[Phase],
        max_physical_batch_size: int | None = None,
    ):
        self.epoch = epoch
        self.phases = phases
        parts = [_cut(phase, max_physical_batch_size) for phase in phases]
        edges = np.cumsum([0, *(phase.examples for phase in phases)])
        self.starts, self.sizes, self.batch_sizes, is_last = (
            np.concatenate(columns) for columns in zip(*parts, strict=True)
        )
        self.phase_of = np.repeat(
            np.arange(len(parts)), [len(part[0]) for part in parts]
        )
        self.starts = self.starts + edges[self.phase_of]
        self.updates = np.cumsum(is_last)

    def __len__(self) -> int:
        return len(self.starts)

    def counts(self, num_batches: int, batch_size: int) -> tuple[int, int]:
        """Returns updates after so many batches, and those of a fixed size.

        Args:
            num_batches: integer >= 1, batches done.
            batch_size: integer, the fixed size.
        """
        last = num_batches - 1
        examples = int(self.starts[last] + self.sizes[last])
        return int(self.updates[last]), -(-examples // batch_size)


def _cut(phase: Phase, limit: int | None) -> tuple[np.ndarray, ...]:
    """Returns starts, sizes, update's size and whether it is its last one."""
    size = phase.batch_size
    limit = min(limit or size, size)
    updates = np.arange(0, phase.examples, size)
    # (updates, batches an update): starts, those past the end left out
    starts = updates[:, None] + np.arange(0, size, limit)[None, :]
    ends = np.minimum(starts + limit, updates[:, None] + size)
    ends = np.minimum(ends, phase.examples)
    whole = np.minimum(updates + size, phase.examples)[:, None]
    is_last = ends == whole
    held = starts < phase.examples
    sizes_of_updates = np.broadcast_to(whole - updates[:, None], starts.shape)
    return (
        starts[held],
        (ends - starts)[held],
        sizes_of_updates[held],
        is_last[held],
    )


class ScheduledBatches(keras.utils.PyDataset):
    """A `PyDataset` of examples in batches of sizes that may change.

    Made by `BatchSizeSchedule.batch`. A pass of `fit` yields every example
    once and in the order of the plan, whatever order of batches `fit` asks
    for: with `shuffle=True` it shuffles the batches of a `PyDataset`, which
    would mix those before and after a change.

    Args:
        source: `Arrays`, `Stream` or `Batched`, where the examples are.
        in_force: callable `num_examples -> arguments of EpochBatches`, as of
            now.
    """

    def __init__(
        self,
        source: Arrays | Stream | Batched,
        in_force: Callable[[int], tuple[int, Sequence[Phase], int | None]],
    ):
        super().__init__()
        self.source = source
        self._in_force = functools.partial(in_force, source.num_examples)
        self._batches: EpochBatches | None = None
        self._lock = threading.Lock()
        self._outside = self._pass = None
        self._was_disturbed = False
        # `fit` reads this once and keeps it for all epochs; the object that
        # it keeps must know the number of the epoch at hand.
        self._num_batches = LiveInteger(lambda: len(self.in_force()))

    def in_force(self) -> EpochBatches:
        """Returns the batches as of now."""
        epoch, phases, limit = self._in_force()
        known = self._batches  # `fit` asks for them again and again
        if known is None or known.epoch != epoch or known.phases is not phases:
            self._batches = known = EpochBatches(epoch, phases, limit)
        return known

    @property
    def num_examples(self) -> int:
        """Examples in a pass."""
        return self.source.num_examples

    @property
    def num_batches(self) -> LiveInteger:
        """Batches in a pass, as of when it is used."""
        return self._num_batches

    def __getitem__(self, index: int) -> Any:
        with self._lock:
            if self._pass is not None and not self._pass.is_over(index):
                return self._pass.next(index)
            self._end_pass()
            # Not in `fit`: a batch is what its index says.
            if self._outside is None:
                self._outside = _Pass(self.source, self.in_force())
            return self._outside.read(index)

    def on_epoch_begin(self) -> None:
        """Starts a pass; Keras calls it."""
        with self._lock:
            self._end_pass()
            self._outside = None
            self._pass = _Pass(self.source, self.in_force())
        self.source.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Ends a pass; Keras calls it."""
        with self._lock:
            self._end_pass()
            self._outside = None
        self.source.on_epoch_end()

    def forget(self) -> None:
        """Drops what an earlier `fit` has left, before an epoch begins."""
        with self._lock:
            self._outside = self._pass = None
            self._was_disturbed = False

    def check_undisturbed(self) -> None:
        """Raises if another pass has taken examples from that of `fit`."""
        if self._was_disturbed:
            raise RuntimeError(
                "The batches of a schedule can be read by one pass at a time: "
                "another one took examples from training. Read other data, or "
                "what a second call of `batch` returns. Received: two passes "
                f"in epoch {self.in_force().epoch}"
            )

    def _end_pass(self) -> None:
        if self._pass is not None and not self._pass.is_complete():
            self._was_disturbed = True
        self._pass = None


def the_one_read(
    datasets: Iterable[ScheduledBatches], steps: Any
) -> ScheduledBatches:
    """Returns the data that `fit` reads.

    Args:
        datasets: iterable of `ScheduledBatches`.
        steps: what `fit` counts its steps with; that object names them.

    Raises:
        ValueError: if it is none of them.
    """
    for dataset in datasets:
        if dataset.num_batches is steps:
            return dataset
    raise ValueError(
        "`fit` must train on the data that `BatchSizeSchedule.batch` returns, "
        "without `steps_per_epoch`: the batch size of other data cannot "
        f"change. Received: other data, of {steps} steps"
    )


class _Pass:
    """One pass over the batches of an epoch."""

    def __init__(self, source: Arrays | Stream | Batched, batches):
        self._batches = batches
        self._read = source.reader(batches.epoch, int(batches.sizes.max()))
        self._asked: set[int] = set()

    def next(self, index: int) -> Any:
        """Returns the next batch of the plan, once for each index."""
        position = len(self._asked)
        self._asked.add(index)
        return self.read(position)

    def is_over(self, index: int) -> bool:
        """Whether who asks for `index` cannot be in this pass any more."""
        return index in self._asked or index >= len(self._batches)

    def is_complete(self) -> bool:
        """Whether all batches were read."""
        return len(self._asked) == len(self._batches)

    def read(self, index: int) -> Any:
        """Returns the batch of that index."""
        start, size = self._batches.starts[index], self._batches.sizes[index]
        return self._read(int(start), int(size))
