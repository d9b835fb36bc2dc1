"""What sparse layers cost beside dense ones: a layer alone, a step of `fit`.

    python benchmarks/sparse.py [--part layers|fits]

Ratios are dense / sparse: above 1 the sparse layer is faster. Element and
kernel granularity multiply all the zeros, so they can only lose; channel
granularity multiplies less. Selections are kept for 10 steps.
"""

import argparse
import functools

import harness
import keras
import numpy as np
import tensorflow as tf

import keras_eff as ke

EVERY = 10
MODES = (("graph", False), ("xla", True))
# (granularity, sparsity)
KINDS = (
    ("element", 0.8),
    ("kernel", 0.8),
    ("channel", 0.5),
    ("channel", 0.8),
    ("channel", 0.9),
)
DENSE_WIDTHS, BATCH = (128, 512, 1024, 2048), 512
# (batch, height and width, channels)
IMAGES = ((32, 32, 64), (16, 16, 128), (16, 16, 256))


def sparse(stock, granularity, sparsity, **kwargs):
    name = f"Sparse{stock.__name__}"
    if stock is keras.layers.Dense and granularity == "kernel":
        granularity = "element"
    return getattr(ke.layers, name)(
        sparsity=sparsity,
        granularity=granularity,
        update_every=EVERY,
        **kwargs,
    )


def step_of(layer, x, jit_compile):
    """Forward and backward pass, all gradients."""
    layer.build(x.shape)

    @tf.function(jit_compile=jit_compile)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True))
        weights = [weight.value for weight in layer.trainable_weights]
        return tape.gradient(loss, [x, *weights])

    return lambda: step(x)[0].numpy()


def ten_of(step):
    """As many as one selection lasts, so that one of them selects."""

    def steps():
        for _ in range(EVERY):
            step()

    return steps


def layer_cases():
    for width in DENSE_WIDTHS:
        shape = (BATCH, width)
        yield keras.layers.Dense, {"units": width}, shape
    for batch, size, channels in IMAGES:
        arguments = {"filters": channels, "kernel_size": 3, "padding": "same"}
        yield keras.layers.Conv2D, arguments, (batch, size, size, channels)


def layers():
    rows = []
    for stock, arguments, shape in layer_cases():
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        x = tf.constant(np.maximum(x, 0))
        for mode, jit_compile in MODES:
            steps = {
                "dense": step_of(
                    stock(activation="relu", **arguments), x, jit_compile
                )
            }
            for kind in KINDS:
                if stock is keras.layers.Dense and kind[0] == "kernel":
                    continue
                layer = sparse(stock, *kind, activation="relu", **arguments)
                steps["{} {:.0%}".format(*kind)] = step_of(
                    layer, x, jit_compile
                )
            runs = {name: ten_of(step) for name, step in steps.items()}
            rows.append(
                row_of(
                    {"layer": stock.__name__, "shape": str(shape)},
                    mode,
                    harness.seconds(runs, repeats=5),
                )
            )
            print(rows[-1], flush=True)
    harness.record("sparse_layers", __doc__.splitlines()[0], rows)


def row_of(what, mode, times):
    return {
        **what,
        "mode": mode,
        "dense_ms": 1e3 * times["dense"] / EVERY,
        **{
            f"dense / {name}": times["dense"] / value
            for name, value in times.items()
            if name != "dense"
        },
    }


def mlp(make, width=2048):
    return (784,), [
        make(keras.layers.Dense, units=width, activation="relu"),
        make(keras.layers.Dense, units=width, activation="relu"),
        make(keras.layers.Dense, units=width, activation="relu"),
        keras.layers.Dense(10),
    ]


def cnn(make, channels=256):
    return (16, 16, channels), [
        make(keras.layers.Conv2D, filters=channels, **SAME),
        make(keras.layers.Conv2D, filters=channels, **SAME),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]


SAME = {"kernel_size": 3, "padding": "same", "activation": "relu"}


def fit_of(net, kind, batch, jit_compile):
    def make(stock, **arguments):
        if kind is None:
            return stock(**arguments)
        return sparse(stock, *kind, **arguments)

    shape, stack = net(make)
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * EVERY, *shape)).astype("float32")
    y = rng.integers(10, size=len(x))
    return functools.partial(model.fit, x, y, batch_size=batch, verbose=0)


def runs_of(net, kinds, batch, jit_compile):
    return {
        name: fit_of(net, kind, batch, jit_compile)
        for name, kind in {"dense": None, **kinds}.items()
    }


def fits():
    rows = []
    for net, batch in ((mlp, 256), (cnn, 16)):
        for mode, jit_compile in MODES:
            kinds = {"{} {:.0%}".format(*kind): kind for kind in KINDS}
            if net is mlp:
                del kinds["kernel 80%"]
            make_runs = functools.partial(
                runs_of, net, kinds, batch, jit_compile
            )
            times = harness.seconds_of_builds(make_runs, builds=3, repeats=2)
            rows.append(row_of({"net": net.__name__}, mode, times))
            print(rows[-1], flush=True)
    harness.record("sparse_fits", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("layers", "fits"))
    part = parser.parse_args().part
    if part != "fits":
        layers()
    if part != "layers":
        fits()
