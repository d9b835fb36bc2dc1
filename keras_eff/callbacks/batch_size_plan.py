"""Batch size and learning rate by epoch: the pure part of the schedule."""

import dataclasses
import functools
import itertools
import math
import numbers
from collections.abc import Callable
from typing import Any

import rich.table

from keras_eff import schedules

# How the learning rate follows the batch: ratio of batch sizes -> factor.
_RULES: dict[str | None, Callable[[float], float]] = {
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
    None: lambda ratio: 1.0,
}


@dataclasses.dataclass(frozen=True)
class PlanRow:
    """One epoch of a plan."""

    epoch: int
    batch_size: int
    learning_rate: float
    updates: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a batch-size schedule will do, before training."""

    num_examples: int
    drop_remainder: bool
    rows: tuple[PlanRow, ...]

    @property
    def updates(self) -> int:
        """Updates of all epochs."""
        return sum(row.updates for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and the total, ready for JSON."""
        return {**dataclasses.asdict(self), "updates": self.updates}

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(title=f"{self.updates:,} updates")
        for heading in ("epochs", "batch size", "learning rate", "updates"):
            table.add_column(heading, justify="right")
        phases = itertools.groupby(
            self.rows, key=lambda row: (row.batch_size, row.learning_rate)
        )
        for (batch_size, learning_rate), phase in phases:
            rows = list(phase)
            table.add_row(
                f"{rows[0].epoch}-{rows[-1].epoch}",
                f"{batch_size:,}",
                f"{learning_rate:.4g}",
                f"{sum(row.updates for row in rows):,}",
            )
        return table


class ByEpoch:
    """What each epoch's batch size and learning rate are.

    Args:
        batch_size: integer or schedule `epoch -> batch size`.
        learning_rate: `"linear"`, `"sqrt"`, `None`, number or schedule.
        max_batch_size: integer, cap of the batch size, or `None`.

    Raises:
        ValueError: if `learning_rate` is an unknown rule, `max_batch_size`
            is not a positive integer, or the first batch size is bad.
    """

    def __init__(self, batch_size, learning_rate, max_batch_size):
        self.is_rule = learning_rate is None or isinstance(learning_rate, str)
        if self.is_rule and learning_rate not in _RULES:
            raise ValueError(
                "Argument `learning_rate` must be one of "
                f"{list(_RULES)}, a number or a schedule. Received: "
                f"learning_rate={learning_rate!r}"
            )
        if max_batch_size is not None:
            _check_size(max_batch_size, "max_batch_size")
        self._learning_rate = (
            _RULES[learning_rate]
            if self.is_rule
            else schedules.as_schedule(learning_rate)
        )
        self._batch_size = schedules.as_schedule(batch_size)
        self._max_batch_size = max_batch_size
        # Asked once an epoch: all batches of an epoch have one size, even if
        # the schedule is not a pure function.
        self.size_at = functools.cache(self._ask_size_at)
        self.size_at(0)

    def rate_at(self, epoch: int, initial_rate: float) -> float:
        """Returns the learning rate of an epoch.

        Args:
            epoch: integer, from 0 on.
            initial_rate: float, the learning rate of epoch 0, for a rule.
        """
        if self.is_rule:
            ratio = self.size_at(epoch) / self.size_at(0)
            return initial_rate * self._learning_rate(ratio)
        return self._learning_rate(epoch)

    def plan(
        self,
        num_examples: int,
        epochs: int,
        drop_remainder: bool,
        initial_rate: float,
    ) -> Plan:
        """Returns a `Plan`; see `BatchSizeSchedule.plan`."""
        rows = []
        for epoch in range(epochs):
            size = self.size_at(epoch)
            updates, remainder = divmod(num_examples, size)
            updates += bool(remainder) and not drop_remainder
            rate = self.rate_at(epoch, initial_rate)
            rows.append(PlanRow(epoch, size, rate, updates))
        return Plan(num_examples, drop_remainder, tuple(rows))

    def _ask_size_at(self, epoch: int) -> int:
        value = self._batch_size(epoch)
        if not math.isfinite(value) or round(value) < 1:
            raise ValueError(
                "Argument `batch_size` must be finite and at least 1 at every "
                f"epoch. Received: a batch size of {value} at epoch {epoch}"
            )
        size = round(value)
        return min(size, self._max_batch_size or size)


def growth_for_decay(
    lr_schedule: schedules.ScheduleLike,
    batch_size: int,
    max_batch_size: int | None,
) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Returns the batch size and the learning rate that stand for a decay.

        size(t) = batch_size * max(rate(0..t)) / rate(t), at most the cap
        rate'(t) = rate(t) * size(t) / batch_size

    Args:
        lr_schedule: schedule `epoch -> learning rate`.
        batch_size: integer, the batch size at epoch 0.
        max_batch_size: integer, cap of the batch size, or `None`.

    Raises:
        ValueError: if `batch_size` is not a positive integer; from the
            returned functions, if a learning rate is not positive.
    """
    _check_size(batch_size, "batch_size")
    rate_at = functools.cache(schedules.as_schedule(lr_schedule))

    def size_at(epoch: int) -> float:
        rates = [rate_at(earlier) for earlier in range(epoch + 1)]
        if min(rates) <= 0:
            raise ValueError(
                "Argument `lr_schedule` must be positive: the batch grows by "
                f"its inverse. Received: a learning rate of {min(rates)} at "
                f"epoch {rates.index(min(rates))}"
            )
        return batch_size * max(rates) / rates[-1]

    sizes = ByEpoch(size_at, None, max_batch_size)

    def scaled_rate_at(epoch: int) -> float:
        return rate_at(epoch) * sizes.size_at(epoch) / batch_size

    return sizes.size_at, scaled_rate_at


def _check_size(value: Any, argument: str) -> None:
    is_integer = isinstance(value, numbers.Integral)
    if not is_integer or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"Argument `{argument}` must be a positive integer. Received: "
            f"{argument}={value!r}"
        )
