"""What a batch-size schedule does when: its phases, purely."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

from keras_eff import schedules
from keras_eff.callbacks.batch_size_schedule import rate_rules

UNITS = ("epochs", "updates", "samples", "tokens")
_SUFFIXES = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclasses.dataclass(frozen=True)
class Phase:
    """Updates in a row with one batch size and one learning rate.

    Args:
        batch_size: integer, examples an update.
        learning_rate: float; `None` where it follows the batch size.
        examples: integer, examples in all; the last batch of an epoch may
            be smaller.
    """

    batch_size: int
    learning_rate: float | None
    examples: int

    @property
    def updates(self) -> int:
        """Updates, a last, smaller batch included."""
        return -(-self.examples // self.batch_size)


class Phases:
    """The phases of each epoch.

    Args:
        batch_size: integer or schedule `clock -> batch size`.
        learning_rate: `"linear"`, `"sqrt"`, `"auto"`, `None`, number or
            schedule `clock -> learning rate`.
        unit: string, what the clock counts: `"epochs"`, `"updates"`,
            `"samples"` or `"tokens"`.
        tokens_per_example: integer, for `"tokens"`.
        max_batch_size: integer, cap of the batch size, or `None`.
        round_to: integer or `"doubling"`, which sizes there are.

    Raises:
        ValueError: if an argument breaks its rule, or the first batch size
            is not finite or below 1.
    """

    def __init__(
        self,
        batch_size,
        learning_rate,
        unit="epochs",
        tokens_per_example=None,
        max_batch_size=None,
        round_to=1,
    ):
        self.is_rule = learning_rate is None or isinstance(learning_rate, str)
        if self.is_rule:
            rate_rules.check(learning_rate)
        else:
            learning_rate = schedules.as_schedule(learning_rate)
        _check_unit(unit, tokens_per_example)
        if max_batch_size is not None:
            rate_rules.check_size(max_batch_size, "max_batch_size")
        if round_to != "doubling":
            rate_rules.check_size(round_to, "round_to")
        self._learning_rate = learning_rate
        self._unit = unit
        self._tokens = tokens_per_example if unit == "tokens" else 1
        self._max_batch_size = max_batch_size
        self._round_to = round_to
        self._batch_size = schedules.as_schedule(
            parse(batch_size) if isinstance(batch_size, str) else batch_size
        )
        # Asked once, even if the schedule is not a pure function.
        self.size_at = functools.cache(self._ask_size_at)
        self.size_at(0)
        self._epochs: dict[int, list[tuple[Phase, ...]]] = {}

    def of_epoch(self, epoch: int, num_examples: int) -> tuple[Phase, ...]:
        """Returns the phases of an epoch of `num_examples` examples."""
        # In order: an update's number, or a peak so far, follows from those
        # before it.
        known = self._epochs.setdefault(num_examples, [])
        while len(known) <= epoch:
            known.append(self._walk(known, num_examples))
        return known[epoch]

    def rate_of(self, optimizer) -> Callable[[Phase, float], float]:
        """Returns the function `(phase, rate of the first size) -> rate`.

        Args:
            optimizer: `keras.optimizers.Optimizer`, decides what `"auto"` is.
        """
        rule = self._learning_rate if self.is_rule else None
        if rule == "auto":
            rule = rate_rules.rule_for(optimizer)
        factor, first = rate_rules.RULES[rule], self.size_at(0)

        def rate_of(phase: Phase, initial: float) -> float:
            if phase.learning_rate is not None:
                return phase.learning_rate
            return initial * factor(phase.batch_size / first)

        return rate_of

    def _walk(self, before, num_examples) -> tuple[Phase, ...]:
        """Goes through one epoch batch by batch, after the epochs before."""
        if self._unit == "epochs":
            return (self._phase_at(len(before), num_examples),)
        updates = sum(phase.updates for epoch in before for phase in epoch)
        samples, left, found = len(before) * num_examples, num_examples, []
        while left:
            clock = updates if self._unit == "updates" else samples
            here = self._phase_at(clock * self._tokens, left)
            took = min(here.batch_size, left)
            updates, samples, left = updates + 1, samples + took, left - took
            last = found[-1] if found else None
            if last and dataclasses.replace(here, examples=0) == (
                dataclasses.replace(last, examples=0)
            ):
                took += found.pop().examples
            found.append(dataclasses.replace(here, examples=took))
        return tuple(found)

    def _phase_at(self, clock: int, examples: int) -> Phase:
        rate = None if self.is_rule else float(self._learning_rate(clock))
        return Phase(self.size_at(clock), rate, examples)

    def _ask_size_at(self, clock: int) -> int:
        value = self._batch_size(clock)
        if not math.isfinite(value) or round(value) < 1:
            raise ValueError(
                "Argument `batch_size` must be finite and at least 1 at every "
                f"{self._unit[:-1]}. Received: a batch size of {value} at "
                f"{self._unit[:-1]} {clock}"
            )
        size, cap = self._round(value), self._max_batch_size
        if cap is None or size <= cap:
            return size
        if isinstance(self._round_to, int) and self._round_to <= cap:
            return cap // self._round_to * self._round_to
        return cap

    def _round(self, value: float) -> int:
        if self._round_to != "doubling":
            return max(1, round(value / self._round_to)) * self._round_to
        first = round(self._batch_size(0)) if value else value
        # A hair up: five doublings in floats are five, not 4.99.
        doublings = math.floor(math.log2(value / first) + 1e-9)
        return max(1, round(first * 2.0**doublings))


def phases_of(schedule: Any, batch_size: schedules.ScheduleLike) -> Phases:
    """Returns the phases of a `BatchSizeSchedule`, from the sizes it follows.

    Args:
        schedule: `BatchSizeSchedule`, the other arguments.
        batch_size: as in `Phases`.
    """
    return Phases(
        batch_size,
        schedule.learning_rate,
        schedule.unit,
        schedule.tokens_per_example,
        schedule.max_batch_size,
        schedule.round_to,
    )


def parse(text: str) -> schedules.Schedule:
    """Returns the steps that a compact string says.

    Args:
        text: string of `start:size` pairs with spaces between; `K`, `M`, `B`
            and `T` stand for thousands to trillions.

    Raises:
        ValueError: if it is not of that form or does not start at 0.

    Example:
    >>> parse("0:768 250K:1536")
    steps(initial=768, changes={250000: 1536})
    """
    try:
        pairs = [pair.split(":") for pair in text.split()]
        sizes = {_number(start): _number(size) for start, size in pairs}
        return schedules.steps(sizes.pop(0), sizes)
    except (KeyError, ValueError) as error:
        raise ValueError(
            "A compact `batch_size` must read like '0:768 250K:1536': pairs "
            f"of start and size, the first at 0. Received: batch_size={text!r}"
        ) from error


def _number(text: str) -> int:
    factor = _SUFFIXES.get(text[-1:].upper(), 1)
    return int(text[:-1] if factor > 1 else text) * factor


def _check_unit(unit: Any, tokens_per_example: Any) -> None:
    if unit not in UNITS:
        raise ValueError(
            f"Argument `unit` must be one of {list(UNITS)}. Received: "
            f"unit={unit!r}"
        )
    if (tokens_per_example is not None) != (unit == "tokens"):
        raise ValueError(
            "Argument `tokens_per_example` goes with unit='tokens', and only "
            f"with it. Received: tokens_per_example={tokens_per_example!r}, "
            f"unit={unit!r}"
        )
    if tokens_per_example is not None:
        rate_rules.check_size(tokens_per_example, "tokens_per_example")
