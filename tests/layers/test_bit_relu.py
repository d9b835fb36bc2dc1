"""The ReLU of bits is a ReLU, and its bits are the signs."""

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keras_eff.layers.bit_relu import bit_relu
from keras_eff.layers.bit_relu import pack
from keras_eff.layers.bit_relu import unpack

EAGER, GRAPH, XLA = None, False, True
modes = pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])


@modes
@pytest.mark.parametrize("width", [1, 3, 8, 13, 64])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]
)
def test_bit_relu_is_relu(width, dtype, jit_compile):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 5, width)).astype(dtype)
    x[0, :, 0] = [0.0, -0.0, np.inf, -np.inf, 1e-7]
    dy = generator.normal(size=x.shape).astype(dtype)

    def run(relu):
        def value_and_gradient(x, dy):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = relu(x)
            return y, tape.gradient(y, x, output_gradients=dy)

        if jit_compile is not EAGER:
            value_and_gradient = tf.function(
                value_and_gradient, jit_compile=jit_compile
            )
        return value_and_gradient(tf.constant(x), tf.constant(dy))

    for a, b in zip(run(bit_relu), run(keras.activations.relu), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@modes
def test_bit_relu_keeps_nan_visible(jit_compile):
    run = bit_relu
    if jit_compile is not EAGER:
        run = tf.function(run, jit_compile=jit_compile)
    assert np.isnan(run(tf.constant([[1.0, np.nan]]))).tolist() == [[0, 1]]


def test_a_byte_holds_eight_flags():
    flags = np.unpackbits(np.arange(256, dtype="uint8"), bitorder="little")
    packed = pack(flags.astype(bool).reshape(2, -1))
    assert packed.shape == (2, 128)
    assert packed.dtype == "uint8"
    np.testing.assert_array_equal(np.ravel(packed), np.arange(256))
    np.testing.assert_array_equal(np.ravel(unpack(packed)), flags)
