"""Which: scores, one value an item, and the selection of the k best.

A score is a function `tensor -> tensor`. High means large, or hard to learn;
which end is kept is said by the caller and never implied here.
"""

import numpy as np
from keras import ops

from keras_eff.kth_largest import kth_largest_magnitude as kth_largest_magnitude
from keras_eff.kth_largest import num_kept as num_kept
from keras_eff.kth_largest import size_of as size_of


def magnitude(x):
    """Scores each entry by its absolute value.

    Args:
        x: tensor of any shape.

    Returns:
        Tensor of the same shape and dtype.
    """
    return ops.abs(x)


def el2n(probabilities, labels):
    """Scores each example by the length of its error vector (EL2N).

        score = || probabilities - onehot(labels) ||_2

    High = hard: the prediction is far from the label. A wrong label scores
    highest, so on noisy data the hardest examples are not the best ones.

    Args:
        probabilities: tensor of shape `(batch, classes)`, rows that sum to 1,
            or `(batch, 1)`, the probability of the second of two classes.
        labels: integer tensor of shape `(batch,)` or `(batch, 1)`, or one-hot
            tensor of the shape of `probabilities`.

    Returns:
        Float32 tensor of shape `(batch,)`, in `[0, sqrt(2)]`.

    Raises:
        ValueError: if an integer label is not in `[0, classes)` (outside of
            traced functions).

    Example:
    >>> import numpy as np
    >>> probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    >>> scores = el2n(probabilities, np.array([0, 0, 1]))
    >>> [round(float(score), 4) for score in scores]
    [0.0, 0.7071, 1.4142]

    Reference:
    - [Paul et al., 2021](https://arxiv.org/abs/2107.07075)
    """
    probabilities = ops.cast(probabilities, "float32")
    labels = ops.convert_to_tensor(labels)
    classes = probabilities.shape[-1]
    is_one_hot = classes > 1 and tuple(labels.shape[1:]) == (classes,)
    if classes == 1:
        probabilities = ops.concatenate([1 - probabilities, probabilities], -1)
        classes = 2
    if is_one_hot:
        targets = ops.cast(labels, "float32")
    else:
        flat = ops.cast(ops.reshape(labels, (-1,)), "int32")
        if _is_known(ops.any(flat < 0) | ops.any(flat >= classes)):
            raise ValueError(
                "Argument `labels` must be classes from 0 on, below "
                f"{classes}, the number of predictions. Received: labels "
                f"from {int(ops.min(flat))} to {int(ops.max(flat))}"
            )
        targets = ops.one_hot(flat, classes, dtype="float32")
    return ops.sqrt(ops.sum(ops.square(probabilities - targets), axis=-1))


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


def _is_known(condition) -> bool:
    """Returns whether a condition holds, as far as it can be known."""
    try:
        return bool(condition)
    except TypeError:  # A symbolic tensor has no truth value yet.
        return False
