"""Throughput and memory of training by batch size, of a small and a wide net.

Beside it the rate of an epoch of `fit` with the smallest size, the size found
and the largest: what the measured throughput is worth there.
"""

import time

import harness
import keras
import numpy as np

import keras_eff as ke

MAX_BATCH_SIZE = 4096
NUM_EXAMPLES = 8 * MAX_BATCH_SIZE
MAX_STEPS = 256
NETS = {
    "dense 64": lambda: [keras.layers.Dense(64, activation="relu")],
    "dense 2048": lambda: [keras.layers.Dense(2048, activation="relu")],
    "convolution 16": lambda: [
        keras.layers.Reshape((28, 28, 1)),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
    ],
}


def compiled(net):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            *NETS[net](),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def fit_rate(model, data, batch_size):
    """Returns examples a second of the second epoch; the first compiles."""
    num_examples = min(NUM_EXAMPLES, MAX_STEPS * batch_size)
    part = [array[:num_examples] for array in data]
    model.fit(*part, batch_size=batch_size, epochs=1, verbose=0)
    started = time.perf_counter()
    model.fit(*part, batch_size=batch_size, epochs=1, verbose=0)
    return num_examples / (time.perf_counter() - started)


def main():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_EXAMPLES, 784)).astype("float32")
    data = x, rng.integers(10, size=NUM_EXAMPLES)
    rows = []
    for net in NETS:
        model = compiled(net)
        started = time.perf_counter()
        found = ke.find_batch_size(
            model,
            data,
            max_batch_size=MAX_BATCH_SIZE,
            seconds_per_size=0.3,
            verbose=False,
        )
        search = time.perf_counter() - started
        fitted = {found.rows[0].batch_size, found.batch_size, found.largest}
        for row in found.rows:
            size = row.batch_size
            chosen = {"net": net, "batch_size": size}
            chosen["found"] = size == found.batch_size
            chosen["search_seconds"] = search
            chosen["examples_per_second"] = row.examples_per_second
            chosen["memory_mb"] = (row.memory_bytes or 0) / 1e6
            chosen["memory_source"] = found.memory_source
            chosen["fit_examples_per_second"] = (
                fit_rate(compiled(net), data, size) if size in fitted else None
            )
            rows.append(chosen)
    harness.record("find_batch_size", __doc__.strip(), rows)


if __name__ == "__main__":
    main()
