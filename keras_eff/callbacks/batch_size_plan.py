"""What a batch-size schedule will do, as data and as a table."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import rich.table


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

    @classmethod
    def of(
        cls,
        num_examples: int,
        epochs: int,
        drop_remainder: bool,
        size_at: Callable[[int], int],
        rate_at: Callable[[int], float],
    ) -> "Plan":
        """Asks the schedules what each epoch will be.

        Args:
            num_examples: integer, examples in an epoch.
            epochs: integer, number of epochs.
            drop_remainder: bool, whether a smaller last batch is left out.
            size_at: callable `epoch -> batch size`.
            rate_at: callable `epoch -> learning rate`.
        """
        rows = []
        for epoch in range(epochs):
            size = size_at(epoch)
            updates, remainder = divmod(num_examples, size)
            updates += bool(remainder) and not drop_remainder
            rows.append(PlanRow(epoch, size, rate_at(epoch), updates))
        return cls(num_examples, drop_remainder, tuple(rows))

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
