"""Grow (or shrink) the batch inside one `model.fit`."""

import functools
import weakref
from typing import Any

import keras

from keras_eff import schedules
from keras_eff.callbacks.batch_size_schedule import rate_rules
from keras_eff.callbacks.batch_size_schedule.adaptive import AdaptiveGrowth
from keras_eff.callbacks.batch_size_schedule.batches import ScheduledBatches
from keras_eff.callbacks.batch_size_schedule.batches import the_one_read
from keras_eff.callbacks.batch_size_schedule.fit import ScheduledFit
from keras_eff.callbacks.batch_size_schedule.fit import iterations_of
from keras_eff.callbacks.batch_size_schedule.phases import phases_of
from keras_eff.callbacks.batch_size_schedule.plan import Plan
from keras_eff.callbacks.batch_size_schedule.plan import make_plan
from keras_eff.callbacks.batch_size_schedule.sources import source_of
from keras_eff.callbacks.batch_size_schedule.state_file import StateFile
from keras_eff.callbacks.batch_size_schedule.state_file import describe_rows
from keras_eff.savings import Saving


class BatchSizeSchedule(keras.callbacks.Callback):
    """Sets the batch size as training goes, and the learning rate with it.

    Growing the batch where one would decay the learning rate gives the same
    noise in the gradient, `learning_rate / batch_size`, with fewer and larger
    updates. The batch really changes: `batch` makes the data that `fit` gets,
    and each epoch sees every example exactly once. Above
    `max_physical_batch_size` gradients accumulate instead.

    What it does not give: fewer FLOPs. What is saved are updates, and time
    where a larger batch uses the device better; accumulation saves none.
    Under XLA each new size of a batch compiles once more.

    Args:
        batch_size: integer, schedule `epoch -> batch size` (or of another
            `unit`), or a string such as `"0:768 250K:1536"`.
        learning_rate: `"linear"` scales with the batch size, `"sqrt"` with
            its square root, `"auto"` is linear for SGD and else the square
            root, `None` leaves the learning rate alone. A number or a
            schedule `epoch -> learning rate` sets it. Defaults to `"linear"`.
        max_batch_size: integer, cap of the batch size, or `None`.
        max_physical_batch_size: integer, examples that one step holds at
            most, or `None`.
        unit: string, what the schedules count: `"epochs"`, `"updates"`,
            `"samples"` or `"tokens"`; a new size takes effect with the next
            update. Defaults to `"epochs"`.
        tokens_per_example: integer, for `unit="tokens"`.
        round_to: integer that divides all batch sizes; or `"doubling"`, they
            are the first one times powers of two. Defaults to `1`.
        momentum_correction: bool, whether the velocity of SGD is scaled with
            the learning rate, which Keras keeps in it. Defaults to `True`.
        adaptive: object with a `noise_scale`, such as `GradientNoiseScale`: the
            batch of an epoch doubles where it is twice as large or more.
        state_path: path of a file that lets a killed run go on: it keeps the
            plan and each epoch's learning rate, until `fit` ends.

    Raises:
        ValueError: if an argument breaks its rule; in `fit`, if the data are
            not from `batch`, replicas do not divide a batch, or another plan
            or an unknown learning rate is resumed.
        TypeError, FileExistsError: if `adaptive` has no `noise_scale`, if
            `state_path` is a file of something else.

    Example:
    >>> import numpy as np
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
    - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677)
    - [Seesaw, 2025](https://arxiv.org/abs/2510.14717)
    """

    def __init__(
        self,
        batch_size,
        learning_rate="linear",
        max_batch_size=None,
        max_physical_batch_size=None,
        unit="epochs",
        tokens_per_example=None,
        round_to=1,
        momentum_correction=True,
        adaptive=None,
        state_path=None,
    ):
        super().__init__()
        if max_physical_batch_size is not None:
            rate_rules.check_size(
                max_physical_batch_size, "max_physical_batch_size"
            )
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_batch_size = max_batch_size
        self.max_physical_batch_size = max_physical_batch_size
        self.unit = unit
        self.tokens_per_example = tokens_per_example
        self.round_to = round_to
        self.momentum_correction = momentum_correction
        self.adaptive, self.state_path = adaptive, state_path
        self._file = None if state_path is None else StateFile(state_path)
        self._begin_phases()
        self._datasets: weakref.WeakSet[ScheduledBatches] = weakref.WeakSet()
        self._fit: ScheduledFit | None = None
        self._rate_left_by_fit: float | None = None
        self._counts = (0, 0)  # updates and the baseline's, of earlier fits

    @classmethod
    def from_learning_rate(
        cls,
        lr_schedule: schedules.ScheduleLike,
        batch_size: int,
        max_batch_size: int | None = None,
        rule: str = "linear",
        **kwargs: Any,
    ) -> "BatchSizeSchedule":
        """Turns the decay of a learning rate into growth of the batch.

        Below its peak so far, the learning rate stays and the batch grows
        instead, as far as `max_batch_size`; what is left decays the learning
        rate. A warm-up stays as it is.

        Args:
            lr_schedule: schedule `epoch -> learning rate`, positive.
            batch_size: positive integer, the batch size at epoch 0.
            max_batch_size: integer, cap of the batch size, or `None`. About a
                tenth of the examples is the paper's.
            rule: `"linear"`; `"sqrt"`, the learning rate falls by the square
                root as well (Adam); `"seesaw"`, so at each halving only.
            **kwargs: other arguments of `BatchSizeSchedule`.
        """
        rate_at = functools.cache(schedules.as_schedule(lr_schedule))
        if rule == "seesaw":
            rate_at, rule = rate_rules.halvings(rate_at), "sqrt"
        size_at = rate_rules.growth_for_decay(rate_at, batch_size)
        sizes = cls(size_at, None, max_batch_size, **kwargs)._phases.size_at
        scaled = rate_rules.rate_for_growth(rate_at, batch_size, sizes, rule)
        return cls(size_at, scaled, max_batch_size, **kwargs)

    def batch(self, data: Any, shuffle: bool = True, seed: int | None = None):
        """Returns the data for `model.fit`, in batches of the scheduled size.

        Args:
            data: array, `(x, y)`, `(x, y, sample_weight)` or a nest of
                arrays; an unbatched `tf.data.Dataset` of known size; or a
                `keras.utils.PyDataset`, whose batches are cut anew.
            shuffle: bool. Arrays, and the batches of a `PyDataset`, get a new
                order each epoch. A `tf.data.Dataset` keeps its own, as in
                `fit`; shuffle it before. Defaults to `True`.
            seed: integer that decides the order, with the epoch. `None` draws
                one from Python's `random`. Defaults to `None`.

        Returns:
            A `keras.utils.PyDataset`, which `fit` reads in the order of the
            plan, whatever its `shuffle`. Never changes `data`. Without this
            callback in `fit`, the size of epoch 0 holds.

        Raises:
            ValueError: if there are no examples, or their number is unknown.
        """
        source = source_of(data, shuffle, seed)
        dataset = ScheduledBatches(source, self._in_force)
        self._datasets.add(dataset)
        return dataset

    def plan(
        self,
        num_examples: int,
        epochs: int,
        drop_remainder: bool = False,
        learning_rate: float = 1.0,
        momentum: float = 0.0,
        optimizer: keras.optimizers.Optimizer | None = None,
    ) -> Plan:
        """Returns batch size, learning rate and updates of each epoch.

        Args:
            num_examples: integer, examples in an epoch.
            epochs: integer, number of epochs.
            drop_remainder: bool, whether a last, smaller batch is left out of
                the count. `batch` never leaves it out. Defaults to `False`.
            learning_rate: float, that of the first batch size, for a rule.
            momentum: float, for the noise scale. Defaults to `0.0`.
            optimizer: optimizer that gives both, and the rule of `"auto"`.
        """
        if self.adaptive is not None:
            raise ValueError(
                "An adaptive schedule has no plan: it follows the noise that "
                f"training shows. Received: adaptive={self.adaptive!r}"
            )
        return make_plan(
            self._phases,
            num_examples,
            epochs,
            drop_remainder,
            learning_rate,
            momentum,
            optimizer,
        )

    @property
    def decisions(self) -> list:
        """Each `Decision` of `adaptive` since training began at epoch 0."""
        return list(self._growth.decisions) if self._growth else []

    def savings(self) -> list[Saving]:
        """Returns the updates made, beside those at the first batch size."""
        used, baseline = self._fit.counts if self._fit else self._counts
        return [Saving("batch_size_schedule", "updates", baseline, used, True)]

    def set_params(self, params):
        super().set_params(params)
        # Before `fit` begins: BackupAndRestore changes it when it does.
        self._known_iterations = iterations_of(self.model)

    def on_train_begin(self, logs=None):
        if self._fit is not None:  # An interrupted `fit` left it.
            self._fit.abandon()
            self._counts, self._fit = self._fit.counts, None
        read = the_one_read(self._datasets, (self.params or {}).get("steps"))
        rate_of = self._phases.rate_of(self.model.optimizer)
        self._fit = ScheduledFit(self, read, rate_of, self._counts)

    def on_epoch_begin(self, epoch, logs=None):
        if self._fit.share_rate():
            self._begin(epoch, self._fit.iterations != self._known_iterations)
        if self._growth is not None:
            self._growth.decide(epoch)
        self._remember(epoch, has_begun=True)
        self._fit.begin_epoch(epoch, self._phases.size_at(0))

    def on_train_batch_begin(self, batch, logs=None):
        self._fit.before_batch(batch)

    # Without `on_train_batch_end`, for which Keras would wait at each step.
    def on_test_begin(self, logs=None):
        if self._fit is not None:  # the epoch's batches are done
            self._fit.end_epoch()

    def on_epoch_end(self, epoch, logs=None):
        self._fit.end_epoch()
        if logs is not None:
            phases = self._fit.dataset.in_force().phases
            logs["batch_size"] = phases[-1].batch_size
        self._remember(epoch + 1, has_begun=False)

    def on_train_end(self, logs=None):
        self._counts = self._fit.counts
        self._rate_left_by_fit = self._fit.end()
        self._fit = None
        if self._file is not None:
            self._file.delete()

    def _begin_phases(self) -> None:
        self._growth, size = None, self.batch_size
        if self.adaptive is not None:
            self._growth = size = AdaptiveGrowth(
                size, self.adaptive, self.max_batch_size, self.unit
            )
        self._phases = phases_of(self, size)

    def _in_force(self, num_examples: int):
        epoch = self._fit.epoch if self._fit else 0
        phases = self._phases.of_epoch(epoch, num_examples)
        return epoch, phases, self.max_physical_batch_size

    def _begin(self, epoch: int, was_restored: bool) -> None:
        file = self._file
        goes_on = epoch > 0 or was_restored
        resumes = goes_on and file and file.has_run
        if self.adaptive is not None and (resumes or not goes_on):
            self._begin_phases()
        if self._phases.is_rule and not resumes:
            self._fit.check_start(epoch, self._rate_left_by_fit, was_restored)
        if file is not None:
            size, epochs = self._fit.dataset.num_examples, self.params["epochs"]
            plan = [[0, self.batch_size, str(self.learning_rate), size]]
            if self._growth is None:
                rate_of = self._phases.rate_of(self.model.optimizer)
                plan = describe_rows(self._phases, size, epochs, rate_of)
            if resumes:
                self._fit.resume(epoch, file.resume(epoch, plan, self._growth))
            else:
                file.start(plan)

    def _remember(self, epoch: int, has_begun: bool) -> None:
        if self._file is not None:
            self._file.write(epoch, self._fit, self.decisions, has_begun)
