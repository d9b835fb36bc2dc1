"""What `find_batch_size` measured, and what follows from the rows."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.markup
import rich.table


@dataclasses.dataclass(frozen=True)
class BatchSizeRow:
    """One batch size: what was measured, or why nothing was."""

    batch_size: int
    examples_per_second: float | None = None
    seconds_per_step: float | None = None
    memory_bytes: int | None = None
    failed: str | None = None


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    """Throughput and memory by batch size, as `find_batch_size` returns it.

    Args:
        rows: tuple of `BatchSizeRow`, in ascending order of the size.
        tolerance: float, the gain of throughput that does not count.
        memory_source: `"device"` (peak of what is allocated on it) or
            `"process"` (growth of the peak of the resident memory).

    Example:
    >>> rows = BatchSizeRow(8, 70.0), BatchSizeRow(16, 99.0)
    >>> BatchSizes((*rows, BatchSizeRow(32, 100.0)), 0.05, "process").batch_size
    16
    """

    rows: tuple[BatchSizeRow, ...]
    tolerance: float
    memory_source: str

    @property
    def batch_size(self) -> int | None:
        """Smallest size within `tolerance` of the best throughput."""
        rows = _measured(self.rows)
        best = max((row.examples_per_second for row in rows), default=0)
        enough = (1 - self.tolerance) * best
        sizes = [r.batch_size for r in rows if r.examples_per_second >= enough]
        return sizes[0] if sizes else None

    @property
    def largest(self) -> int | None:
        """Largest size that fit, of those tried; `None` if none did."""
        sizes = [row.batch_size for row in _measured(self.rows)]
        return sizes[-1] if sizes else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and the two sizes, ready for JSON."""
        return {
            **dataclasses.asdict(self),
            "batch_size": self.batch_size,
            "largest": self.largest,
        }

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(
            title=f"Batch size {self.batch_size}",
            caption=f"the smallest within {self.tolerance:.0%} of the best "
            f"throughput; memory of the {self.memory_source}",
        )
        for heading in ("batch size", "examples/s", "ms/step", "memory MB"):
            table.add_column(heading, justify="right")
        table.add_column("")
        for row in self.rows:
            chosen = "here" if row.batch_size == self.batch_size else ""
            table.add_row(
                f"{row.batch_size:,}",
                _number(row.examples_per_second, ",.4g"),
                _number(row.seconds_per_step, ",.4g", 1e3),
                _number(row.memory_bytes, ",.1f", 1e-6),
                # Text of the backend may hold brackets, which rich reads.
                rich.markup.escape(row.failed or chosen),
            )
        return table

    def plot(self, path: str | pathlib.Path) -> None:
        """Draws throughput and memory against the batch size.

        Args:
            path: file to write, in PNG format.

        Raises:
            FileExistsError: if there is such a file.
            ImportError: if matplotlib is not installed.
        """
        path = pathlib.Path(path)
        if path.exists():
            raise FileExistsError(
                "Argument `path` must name a new file: nothing is overwritten. "
                f"Received: path={str(path)!r}"
            )
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "`plot` needs matplotlib: pip install 'keras-eff[plots]'. "
                f"Received: path={str(path)!r}"
            ) from error
        figure = Figure(layout="constrained")
        self._draw(figure.add_subplot())
        figure.savefig(path, format="png")

    def _draw(self, axes) -> None:
        rows = _measured(self.rows)
        sizes = [row.batch_size for row in rows]
        axes.set_xscale("log", base=2)
        axes.set_xlabel("batch size")
        axes.set_ylabel("examples a second (line)")
        axes.plot(sizes, [row.examples_per_second for row in rows], "o-")
        if self.batch_size is not None:
            axes.axvline(self.batch_size, color="grey", linestyle=":")
        known = [row for row in rows if row.memory_bytes is not None]
        right = axes.twinx()
        right.set_ylabel(f"memory of the {self.memory_source}, MB (crosses)")
        right.plot(
            [row.batch_size for row in known],
            [row.memory_bytes / 1e6 for row in known],
            "x",
            color="C1",
        )


def has_flattened(rows: Sequence[BatchSizeRow], tolerance: float) -> bool:
    """Returns whether the last two sizes bring no more than `tolerance`.

        max(last two) <= (1 + tolerance) * max(those before)

    Two, so that one slow moment of the machine does not end the search.

    Args:
        rows: sequence of `BatchSizeRow` without a failed one.
        tolerance: float >= 0.
    """
    rates = [row.examples_per_second for row in rows]
    if len(rates) < 3:
        return False
    return max(rates[-2:]) <= (1 + tolerance) * max(rates[:-2])


def predicted_bytes(rows: Sequence[BatchSizeRow], batch_size: int) -> float:
    """Returns the memory of a larger size on the line through the last two.

    Never less than the last one took; 0 from fewer than two rows with memory.

    Args:
        rows: sequence of `BatchSizeRow`, ascending.
        batch_size: integer, larger than those of the rows.

    Example:
    >>> small = BatchSizeRow(8, memory_bytes=100)
    >>> predicted_bytes([small, BatchSizeRow(16, memory_bytes=180)], 32)
    340.0
    """
    known = [row for row in rows if row.memory_bytes is not None]
    if len(known) < 2:
        return 0.0
    first, last = known[-2:]
    slope = (last.memory_bytes - first.memory_bytes) / (
        last.batch_size - first.batch_size
    )
    more = batch_size - last.batch_size
    return last.memory_bytes + max(0.0, slope) * more


def _measured(rows: Sequence[BatchSizeRow]) -> list[BatchSizeRow]:
    return [row for row in rows if row.failed is None]


def _number(value: float | None, spec: str, unit: float = 1) -> str:
    return "" if value is None else format(unit * value, spec)
