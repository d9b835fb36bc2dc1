"""Ranks of scores: random ones, mixtures, and the highest."""

from collections.abc import Mapping

import numpy as np
from keras import ops

from keras_eff.scores.kth_largest import kth_largest_magnitude
from keras_eff.scores.kth_largest import num_kept
from keras_eff.scores.kth_largest import size_of


def magnitude(x):
    """Scores each entry by its absolute value.

    Args:
        x: tensor of any shape.

    Returns:
        Tensor of the same shape and dtype.
    """
    return ops.abs(x)


def keep_largest(x, sparsity: float):
    """Zeroes all but the entries of largest magnitude, over the whole tensor.

    `ceil((1 - sparsity) * size)` entries survive; entries that tie with the
    last of them survive too, so ties keep more.

    Args:
        x: floating-point tensor of any shape.
        sparsity: float in `[0, 1)`, fraction of zeros.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: as `kth_largest_magnitude`.

    Example:
    >>> import numpy as np
    >>> print(np.array(keep_largest(np.float32([3, -1, 2, -2]), 0.5)))
    [ 3.  0.  2. -2.]
    """
    if sparsity == 0:
        return x
    k = num_kept(size_of(x), sparsity)
    threshold = kth_largest_magnitude(x, k)
    # Not `>= threshold`: a NaN in a traced step must stay, not become 0.
    return ops.where(magnitude(x) < threshold, ops.zeros_like(x), x)


def top_k(scores, k: int) -> np.ndarray:
    """Returns the positions of the `k` highest scores, exactly `k`.

    Among equal scores the earlier position wins.

    Args:
        scores: array of shape `(n,)`.
        k: integer in `[0, n]`.

    Returns:
        Int64 array of shape `(k,)`, ascending positions.

    Raises:
        ValueError: if `k` is out of range, or `scores` is not 1-D or has NaN.

    Example:
    >>> top_k([0.2, 0.9, 0.9, 0.9], k=2).tolist()
    [1, 2]
    """
    scores = np.asarray(scores)
    if scores.ndim != 1:
        raise ValueError(
            "Argument `scores` must have shape (n,), one value an item. "
            f"Received: scores of shape {scores.shape}"
        )
    if not 0 <= k <= len(scores):
        raise ValueError(
            "Argument `k` must be between 0 and the number of scores. "
            f"Received: k={k}, {len(scores)} scores"
        )
    num_nan = int(np.isnan(scores).sum())
    if num_nan:
        raise ValueError(
            "Argument `scores` must not contain NaN: it has no rank. "
            f"Received: {num_nan} NaN in {len(scores)} scores"
        )
    descending = np.argsort(-scores.astype(np.float64), kind="stable")
    return np.sort(descending[:k])


def random(num_examples: int, seed: int | None = None) -> np.ndarray:
    """Scores examples at random: the baseline of every other score.

    Args:
        num_examples: integer >= 0.
        seed: integer. `None` takes fresh randomness. Defaults to `None`.

    Returns:
        Float32 array of shape `(num_examples,)`, uniform in `[0, 1)`.

    Example:
    >>> (random(5, seed=1) == random(5, seed=1)).all()
    np.True_
    """
    return np.random.default_rng(seed).random(num_examples, dtype=np.float32)


def mix(
    scores: Mapping[str, np.ndarray], weights: Mapping[str, float] | None = None
) -> np.ndarray:
    """Mixes scores of different scales by their ranks.

        score = sum_m w_m rank_m / sum_m w_m        ranks from 0 to 1

    Equal scores share the mean of their ranks. The only one of its kind, or
    one of all equals, has rank 0.5.

    Args:
        scores: dictionary, name to array of shape `(n,)`, high = hard.
        weights: dictionary, name to number >= 0; names that are missing have
            weight 1. Defaults to `None`, all alike.

    Returns:
        Float32 array of shape `(n,)`, in `[0, 1]`.

    Raises:
        ValueError: if the arrays are not 1-D of one length or have NaN, or a
            weight is negative, of no score, or all are zero.

    Example:
    >>> mix({"a": [1, 2, 3], "b": [10, 30, 20]}, {"b": 3}).tolist()
    [0.0, 0.875, 0.625]
    """
    weights = dict.fromkeys(scores, 1.0) | dict(weights or {})
    columns = {name: np.asarray(values) for name, values in scores.items()}
    shapes = {name: values.shape for name, values in columns.items()}
    if {len(shape) for shape in shapes.values()} != {1} or (
        len(set(shapes.values())) > 1
    ):
        raise ValueError(
            "Argument `scores` must hold arrays of one shape (n,). Received: "
            f"shapes {shapes}"
        )
    for name, values in columns.items():
        if np.isnan(values).any():
            raise ValueError(
                "Argument `scores` must not contain NaN: it has no rank. "
                f"Received: {int(np.isnan(values).sum())} NaN in {name!r}"
            )
    numbers = np.array(list(weights.values()), np.float64)
    if (
        set(weights) != set(scores)
        or not ((numbers >= 0) & (numbers < np.inf)).all()
        or not any(numbers)
    ):
        raise ValueError(
            "Argument `weights` must give numbers of at least 0 to the scores, "
            f"not all of them 0. Received: weights={weights}, scores "
            f"{list(scores)}"
        )
    mixed = sum(
        weights[name] * _ranks_of(values) for name, values in columns.items()
    )
    return (mixed / numbers.sum()).astype("float32")


def _ranks_of(values: np.ndarray) -> np.ndarray:
    """Returns ranks from 0 to 1, equal values with the mean of theirs."""
    _, places, counts = np.unique(
        values, return_inverse=True, return_counts=True
    )
    first = np.cumsum(counts) - counts
    ranks = (first + (counts - 1) / 2)[places]
    return ranks / (len(values) - 1) if len(values) > 1 else ranks + 0.5
