"""Ghost batch normalization: small-batch statistics inside a large batch."""

import math

import keras
from keras import ops

UPDATES = ("sequential", "mean", "scaled")


@keras.saving.register_keras_serializable("keras_eff")
class GhostBatchNormalization(keras.layers.BatchNormalization):
    """A `BatchNormalization` whose statistics come from parts of the batch.

    A large batch gives smooth statistics, and with them goes some of the noise
    that helps a network generalize. Ghost batch normalization cuts the batch
    into contiguous groups and normalizes each by its own mean and variance, as
    if the batch were small:

        y = gamma * (x - mean(group)) / sqrt(var(group) + epsilon) + beta

    A batch of `B` gives `round(B / ghost_batch_size)` groups, at least one, at
    most `B // 2`, with sizes that differ by at most one: 101 examples with
    ghosts of 10 make ten groups, the first of 11. Moving statistics take the
    groups one after another, so that `momentum` acts per ghost:

        moving = momentum * moving + (1 - momentum) * mean(group), each group

    With many groups a step the average forgets fast: at `momentum=0.99` and
    128 groups, 0.276 of it is left after a step. With `update="scaled"` it is
    0.99, as in `BatchNormalization`: each group acts with
    `momentum ** (1 / groups)`. With `update="mean"` too: the step goes once
    toward the mean over the groups.

    Evaluation is plain `BatchNormalization`, for any batch, and so is training
    on one group; where XLA compiles a graph that does not know the batch size,
    that one is equal up to rounding. Weights have the same names, shapes and
    order, so `set_weights` takes those of the other layer, both ways;
    `keras_eff.convert` replaces the layers of a whole model.

    What it does not give: time. It does more work than
    `BatchNormalization`. Under a distribution strategy groups are formed per
    replica.

    Args:
        ghost_batch_size: positive integer, examples a group. Defaults to `32`.
        update: `"sequential"`, `"mean"` or `"scaled"`, how the groups of a
            step enter the moving statistics. Defaults to `"sequential"`.
        **kwargs: arguments of `keras.layers.BatchNormalization`, except
            `renorm` and `synchronized`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`; `axis` is not the batch axis.
        training: bool, as in `BatchNormalization`.
        mask: Tensor of shape `(batch, ...)` without the feature axis; masked
            entries do not enter the statistics, nor does a group of them.

    Returns:
        Tensor of the shape of `inputs`.

    Raises:
        ValueError: if `ghost_batch_size` is not a positive integer, if
            `update` is unknown, if `axis=0`, or if `renorm` or `synchronized`
            is set.

    Example:
    >>> import numpy as np
    >>> layer = GhostBatchNormalization(ghost_batch_size=2, epsilon=1e-9)
    >>> x = np.float32([[1], [3], [5], [9]])
    >>> print(np.array(layer(x, training=True)).ravel().round(4))
    [-1.  1. -1.  1.]

    Reference:
    - [Hoffer et al., 2017](https://arxiv.org/abs/1705.08741)
    """

    def __init__(self, ghost_batch_size=32, update="sequential", **kwargs):
        super().__init__(**kwargs)
        if type(ghost_batch_size) is not int or ghost_batch_size < 1:
            raise ValueError(
                "Argument `ghost_batch_size` must be a positive integer. "
                f"Received: ghost_batch_size={ghost_batch_size!r} "
                f"(layer {self.name!r})"
            )
        if update not in UPDATES:
            raise ValueError(
                f"Argument `update` must be one of {UPDATES}. "
                f"Received: update={update!r} (layer {self.name!r})"
            )
        for argument in ("renorm", "synchronized"):
            if getattr(self, argument):
                raise ValueError(
                    f"Argument `{argument}` must be False: it widens the "
                    "statistics that ghosts make narrow. Received: "
                    f"{argument}=True (layer {self.name!r})"
                )
        self.ghost_batch_size = ghost_batch_size
        self.update = update

    def build(self, input_shape):
        if self.axis % len(input_shape) == 0:
            raise ValueError(
                "Argument `axis` must not be the batch axis. Received: "
                f"axis={self.axis}, inputs of shape {tuple(input_shape)}"
            )
        super().build(input_shape)

    def call(self, inputs, training=None, mask=None):
        batch = ops.shape(inputs)[0]
        # One group is BatchNormalization. Where the graph does not know the
        # batch, `_normalize` does the same arithmetic in the same order: a
        # `cond` is slow under XLA, which runs the branches outside its fusions.
        one_group = isinstance(batch, int) and self._num_groups(batch) == 1
        if not (training and self.trainable) or one_group:
            return super().call(inputs, training=training, mask=mask)
        precise = keras.backend.result_type(inputs.dtype, "float32")
        x = ops.cast(inputs, precise)
        if mask is not None:
            mask = ops.cast(ops.expand_dims(mask, self.axis), "bool")
        results = [
            self._normalize(
                _stack(x, *equal_groups),
                None if mask is None else _stack(mask, *equal_groups),
            )
            for equal_groups in self._equal_groups_of(batch)
        ]
        y, mean, variance, seen = (
            ops.concatenate(parts) for parts in zip(*results, strict=True)
        )
        self._update_moving_statistics(mean, variance, seen)
        return ops.cast(y, self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "ghost_batch_size": self.ghost_batch_size,
            "update": self.update,
        }

    def _equal_groups_of(self, batch):
        """Returns `(first row, number of groups, size)`, larger ones first.

        E.g. [(0, 1, 11), (11, 9, 10)] for 101 rows in ghosts of 10. Equal
        groups are one array with one more axis: no loop, no gather.
        """
        num_groups = self._num_groups(batch)
        size, num_larger = batch // num_groups, batch % num_groups
        if isinstance(batch, int) and num_larger == 0:
            return [(0, num_groups, size)]
        # Where the graph does not know the batch, the first may be empty.
        edge = num_larger * (size + 1)
        return [
            (0, num_larger, size + 1),
            (edge, num_groups - num_larger, size),
        ]

    def _num_groups(self, batch):
        # Halves round up. A group of one has no variance: at most batch // 2.
        rounded = (2 * batch + self.ghost_batch_size) // (
            2 * self.ghost_batch_size
        )
        if isinstance(batch, int):
            return max(1, min(rounded, batch // 2))
        return ops.maximum(1, ops.minimum(rounded, batch // 2))

    def _normalize(self, x, mask):
        """Normalizes x, (groups, size, ...), and returns four tensors.

        Outputs (groups * size, ...), means and variances (groups, channels),
        and 1.0 for each group with an unmasked entry, else 0.0, (groups, 1).
        """
        shape, ndim = ops.shape(x), len(x.shape)
        channel = self.axis % (ndim - 1) + 1
        others = [axis for axis in range(1, ndim) if axis != channel]
        if mask is None:
            mean, variance = ops.moments(x, others, keepdims=True)
            seen = ops.ones((shape[0], 1), x.dtype)
        else:
            mean, variance = _masked_moments(x, mask, others)
            seen = ops.any(ops.reshape(mask, (shape[0], -1)), 1, keepdims=True)
            seen = ops.cast(seen, x.dtype)

        def per_channel(weight):
            weight = ops.cast(weight, x.dtype)
            return ops.expand_dims(weight, [axis - 1 for axis in others])

        # Scale and shift are folded: one multiply-add an element.
        scale = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            scale = scale * per_channel(self.gamma)
        if self.beta is None:
            shift = -mean * scale
        else:
            shift = per_channel(self.beta) - mean * scale
        y = ops.reshape(x * scale + shift, (-1, *shape[2:]))
        mean, variance = (
            ops.squeeze(mean, others),
            ops.squeeze(variance, others),
        )
        return y, mean, variance, seen

    def _update_moving_statistics(self, mean, variance, seen):
        kept, weights = self._step_of(seen)
        for moving, groups in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            new = ops.sum(weights * groups, axis=0)
            moving.assign(ops.cast(moving, mean.dtype) * kept + new)

    def _step_of(self, seen):
        """Returns what is left of the average, and the weight of each group.

        The recursion over groups in closed form: `n` groups later,
        `momentum ** n` of a group is left.
        """
        num_seen = ops.sum(seen)
        later = num_seen - ops.cumsum(seen, axis=0)
        if self.update == "sequential":
            kept = ops.power(self.momentum, num_seen)
            shares = seen * ops.power(self.momentum, later)
        else:
            # One step of BatchNormalization toward an average over groups.
            kept = ops.where(num_seen > 0, self.momentum, 1.0)
            if self.update == "scaled":
                horizon = later / ops.maximum(num_seen, 1.0)
                seen = seen * ops.power(self.momentum, horizon)
            shares = seen / ops.maximum(ops.sum(seen), 1.0)
        return ops.cast(kept, seen.dtype), (1.0 - self.momentum) * shares


def _stack(x, first_row, num_groups, size):
    """Cuts rows from (batch, ...) and reshapes to (groups, size, ...)."""
    shape = ops.shape(x)
    # Not `x[a:b]`, whose gradient is slower; and flat, since the gradient of
    # `slice` forgets the static shape, which that of `reshape` restores.
    flat = ops.reshape(x, (shape[0], math.prod(shape[1:])))
    rows = ops.slice(
        flat, (first_row, 0), (num_groups * size, ops.shape(flat)[1])
    )
    return ops.reshape(rows, (num_groups, size, *shape[1:]))


def _masked_moments(x, mask, axes):
    """Moments of the entries where mask, (groups, size, ..., 1), is true."""
    mask = ops.broadcast_to(mask, ops.shape(x))
    # As in BatchNormalization: an average over nothing is 0.
    counts = ops.sum(ops.cast(mask, x.dtype), axes, keepdims=True)
    counts = counts + keras.backend.epsilon()
    mean = ops.sum(ops.where(mask, x, 0), axes, keepdims=True) / counts
    squares = ops.square(ops.where(mask, x - mean, 0))
    return mean, ops.sum(squares, axes, keepdims=True) / counts
