"""Grow (or shrink) the batch inside one `model.fit`."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_eff import schedules
from keras_eff.callbacks.batch_size_plan import Plan
from keras_eff.callbacks.learning_rate import SharedLearningRate
from keras_eff.callbacks.scheduled_batches import Arrays
from keras_eff.callbacks.scheduled_batches import ScheduledBatches
from keras_eff.callbacks.scheduled_batches import Stream
from keras_eff.savings import Saving

# How the learning rate follows the batch: ratio of batch sizes -> factor.
_RULES: dict[str | None, Callable[[float], float]] = {
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
    None: lambda ratio: 1.0,
}


class BatchSizeSchedule(keras.callbacks.Callback):
    """Sets the batch size of each epoch, and the learning rate with it.

    Growing the batch where one would decay the learning rate gives the same
    noise in the gradient, `learning_rate / batch_size`, with fewer and larger
    updates. The batch really changes: `batch` makes the data that `fit` gets,
    and each epoch sees every example exactly once.

    What it does not give: fewer FLOPs. An epoch costs the same
    multiplications; what is saved are updates, and time where a larger batch
    uses the device better.

    The learning rate is changed only when the batch size changes, by a
    factor, so that reductions by `ReduceLROnPlateau` stay; at the end of
    `fit` the factor is taken back. At the start of `fit` the optimizer is
    taken to hold the learning rate of the first batch size. Momentum is not
    corrected. Under XLA each new batch size compiles once more.

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
            in `fit`, if the data are not from `batch`, or the optimizer's
            learning rate is itself a schedule and a rule should change it.

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
        is_rule = learning_rate is None or isinstance(learning_rate, str)
        if is_rule and learning_rate not in _RULES:
            raise ValueError(
                "Argument `learning_rate` must be one of "
                f"{list(_RULES)}, a number or a schedule. Received: "
                f"learning_rate={learning_rate!r}"
            )
        if max_batch_size is not None:
            _check_size(max_batch_size, "max_batch_size")
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_batch_size = max_batch_size
        self._batch_size_at_epoch = schedules.as_schedule(batch_size)
        self._datasets: list[ScheduledBatches] = []
        self._dataset: ScheduledBatches | None = None  # what `fit` reads
        self._shared_rate: SharedLearningRate | None = None
        self._epoch = 0
        self._counts_before_epoch = (0, 0)  # (updates, examples)
        self._updates_of_epoch = 0
        self._size_at(0)  # A bad first size is found here, not in `fit`.

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
        rate_at = schedules.as_schedule(lr_schedule)
        _check_size(batch_size, "batch_size")

        def size_at(epoch: int) -> float:
            rates = [rate_at(earlier) for earlier in range(epoch + 1)]
            if min(rates) <= 0:
                raise ValueError(
                    "Argument `lr_schedule` must be positive: the batch grows "
                    "by its inverse. Received: a learning rate of "
                    f"{min(rates)} at epoch {rates.index(min(rates))}"
                )
            return batch_size * max(rates) / rates[-1]

        def scaled_rate_at(epoch: int) -> float:
            return rate_at(epoch) * schedule._size_at(epoch) / batch_size

        schedule = cls(size_at, scaled_rate_at, max_batch_size)
        return schedule

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
            source, lambda: (self._epoch, self._size_at(self._epoch))
        )
        self._datasets.append(dataset)
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
        return Plan.of(
            num_examples,
            epochs,
            drop_remainder,
            size_at=self._size_at,
            rate_at=lambda epoch: self._rate_at(epoch, learning_rate),
        )

    def savings(self) -> list[Saving]:
        """Returns the updates made, beside those at the first batch size.

        The baseline is the same number of examples in batches of the size of
        epoch 0: `examples / batch size`, not rounded up.
        """
        updates, examples = self._counts()
        baseline = examples / self._size_at(0)
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
        # Keras ends a pass of the training data just before this.
        read = [data for data in self._datasets if data.num_passes]
        if not read:
            raise ValueError(
                "`fit` must train on the data that `BatchSizeSchedule.batch` "
                "returns: the batch size of other data cannot change. "
                f"Received: {len(self._datasets)} datasets from `batch`, none "
                "of them in `fit`"
            )
        self._dataset = read[-1]
        if self._shared_rate is not None:
            self._shared_rate.restore()  # An interrupted `fit` left it.
        if self.learning_rate is not None:
            self._shared_rate = SharedLearningRate(self.model.optimizer)

    def on_epoch_begin(self, epoch, logs=None):
        self._counts_before_epoch = self._counts()
        self._epoch, self._updates_of_epoch = epoch, 0
        if self.learning_rate is not None:
            rate = self._rate_at(epoch, self._shared_rate.initial)
            self._shared_rate.write(rate)

    def on_train_batch_end(self, batch, logs=None):
        # With `steps_per_execution` the last index can be past the end.
        self._updates_of_epoch = min(batch + 1, int(self._dataset.num_batches))

    def on_train_end(self, logs=None):
        if self.learning_rate is not None:
            self._shared_rate.restore()
            self._shared_rate = None
        for dataset in self._datasets:
            dataset.num_passes = 0

    def _counts(self):
        """Returns (updates, examples) so far, the running epoch included."""
        updates, examples = self._counts_before_epoch
        if self._updates_of_epoch:
            seen = self._updates_of_epoch * self._size_at(self._epoch)
            examples += min(seen, self._dataset.num_examples)
        return updates + self._updates_of_epoch, examples

    def _size_at(self, epoch: int) -> int:
        value = self._batch_size_at_epoch(epoch)
        if not math.isfinite(value) or round(value) < 1:
            raise ValueError(
                "Argument `batch_size` must be finite and at least 1 at every "
                f"epoch. Received: a batch size of {value} at epoch {epoch}"
            )
        size = round(value)
        return min(size, self.max_batch_size or size)

    def _rate_at(self, epoch: int, initial_rate: float) -> float:
        if self.learning_rate is None or isinstance(self.learning_rate, str):
            ratio = self._size_at(epoch) / self._size_at(0)
            return initial_rate * _RULES[self.learning_rate](ratio)
        return schedules.as_schedule(self.learning_rate)(epoch)


def _check_size(value: Any, argument: str) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Argument `{argument}` must be a positive integer. Received: "
            f"{argument}={value!r}"
        )
