"""Scores of several predictions: how much the members disagree."""

from keras import ops

from keras_eff.scores.predictions import entropy
from keras_eff.scores.predictions import two_classes


def bald(member_probabilities):
    """Scores each example by what its members know and do not share (BALD).

        score = H(mean_m p_m) - mean_m H(p_m)         in [0, log(members)]

    High = hard: each member is sure, and they disagree. An example at which
    all hesitate alike, as with noise, scores 0. It needs no labels.

    Args:
        member_probabilities: tensor of shape `(members, batch, classes)`, or
            `(members, batch, 1)`, the probability of the second of two.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Raises:
        ValueError: if the tensor has not three axes.

    Example:
    >>> import numpy as np
    >>> members = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
    >>> [round(float(score), 4) for score in bald(members)]
    [0.6931, 0.0]

    Reference:
    - [Beluch et al., 2018](https://openaccess.thecvf.com/content_cvpr_2018/html/Beluch_The_Power_of_CVPR_2018_paper.html)
    """
    members = _checked(member_probabilities)
    together = entropy(ops.mean(members, axis=0))
    apart = ops.mean(entropy(members), axis=0)
    return ops.maximum(together - apart, 0.0)  # below it by rounding alone


def vote_entropy(member_probabilities):
    """Scores each example by the entropy of its members' votes.

        score = -sum_c v_c log(v_c), v_c the share of members that choose c

    High = hard: the members choose different classes. It needs no labels.

    Args:
        member_probabilities: as in `bald`.

    Returns:
        Float32 tensor of shape `(batch,)`, in nats.

    Raises:
        ValueError: if the tensor has not three axes.

    Example:
    >>> import numpy as np
    >>> members = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.4, 0.6]]])
    >>> [round(float(score), 4) for score in vote_entropy(members)]
    [0.0, 0.6931]
    """
    members = _checked(member_probabilities)
    votes = ops.one_hot(ops.argmax(members, axis=-1), members.shape[-1])
    return entropy(ops.mean(votes, axis=0))


def _checked(member_probabilities):
    members = ops.convert_to_tensor(member_probabilities)
    if len(members.shape) != 3:
        raise ValueError(
            "Argument `member_probabilities` must have shape (members, batch, "
            f"classes). Received: shape {tuple(members.shape)}"
        )
    return two_classes(members)
