"""The noise of a gradient, from gradients of two batch sizes."""

import math

import tensorflow as tf
from keras import ops


def noise_from_squares(small, large, inverse_small, inverse_large):
    """Returns the trace of the noise and the squared norm of the gradient.

    The mean gradient `g` of b examples has `E|g|^2 = grad_sq + trace / b`.
    Two batch sizes, the small ones averaged over several micro-batches, give
    both without bias.

    Args:
        small: mean of `|g|^2` over the micro-batches.
        large: `|g|^2` of all their examples together.
        inverse_small: mean over the micro-batches of `1 / examples`.
        inverse_large: `1 / examples` of all together.

    Returns:
        Pair `(trace, grad_sq)`; `trace / grad_sq` is the noise scale.

    Example:
    >>> noise_from_squares(9.0, 2.0, 1 / 8, 1 / 64)
    (64.0, 1.0)

    Reference:
    - [McCandlish et al., 2018](https://arxiv.org/abs/1812.06162)
    """
    trace = (small - large) / (inverse_small - inverse_large)
    return trace, large - trace * inverse_large


def sum_of_squares(grads):
    """Returns the squared norm of all gradients together, in float32."""
    dense = [tf.convert_to_tensor(grad) for grad in grads if grad is not None]
    return sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in dense)


class NoiseMeter:
    """Measures in the graph, from the micro-gradients of each update.

    Args:
        add_variable: callable, an optimizer's.
    """

    def __init__(self, add_variable):
        # Sums over micro-batches: |gradient|^2, 1 / examples, 1.
        self._sums = add_variable((3,), "zeros", "float32", name="noise_sums")
        # Running means of trace and grad_sq, number of measurements.
        self._means = add_variable((3,), "zeros", "float32", name="noise")

    def add(self, grads, examples) -> None:
        """Adds the mean gradient of a micro-batch, within a replica."""
        # A replica holds its share of the sum: `replicas` times as much is
        # the mean gradient of its `examples / replicas`.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        new = [
            replicas**2 * sum_of_squares(grads),
            replicas / ops.cast(examples, "float32"),
            1.0,
        ]
        self._sums.assign_add(ops.stack(new))

    def measure(self, grads, examples, loss_scale, decay) -> None:
        """Measures with the mean gradient of all examples, and starts anew."""
        sums, *grads = _over_replicas([self._sums.value, *grads])
        squares, inverses, number = ops.unstack(sums)
        large = sum_of_squares(grads)
        unscale = 1 / ops.square(ops.cast(loss_scale, "float32"))
        trace, grad_sq = noise_from_squares(
            squares / number * unscale,
            large * unscale,
            inverses / number,
            1 / ops.cast(examples, "float32"),
        )
        old = ops.convert_to_tensor(self._means)
        new = ops.stack([trace, grad_sq])
        new = ops.append(decay * old[:2] + (1 - decay) * new, old[2] + 1)
        # A LossScaleOptimizer skips an update that overflows.
        self._means.assign(ops.where(ops.all(ops.isfinite(new)), new, old))
        self.drop()

    def drop(self) -> None:
        """Drops the micro-batches that were added since the measurement."""
        self._sums.assign(ops.zeros_like(self._sums))

    def read(self, decay: float) -> tuple[float, float, int]:
        """Returns `(trace, grad_sq, num_measurements)`, NaN without any."""
        values = ops.convert_to_numpy(self._means).tolist()
        return corrected(*values, decay)

    def restart(self) -> None:
        """Forgets all measurements."""
        self._means.assign(ops.zeros_like(self._means))
        self.drop()


def corrected(trace, grad_sq, number, decay) -> tuple[float, float, int]:
    """Corrects running means that started at zero.

    Args:
        trace: float, running mean.
        grad_sq: float, running mean.
        number: number of measurements in them.
        decay: float in `[0, 1)`, of the running means.

    Returns:
        `(trace, grad_sq, number)`, NaN without a measurement.
    """
    if not number:
        return math.nan, math.nan, 0
    weight = 1 - decay**number
    return trace / weight, grad_sq / weight, int(number)


def _over_replicas(tensors):
    """Adds up what the replicas hold."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
