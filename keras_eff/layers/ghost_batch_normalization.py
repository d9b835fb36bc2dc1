"""Ghost batch normalization: small-batch statistics inside a large batch."""

import keras
from keras import ops


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
    ghosts of 10 make ten groups, one of them of 11. Moving statistics take the
    groups one after another, so that `momentum` acts per ghost:

        moving = momentum * moving + (1 - momentum) * mean(group), each group

    With many groups a step the average forgets fast: at `momentum=0.99` and
    128 groups, 0.276 of it is left after a step. Evaluation is plain
    `BatchNormalization`, for any batch. Weights have the same names, shapes and
    order, so `set_weights` takes those of the other layer, both ways.

    What it does not give: time. It does more work than
    `BatchNormalization`. Under a distribution strategy groups are formed per
    replica.

    Args:
        ghost_batch_size: positive integer, examples a group. Defaults to `32`.
        **kwargs: arguments of `keras.layers.BatchNormalization`, except
            `renorm` and `synchronized`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`; `axis` is not the batch axis.
        training: bool, as in `BatchNormalization`.
        mask: Tensor of shape `(batch, ...)` without the feature axis; masked
            entries do not enter the statistics.

    Returns:
        Tensor of the shape of `inputs`.

    Raises:
        ValueError: if `ghost_batch_size` is not a positive integer, if
            `axis=0`, or if `renorm` or `synchronized` is set.

    Example:
    >>> import numpy as np
    >>> layer = GhostBatchNormalization(ghost_batch_size=2, epsilon=1e-9)
    >>> x = np.float32([[1], [3], [5], [9]])
    >>> print(np.array(layer(x, training=True)).ravel().round(4))
    [-1.  1. -1.  1.]

    Reference:
    - [Hoffer et al., 2017](https://arxiv.org/abs/1705.08741)
    """

    def __init__(self, ghost_batch_size=32, **kwargs):
        super().__init__(**kwargs)
        if type(ghost_batch_size) is not int or ghost_batch_size < 1:
            raise ValueError(
                "Argument `ghost_batch_size` must be a positive integer. "
                f"Received: ghost_batch_size={ghost_batch_size!r} "
                f"(layer {self.name!r})"
            )
        for argument in ("renorm", "synchronized"):
            if getattr(self, argument):
                raise ValueError(
                    f"Argument `{argument}` must be False: it widens the "
                    "statistics that ghosts make narrow. Received: "
                    f"{argument}=True (layer {self.name!r})"
                )
        self.ghost_batch_size = ghost_batch_size

    def build(self, input_shape):
        if self.axis % len(input_shape) == 0:
            raise ValueError(
                "Argument `axis` must not be the batch axis. Received: "
                f"axis={self.axis}, inputs of shape {tuple(input_shape)}"
            )
        super().build(input_shape)

    def call(self, inputs, training=None, mask=None):
        batch = inputs.shape[0]
        # One group is BatchNormalization; a batch that is known to be small
        # takes its code, bit for bit.
        one_group = batch is not None and self._num_groups(batch) == 1
        if not (training and self.trainable) or one_group:
            return super().call(inputs, training=training, mask=mask)
        channels_last = ops.moveaxis(inputs, self.axis, -1)
        shape = ops.shape(channels_last)
        x = ops.reshape(channels_last, (shape[0], -1, shape[-1]))
        if mask is not None:
            mask = ops.reshape(mask, (shape[0], -1, 1))
        precise = keras.backend.result_type(inputs.dtype, "float32")
        y = self._normalize_groups(ops.cast(x, precise), mask)
        y = ops.cast(ops.reshape(y, shape), self.compute_dtype)
        return ops.moveaxis(y, -1, self.axis)

    def get_config(self):
        return {
            **super().get_config(),
            "ghost_batch_size": self.ghost_batch_size,
        }

    def _normalize_groups(self, x, mask):
        """Normalizes x, (batch, positions, channels), group by group."""
        batch, positions, _ = ops.shape(x)
        groups, num_groups = self._groups_of(batch)
        if mask is None:
            weights = 1.0
            counts = ops.ones((batch, 1), x.dtype) * ops.cast(
                positions, x.dtype
            )
        else:
            weights = ops.cast(mask, x.dtype)
            counts = ops.sum(weights, axis=1)
        counts = ops.segment_sum(counts, groups, num_groups)  # (groups, 1)
        seen = counts > 0  # the mask can leave out a whole group
        counts = ops.maximum(counts, 1.0)

        def mean_of(values):  # (batch, positions, channels)
            sums = ops.sum(weights * values, axis=1)
            return ops.segment_sum(sums, groups, num_groups) / counts

        def spread(statistic):  # (groups, channels) -> (batch, 1, channels)
            return ops.expand_dims(ops.take(statistic, groups, axis=0), 1)

        mean = mean_of(x)
        centered = x - spread(mean)
        variance = mean_of(ops.square(centered))
        self._update_moving_statistics(mean, variance, seen)
        scale = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            scale = scale * self.gamma
        y = centered * spread(scale)
        return y if self.beta is None else y + self.beta

    def _update_moving_statistics(self, mean, variance, seen):
        # The recursion over groups in closed form: group l contributes
        # (1 - momentum) * momentum ** (number of groups after it).
        decay = ops.where(seen, self.momentum, 1.0)  # (groups, 1)
        decay = ops.cast(decay, mean.dtype)
        left = ops.flip(ops.cumprod(ops.flip(decay, axis=0), axis=0), axis=0)
        after = ops.concatenate([left[1:], ops.ones_like(left[:1])], axis=0)
        for moving, groups in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            new = ops.sum((1.0 - decay) * after * groups, axis=0)
            moving.assign(left[0] * moving + new)

    def _groups_of(self, batch):
        """Returns the group of each example, e.g. [0, 0, 1, 1, 1], and 2."""
        num_groups = self._num_groups(batch)
        return ops.arange(batch) * num_groups // batch, num_groups

    def _num_groups(self, batch):
        # Halves round up. A group of one has no variance: at most batch // 2.
        rounded = (2 * batch + self.ghost_batch_size) // (
            2 * self.ghost_batch_size
        )
        if isinstance(batch, int):
            return max(1, min(rounded, batch // 2))
        return ops.maximum(1, ops.minimum(rounded, batch // 2))
