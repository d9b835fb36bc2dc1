"""What ghost statistics cost beside plain ones, forward and backward."""

import harness
import keras
import numpy as np
import tensorflow as tf

from keras_eff.layers import GhostBatchNormalization

SHAPES = [(1024, 256), (256, 16, 16, 32), (1024, 16, 16, 32)]


def step_of(layer, x, jit_compile):
    """Forward and backward pass with a batch of unknown size, as in fit."""
    layer.build(x.shape)

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec((None, *x.shape[1:]), tf.float32)],
    )
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x, training=True)))
        return tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    return lambda: step(x)[0].numpy()


def main():
    rows = []
    for shape in SHAPES:
        x = tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)
        for mode, jit_compile in (("graph", False), ("xla", True)):
            layers = {
                "plain": keras.layers.BatchNormalization(),
                "ghost": GhostBatchNormalization(ghost_batch_size=32),
            }
            times = harness.seconds(
                {
                    name: step_of(layer, x, jit_compile)
                    for name, layer in layers.items()
                }
            )
            rows.append(
                {
                    "shape": str(shape),
                    "mode": mode,
                    "plain_ms": 1e3 * times["plain"],
                    "ghost_ms": 1e3 * times["ghost"],
                    "ratio": times["ghost"] / times["plain"],
                }
            )
    harness.record("ghost_batch_normalization", __doc__, rows)


if __name__ == "__main__":
    main()
