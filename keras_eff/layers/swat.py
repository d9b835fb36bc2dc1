"""The maths of sparse weight and activation training (SWAT), alone.

`product(inputs, kernel)` is the bilinear operation of a layer: a matrix
product, an einsum or a convolution. Its result is a sum over input channels.

Reference:
- [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
"""

import itertools
import math
import numbers

from keras import ops

from keras_eff import scores
from keras_eff.layers.pull_back import pull_back

_SAMPLE = 16_384


def element_product(
    product, inputs, kernel, score, thresholds, activation_threshold
):
    """Multiplies with the largest weights; trains on the largest activations.

        y  = product(x, top(W))
        dx = dy by top(W)           (dy is never sparsified)
        dW = top(x) by dy           (dense: masked weights get a gradient)

    Entries below a threshold are zero in the products. First derivatives
    alone: the gradient of this gradient leaves out what was masked, so a
    penalty on gradients trains on a part of its own.

    Args:
        product: callable `(inputs, kernel) -> tensor`, linear in each.
        inputs: tensor of any shape.
        kernel: tensor, of the precision in which to rank the weights. Not a
            variable: `keras.ops.custom_gradient` refuses those in an eager
            tape.
        score: callable `kernel -> tensor` that broadcasts to its shape, what
            its threshold is compared with.
        thresholds: pair of scalar tensors, of weights and of activations.
        activation_threshold: callable `(inputs, threshold) -> threshold`,
            asked in the backward pass.

    Returns:
        Tensor, of the dtype of `inputs`.
    """

    @ops.custom_gradient
    def sparse(inputs, kernel, of_weights, of_activations):
        weights = drop_below(kernel, score(kernel), of_weights)
        weights = ops.cast(weights, inputs.dtype)

        def gradient(*args, upstream=None):
            if upstream is None:  # JAX passes it by position.
                (upstream,) = args
            # Zeros take memory too: this keeps as much as a dense layer.
            threshold = activation_threshold(inputs, of_activations)
            activations = drop_below(inputs, ops.abs(inputs), threshold)
            d_inputs = pull_back(product, activations, weights, upstream, 0)
            d_kernel = pull_back(product, activations, weights, upstream, 1)
            return (
                d_inputs,
                ops.cast(d_kernel, kernel.dtype),
                ops.zeros_like(of_weights),
                ops.zeros_like(of_activations),
            )

        return product(inputs, weights), gradient

    return sparse(inputs, kernel, *thresholds)


def channel_product(
    product, inputs, kernel, axes, weight_channels, activation_channels
):
    """Multiplies with some input channels; trains on some others.

        y          = product(x[i], W[i])
        dx[i]      = dy by W[i]             (0 in all other channels)
        dW[j]      = x[j] by dy             (0 in all other channels)

    The products are smaller, and so is what the backward pass keeps: the
    inputs of the channels `j`.

    Args:
        product: callable `(inputs, kernel) -> tensor`, linear in each, for
            any number of channels.
        inputs: tensor of any shape.
        kernel: tensor, of the precision of its gradient. Not a variable.
        axes: pair of integers, the axis of the channels in both.
        weight_channels: tensor of shape `(i,)`, whole numbers in float32:
            JAX has no gradient by integers.
        activation_channels: likewise, of shape `(j,)`.

    Returns:
        Tensor, of the dtype of `inputs`.
    """
    of_inputs, of_kernel = axes
    dtype, num_channels = kernel.dtype, kernel.shape[of_kernel]
    shape = list(ops.shape(inputs))
    shape[of_inputs] = weight_channels.shape[0]

    @ops.custom_gradient
    def sparse(inputs, kernel, weight_channels, activation_channels):
        i = ops.cast(weight_channels, "int32")
        j = ops.cast(activation_channels, "int32")
        weights = ops.cast(ops.take(kernel, i, of_kernel), inputs.dtype)
        part = _take(inputs, i, of_inputs)
        kept = _take(inputs, j, of_inputs)
        kernel_shape = list(kernel.shape)
        kernel_shape[of_kernel] = kept.shape[of_inputs]

        def gradient(*args, upstream=None):
            if upstream is None:  # JAX passes it by position.
                (upstream,) = args
            # Zeros stand for factors that their own gradient does not need.
            zeros = ops.zeros(shape, weights.dtype)
            d_part = pull_back(product, zeros, weights, upstream, 0)
            zeros = ops.zeros(kernel_shape, weights.dtype)
            d_rows = pull_back(product, kept, zeros, upstream, 1)
            d_rows = ops.cast(d_rows, dtype)
            return (
                _spread(d_part, i, num_channels, of_inputs),
                _spread(d_rows, j, num_channels, of_kernel),
                ops.zeros_like(weight_channels),
                ops.zeros_like(activation_channels),
            )

        return product(part, weights), gradient

    return sparse(inputs, kernel, weight_channels, activation_channels)


