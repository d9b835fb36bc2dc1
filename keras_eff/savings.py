"""How much: the record of one saving, and who can report one."""

import dataclasses
import math
from typing import Any
from typing import Protocol
from typing import runtime_checkable


@dataclasses.dataclass(frozen=True)
class Saving:
    """What one technique used of one unit, beside what the baseline uses.

    Layers report rates (`..._per_example`); data and callbacks report counts.
    The ledger multiplies rates with counts and never adds different units.
    A record with `baseline=0` is a cost that only the technique has, such as
    scoring a data set before it is pruned.

    Args:
        technique: string, e.g. `"pruning"`.
        unit: string, e.g. `"examples"`, `"flops_theoretical_per_example"`.
        baseline: number >= 0, what the run without the technique uses.
        actual: number >= 0, what was used.
        measured: bool. `True` if `actual` was counted or timed while running,
            `False` if it was derived from shapes.

    Raises:
        ValueError: if a number is negative, infinite or NaN.

    Example:
    >>> saving = Saving("pruning", "examples", 1000, 700, measured=True)
    >>> saving.saved_pct
    30.0
    """

    technique: str
    unit: str
    baseline: float
    actual: float
    measured: bool

    def __post_init__(self):
        for name in ("baseline", "actual"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(
                    f"Argument `{name}` must be finite and at least 0. "
                    f"Received: {name}={value} (technique "
                    f"{self.technique!r}, unit {self.unit!r})"
                )

    @property
    def saved_pct(self) -> float | None:
        """Per cent of the baseline not used; `None` without a baseline."""
        return saved_pct(self.baseline, self.actual)

    @property
    def is_cost(self) -> bool:
        """Whether only the technique uses this, the baseline nothing."""
        return self.baseline == 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary, ready for JSON."""
        return dataclasses.asdict(self)


@runtime_checkable
class Source(Protocol):
    """Anything that can say what it saved: a layer, a callback, a plan."""

    def savings(self) -> list[Saving]:
        """Returns what was saved so far, one record a unit."""
        ...


def saved_pct(planned: float, used: float) -> float | None:
    """Returns `100 * (planned - used) / planned`, negative for more used.

    Args:
        planned: number, what the baseline uses.
        used: number, what was used.

    Returns:
        Float, or `None` if nothing was planned.
    """
    return 100.0 * (planned - used) / planned if planned else None


def totals(savings: list[Saving]) -> dict[tuple[str, str], Saving]:
    """Adds up the records of the same technique and unit.

    A total is `measured` only if every part of it is.

    Args:
        savings: list of `Saving`.

    Returns:
        Dictionary `(technique, unit) -> Saving`, in order of appearance.

    Example:
    >>> parts = [Saving("swat", "flops", 10, 2, False)] * 2
    >>> totals(parts)["swat", "flops"].actual
    4
    """
    sums: dict[tuple[str, str], Saving] = {}
    for part in savings:
        key = (part.technique, part.unit)
        if key in sums:
            part = dataclasses.replace(
                part,
                baseline=sums[key].baseline + part.baseline,
                actual=sums[key].actual + part.actual,
                measured=sums[key].measured and part.measured,
            )
        sums[key] = part
    return sums


@dataclasses.dataclass(frozen=True)
class Total:
    """One quantity of a whole run.

    Args:
        used: number, what the run used, costs of the techniques included.
        planned: number, what the same run without the techniques uses up to
            the same point; `None` where no baseline is known.
        measured: bool, whether `used` was counted or timed while running.
    """

    used: float
    planned: float | None
    measured: bool

    @property
    def saved_pct(self) -> float | None:
        """Per cent of `planned` not used; `None` without a plan."""
        return saved_pct(self.planned, self.used) if self.planned else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and `saved_pct`, ready for JSON."""
        return {**dataclasses.asdict(self), "saved_pct": self.saved_pct}


def account(
    counts: dict[str, float],
    rates: dict[str, tuple[float, float]],
    savings: list[Saving],
    others: dict[str, Total] | None = None,
) -> dict[str, Total]:
    """Composes counts, rates and savings into one total a quantity.

    Techniques multiply, so that what two of them save is counted once:

        planned examples = examples * product(baseline / actual, "examples")
        planned updates  = updates * product(baseline / actual, "updates")
                                   * product(baseline / actual, "examples")
        planned rate     = planned examples * rate without the techniques

    Costs (records with `baseline=0`) are added to what was used, of
    quantities that are counted.

    Args:
        counts: `{"examples": ..., "updates": ...}`, what the run counted.
        rates: `{quantity: (planned rate, used rate)}` per example.
        savings: records of the techniques.
        others: totals that need no composition, such as seconds, to which
            costs are added too.

    Returns:
        Dictionary quantity -> `Total`.

    Example:
    >>> pruned = Saving("pruning", "examples", 100, 50, measured=True)
    >>> sums = account(
    ...     {"examples": 500, "updates": 50}, {"flops": (20, 10)}, [pruned]
    ... )
    >>> sums["updates"].planned, sums["flops"].planned, sums["flops"].used
    (100.0, 20000.0, 5000)
    """
    more_examples = growth(savings, "examples")
    factors = {
        "examples": more_examples,
        "updates": more_examples * growth(savings, "updates"),
    }
    sums = {
        quantity: Total(used, used * factors[quantity], measured=True)
        for quantity, used in counts.items()
    }
    for quantity, (planned_rate, used_rate) in rates.items():
        sums[quantity] = Total(
            used_rate * sums["examples"].used,
            planned_rate * sums["examples"].planned,
            measured=False,
        )
    sums.update(others or {})
    for cost in savings:
        # A cost alone would pass for the whole of a quantity not counted.
        if cost.is_cost and cost.unit in sums:
            sums[cost.unit] = _add_cost(sums[cost.unit], cost)
    return sums


def growth(savings: list[Saving], unit: str) -> float:
    """Returns how many times what was used of a unit the baseline uses.

    Args:
        savings: records of the techniques; costs do not count.
        unit: string, e.g. `"examples"`.
    """
    return math.prod(
        saving.baseline / saving.actual
        for saving in savings
        if saving.unit == unit and saving.actual and not saving.is_cost
    )


def _add_cost(total: Total, cost: Saving) -> Total:
    return Total(
        total.used + cost.actual,
        total.planned,
        total.measured and cost.measured,
    )
