"""What a batch-size schedule keeps in a file, to go on after a kill."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from keras_eff.callbacks.batch_size_schedule.adaptive import AdaptiveGrowth
from keras_eff.callbacks.batch_size_schedule.adaptive import Decision
from keras_eff.callbacks.batch_size_schedule.phases import Phase
from keras_eff.callbacks.batch_size_schedule.phases import Phases

_FORMAT = "keras_eff.BatchSizeSchedule/1"


class StateFile:
    """A JSON file with the plan and what each epoch began with.

    Args:
        path: string or path. Written anew when training starts at epoch 0,
            deleted when it ends.

    Raises:
        FileExistsError: if there is a file that is not of this format.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._content: dict[str, Any] = {}
        if self.path.exists():
            self._content = self._read()

    @property
    def has_run(self) -> bool:
        """Whether there is a run that has not ended."""
        return bool(self._content.get("epochs"))

    def start(self, plan: list[list[Any]]) -> None:
        """Begins a run.

        Args:
            plan: what `describe_rows` returns, empty if it is adaptive.
        """
        self._content = {"format": _FORMAT, "plan": plan, "epochs": []}

    def resume(
        self,
        epoch: int,
        plan: list[list[Any]],
        growth: AdaptiveGrowth | None,
    ) -> dict[str, Any]:
        """Goes on with the run of the file; returns how the epoch began.

        Args:
            epoch: integer, the first epoch of this `fit`.
            plan: as in `start`.
            growth: `AdaptiveGrowth` that gets the decisions, or `None`.

        Raises:
            ValueError: if the file has no such epoch, or another plan.
        """
        state = self._state_of(epoch)
        self._content["plan"] = self._check_plan(plan)
        for decision in state["decisions"] if growth is not None else ():
            growth.record(Decision(**decision))
        return state

    def write(
        self,
        epoch: int,
        fit: Any,
        decisions: list[Decision],
        has_begun: bool,
    ) -> None:
        """Adds what an epoch begins with, at once or not at all.

        Args:
            epoch: integer, its number.
            fit: `ScheduledFit`, its learning rate and its updates.
            decisions: list of `Decision`.
            has_begun: bool; before the epoch does, at the end of the one
                before, other callbacks may still change the learning rate.
        """
        rate = fit.rate
        state = {
            "epoch": epoch,
            "has_begun": has_begun,
            "iterations": fit.iterations,
            "initial_rate": rate and rate.initial,
            "factor_of_others": rate and rate.factor_now(),
            "rate": rate and rate.read(),
            "decisions": [dataclasses.asdict(one) for one in decisions],
        }
        earlier = [
            one for one in self._content["epochs"] if one["epoch"] < epoch
        ]
        self._content["epochs"] = [*earlier, state]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(self._content))
        partial.replace(self.path)

    def delete(self) -> None:
        """Deletes the file: the run has ended."""
        self._content = {}
        self.path.unlink(missing_ok=True)

    def _state_of(self, epoch: int) -> dict[str, Any]:
        states = self._content.get("epochs", [])
        found = [state for state in states if state["epoch"] == epoch]
        if not found:
            raise ValueError(
                f"The file {str(self.path)!r} does not tell how epoch {epoch} "
                "begins: its run was another one. Start at epoch 0, or pass "
                "the file of the run that goes on. Received: states of epochs "
                f"{[state['epoch'] for state in states]}"
            )
        return found[0]

    def _check_plan(self, rows: list[list[Any]]) -> list[list[Any]]:
        before = self._content["plan"]
        # More epochs are no other plan.
        common = min(len(before), len(rows))
        if before[:common] != rows[:common]:
            raise ValueError(
                "Training must go on with the plan it began with. Received: "
                f"{_describe(rows)}. It began with: {_describe(before)} (file "
                f"{str(self.path)!r})"
            )
        return max(before, rows, key=len)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text())
            if content["format"] == _FORMAT:
                return content
        except (ValueError, KeyError, TypeError):
            pass
        raise FileExistsError(
            "Argument `state_path` must name a new file, or one that a "
            "BatchSizeSchedule wrote. Received: state_path="
            f"{str(self.path)!r}"
        )


def describe_rows(
    phases: Phases,
    num_examples: int,
    epochs: int,
    rate_of: Callable[[Phase, float], float],
) -> list[list[Any]]:
    """Returns a plan as JSON has it: epoch, batch size, rate, examples.

    The rate of a rule is that for a first one of 1: what it is now may be
    scaled already.
    """
    return [
        [epoch, phase.batch_size, rate_of(phase, 1.0), phase.examples]
        for epoch in range(epochs)
        for phase in phases.of_epoch(epoch, num_examples)
    ]


def _describe(rows: list[list[Any]]) -> str:
    phases = itertools.groupby(rows, key=lambda row: row[1:3])
    parts = []
    for (size, rate), phase in phases:
        epochs = [row[0] for row in phase]
        rate = rate if isinstance(rate, str | None) else f"{rate:.3g}"
        parts.append(
            f"epochs {epochs[0]}-{epochs[-1]}: batches of {size}, learning "
            f"rate (of a rule: its factor) {rate}"
        )
    return "; ".join(parts)
