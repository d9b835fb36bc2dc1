"""Scores of one prediction: how hard an example is for a model."""

from keras import ops


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


def _is_known(condition) -> bool:
    """Returns whether a condition holds, as far as it can be known."""
    try:
        return bool(condition)
    except TypeError:  # A symbolic tensor has no truth value yet.
        return False
