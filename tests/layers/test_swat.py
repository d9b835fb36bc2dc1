"""The maths of SWAT alone: thresholds, residuals."""

import checks
import keras
import numpy as np
import pytest
import references
import tensorflow as tf

from keras_eff.layers import SparseConv2D
from keras_eff.layers import SparseDense
from keras_eff.layers import swat
from keras_eff.layers.pull_back import pull_back

EAGER, GRAPH, XLA = None, False, True
modes = pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])


def kept_bytes(layer, x):
    """Counts what a traced step hands from the forward to the backward pass.

    Tensors that are made before the gradient is asked for and are read by
    what the gradient needs. Variables are no copies and do not count.
    """
    layer.build(x.shape)
    layer(x)  # Keras leaves traces of the first call.
    found = []

    @tf.function(jit_compile=False)
    def step(x):
        x = tf.sin(x)  # made here, as a layer before would
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        graph = tf.compat.v1.get_default_graph()
        dy = tf.random.normal(y.shape)  # the gradient of the next layer
        is_forward = {op.name for op in graph.get_operations()}
        is_forward.remove(dy.op.name)
        weights = [w.value for w in layer.trainable_weights]
        gradients = tape.gradient(y, [x, *weights], output_gradients=dy)
        todo, seen, crossing = [g.op for g in gradients], set(), {}
        while todo:
            op = todo.pop()
            if op.name in seen or op.name == dy.op.name:
                continue
            seen.add(op.name)
            for tensor in op.inputs:
                if tensor.op.name in is_forward:
                    crossing[tensor.name] = tensor
                else:
                    todo.append(tensor.op)
        found.extend(
            tensor.dtype.size * tensor.shape.num_elements()
            for tensor in crossing.values()
            if tensor.op.type not in {"Placeholder", "ReadVariableOp", "Const"}
        )
        return y

    step.get_concrete_function(tf.TensorSpec(x.shape))
    return sum(found)


def test_the_dense_layer_keeps_its_input_and_the_output_of_its_relu():
    """What `kept_bytes` counts."""
    x = np.ones((32, 100), "float32")
    layer = keras.layers.Dense(64, activation="relu", use_bias=False)
    assert kept_bytes(layer, x) == 4 * 32 * 100 + 4 * 32 * 64
    layer = keras.layers.Dense(64, use_bias=False)
    assert kept_bytes(layer, x) == 4 * 32 * 100


@pytest.mark.parametrize("update_every", [1, 2])
def test_channels_and_bits_are_all_that_is_kept(update_every):
    """20 of 100 features, 20 rows of the kernel, 64 outputs as 8 bytes."""
    x = np.random.default_rng(0).normal(size=(512, 100)).astype("float32")
    layer = SparseDense(
        64,
        sparsity=0.8,
        granularity="channel",
        activation="relu",
        use_bias=False,
        update_every=update_every,
    )
    expected = 4 * 512 * 20 + 4 * 20 * 64 + 512 * 8
    assert expected <= kept_bytes(layer, x) <= expected + 512
    dense = 4 * 512 * 100 + 4 * 512 * 64
    assert expected <= 0.35 * dense


def test_channels_of_images_are_all_that_is_kept():
    x = np.random.default_rng(0).normal(size=(4, 9, 9, 20)).astype("float32")
    layer = SparseConv2D(
        16,
        3,
        sparsity=0.8,
        granularity="channel",
        activation="relu",
        use_bias=False,
    )
    kernel, kept = 4 * 9 * 4 * 16, 4 * (4 * 9 * 9) * 4
    expected = kept + kernel + 4 * 7 * 7 * 2
    assert expected <= kept_bytes(layer, x) <= expected + 512


def test_elements_keep_as_much_as_a_dense_layer():
    """Not a saving, and not told as one."""
    x = np.random.default_rng(0).normal(size=(512, 100)).astype("float32")
    layer = SparseDense(64, sparsity=0.8, use_bias=False)
    assert kept_bytes(layer, x) >= 4 * 512 * 100


@modes
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(
    "shape", [(32, 16, 16, 64), (210, 500), (97, 40, 30), (110_000,)]
)
def test_a_sampled_threshold_is_near(shape, sparsity, jit_compile):
    """Channels differ in size, as they do in networks."""
    generator = np.random.default_rng(1)
    scales = 10.0 ** generator.uniform(-1, 1, size=shape[-1])
    x = (generator.normal(size=shape) * scales).astype("float32")

    def find(x):
        return swat.threshold_of(x, sparsity, sample=True)

    if jit_compile is not EAGER:
        # A batch of unknown size, as in `fit`.
        signature = [tf.TensorSpec((None, *shape[1:]))]
        find = tf.function(
            find, jit_compile=jit_compile, input_signature=signature
        )
    threshold = float(find(tf.constant(x)))
    assert abs((np.abs(x) < threshold).mean() - sparsity) < 0.01
    assert threshold != references.kth_largest_magnitude(
        x, int(np.ceil((1 - sparsity) * x.size))
    )


@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 2), (100, 100)])
def test_a_sample_of_little_is_all_of_it(shape):
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    exact = swat.threshold_of(x, 0.6)
    assert float(swat.threshold_of(x, 0.6, sample=True)) == float(exact)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.8, 0.9, 0.99])
def test_an_exact_threshold_keeps_exactly_k(sparsity):
    x = np.random.default_rng(1).permutation(100_003).astype("float32")
    threshold = float(swat.threshold_of(x, sparsity))
    kept = (x >= threshold).sum()
    assert kept == int(np.ceil(np.round((1 - sparsity) * x.size, 6)))
    assert abs(1 - kept / x.size - sparsity) < 0.002


@modes
def test_largest_channels_of_ties_are_the_first(jit_compile):
    x = np.float32([[1, 2, 0, 2, -2, 1]])
    find = swat.largest_channels
    if jit_compile is not EAGER:
        find = tf.function(find, jit_compile=jit_compile)
    for count in range(1, 7):
        found = np.array(find(tf.constant(x), -1, count)).tolist()
        sparsity = 1 - count / 6
        assert found == references.largest_channels(x, 1, sparsity), count


def test_half_precision_does_not_overflow_the_sums_of_channels():
    x = np.full((200_000, 3), 1, "float16")
    x[:, 1] += 1e-3
    assert np.array(swat.largest_channels(x, -1, 1)).tolist() == [1]


def test_gradients_at_other_factors():
    """The gradient by one factor depends on the other alone."""
    generator = np.random.default_rng(0)
    x, w, dy = (
        generator.normal(size=shape).astype("float32")
        for shape in ((4, 3), (3, 2), (4, 2))
    )
    product = keras.ops.matmul
    by_x = pull_back(product, tf.zeros_like(x), tf.constant(w), dy, 0)
    by_w = pull_back(product, tf.constant(x), tf.zeros_like(w), dy, 1)
    checks.is_close_to([by_x.numpy(), by_w.numpy()], [dy @ w.T, x.T @ dy])
