"""An integer that `fit` keeps and that changes all the same."""

import functools
from collections.abc import Callable


@functools.total_ordering
class LiveInteger:
    """An integer that is read anew each time it is used.

    Args:
        read: callable that returns the integer.
    """

    def __init__(self, read: Callable[[], int]):
        self._read = read

    def __index__(self) -> int:
        return self._read()

    def __int__(self) -> int:
        return self._read()

    def __float__(self) -> float:
        return float(self._read())

    def __bool__(self) -> bool:
        return self._read() != 0

    def __eq__(self, other: object) -> bool:
        return self._read() == other

    def __lt__(self, other: float) -> bool:
        return self._read() < other

    def __hash__(self) -> int:
        return hash(self._read())

    def __add__(self, other: float) -> float:
        return self._read() + other

    __radd__ = __add__

    def __mul__(self, other: float) -> float:
        return self._read() * other

    __rmul__ = __mul__

    def __floordiv__(self, other: float) -> float:
        return self._read() // other

    def __mod__(self, other: float) -> float:
        return self._read() % other

    def __sub__(self, other: float) -> float:
        return self._read() - other

    def __rsub__(self, other: float) -> float:
        return other - self._read()

    def __truediv__(self, other: float) -> float:
        return self._read() / other

    def __rtruediv__(self, other: float) -> float:
        return other / self._read()

    def __format__(self, spec: str) -> str:
        return format(self._read(), spec)

    def __repr__(self) -> str:
        return repr(self._read())
