"""Grow (or shrink) the batch inside one `model.fit`."""

import weakref
from typing import Any

import keras
import tensorflow as tf

from keras_eff import schedules
from keras_eff.callbacks.batch_size_plan import ByEpoch
from keras_eff.callbacks.batch_size_plan import Plan
from keras_eff.callbacks.batch_size_plan import growth_for_decay
from keras_eff.callbacks.learning_rate import SharedLearningRate
from keras_eff.callbacks.scheduled_batches import Arrays
from keras_eff.callbacks.scheduled_batches import ScheduledBatches
from keras_eff.callbacks.scheduled_batches import Stream
from keras_eff.savings import Saving


class BatchSizeSchedule(keras.callbacks.Callback):
    """Sets the batch size of each epoch, and the learning rate with it.

    Growing the batch where one would decay the learning rate gives the same
    noise in the gradient, `learning_rate / batch_size`, with fewer and larger
    updates. The batch really changes: `batch` makes the data that `fit` gets,
    and each epoch sees every example exactly once.

    What it does not give: fewer FLOPs. An epoch costs the same
    multiplications; what is saved are updates, and time where a larger batch
    uses the device better. Feeding costs a little more than `fit` with a
    fixed batch. Under XLA each new batch size compiles once more.

    The learning rate is multiplied when the batch size changes, and what
    `ReduceLROnPlateau` makes of it stays; the end of `fit` takes the factor
    back. Momentum is not corrected. A callback that sets the learning rate
    itself, such as `LearningRateScheduler`, goes with `learning_rate=None`.

    Args:
        batch_size: integer or schedule `epoch -> batch size`. Fractions, as
            a linear ramp has, are rounded to the nearest integer.
        learning_rate: `"linear"` scales with the batch size, `"sqrt"` with
            its square root, `None` leaves the learning rate alone. A number
            or a schedule `epoch -> learning rate` sets it. Defaults to
            `"linear"`.
        max_batch_size: integer, cap of the batch size. `None` means no cap.
            Defaults to `None`.

    Raises:
        ValueError: if `learning_rate` is an unknown rule, `max_batch_size`
            is below 1, or a scheduled batch size is below 1 or not finite;
            in `fit`, if the data are not from `batch` or `steps_per_epoch`
            is given, if the optimizer's learning rate is itself a schedule,
            or if training resumes and a rule cannot know the learning rate
            of epoch 0.

    Example:
    >>> import numpy as np
    >>> from keras_eff import schedules
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> schedule = BatchSizeSchedule(schedules.steps(8, {1: 16, 2: 4}))
    >>> train = schedule.batch((np.ones((100, 3)), np.ones((100, 1))))
    >>> history = model.fit(train, epochs=3, callbacks=[schedule], verbose=0)
    >>> [row.updates for row in schedule.plan(100, epochs=3).rows]
    [13, 7, 25]
    >>> schedule.savings()[0].actual
    45

    Reference:
    - [Smith et al., 2018](https://arxiv.org/abs/1711.00489)
    """

    def __init__(self, batch_size, learning_rate="linear", max_batch_size=None):
        super().__init__()
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_batch_size = max_batch_size
        self._by_epoch = ByEpoch(batch_size, learning_rate, max_batch_size)
        self._datasets: weakref.WeakSet[ScheduledBatches] = weakref.WeakSet()
        self._dataset: ScheduledBatches | None = None  # what `fit` reads
        self._shared_rate: SharedLearningRate | None = None
        self._rate_left_by_fit: float | None = None
        self._epoch = 0
        self._counts_before_epoch = (0, 0)  # (updates, the baseline's)
        self._updates_of_epoch = 0

    @classmethod
    def from_learning_rate(
        cls,
        lr_schedule: schedules.ScheduleLike,
        batch_size: int,
        max_batch_size: int | None = None,
    ) -> "BatchSizeSchedule":
        """Turns the decay of a learning rate into growth of the batch.

        Each epoch keeps the ratio of learning rate and batch size that
        `lr_schedule` has with `batch_size` held constant. Where the learning
        rate is below its peak so far, the batch grows instead, as far as
        `max_batch_size`; what is left decays the learning rate. A warm-up
        stays as it is.

        Args:
            lr_schedule: schedule `epoch -> learning rate`, positive from
                epoch 0 on.
            batch_size: positive integer, the batch size at epoch 0.
            max_batch_size: integer, cap of the batch size. About a tenth of
                the examples is the paper's. Defaults to `None`, no cap.

        Returns:
            A `BatchSizeSchedule` that sets the learning rate too.

        Example:
        >>> from keras_eff import schedules
        >>> decay = schedules.steps(0.5, {60: 0.1, 120: 0.02, 160: 0.004})
        >>> schedule = BatchSizeSchedule.from_learning_rate(decay, 640, 5120)
        >>> rows = schedule.plan(50_000, epochs=200).rows
        >>> [rows[epoch].batch_size for epoch in (0, 60, 120, 160)]
        [640, 3200, 5120, 5120]
        >>> [round(rows[epoch].learning_rate, 3) for epoch in (0, 60, 120, 160)]
        [0.5, 0.5, 0.16, 0.032]

        Reference:
        - [Smith et al., 2018](https://arxiv.org/abs/1711.00489)
        """
        return cls(
            *growth_for_decay(lr_schedule, batch_size, max_batch_size),
            max_batch_size,
        )

    def batch(self, data: Any, shuffle: bool = True, seed: int | None = None):
        """Returns the data for `model.fit`, in batches of the scheduled size.

        Args:
            data: array, `(x, y)`, `(x, y, sample_weight)` or a nest of
                arrays; or an unbatched `tf.data.Dataset` of known size.
            shuffle: bool. Arrays get a new order each epoch. A
                `tf.data.Dataset` keeps its own order, as in `fit`; shuffle
                it before. Defaults to `True`.
            seed: integer, with the epoch it decides what is in each batch;
                `fit(shuffle=True)` also shuffles the batches of arrays, by
                Python's `random`. `None` takes a seed from there too.
                Defaults to `None`.

        Returns:
            A `keras.utils.PyDataset`. Never changes `data`. Without this
            callback in `fit`, the size of epoch 0 holds.

        Raises:
            ValueError: if there are no examples, arrays differ in length, or
                the size of the dataset is unknown.
        """
        if isinstance(data, tf.data.Dataset):
            source = Stream(data)
        else:
            source = Arrays(data, shuffle, seed)
        dataset = ScheduledBatches(
            source, lambda: (self._epoch, self._by_epoch.size_at(self._epoch))
        )
        self._datasets.add(dataset)
        return dataset

    def plan(
        self,
        num_examples: int,
        epochs: int,
        drop_remainder: bool = False,
        learning_rate: float = 1.0,
    ) -> Plan:
        """Returns batch size, learning rate and updates of each epoch.

        Args:
            num_examples: integer, examples in an epoch.
            epochs: integer, number of epochs.
            drop_remainder: bool, whether a last, smaller batch is left out of
                the count. `batch` never leaves it out. Defaults to `False`.
            learning_rate: float, the optimizer's at epoch 0. Not used if the
                schedule sets the learning rate itself. Defaults to `1.0`.
        """
        return self._by_epoch.plan(
            num_examples, epochs, drop_remainder, learning_rate
        )

    def savings(self) -> list[Saving]:
        """Returns the updates made, beside those at the first batch size.

        The baseline is the same examples in batches of the size of epoch 0,
        the last one of an epoch smaller. An update is a batch: gradients that
        accumulate make fewer on both sides.
        """
        updates, baseline = self._counts()
        return [
            Saving(
                "batch_size_schedule",
                "updates",
                baseline,
                updates,
                measured=True,
            )
        ]

    def on_train_begin(self, logs=None):
        self._close_epoch()  # An interrupted `fit` left it.
        # The object that `fit` counts its steps with names the data it reads.
        steps = (self.params or {}).get("steps")
        read = [data for data in self._datasets if data.num_batches is steps]
        if not read:
            raise ValueError(
                "`fit` must train on the data that `BatchSizeSchedule.batch` "
                "returns, without `steps_per_epoch`: the batch size of other "
                f"data cannot change. Received: other data, of {steps} steps"
            )
        (self._dataset,) = read
        if self._shared_rate is not None:
            if self._shared_rate.is_untouched:
                self._shared_rate.restore()
            self._shared_rate = None

    def on_epoch_begin(self, epoch, logs=None):
        self._close_epoch()
        self._epoch = epoch
        if self.learning_rate is not None:
            # Not before: BackupAndRestore also sets it when training begins.
            if self._shared_rate is None:
                self._share_rate(epoch)
            rate = self._by_epoch.rate_at(epoch, self._shared_rate.initial)
            self._shared_rate.write(rate)

    def on_train_batch_end(self, batch, logs=None):
        # With `steps_per_execution` the last index can be past the end.
        self._updates_of_epoch = min(batch + 1, int(self._dataset.num_batches))

    def on_train_end(self, logs=None):
        self._close_epoch()
        self._epoch = 0
        if self._shared_rate is not None:
            self._shared_rate.restore()
            self._rate_left_by_fit = self._shared_rate.read()
            self._shared_rate = None

    def _close_epoch(self):
        self._counts_before_epoch = self._counts()
        self._updates_of_epoch = 0

    def _counts(self) -> tuple[int, int]:
        """Returns (updates, the baseline's) so far, this epoch included."""
        updates, baseline = self._counts_before_epoch
        if self._updates_of_epoch:
            seen = self._updates_of_epoch * self._by_epoch.size_at(self._epoch)
            examples = min(seen, self._dataset.num_examples)
            baseline += -(-examples // self._by_epoch.size_at(0))
        return updates + self._updates_of_epoch, baseline

    def _share_rate(self, epoch: int) -> None:
        self._shared_rate = SharedLearningRate(self.model.optimizer)
        initial = self._shared_rate.initial
        is_known = epoch == 0 or initial == self._rate_left_by_fit
        if isinstance(self.learning_rate, str) and not is_known:
            raise ValueError(
                f"With learning_rate={self.learning_rate!r} training must "
                "start at epoch 0: a checkpoint does not tell whether its "
                "learning rate is already scaled. Pass `learning_rate=` a "
                "schedule, which sets it by epoch. Received: training from "
                f"epoch {epoch}, a learning rate of {initial:g}"
            )
