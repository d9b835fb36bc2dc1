"""What a batch-size schedule will do, told before training."""

import dataclasses
import itertools
import math
from typing import Any

import keras
import rich.table

from keras_eff.callbacks.batch_size_schedule.learning_rate import (
    rate_and_momentum,
)
from keras_eff.callbacks.batch_size_schedule.phases import Phases


@dataclasses.dataclass(frozen=True)
class PlanRow:
    """Part of an epoch with one batch size and one learning rate.

    `exact_updates` is the number of updates with the last batch counted as
    the fraction of a batch that it is; `noise_scale` is
    `learning_rate / (1 - momentum) * (num_examples / batch_size - 1)`.
    """

    epoch: int
    batch_size: int
    learning_rate: float
    updates: int
    exact_updates: float
    noise_scale: float


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

    @property
    def exact_updates(self) -> float:
        """Updates of all epochs, a smaller last batch as a fraction."""
        return math.fsum(row.exact_updates for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and the totals, ready for JSON."""
        totals = {"updates": self.updates, "exact_updates": self.exact_updates}
        return {**dataclasses.asdict(self), **totals}

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(
            title=f"{self.updates:,} updates ({self.exact_updates:,.1f} exact)"
        )
        headings = ("epochs", "batch size", "learning rate", "noise scale")
        for heading in (*headings, "updates"):
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
                f"{rows[0].noise_scale:.4g}",
                f"{sum(row.updates for row in rows):,}",
            )
        return table


def make_plan(
    phases: Phases,
    num_examples: int,
    epochs: int,
    drop_remainder: bool,
    learning_rate: float,
    momentum: float,
    optimizer: keras.optimizers.Optimizer | None,
) -> Plan:
    """Returns a `Plan`; see `BatchSizeSchedule.plan`."""
    if optimizer is not None:
        learning_rate, momentum = rate_and_momentum(optimizer)
    rate_of = phases.rate_of(optimizer)
    rows = []
    for epoch in range(epochs):
        for phase in phases.of_epoch(epoch, num_examples):
            size, rate = phase.batch_size, rate_of(phase, learning_rate)
            full = phase.examples // size
            exact = phase.examples / size
            noise = rate / (1 - momentum) * (num_examples / size - 1)
            updates = full if drop_remainder else phase.updates
            rows.append(PlanRow(epoch, size, rate, updates, exact, noise))
    return Plan(num_examples, drop_remainder, tuple(rows))
