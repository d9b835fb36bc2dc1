"""One `fit` under a batch-size schedule: its optimizer and learning rate."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_eff.callbacks.batch_size_schedule.batches import ScheduledBatches
from keras_eff.callbacks.batch_size_schedule.learning_rate import (
    SharedLearningRate,
)
from keras_eff.callbacks.batch_size_schedule.phases import Phase
from keras_eff.callbacks.batch_size_schedule.rate_rules import innermost
from keras_eff.optimizers.scheduled_accumulation import ScheduledAccumulation


class ScheduledFit:
    """Makes a model's optimizer follow the plan, from batch to batch.

    Args:
        schedule: `BatchSizeSchedule` in `fit`: its model, and whether to
            schedule the learning rate, to accumulate and to correct momentum.
        dataset: `ScheduledBatches` that `fit` reads.
        rate_of: callable `(phase, rate of the first size) -> learning rate`.
        counts: updates made before, and those in batches of the first size.
    """

    def __init__(
        self,
        schedule: keras.callbacks.Callback,
        dataset: ScheduledBatches,
        rate_of: Callable[[Phase, float], float],
        counts: tuple[int, int],
    ):
        self._model = model = schedule.model
        self.dataset = dataset
        self.epoch = 0
        self._counts_before_epoch = counts
        # Batches of the epoch that are done, and with those just begun.
        self._batches, self._done, self._begun = None, 0, 0
        self._rate_of = rate_of
        self._schedules_rate = schedule.learning_rate is not None
        self._is_rule = isinstance(schedule.learning_rate, str)
        self._has_begun = False
        self._momentum_correction = schedule.momentum_correction
        self._optimizer = model.optimizer
        # One that the user compiled with, or that an interrupt left, must be
        # told what its batches are.
        accumulates = schedule.max_physical_batch_size or isinstance(
            model.optimizer, ScheduledAccumulation
        )
        self._wrapper = self._accumulation() if accumulates else None
        self.rate: SharedLearningRate | None = None

    def share_rate(self) -> bool:
        """Takes the learning rate over; returns whether `fit` just begins.

        Not when training begins: BackupAndRestore sets it then, too.
        """
        begins, self._has_begun = not self._has_begun, True
        if begins and self._schedules_rate:
            self.rate = SharedLearningRate(
                self._model, self._momentum_correction
            )
            if self.rate.is_factor and not self._is_rule:
                raise ValueError(
                    "An optimizer with a learning-rate schedule takes a rule "
                    "as `learning_rate`, or None: two schedules cannot both "
                    "set it. Received: a schedule in the optimizer and one in "
                    "BatchSizeSchedule"
                )
        return begins

    @property
    def iterations(self) -> int:
        """Updates that the optimizer has made, in other fits too."""
        return iterations_of(self._model)

    def resume(self, epoch: int, state: dict[str, Any]) -> None:
        """Goes on from an epoch's state in a file.

        Args:
            epoch: integer, its number.
            state: as `StateFile.resume` returns it.
        """
        if self.rate is None:
            return
        initial, factor = state["initial_rate"], state["factor_of_others"]
        rate, done = state["rate"], self.iterations - state["iterations"]
        if done > 0 and self.rate.is_factor:
            # A checkpoint inside the epoch has the velocity of a later phase,
            # but no factor on a schedule.
            self.epoch = epoch
            batches = self.dataset.in_force()
            batch = int(np.searchsorted(batches.updates, done))
            phase = batches.phases[batches.phase_of[batch]]
            rate = self._rate_of(phase, initial) * factor
        if done > 0 and not self.rate.is_factor:
            self.rate.follow(initial, factor, self.rate.read())
        elif state["has_begun"] or self.rate.is_factor:
            self.rate.resume(initial, factor, rate)
        else:  # what others made of it since then is in the checkpoint alone
            self.rate.follow(initial, factor, rate)

    def check_start(
        self, epoch: int, known_rate: float | None, was_restored: bool
    ) -> None:
        """Raises unless the learning rate is that of the first batch size.

        Args:
            epoch: integer, where `fit` starts.
            known_rate: float, such a rate, or `None`.
            was_restored: bool, whether `fit` began with a checkpoint.
        """
        rate = self.rate and self.rate.initial
        goes_on = epoch or was_restored
        if goes_on and rate is not None and rate != known_rate:
            raise ValueError(
                "A rule of the learning rate must start at epoch 0: a "
                "checkpoint does not tell whether its learning rate is "
                "already scaled. Pass `state_path=`, or a schedule as "
                f"`learning_rate=`. Received: training from epoch {epoch}, a "
                f"learning rate of {rate:g}"
            )

    @property
    def counts(self) -> tuple[int, int]:
        """Updates, and those in batches of the first size, as of now."""
        updates, baseline = self._counts_before_epoch
        if self._begun:
            more = self._batches.counts(self._begun, self._first_size)
            updates, baseline = updates + more[0], baseline + more[1]
        return updates, baseline

    def begin_epoch(self, epoch: int, first_size: int) -> None:
        """Makes ready for the first batch of an epoch.

        Args:
            epoch: integer, its number.
            first_size: integer, the batch size of the baseline.

        Raises:
            ValueError: if the replicas do not divide a batch.
        """
        self._counts_before_epoch = self.counts
        self._done, self._begun, self._first_size = 0, 0, first_size
        self.epoch = epoch
        batches = self.dataset.in_force()
        strategy = getattr(self._model, "distribute_strategy", None)
        replicas = strategy.num_replicas_in_sync if strategy else 1
        # The last batch of an epoch is what is left over.
        parts = batches.sizes[:-1]
        sizes = {*parts.tolist(), *(p.batch_size for p in batches.phases)}
        uneven = sorted(size for size in sizes if size % replicas)
        if uneven:
            raise ValueError(
                "Each batch size must be a multiple of the replicas, or their "
                "means would count unequal parts alike: pass "
                f"`round_to={replicas}`, and caps that are multiples of it. "
                f"Received: a batch of {uneven[0]}, {replicas} replicas"
            )
        self.dataset.forget()
        self._batches, self._phase = batches, None
        if self._wrapper is not None:
            self._wrapper.restart()
        self._make_ready(0)

    def before_batch(self, batch: int) -> None:
        """Sets learning rate and accumulation for the batches to come.

        Args:
            batch: integer, index of the first batch of an execution.
        """
        self.dataset.check_undisturbed()
        self._make_ready(batch)
        # With `steps_per_execution` its end can be past that of the epoch.
        stop = batch + self._model.steps_per_execution
        self._done, self._begun = batch, min(stop, len(self._batches))

    def _make_ready(self, batch: int) -> None:
        batches = self._batches
        index = batches.phase_of[batch]
        if index != self._phase and self.rate is not None:
            phase = batches.phases[index]
            self.rate.write(self._rate_of(phase, self.rate.initial))
        self._phase = index
        if self._wrapper is not None:
            # An execution past the end of the epoch is cut short.
            stop = batch + self._wrapper.num_slots
            missing = max(0, stop - len(batches)) * [1]
            self._wrapper.expect(
                [*batches.sizes[batch:stop].tolist(), *missing],
                [*batches.batch_sizes[batch:stop].tolist(), *missing],
            )

    def end_epoch(self) -> None:
        """Counts all that was begun; raises if an example was not seen."""
        self._done = self._begun
        self.dataset.check_undisturbed()

    def end(self) -> float | None:
        """Gives the optimizer back as it was; returns its learning rate."""
        is_wrapped = self._wrapper not in (None, self._optimizer)
        if is_wrapped and self._model.optimizer is self._wrapper:
            self._model.optimizer = self._optimizer
            self._model.make_train_function(force=True)
        # After an interrupt the model may have got another optimizer.
        if self.rate is None or self._model.optimizer is not self._optimizer:
            return None
        self.rate.restore()
        return self.rate.read()

    def abandon(self) -> None:
        """Does what `end` would, after an interrupt; keeps others' rates."""
        self._begun = self._done
        if self.rate is not None and not self.rate.is_untouched:
            self.rate = None
        self.end()

    def _accumulation(self) -> ScheduledAccumulation:
        if isinstance(self._optimizer, ScheduledAccumulation):
            slots, steps = (
                self._optimizer.num_slots,
                self._model.steps_per_execution,
            )
            if slots < steps:
                raise ValueError(
                    "`ScheduledAccumulation` needs a slot for each step of an "
                    "execution: it must know all of their batches. Received: "
                    f"num_slots={slots}, steps_per_execution={steps}"
                )
            return self._optimizer
        with self._model.distribute_strategy.scope():
            wrapper = ScheduledAccumulation(
                self._optimizer, num_slots=self._model.steps_per_execution
            )
            if self._model.built:
                wrapper.build(self._model.trainable_variables)
        self._model.optimizer = wrapper
        # The step of an earlier `fit` holds the optimizer itself.
        self._model.make_train_function(force=True)
        return wrapper


def iterations_of(model: keras.Model) -> int:
    """Returns the updates that a model's optimizer has made."""
    iterations = innermost(model.optimizer).iterations
    return int(keras.ops.convert_to_numpy(iterations))
