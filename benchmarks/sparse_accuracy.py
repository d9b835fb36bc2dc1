"""Test accuracy of sparse training beside dense, and narrower dense, nets.

    python benchmarks/sparse_accuracy.py [--seeds 3] [--epochs 10]

Fashion-MNIST, 12,000 training images, all 10,000 test images. An MLP with
three wide layers, where channel granularity saves time, and a strided CNN with
batch normalization. The first product of each network stays dense, as in the
paper's uniform distribution; the optimizer, rate and epochs are the same for
all. The narrower MLP is the baseline that a sceptic picks: its width is the
largest multiple of 64 whose step is as fast as that of the sparse one,
measured in this run.
"""

import argparse
import statistics
import time

import harness
import keras
import numpy as np
from keras import layers

import keras_eff as ke
from keras_eff import datasets

NUM_TRAIN, BATCH, WIDTH = 12_000, 128, 1024
EVERY = 10
# (granularity, sparsity); None is dense
ARMS = {
    "dense": None,
    "element 80%": ("element", 0.8),
    "element 90%": ("element", 0.9),
    "kernel 70%": ("kernel", 0.7),
    "channel 50%": ("channel", 0.5),
    "channel 80%": ("channel", 0.8),
}


def mlp(width=WIDTH):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(width, activation="relu"),
            layers.Dense(width, activation="relu"),
            layers.Dense(width, activation="relu"),
            layers.Dense(10, name="logits"),
        ]
    )


def cnn():
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (32, 64, 128):
        model.add(
            layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)
        )
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(10, name="logits"))
    return model


def model_of(net, arm, seed, **arguments):
    keras.utils.set_random_seed(seed)
    model = net(**arguments)
    if ARMS.get(arm) is not None:
        granularity, sparsity = ARMS[arm]
        model, report = ke.convert.sparsify(
            model,
            sparsity=sparsity,
            granularity=granularity,
            update_every=EVERY,
            # Ten outputs from few channels: with channels, not the last one.
            where=(lambda layer: layer.name != "logits")
            if granularity == "channel"
            else None,
        )
        if not report.converted:
            raise RuntimeError(f"Nothing converted: {report.skipped}")
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def run(net, arm, seed, epochs, data, **arguments):
    """Returns (test accuracy in percent, seconds of `fit`)."""
    (x, y), test = data
    model = model_of(net, arm, seed, **arguments)
    started = time.perf_counter()
    decay = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: (
            rate / 5 if epoch in (epochs // 2, epochs * 3 // 4) else rate
        )
    )
    model.fit(
        x, y, batch_size=BATCH, epochs=epochs, callbacks=[decay], verbose=0
    )
    seconds = time.perf_counter() - started
    _, accuracy = model.evaluate(*test, batch_size=1000, verbose=0)
    return 100 * accuracy, seconds


def epoch_of(model, data):
    (x, y), _ = data
    part = x[: 20 * BATCH], y[: 20 * BATCH]
    return lambda: model.fit(*part, batch_size=BATCH, verbose=0)


def equal_width(arm, data):
    """Returns the largest width of a dense net that is as fast."""
    widths = range(256, WIDTH, 64)
    runs = {w: epoch_of(model_of(mlp, None, 0, width=w), data) for w in widths}
    runs[arm] = epoch_of(model_of(mlp, arm, 0), data)
    runs["dense"] = epoch_of(model_of(mlp, None, 0), data)
    times = harness.seconds(runs, repeats=5)
    as_fast = [w for w in widths if times[w] <= times[arm]]
    return max(as_fast, default=widths[0]), times["dense"] / times[arm]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    loaded = datasets.fashion_mnist()
    subset = np.random.default_rng(0).permutation(len(loaded.x_train))
    subset = subset[:NUM_TRAIN]
    x = loaded.x_train.reshape(-1, 28, 28, 1)[subset]
    test = loaded.x_test.reshape(-1, 28, 28, 1), loaded.y_test
    data = (x, loaded.y_train[subset]), test
    cases = [
        (net, arm, {})
        for net in (mlp, cnn)
        for arm in ARMS
        if not (net is mlp and arm.startswith("kernel"))
    ]
    speed_ups = {}
    for arm in ("channel 50%", "channel 80%"):
        width, speed_ups[arm] = equal_width(arm, data)
        cases.append((mlp, f"narrower, as fast as {arm}", {"width": width}))
        print(cases[-1], speed_ups[arm], flush=True)
    runs = {(net.__name__, arm): [] for net, arm, _ in cases}
    for seed in range(options.seeds):
        for net, arm, arguments in cases:
            result = run(net, arm, seed, options.epochs, data, **arguments)
            runs[net.__name__, arm].append(result)
            print(seed, net.__name__, arm, *result, flush=True)
    widths = {arm: arguments.get("width") for _, arm, arguments in cases}
    rows = []
    for (net, arm), results in runs.items():
        accuracies = [accuracy for accuracy, _ in results]
        gaps = np.subtract([r[0] for r in runs[net, "dense"]], accuracies)
        error = np.std(gaps, ddof=1) / len(gaps) ** 0.5
        rows.append(
            {
                "net": net,
                "arm": arm,
                "width": widths[arm],
                "accuracy": statistics.mean(accuracies),
                "accuracies": accuracies,
                "below_dense": float(np.mean(gaps)),
                "standard_error": float(error),
                "seconds": statistics.median(r[1] for r in results),
                "step_speed_up": speed_ups.get(arm) if net == "mlp" else None,
            }
        )
    harness.record("sparse_accuracy", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
