"""When: schedules, functions that map an epoch to a number."""

import functools
import inspect
import itertools
import math
import numbers
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

Number = int | float


@keras.saving.register_keras_serializable("keras_eff")
class Schedule:
    """A function `epoch -> number` that prints as the call that made it.

    The verbs of this module (`steps`, `linear`, ...) return one. Any callable
    `epoch -> number` and a plain number are accepted in its place, except by
    layers, which must be saved; this class adds `repr`, equality and
    `get_config`.

    Args:
        verb: string, the name of a function of this module.
        arguments: mapping of its argument names to values.

    Example:
    >>> from keras_eff import schedules
    >>> schedule = schedules.steps(128, {30: 640, 60: 3200})
    >>> schedule
    steps(initial=128, changes={30: 640, 60: 3200})
    >>> [schedule(epoch) for epoch in (0, 29, 30, 75)]
    [128, 128, 640, 3200]
    """

    def __init__(self, verb: str, arguments: Mapping[str, Any]):
        if verb not in _RULES:
            raise ValueError(
                f"Argument `verb` must be one of {sorted(_RULES)}. "
                f"Received: verb={verb!r}"
            )
        self.verb = verb
        self.arguments = dict(arguments)
        self._rule = _RULES[verb](**self.arguments)

    def __call__(self, epoch: int) -> Number:
        """Returns the value at `epoch`, counted from 0."""
        return self._rule(epoch)

    def __repr__(self) -> str:
        arguments = (f"{key}={val!r}" for key, val in self.arguments.items())
        return f"{self.verb}({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def get_config(self) -> dict[str, Any]:
        """Returns the verb and its arguments, ready for JSON."""
        arguments = dict(self.arguments)
        # JSON turns integer keys into strings; pairs survive.
        if "changes" in arguments:
            arguments["changes"] = [*map(list, arguments["changes"].items())]
        return {
            "verb": self.verb,
            "arguments": keras.saving.serialize_keras_object(arguments),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """Rebuilds a schedule from the result of `get_config`."""
        arguments = keras.saving.deserialize_keras_object(config["arguments"])
        if "changes" in arguments:
            arguments["changes"] = dict(arguments["changes"])
        return cls(config["verb"], arguments)


ScheduleLike = Number | Callable[[int], Number]
_RULES: dict[str, Callable[..., Callable[[int], Number]]] = {}


def _verb(rule: Callable[..., Callable[[int], Number]]):
    """Makes a function that returns a closure return a `Schedule`."""
    _RULES[rule.__name__] = rule
    signature = inspect.signature(rule)

    @functools.wraps(rule)
    def build(*args: Any, **kwargs: Any) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return Schedule(rule.__name__, bound.arguments)

    return build


def as_schedule(value: ScheduleLike) -> Callable[[int], Number]:
    """Returns `value` itself if it is callable, else `constant(value)`."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        raise TypeError(
            "A schedule must map epochs; those of Keras map steps: wrap it in "
            f"a function of the epoch. Received: {type(value).__name__}"
        )
    return value if callable(value) else constant(value)


@_verb
def constant(value: Number):
    """Returns the same value at every epoch.

    Args:
        value: finite number.

    Raises:
        TypeError, ValueError: if `value` is not a number, or not finite.

    Example:
    >>> constant(32)(7)
    32
    """
    _check_number(value, "value")
    return lambda epoch: value


@_verb
def steps(initial: Number, changes: Mapping[int, Number]):
    """Holds `initial`, then jumps to each value at its epoch.

    Args:
        initial: number, the value before the first change.
        changes: mapping of epoch (integer, at least 1) to value.

    Raises:
        ValueError: if an epoch is below 1, or a value not finite.

    Example:
    >>> [steps(0.1, {2: 0.02})(epoch) for epoch in range(4)]
    [0.1, 0.1, 0.02, 0.02]
    """
    _check_number(initial, "initial")
    for epoch, value in changes.items():
        _check_epochs(epoch, "changes")
        _check_number(value, "changes")
    epochs = sorted(changes)

    def value_at(epoch: int) -> Number:
        past = [start for start in epochs if start <= epoch]
        return changes[past[-1]] if past else initial

    return value_at


@_verb
def linear(start: Number, end: Number, epochs: int):
    """Moves from `start` at epoch 0 to `end` at epoch `epochs`, then stays.

    Args:
        start: number, the value at epoch 0.
        end: number, the value from epoch `epochs` on.
        epochs: integer, at least 1, length of the ramp.

    Raises:
        ValueError: if `epochs` is below 1 or a value is not finite.

    Example:
    >>> [linear(32, 96, epochs=4)(epoch) for epoch in range(6)]
    [32.0, 48.0, 64.0, 80.0, 96, 96]
    """
    _check_number(start, "start")
    _check_number(end, "end")
    _check_epochs(epochs, "epochs")

    def value_at(epoch: int) -> Number:
        if epoch >= epochs:
            return end
        return start + (end - start) * max(epoch, 0) / epochs

    return value_at


@_verb
def doubling(initial: Number, every: int, max_value: Number | None = None):
    """Doubles every `every` epochs, up to `max_value`.

    Args:
        initial: number, the value of the first `every` epochs.
        every: integer, at least 1, epochs between doublings.
        max_value: number, the cap. Defaults to `None`, no cap.

    Raises:
        ValueError: if `every` is below 1, or `max_value` below `initial`.

    Example:
    >>> [doubling(32, every=2, max_value=100)(epoch) for epoch in range(6)]
    [32, 32, 64, 64, 100, 100]
    """
    _check_number(initial, "initial")
    _check_epochs(every, "every")
    if max_value is not None:
        _check_number(max_value, "max_value")
        if max_value < initial:
            raise ValueError(
                "Argument `max_value` must be at least `initial`: it is the "
                f"cap of a growing value. Received: max_value={max_value}, "
                f"initial={initial}"
            )

    def value_at(epoch: int) -> Number:
        value = initial * 2 ** (max(epoch, 0) // every)
        return value if max_value is None else min(value, max_value)

    return value_at


@_verb
def warmup(schedule: ScheduleLike, epochs: int, start: Number = 0):
    """Climbs from `start` to what `schedule` is at epoch `epochs`, then on it.

    Args:
        schedule: number or schedule, what follows the climb.
        epochs: integer, at least 1, length of the climb.
        start: number, the value at epoch 0. Defaults to `0`.

    Raises:
        ValueError: if `epochs` is below 1 or `start` is not finite.

    Example:
    >>> [warmup(0.4, epochs=4, start=0.1)(epoch) for epoch in (0, 2, 4, 9)]
    [0.1, 0.25, 0.4, 0.4]
    """
    _check_number(start, "start")
    _check_epochs(epochs, "epochs")
    target = as_schedule(schedule)

    def value_at(epoch: int) -> Number:
        if epoch >= epochs:
            return target(epoch)
        return start + (target(epochs) - start) * max(epoch, 0) / epochs

    return value_at


@_verb
def join(schedules: Sequence[ScheduleLike], boundaries: Sequence[int]):
    """Plays schedules one after another, each from its own epoch 0.

    Args:
        schedules: numbers or schedules, at least one.
        boundaries: integers, at least 1 and increasing, the epochs at which
            the next schedule starts; one fewer than `schedules`.

    Raises:
        ValueError: if the lengths do not fit or the boundaries do not grow.

    Example:
    >>> joined = join([linear(8, 32, epochs=2), 64], boundaries=[3])
    >>> [joined(epoch) for epoch in range(5)]
    [8.0, 20.0, 32, 64, 64]
    """
    starts = [0, *boundaries]
    if len(starts) != len(schedules):
        raise ValueError(
            "Argument `boundaries` must have one entry fewer than `schedules`."
            f" Received: {len(boundaries)} boundaries, {len(schedules)} "
            "schedules"
        )
    if any(a >= b for a, b in itertools.pairwise(starts)):
        raise ValueError(
            "Argument `boundaries` must be at least 1 and increase. "
            f"Received: boundaries={list(boundaries)}"
        )
    parts = [as_schedule(schedule) for schedule in schedules]

    def value_at(epoch: int) -> Number:
        index = sum(boundary <= epoch for boundary in boundaries)
        return parts[index](epoch - starts[index])

    return value_at


def _check_number(value: Any, name: str) -> None:
    received = f"Received: {name}={value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"Argument `{name}` must be a number. {received}")
    if not math.isfinite(value):
        raise ValueError(f"Argument `{name}` must be finite. {received}")


def _check_epochs(value: Any, name: str) -> None:
    is_integer = isinstance(value, numbers.Integral)
    if not is_integer or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"Argument `{name}` counts whole epochs and must be at least 1. "
            f"Received: {name}={value!r}"
        )
