"""A ReLU that keeps one bit an entry, on JAX two, for the backward pass."""

import keras
from keras import ops

# Bytes of 0 or 1 in a row, read as one integer. JAX has no integer of eight
# bytes, unless its user asks for one: there half of each byte stays empty.
_WIDTH = 4 if keras.backend.backend() == "jax" else 8
_INTEGER = f"int{8 * _WIDTH}"
# Multiplied by the first, the integer has the bits of its bytes side by side
# in the highest one. The second puts a byte into all of them, and the third
# leaves each its own bit.
_GATHER = sum(1 << 8 * (_WIDTH - 1) - 7 * i for i in range(_WIDTH))
_SPREAD = sum(1 << 8 * i for i in range(_WIDTH))
_OWN_BIT = sum(1 << 9 * i for i in range(_WIDTH))
if _OWN_BIT >> 8 * _WIDTH - 1:  # the highest bit is the sign
    _OWN_BIT -= 1 << 8 * _WIDTH


def bit_relu(x):
    """Returns `max(x, 0)`, and keeps one bit an entry for the backward pass.

    Args:
        x: tensor of any shape. Where the size of its last axis is unknown
            while tracing, all of the result is kept.

    Returns:
        Tensor of the same shape and dtype.
    """
    if x.shape[-1] is None:
        return ops.relu(x)

    @ops.custom_gradient
    def relu(x):
        # Of the result: so TensorFlow makes one kernel of product and ReLU.
        y = ops.relu(x)
        bits, width = pack(y > 0), x.shape[-1]

        def gradient(*args, upstream=None):
            if upstream is None:  # JAX passes it by position.
                (upstream,) = args
            is_positive = unpack(bits)
            if width % _WIDTH:
                is_positive = is_positive[..., :width]
            return ops.where(is_positive, upstream, ops.zeros_like(upstream))

        return y, gradient

    return relu(x)


def pack(flags):
    """Packs booleans `(..., n)` into bytes `(..., ceil(n / 8))`.

    Args:
        flags: bool tensor with a static last axis.
    """
    missing = -flags.shape[-1] % _WIDTH
    if missing:
        widths = [(0, 0)] * (len(flags.shape) - 1) + [(0, missing)]
        flags = ops.pad(flags, widths)
    row = ops.view(ops.cast(flags, "uint8"), _INTEGER) * _GATHER
    return ops.cast(ops.right_shift(row, 8 * (_WIDTH - 1)), "uint8")


def unpack(packed):
    """Unpacks bytes `(..., n)` into booleans `(..., 8 n)`.

    Args:
        packed: uint8 tensor with a static last axis.
    """
    row = ops.cast(packed, _INTEGER) * _SPREAD
    return ops.view(ops.bitwise_and(row, _OWN_BIT), "uint8") > 0