def largest_channels(x, axis, num_kept):
    """Returns the channels with the largest sums of magnitudes, ascending.

    Args:
        x: tensor of any shape.
        axis: integer, the axis of the channels.
        num_kept: integer, how many.

    Returns:
        Float32 tensor of shape `(num_kept,)`.
    """
    x = ops.stop_gradient(x)
    axis %= len(x.shape)
    others = [a for a in range(len(x.shape)) if a != axis]
    # Half types would overflow or tie.
    sums = ops.sum(ops.abs(ops.cast(x, "float32")), axis=others)
    _, channels = ops.top_k(sums, num_kept, sorted=False)
    return ops.sort(ops.cast(channels, "float32"))


def keep_channels(x, channels, axis):
    """Zeroes all channels but some.

    Args:
        x: tensor of any shape.
        channels: float tensor of shape `(kept,)`, whole numbers.
        axis: integer, the axis of the channels.
    """
    channels = ops.cast(channels, "int32")
    part = ops.take(x, channels, axis=axis)
    return _spread(part, channels, x.shape[axis], axis)


def drop_below(x, score, threshold):
    """Zeroes the entries of `x` whose score is below a threshold.

    Args:
        x: tensor of any shape.
        score: tensor that broadcasts to that shape.
        threshold: scalar tensor.
    """
    threshold = ops.cast(threshold, score.dtype)
    # Not `>=`: a NaN in a traced step must stay, not become 0.
    return ops.where(score < threshold, ops.zeros_like(x), x)


def kernel_sums(kernel):
    """Scores each slice of a convolution's kernel by its L1 norm.

    Args:
        kernel: tensor of shape `(*kernel_size, channels, filters)`.

    Returns:
        Tensor of shape `(channels, filters)`.
    """
    return ops.sum(ops.abs(kernel), axis=range(len(kernel.shape) - 2))


def threshold_of(x, sparsity, guess=None, sample=False):
    """Returns the smallest magnitude that is kept, of the whole tensor.

    Args:
        x: floating-point tensor of any shape.
        sparsity: float in `[0, 1)`, or scalar tensor.
        guess: scalar tensor, the threshold of a similar tensor, or `None`.
        sample: bool, whether to rank 16,384 entries or some more, at equal
            distances, in place of all; the fraction kept is then right to
            about 0.003.
    """
    known = (sparsity, scores.size_of(x))  # the size of an empty batch
    if 0 in [value for value in known if isinstance(value, numbers.Real)]:
        return ops.zeros((), x.dtype)  # the smallest may not be, later
    if sample:  # Reshaped again: TensorFlow loses sight of its rank.
        x = ops.reshape(ops.reshape(x, (-1,))[:: _stride_of(x)], (-1,))
    k = scores.num_kept(scores.size_of(x), sparsity)
    threshold = scores.kth_largest_magnitude(x, k, guess)
    return ops.where(sparsity > 0, threshold, ops.zeros_like(threshold))


def _stride_of(x):
    """Returns the distance at which entries are sampled.

    The power of a number without a common factor with the size of an example:
    at a distance of 32, a sample has 2 of 64 channels.
    """
    size = math.prod(size for size in x.shape[1:] if size)
    base = next(b for b in itertools.count(2) if math.gcd(b, size) == 1)
    powers = [base**n for n in range(31) if base**n < 1 << 31]
    farthest = scores.size_of(x) // _SAMPLE
    if isinstance(farthest, int):
        return max(power for power in powers if power <= max(farthest, 1))
    powers = ops.convert_to_tensor(powers, "int32")
    return ops.max(ops.where(powers <= farthest, powers, 1))


def _take(x, channels, axis):
    """Takes some channels; those of the last axis as rows, which is faster."""
    if axis not in (-1, len(x.shape) - 1):
        return ops.take(x, channels, axis=axis)
    rows = ops.transpose(ops.reshape(x, (-1, x.shape[-1])))
    part = ops.transpose(ops.take(rows, channels, axis=0))
    return ops.reshape(part, (*ops.shape(x)[:-1], channels.shape[0]))


def _spread(part, channels, num_channels, axis):
    """Puts channels back in their place, zeros in all others."""
    num_kept = channels.shape[0]
    # Where each channel is in `part`; those that are not, in the zeros.
    places = ops.scatter_update(
        ops.full((num_channels,), num_kept, "int32"),
        channels[:, None],
        ops.arange(num_kept, dtype="int32"),
    )
    if axis not in (-1, len(part.shape) - 1):
        zeros = ops.zeros_like(ops.take(part, [0], axis=axis))
        return ops.take(ops.concatenate([part, zeros], axis), places, axis=axis)
    rows = ops.transpose(ops.reshape(part, (-1, num_kept)))
    rows = ops.concatenate([rows, ops.zeros_like(rows[:1])], axis=0)
    whole = ops.transpose(ops.take(rows, places, axis=0))
    return ops.reshape(whole, (*ops.shape(part)[:-1], num_channels))
