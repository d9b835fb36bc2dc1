"""What a sparse layer keeps for the backward pass: XLA's own analysis.

    KERAS_BACKEND=jax python benchmarks/sparse_memory.py

Needs `keras-eff[jax]`: XLA tells the temporary bytes of a compiled step there
(`memory_analysis`), which TensorFlow does not hand out. Growth of a stack from
4 to 12 layers, forward and backward, by layer.
"""

import importlib.util
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
if importlib.util.find_spec("jax") is None:
    print("Not run: pip install 'keras-eff[jax]'")
    sys.exit()

import harness
import jax
import keras
import numpy as np

import keras_eff as ke

SMALL, LARGE = 4, 12
BATCH, SIZE, CHANNELS = 16, 32, 64


def convolution(granularity=None, sparsity=0.8, activation="relu"):
    arguments = {"kernel_size": 3, "padding": "same", "activation": activation}
    if granularity is None:
        return keras.layers.Conv2D(CHANNELS, **arguments)
    return ke.layers.SparseConv2D(
        CHANNELS, sparsity=sparsity, granularity=granularity, **arguments
    )


def plain_relu(sparsity):
    """Channel granularity with the ReLU of another layer."""
    return [convolution("channel", sparsity, None), keras.layers.ReLU()]


STACKS = {
    "dense": lambda: [convolution()],
    "element 80%": lambda: [convolution("element")],
    "channel 50%, fused relu": lambda: [convolution("channel", 0.5)],
    "channel 80%, fused relu": lambda: [convolution("channel", 0.8)],
    "channel 90%, fused relu": lambda: [convolution("channel", 0.9)],
    "channel 80%, another relu": lambda: plain_relu(0.8),
}


def temporary_bytes(make, num_layers):
    keras.utils.set_random_seed(0)
    stack = [layer for _ in range(num_layers) for layer in make()]
    model = keras.Sequential([keras.Input((SIZE, SIZE, CHANNELS)), *stack])

    def loss(trainable, state, x):
        y, _ = model.stateless_call(trainable, state, x, training=True)
        return y.sum()

    x = np.ones((BATCH, SIZE, SIZE, CHANNELS), "float32")
    values = [
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    ]
    step = jax.jit(jax.grad(loss)).lower(*values, x).compile()
    return step.memory_analysis().temp_size_in_bytes


def main():
    rows, dense = [], None
    activation = 4 * BATCH * SIZE * SIZE * CHANNELS
    for name, make in STACKS.items():
        small, large = (temporary_bytes(make, n) for n in (SMALL, LARGE))
        growth = (large - small) / (LARGE - SMALL)
        dense = dense or growth
        rows.append(
            {
                "stack": name,
                "growth_mb_a_layer": growth / 1e6,
                "growth_in_activations": growth / activation,
                "ratio_to_dense": growth / dense,
                "temporary_mb_at_12": large / 1e6,
            }
        )
    harness.PACKAGES += ("jax",)
    harness.record("sparse_memory", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
