"""Scores of one prediction: how hard an example is for a model."""

import keras
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
    probabilities = two_classes(probabilities)
    errors = probabilities - _targets_of(labels, probabilities)
    return ops.sqrt(ops.sum(ops.square(errors), axis=-1))


def loss(probabilities, labels):
    """Scores each example by its cross-entropy.

        score = -log(p_label)

    High = hard: the label was thought improbable. A wrong label scores
    highest. A probability counts as `keras.config.epsilon()` at least, so a
    score is finite.

    Args:
        probabilities: tensor of shape `(batch, classes)`, rows that sum to 1,
            or `(batch, 1)`, the probability of the second of two classes.
        labels: integer tensor of shape `(batch,)` or `(batch, 1)`, or tensor
            of the shape of `probabilities`, one-hot or soft.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Raises:
        ValueError: as `el2n`.

    Example:
    >>> import numpy as np
    >>> probabilities = np.array([[0.9, 0.1], [0.9, 0.1]])
    >>> [round(float(s), 2) for s in loss(probabilities, np.array([0, 1]))]
    [0.11, 2.3]
    """
    probabilities = two_classes(probabilities)
    logs = ops.log(ops.maximum(probabilities, keras.config.epsilon()))
    return -ops.sum(_targets_of(labels, probabilities) * logs, axis=-1)


def entropy(probabilities):
    """Scores each example by the entropy of its prediction.

        score = -sum_c p_c log(p_c)          in [0, log(classes)], nats

    High = hard: the model does not decide. It needs no labels.

    Args:
        probabilities: tensor of shape `(batch, classes)`, rows that sum to 1,
            or `(batch, 1)`, the probability of the second of two classes.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:
    >>> import numpy as np
    >>> scores = entropy(np.array([[1.0, 0.0], [0.5, 0.5]]))
    >>> [round(float(score), 4) for score in scores]
    [0.0, 0.6931]
    """
    return _entropy_of(two_classes(probabilities))


def margin(probabilities):
    """Scores each example by how close its two likeliest classes are.

        score = 1 - (p_1st - p_2nd)          in [0, 1]

    High = hard: it lies at the border of two classes. It needs no labels.

    Args:
        probabilities: tensor of shape `(batch, classes)`, rows that sum to 1,
            or `(batch, 1)`, the probability of the second of two classes.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:
    >>> import numpy as np
    >>> scores = margin(np.array([[0.75, 0.25, 0.0], [0.25, 0.5, 0.25]]))
    >>> [float(score) for score in scores]
    [0.5, 0.75]
    """
    largest, _ = ops.top_k(two_classes(probabilities), 2)
    return 1 - (largest[..., 0] - largest[..., 1])


def two_classes(probabilities):
    """Returns probabilities of all classes, also where there is one output.

    Args:
        probabilities: tensor of shape `(..., classes)`, or `(..., 1)`, the
            probability of the second of two classes.

    Returns:
        Float32 tensor of shape `(..., classes)`, at least two.
    """
    probabilities = ops.cast(probabilities, "float32")
    if probabilities.shape[-1] > 1:
        return probabilities
    return ops.concatenate([1 - probabilities, probabilities], axis=-1)


def _entropy_of(probabilities):
    positive = ops.where(probabilities > 0, probabilities, 1.0)  # 0 log 0 is 0
    return 0.0 - ops.sum(probabilities * ops.log(positive), axis=-1)


def _targets_of(labels, probabilities):
    """Returns labels as float32 of the shape of the probabilities."""
    labels = ops.convert_to_tensor(labels)
    classes = probabilities.shape[-1]
    if tuple(labels.shape[1:]) == (classes,):
        return ops.cast(labels, "float32")
    return ops.one_hot(classes_of(labels, probabilities), classes)


def classes_of(labels, probabilities):
    """Returns labels as whole numbers, checked as far as they are known.

    Args:
        labels: tensor of shape `(batch,)` or `(batch, 1)`, whole numbers.
        probabilities: tensor of shape `(batch, classes)`.

    Returns:
        Int32 tensor of shape `(batch,)`.

    Raises:
        ValueError: if there is not one label a prediction, or one is no class
            (outside of traced functions).
    """
    size, classes = probabilities.shape
    flat = ops.reshape(labels, (-1,))
    if None not in (size, flat.shape[0]) and flat.shape[0] != size:
        raise ValueError(
            "Argument `labels` must be one class a prediction, or one-hot. "
            f"Received: labels of shape {tuple(labels.shape)}, {size} "
            f"predictions of {classes} classes"
        )
    whole = ops.cast(flat, "int32")
    is_outside = ops.logical_or(whole < 0, whole >= classes)
    is_part = ops.cast(whole, "float32") != ops.cast(flat, "float32")
    if _is_known(ops.any(ops.logical_or(is_outside, is_part))):
        raise ValueError(
            "Argument `labels` must be classes from 0 on, below "
            f"{classes}, the number of predictions. Received: labels "
            f"from {flat[ops.argmin(flat)]} to {flat[ops.argmax(flat)]}"
        )
    return whole


def _is_known(condition) -> bool:
    """Returns whether a condition holds, as far as it can be known."""
    try:
        return bool(condition)
    except TypeError:  # A symbolic tensor has no truth value yet.
        return False
