"""What an element-sparse step costs beside a dense one: it saves no time."""

import harness
import keras
import numpy as np

import keras_eff as ke

BATCH, STEPS = 512, 10


def epoch_of(dense, width, jit_compile):
    model = keras.Sequential(
        [
            keras.Input((width,)),
            dense(width, activation="relu"),
            dense(width, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=jit_compile)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH * STEPS, width)).astype("float32")
    y = np.zeros((len(x), 1), "float32")
    return lambda: model.fit(x, y, batch_size=BATCH, verbose=0)


def sparse(units, **kwargs):
    return ke.layers.SparseDense(units, sparsity=0.8, **kwargs)


def main():
    rows = []
    for width in (256, 1024):
        for mode, jit_compile in (("graph", False), ("xla", True)):
            times = harness.seconds(
                {
                    "dense": epoch_of(keras.layers.Dense, width, jit_compile),
                    "sparse": epoch_of(sparse, width, jit_compile),
                },
                repeats=5,
            )
            rows.append(
                {
                    "width": width,
                    "mode": mode,
                    "dense_ms_a_step": 1e3 * times["dense"] / STEPS,
                    "sparse_ms_a_step": 1e3 * times["sparse"] / STEPS,
                    "ratio": times["sparse"] / times["dense"],
                }
            )
    harness.record("sparse_dense", __doc__, rows)


if __name__ == "__main__":
    main()
