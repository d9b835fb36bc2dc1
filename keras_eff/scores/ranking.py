"""The selection of the highest scores."""

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
