"""Examples, updates and seconds of the epochs of `fit`."""

import time
from typing import Any

import keras
from keras import ops

from keras_eff.callbacks.flops_account import FlopsAccount


class EpochCounts:
    """Counts one epoch; a callback tells it what happens.

    Keras tells callbacks neither the batch size nor the updates. The loss
    metric knows the examples, as the weight of its mean; the optimizer knows
    the updates, fewer than the steps where gradients accumulate.

    Args:
        epoch: integer, the epoch's number.
        model: `keras.Model` in training.
        steps: integer, the epoch's steps, or `None` if unknown.
        account: `FlopsAccount`, told when the last step is done.
    """

    def __init__(
        self,
        epoch: int,
        model: keras.Model,
        steps: int | None,
        account: FlopsAccount,
    ):
        self.epoch = epoch
        self._steps = steps
        self._account = account
        self.num_steps = 0
        self._is_read = False
        self._examples: int | None = None
        self._iterations = _read(model.optimizer.iterations)
        self._started = time.perf_counter()

    def on_batch_end(self, batch: int, model: keras.Model) -> None:
        """Counts steps, and reads the rest when the last step is done."""
        # With `steps_per_execution` the last index can be past the end.
        steps = self._steps
        done = batch + 1 if steps is None else min(batch + 1, steps)
        self.num_steps = int(done)
        if steps is not None and self.num_steps == steps:
            self.read(model)

    def read(self, model: keras.Model) -> None:
        """Reads examples and FLOPs, once.

        Before validation or a callback resets the metric, and before a
        callback sets the sparsity of the next epoch.
        """
        if not self._is_read:
            self._is_read = True
            self._examples = _examples_in(model.metrics)
            self._account.read(model)

    def pause(self) -> None:
        """Stops the clock, for validation."""
        self._paused = time.perf_counter()

    def resume(self) -> None:
        """Lets the clock run on."""
        self._started += time.perf_counter() - self._paused

    def close(self, model: keras.Model) -> dict[str, Any]:
        """Returns the counts; `examples` is `None` if nothing counts them."""
        seconds = time.perf_counter() - self._started
        self.read(model)
        updates = _read(model.optimizer.iterations) - self._iterations
        if self._steps is None:
            # Keras up to 3.15.1 counts one iteration too many where an epoch
            # ends by exhaustion; the steps know better then.
            updates = min(updates, self.num_steps)
        own_step = type(model).train_step is not keras.Model.train_step
        examples = self._examples
        if own_step and examples is not None and examples <= self.num_steps:
            examples = None  # a step of the user's own counts batches
        return {
            "epoch": self.epoch,
            "examples": examples,
            "updates": updates,
            "seconds": seconds,
            "flops_per_example": self._account.close(examples),
        }


def _examples_in(metrics: list[keras.metrics.Metric]) -> int | None:
    counts = [
        _read(metric.count)
        for metric in metrics
        if metric.name == "loss" and isinstance(metric, keras.metrics.Mean)
    ]
    return sum(counts) or None


def _read(variable: Any) -> int:
    # By way of a tensor: a distributed variable is no number.
    return int(ops.convert_to_numpy(ops.convert_to_tensor(variable)))
