"""A ReLU that keeps one bit an entry for the backward pass."""

import keras
from keras import ops

# Eight bytes of 0 or 1 in a row, read as one integer and multiplied by the
# first, have their bits side by side in the highest byte. The second puts a
# byte into all eight, and the third leaves each its own bit.
_GATHER = sum(1 << 56 - 7 * i for i in range(8))
_SPREAD = sum(1 << 8 * i for i in range(8))
_OWN_BIT = sum(1 << 9 * i for i in range(8)) - (1 << 64)  # the sign is one


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
            if width % 8:
                is_positive = is_positive[..., :width]
            return ops.where(is_positive, upstream, ops.zeros_like(upstream))

        return y, gradient

    return relu(x)


def pack(flags):
    """Packs booleans `(..., n)` into bytes `(..., ceil(n / 8))`.

    Args:
        flags: bool tensor with a static last axis.
    """
    missing = -flags.shape[-1] % 8
    if missing:
        widths = [(0, 0)] * (len(flags.shape) - 1) + [(0, missing)]
        flags = ops.pad(flags, widths)
    if not _has_wide_integers():
        shape = (*flags.shape[:-1], flags.shape[-1] // 8, 8)
        flags = ops.cast(ops.reshape(flags, shape), "int32")
        return ops.cast(ops.sum(flags * _powers(), axis=-1), "uint8")
    eights = ops.view(ops.cast(flags, "uint8"), "int64") * _GATHER
    return ops.cast(ops.right_shift(eights, 56), "uint8")


def unpack(packed):
    """Unpacks bytes `(..., n)` into booleans `(..., 8 n)`.

    Args:
        packed: uint8 tensor with a static last axis.
    """
    if not _has_wide_integers():
        flags = ops.bitwise_and(ops.cast(packed, "int32")[..., None], _powers())
        shape = (*packed.shape[:-1], 8 * packed.shape[-1])
        return ops.reshape(flags > 0, shape)
    eights = ops.cast(packed, "int64") * _SPREAD
    return ops.view(ops.bitwise_and(eights, _OWN_BIT), "uint8") > 0


def _has_wide_integers():
    # JAX has none, unless its user asks for them; there XLA makes one kernel
    # of the plain sum, which in a graph of TensorFlow takes twice as long.
    return keras.backend.backend() != "jax"


def _powers():
    return ops.convert_to_tensor([1 << i for i in range(8)], "int32")
