"""How the learning rate and the batch size stand for each other, purely."""

import bisect
import functools
import math
import numbers
from collections.abc import Callable
from typing import Any

import keras

from keras_eff import schedules

# How the learning rate follows the batch: ratio of batch sizes -> factor.
RULES: dict[str | None, Callable[[float], float]] = {
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
    None: lambda ratio: 1.0,
}


def check(name: Any) -> None:
    """Raises unless `name` names a rule, or is `"auto"`."""
    if name != "auto" and name not in RULES:
        raise ValueError(
            f"Argument `learning_rate` must be one of {['auto', *RULES]}, a "
            f"number or a schedule. Received: learning_rate={name!r}"
        )


def rule_for(optimizer: keras.optimizers.Optimizer | None) -> str:
    """Returns the usual rule: linear for SGD, else the square root.

    Raises:
        ValueError: if there is no optimizer.

    Reference:
    - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677)
    - [Malladi et al., 2022](https://arxiv.org/abs/2205.10287)
    """
    if optimizer is None:
        raise ValueError(
            "The rule `learning_rate='auto'` depends on the optimizer: pass "
            "`optimizer=`. Received: optimizer=None"
        )
    is_sgd = isinstance(innermost(optimizer), keras.optimizers.SGD)
    return "linear" if is_sgd else "sqrt"


def innermost(
    optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.Optimizer:
    """Returns the optimizer inside of all wrappers."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def growth_for_decay(
    lr_schedule: schedules.ScheduleLike, batch_size: int
) -> Callable[[int], float]:
    """Returns the batch size that stands for a decay.

        size(t) = batch_size * max(rate(0..t)) / rate(t)

    Args:
        lr_schedule: schedule `clock -> learning rate`.
        batch_size: integer, the batch size at the start.

    Raises:
        ValueError: if `batch_size` is not a positive integer; from the
            returned function, if a learning rate is not positive.
    """
    check_size(batch_size, "batch_size")
    growth_at = _growth(lr_schedule)
    return lambda clock: batch_size * growth_at(clock)


def rate_for_growth(
    lr_schedule: schedules.ScheduleLike,
    batch_size: int,
    size_at: Callable[[int], int],
    rule: str,
) -> Callable[[int], float]:
    """Returns the learning rate with which a grown batch stands for a decay.

        rate'(t) = rate(t) * rule(size(t) / batch_size)

    With the linear rule this is the peak wherever the size is what the decay
    asks for; where a cap or rounding held it back, the rest is decayed.
    """
    rate_at = schedules.as_schedule(lr_schedule)
    factor = RULES[rule]
    return lambda clock: rate_at(clock) * factor(size_at(clock) / batch_size)


def halvings(lr_schedule: schedules.ScheduleLike) -> Callable[[int], float]:
    """Returns the decay in halvings: the peak so far, halved as often.

    While the learning rate climbs to its peak, it stays as it is.
    """
    growth_at = _growth(lr_schedule)
    rate_at = schedules.as_schedule(lr_schedule)

    def halved_rate_at(clock: int) -> float:
        growth = growth_at(clock)
        # A hair up: three halvings in floats are three, not 2.99.
        num_halvings = math.floor(math.log2(growth) + 1e-9)
        return rate_at(clock) * growth / 2.0**num_halvings

    return halved_rate_at


def _growth(lr_schedule: schedules.ScheduleLike) -> Callable[[int], float]:
    """Returns `clock -> peak so far / learning rate`, to be asked in order."""
    rate_at = functools.cache(schedules.as_schedule(lr_schedule))
    clocks: list[int] = []  # asked so far
    peaks: list[float] = []  # the largest learning rate up to each

    def growth_at(clock: int) -> float:
        rate = rate_at(clock)
        if rate <= 0:
            raise ValueError(
                "Argument `lr_schedule` must be positive: the batch grows by "
                f"its inverse. Received: a learning rate of {rate} at {clock}"
            )
        if not clocks or clock > clocks[-1]:
            clocks.append(clock)
            peaks.append(max(rate, peaks[-1] if peaks else rate))
        peak = peaks[bisect.bisect_right(clocks, clock) - 1]
        return max(peak, rate) / rate

    return growth_at


def check_size(value: Any, argument: str) -> None:
    """Raises unless `value` is a positive integer."""
    is_integer = isinstance(value, numbers.Integral)
    if not is_integer or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"Argument `{argument}` must be a positive integer. Received: "
            f"{argument}={value!r}"
        )
