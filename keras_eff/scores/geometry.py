"""Scores of an embedding: how far an example lies from the others."""

from keras import ops


def prototype_distance(embeddings, centroids, metric="cosine"):
    """Scores each example by its distance to the nearest centroid.

        "cosine":    score = 1 - max_j cos(z, mu_j)          in [0, 2]
        "euclidean": score = min_j || z - mu_j ||_2

    High = hard: it is no prototype of anything. Without labels, by as good an
    embedding as there is. An embedding of zeros has cosine 0 with all.

    Args:
        embeddings: tensor of shape `(batch, d)`.
        centroids: tensor of shape `(k, d)`.
        metric: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Raises:
        ValueError: if `metric` is unknown or the shapes do not fit.

    Example:
    >>> import numpy as np
    >>> z = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    >>> scores = prototype_distance(z, np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> [round(float(score), 4) for score in scores]
    [0.0, 0.0, 0.2929]

    Reference:
    - [Sorscher et al., 2022](https://arxiv.org/abs/2206.14486)
    """
    embeddings = ops.cast(embeddings, "float32")
    centroids = ops.cast(centroids, "float32")
    shapes = tuple(embeddings.shape), tuple(centroids.shape)
    are_tables = {len(shape) for shape in shapes} == {2}
    if not are_tables or shapes[0][1] != shapes[1][1] or shapes[1][0] == 0:
        raise ValueError(
            "Arguments `embeddings` and `centroids` must have shapes (batch, "
            "d) and (k, d), k at least 1. Received: shapes "
            f"{shapes[0]} and {shapes[1]}"
        )
    if metric == "cosine":
        products = ops.matmul(
            _unit(embeddings), ops.transpose(_unit(centroids))
        )
        return 1 - ops.max(products, axis=-1)
    if metric == "euclidean":
        # About the middle of the centroids, so that little cancels; without
        # an array (batch, k, d); below 0 by rounding alone.
        middle = ops.mean(centroids, axis=0)
        embeddings, centroids = embeddings - middle, centroids - middle
        products = ops.matmul(embeddings, ops.transpose(centroids))
        squares = _squares(embeddings)[:, None] - 2 * products
        nearest = ops.min(squares + _squares(centroids), axis=-1)
        return ops.sqrt(ops.maximum(nearest, 0.0))
    raise ValueError(
        "Argument `metric` must be 'cosine' or 'euclidean'. Received: "
        f"metric={metric!r}"
    )


def _squares(x):
    return ops.sum(ops.square(x), axis=-1)


def _unit(x):
    lengths = ops.sqrt(_squares(x))[:, None]
    return x / ops.where(lengths > 0, lengths, 1.0)
