"""A batch size that follows the measured noise of the gradient."""

import dataclasses
import logging
import math
from typing import Any

_LOGGER = logging.getLogger("keras_eff")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided at the start of an epoch, and on what ground."""

    epoch: int
    noise_scale: float
    before: int
    after: int


class AdaptiveGrowth:
    """A schedule `epoch -> batch size` that doubles when the noise allows.

        twice the batch, once an epoch, where noise_scale >= 2 * batch

    It never shrinks, and stays where the noise is not known.

    Args:
        start: integer, the batch size of epoch 0.
        source: object with an attribute `noise_scale`, a float in examples,
            NaN where unknown; such as `GradientNoiseScale`.
        max_batch_size: integer, cap of the batch size, or `None`.
        unit: string, must be `"epochs"`.

    Raises:
        TypeError: if `source` has no `noise_scale`, or `start` is a schedule.
        ValueError: if `unit` is another one.
    """

    def __init__(
        self, start: int, source: Any, max_batch_size: int | None, unit: str
    ):
        if not hasattr(source, "noise_scale"):
            raise TypeError(
                "Argument `adaptive` must have an attribute `noise_scale`, as "
                f"`GradientNoiseScale` has. Received: adaptive={source!r}"
            )
        if callable(start) or isinstance(start, str):
            raise TypeError(
                "With `adaptive` the argument `batch_size` must be a number, "
                f"what the growth starts from. Received: batch_size={start!r}"
            )
        if unit != "epochs":
            raise ValueError(
                "With `adaptive` the batch grows between epochs. Received: "
                f"unit={unit!r}"
            )
        self._start = start
        self._source = source
        self._max = max_batch_size or math.inf
        self.decisions: list[Decision] = []

    def __call__(self, epoch: int) -> int:
        """Returns the batch size in force at `epoch`."""
        past = [one.after for one in self.decisions if one.epoch <= epoch]
        return past[-1] if past else self._start

    def decide(self, epoch: int) -> None:
        """Doubles the batch of `epoch` if the noise allows, and logs it."""
        noise, size = float(self._source.noise_scale), self(epoch)
        if epoch and noise >= 2 * size and 2 * size <= self._max:
            self.record(Decision(epoch, noise, size, 2 * size))
            _LOGGER.info(
                "Epoch %d: noise scale %.4g, batch size %d -> %d",
                epoch,
                noise,
                size,
                2 * size,
            )

    def record(self, decision: Decision) -> None:
        """Takes a decision that was made, by `decide` or before a restart."""
        self.decisions.append(decision)
