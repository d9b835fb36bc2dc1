"""The k-th largest magnitude of a tensor, without a sort."""

import math
import numbers
from typing import Any

import keras
from keras import ops

# The bits of |x|, read as an integer, order floats as their values do.
# dtype -> integer type of the same width, bits without the sign.
_BITS = {
    "float16": ("int16", 15),
    "bfloat16": ("int16", 15),
    "float32": ("int32", 31),
    "float64": ("int64", 63),
}


def num_kept(size, sparsity):
    """Returns `ceil((1 - sparsity) * size)`, safe against float noise.

    `(1 - 0.7) * 10` is 3.0000000000000004 in floats; this returns 3.

    Args:
        size: integer, or scalar integer tensor where a shape is dynamic.
        sparsity: float in `[0, 1)`, fraction of zeros; or scalar tensor, which
            is taken to be right to one in a million.

    Returns:
        Integer, or scalar int32 tensor. At least 1 for a `size` of 1 or more.
    """
    # JAX has no wider type, unless its user asks for one.
    wide = "float32" if keras.backend.backend() == "jax" else "float64"
    if isinstance(sparsity, numbers.Real):
        density = (1.0 - sparsity) * (1.0 - 1e-12)
    else:
        density = (1.0 - ops.cast(sparsity, wide)) * (1.0 - 1e-6)
    if isinstance(size, int) and isinstance(density, float):
        return math.ceil(size * density)
    kept = ops.ceil(ops.cast(size, wide) * density)
    return ops.maximum(ops.cast(kept, "int32"), 1)


def kth_largest_magnitude(x, k, guess=None):
    """Returns the k-th largest magnitude of `x`, exactly and without a sort.

    The bits of `|x|` are bisected from the highest to the lowest: one
    compare-and-count pass a bit, 31 for float32 and 15 for the half types.
    From a guess near it the search takes about 8. Runs in eager mode, graphs
    and XLA.

    Args:
        x: floating-point tensor of any shape.
        k: integer in `[1, size of x]`, or scalar integer tensor.
        guess: scalar, such as the result for a similar tensor, or `None`.

    Returns:
        Scalar tensor of the dtype of `x`.

    Raises:
        TypeError: if `x` is not floating-point.
        ValueError: if `k` is out of range. NaN counts as larger than
            infinity, so that it is kept and stays visible.

    Example:
    >>> import numpy as np
    >>> float(kth_largest_magnitude(np.float32([3, -1, 2, -2]), k=2))
    2.0
    """
    x = ops.stop_gradient(ops.convert_to_tensor(x))
    dtype = ops.dtype(x)
    if dtype not in _BITS:
        raise TypeError(
            f"Argument `x` must be one of {sorted(_BITS)}. Received: "
            f"dtype={dtype}"
        )
    size = _static_size(x)
    if isinstance(k, int) and size is not None and not 1 <= k <= size:
        raise ValueError(
            "Argument `k` must be between 1 and the number of entries. "
            f"Received: k={k}, x of shape {tuple(x.shape)}"
        )
    integer, num_bits = _BITS[dtype]
    # `view` needs a static last axis: entries go in a column, (size, 1).
    bits = ops.view(ops.reshape(ops.abs(x), (-1, 1)), integer)

    if guess is not None:
        guess = ops.reshape(ops.cast(guess, dtype), (1, 1))
        near = ops.view(ops.maximum(guess, 0), integer)
        return ops.view(_search_from(bits, k, near[0, 0], num_bits), dtype)

    def set_bit_if_k_remain(step, threshold):
        bit = ops.left_shift(ops.cast(1, integer), num_bits - 1 - step)
        raised = ops.bitwise_or(threshold, ops.cast(bit, integer))
        count = ops.sum(ops.cast(bits >= raised, "int32"))
        return ops.where(count >= k, raised, threshold)

    zero = ops.zeros((), integer)
    threshold = ops.fori_loop(0, num_bits, set_bit_if_k_remain, zero)
    return ops.view(threshold, dtype)


def _search_from(bits, k, guess, num_bits):
    """Returns the k-th largest of non-negative integers, from a guess.

    Steps away from the guess until the value is between two probes, then
    draws a line between their counts; every third time it halves, so that
    ties end the search too.
    """
    integer, result = ops.dtype(bits), ops.dtype(bits)
    if integer == "int16":  # too narrow to calculate in
        bits, guess = ops.cast(bits, "int32"), ops.cast(guess, "int32")
        integer = "int32"

    def is_open(turn, low, high, above, below, probe, step):
        # `above` of the entries are at or above `low`, `below` at `high`.
        return ops.logical_and(above != k, high - low > 1)

    def narrow(turn, low, high, above, below, probe, step):
        count = ops.sum(ops.cast(bits >= probe, "int32"))
        is_low = count >= k
        low, above = _choose(is_low, (probe, count), (low, above))
        high, below = _choose(is_low, (high, below), (probe, count))
        gap = high - low
        part = ops.cast(above - k, "float32") / ops.cast(
            above - below, "float32"
        )
        line = ops.cast(0.999 * part * ops.cast(gap, "float32"), integer)
        line = ops.where(turn % 3 == 2, gap // 2, line)
        stride = ops.minimum(step, gap - 1)
        has_low, has_high = low > 0, high < top
        move = ops.where(has_low, stride, gap - stride)
        move = ops.where(ops.logical_and(has_low, has_high), line, move)
        probe = low + ops.clip(move, 1, ops.maximum(gap - 1, 1))
        step = ops.minimum(step, 1 << (num_bits - 5)) * 8
        return turn + 1, low, high, above, below, probe, step

    top = ops.cast((1 << num_bits) - 1, integer)
    start = (
        ops.cast(0, "int32"),
        ops.cast(0, integer),
        top,
        ops.cast(ops.size(bits), "int32"),
        ops.cast(0, "int32"),
        ops.clip(guess, 1, top - 1),
        ops.cast(1 << (num_bits // 2 - 4), integer),
    )
    _, low, *_ = ops.while_loop(is_open, narrow, start)
    kept = ops.min(ops.where(bits >= low, bits, top))
    # Of nothing, as of an empty batch, the least is the top: not a number.
    kept = ops.where(ops.size(bits) > 0, kept, ops.zeros_like(kept))
    return ops.cast(kept, result)


def _choose(condition, ours, others):
    return [
        ops.where(condition, a, b) for a, b in zip(ours, others, strict=True)
    ]


def size_of(x):
    """Returns how many entries a tensor has, an integer where it is known."""
    size = _static_size(x)
    return ops.size(x) if size is None else size


def _static_size(x: Any) -> int | None:
    dimensions = tuple(ops.convert_to_tensor(x).shape)
    return None if None in dimensions else math.prod(dimensions)
