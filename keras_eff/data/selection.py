"""Which examples to keep: from scores to a `Selection`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_eff import scores as _scores
from keras_eff.savings import Saving

PREFERENCES = ("hard", "easy", "random")


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """The examples kept of a data set, by position.

    Args:
        ids: int64 array, ascending positions of the kept examples.
        num_examples: integer, examples in the whole data set.
        prefer: string, how they were chosen.
        cost: records of what choosing cost, each with `baseline=0`.
    """

    ids: np.ndarray
    num_examples: int
    prefer: str
    cost: tuple[Saving, ...] = ()

    @property
    def keep(self) -> float:
        """Fraction kept."""
        return len(self.ids) / self.num_examples

    @property
    def mask(self) -> np.ndarray:
        """Bool array of shape `(num_examples,)`, `True` for the kept."""
        mask = np.zeros(self.num_examples, bool)
        mask[self.ids] = True
        return mask

    def savings(self) -> list[Saving]:
        """Returns the examples of one pass, all and kept, and the cost."""
        examples = Saving(
            "pruning",
            "examples",
            self.num_examples,
            len(self.ids),
            measured=True,
        )
        return [examples, *self.cost]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return {
            "ids": self.ids.tolist(),
            "num_examples": self.num_examples,
            "prefer": self.prefer,
            "cost": [saving.to_dict() for saving in self.cost],
        }

    def __repr__(self) -> str:
        return (
            f"Selection({len(self.ids):,} of {self.num_examples:,} examples, "
            f"prefer={self.prefer!r})"
        )


def select(
    scores: np.ndarray,
    keep: float = 0.7,
    prefer: str = "hard",
    labels: np.ndarray | None = None,
    min_per_class_share: float = 0.5,
    seed: int | None = None,
    cost: Sequence[Saving] = (),
) -> Selection:
    """Chooses exactly `floor(keep * n)` examples by their scores.

    Pruning pays when the data are plentiful and the scores cheap. When little
    is kept (below about a third: Ayed and Hayou, 2023) hard examples alone
    train worse than random ones. Try `prefer="random"` beside every other
    choice.

    Args:
        scores: array of shape `(n,)`, high = hard. No NaN.
        keep: float in `(0, 1]`, fraction kept. Defaults to `0.7`.
        prefer: `"hard"` keeps the highest scores, `"easy"` the lowest,
            `"random"` ignores them. Equal scores: the earlier example wins.
            Defaults to `"hard"`.
        labels: integer array of shape `(n,)`. With labels each class keeps at
            least its floor. Defaults to `None`.
        min_per_class_share: float in `[0, 1]`, the floor of a class as a part
            of an equal share: `min(class size, share * kept / classes)`,
            rounded down. Only with `labels`. Defaults to `0.5`.
        seed: integer for `prefer="random"`. `None` takes fresh randomness.
            Defaults to `None`.
        cost: `Saving` records with `baseline=0`, what scoring cost; they go
            to the ledger with the selection. Defaults to `()`.

    Returns:
        A `Selection`.

    Raises:
        ValueError: if an argument is out of its range, `scores` has NaN, or
            nothing would be kept.

    Example:
    >>> select([0.1, 0.9, 0.5, 0.7], keep=0.5).ids.tolist()
    [1, 3]

    Reference:
    - [Sorscher et al., 2022](https://arxiv.org/abs/2206.14486)
    """
    scores, cost = np.asarray(scores), tuple(cost)
    _check(scores, keep, prefer, labels, min_per_class_share, cost)
    num_kept = _whole(keep * len(scores))
    if num_kept == 0:
        raise ValueError(
            "Argument `keep` must keep at least one example. Received: "
            f"keep={keep}, {len(scores)} scores"
        )
    if prefer == "random":
        rank = np.random.default_rng(seed).random(len(scores))
    else:
        # Float64 first: the negative of an unsigned integer is not negative.
        rank = scores.astype(np.float64) * (1 if prefer == "hard" else -1)
    floors = []
    if labels is not None:
        labels = np.asarray(labels).reshape(-1)
        floors = _class_floors(rank, labels, num_kept, min_per_class_share)
    kept = np.array(floors, np.int64)
    rest = np.setdiff1d(np.arange(len(scores)), kept)
    best = rest[_scores.top_k(rank[rest], num_kept - len(kept))]
    ids = np.sort(np.concatenate([kept, best]))
    return Selection(ids, len(scores), prefer, cost)


def _whole(number: float) -> int:
    """Rounds down, but 56.99999999999999 to 57: it is 0.57 * 100."""
    return int(round(number, 6))


def _class_floors(rank, labels, num_kept, share) -> list[int]:
    """Returns the best examples of each class, as many as its floor."""
    classes = np.unique(labels)
    floor = _whole(share * num_kept / len(classes))
    kept = []
    for label in classes:
        members = np.flatnonzero(labels == label)
        k = min(floor, len(members))
        kept.extend(members[_scores.top_k(rank[members], k)])
    return kept


def _check(scores, keep, prefer, labels, min_per_class_share, cost) -> None:
    if scores.ndim != 1 or not np.issubdtype(scores.dtype, np.number):
        raise ValueError(
            "Argument `scores` must be numbers of shape (n,). Received: "
            f"scores of shape {scores.shape} and dtype {scores.dtype}"
        )
    if np.isnan(scores).any():
        raise ValueError(
            "Argument `scores` must not contain NaN: it has no rank. "
            f"Received: {int(np.isnan(scores).sum())} NaN in {len(scores)}"
        )
    if not 0 < keep <= 1:
        raise ValueError(
            "Argument `keep` must be in (0, 1]: it is the fraction kept, not "
            f"the fraction dropped. Received: keep={keep}"
        )
    if prefer not in PREFERENCES:
        raise ValueError(
            f"Argument `prefer` must be one of {PREFERENCES}. Received: "
            f"prefer={prefer!r}"
        )
    if not 0 <= min_per_class_share <= 1:
        raise ValueError(
            "Argument `min_per_class_share` must be in [0, 1]. Received: "
            f"min_per_class_share={min_per_class_share}"
        )
    if labels is not None and np.size(labels) != len(scores):
        raise ValueError(
            "Argument `labels` must be one class a score, not one-hot. "
            f"Received: labels of shape {np.shape(labels)}, {len(scores)} "
            "scores"
        )
    if not all(saving.is_cost for saving in cost):
        raise ValueError(
            "Argument `cost` must hold records with baseline 0: the baseline "
            f"does not score. Received: cost={list(cost)}"
        )
