"""Scores of a training: how an example was learned, epoch by epoch."""

import numpy as np


def forgetting(is_correct) -> np.ndarray:
    """Scores each example by how often it was forgotten.

        score = number of epochs at which it was right before and wrong now

    High = hard. One that was never right scores `epochs`, more than any count
    can be (the paper says infinity). Wrong labels are often never learned.

    Args:
        is_correct: bool array of shape `(epochs, n)`.

    Returns:
        Float32 array of shape `(n,)`, in `[0, epochs]`.

    Raises:
        ValueError: if the array has NaN, not two axes, or no epoch.

    Example:
    >>> forgetting([[1, 0, 1], [0, 0, 1], [1, 0, 1]]).tolist()
    [1.0, 3.0, 0.0]

    Reference:
    - [Toneva et al., 2018](https://arxiv.org/abs/1812.05159)
    """
    right = _checked("is_correct", is_correct).astype(bool)
    forgotten = (right[:-1] & ~right[1:]).sum(axis=0)
    return np.where(right.any(axis=0), forgotten, len(right)).astype("float32")


def aum(margins) -> np.ndarray:
    """Scores each example by the area under its margin, the sign turned.

        score = -mean over epochs of (p_label - largest other p)

    High = hard: the label lost, epoch after epoch, as wrong labels do.

    Args:
        margins: float array of shape `(epochs, n)`, of probabilities or of
            logits.

    Returns:
        Float32 array of shape `(n,)`.

    Raises:
        ValueError: if the array has NaN, not two axes, or no epoch.

    Example:
    >>> aum([[0.5, -1.0], [1.0, -0.5]]).tolist()
    [-0.75, 0.75]

    Reference:
    - [Zheng et al., 2022](https://arxiv.org/abs/2210.15809), who select by it
    """
    margins = _checked("margins", margins).astype("float64")
    return -margins.mean(axis=0).astype("float32")


def dynamic_uncertainty(true_probabilities, window: int = 10) -> np.ndarray:
    """Scores each example by how much its prediction moves (Dyn-Unc).

        score = mean over windows of the standard deviation of p_label within

    High = hard: it is learned and forgotten. Easy examples, and those that
    are never learned, as with wrong labels, both score low.

    Args:
        true_probabilities: float array of shape `(epochs, n)`, probability of
            the label.
        window: integer >= 2, epochs. With fewer epochs there is one window of
            all. The deviation is that of a sample, over `window - 1`.
            Defaults to `10`.

    Returns:
        Float32 array of shape `(n,)`.

    Raises:
        ValueError: if the array has not two axes, there are fewer than two
            epochs, or `window` is below 2.

    Example:
    >>> scores = dynamic_uncertainty([[0, 0.5], [1, 0.5], [0, 0.5]], window=2)
    >>> [round(float(score), 4) for score in scores]
    [0.7071, 0.0]

    Reference:
    - [He et al., 2023](https://arxiv.org/abs/2306.05175)
    """
    p = _checked("true_probabilities", true_probabilities, least=2)
    if window < 2:
        raise ValueError(
            "Argument `window` must be at least 2: one number has no "
            f"deviation. Received: window={window}"
        )
    p = p.astype("float64")
    window = min(window, len(p))
    total = np.zeros(p.shape[1])
    for start in range(len(p) - window + 1):
        total += p[start : start + window].std(axis=0, ddof=1)
    return (total / (len(p) - window + 1)).astype("float32")


def _checked(name, values, least=1) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(
            f"Argument `{name}` must not contain NaN. Received: "
            f"{int(np.isnan(values).sum())} NaN"
        )
    if values.ndim != 2 or len(values) < least:
        raise ValueError(
            f"Argument `{name}` must have shape (epochs, n), at least {least} "
            f"epochs. Received: shape {values.shape}"
        )
    return values
