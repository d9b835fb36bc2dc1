"""Growing the batch, and large batches, beside a decaying learning rate.

    python benchmarks/large_batch.py [--seeds 3] [--epochs 12] [--validation]

Fashion-MNIST, 12,000 training images, all 10,000 test images, a strided CNN
with batch normalization, momentum SGD (Keras keeps the learning rate inside
the velocity; `LearningRateScheduler` does not correct it, and the growing
batches stay below their cap, so that their learning rate never changes).

Two questions, each beside a small batch whose learning rate decays. Whether a
growing batch stands for the decay: at a learning rate that needs it, 0.1. And
what a large batch from the start loses, at the better rate of 0.02, and how
much of that scaling the rate and ghost normalization bring back.

How settings were chosen: rates 0.02 and 0.005 and the rules by two seeds with
10,000 training images that are not in the subset, the rest by guess. The test
images changed none. `--validation` measures on those images, records nothing.
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

NUM_TRAIN = 12_000
SMALL, LARGE, CAP = 32, 1024, 1200  # CAP: a tenth of the images
FACTOR = 5
DROPS = (1 / 4, 7 / 12)  # as parts of the epochs
WARM_UP = 1 / 6  # likewise, with a scaled learning rate
BN_MOMENTUM = 0.9
ROOT = (LARGE / SMALL) ** 0.5
GROWTH, GAP = "a small batch, rate 0.1", "d small batch, rate 0.02"

# (batch, rate, its factor, ghost or None, whether the rate or batch moves)
ARMS = {
    GROWTH: (SMALL, 0.1, 1, None, "decay"),
    "b constant rate": (SMALL, 0.1, 1, None, "constant"),
    "c growing batch, ghost": (SMALL, 0.1, 1, SMALL, "grow"),
    "c growing batch, plain": (SMALL, 0.1, 1, None, "grow"),
    GAP: (SMALL, 0.02, 1, None, "decay"),
    "e large batch": (LARGE, 0.02, 1, None, "decay"),
    "e large, ghost": (LARGE, 0.02, 1, SMALL, "decay"),
    "e large, linear": (LARGE, 0.02, LARGE / SMALL, None, "decay"),
    "e large, sqrt": (LARGE, 0.02, ROOT, None, "decay"),
    "e large, sqrt, ghost": (LARGE, 0.02, ROOT, SMALL, "decay"),
}


def base_of(arm):
    return GROWTH if arm[0] in "abc" else GAP


def build(rate, ghost):
    def norm():
        if ghost is None:
            return layers.BatchNormalization(momentum=BN_MOMENTUM)
        return ke.layers.GhostBatchNormalization(ghost, momentum=BN_MOMENTUM)

    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (16, 32, 64):
        model.add(
            layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)
        )
        model.add(norm())
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(10))
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def rate_schedule(rate, scale, moves, epochs):
    peak = scale * rate
    if moves == "constant":
        return ke.schedules.constant(peak)
    drops = [max(1, round(part * epochs)) for part in DROPS]
    decay = ke.schedules.steps(
        peak, {e: peak / FACTOR ** (i + 1) for i, e in enumerate(drops)}
    )
    if scale == 1:
        return decay
    warm_up = max(1, round(WARM_UP * epochs))
    return lambda epoch: decay(epoch) * min(1, (epoch + 1) / (warm_up + 1))


def run(arm, seed, epochs, data):
    """Returns (test accuracy in percent, updates, seconds of `fit`)."""
    batch, rate, scale, ghost, moves = ARMS[arm]
    (x, y), test = data
    keras.utils.set_random_seed(seed)
    rates = rate_schedule(rate, scale, moves, epochs)
    model = build(float(rates(0)), ghost)
    started = time.perf_counter()
    if moves == "grow":
        schedule = ke.callbacks.BatchSizeSchedule.from_learning_rate(
            rates, batch, max_batch_size=CAP
        )
        train = schedule.batch((x, y), seed=seed)
        model.fit(train, epochs=epochs, callbacks=[schedule], verbose=0)
    else:
        scheduler = keras.callbacks.LearningRateScheduler(
            lambda epoch, _: float(rates(epoch))
        )
        model.fit(
            x,
            y,
            batch_size=batch,
            epochs=epochs,
            callbacks=[scheduler],
            verbose=0,
        )
    seconds = time.perf_counter() - started
    _, accuracy = model.evaluate(*test, batch_size=1000, verbose=0)
    return 100 * accuracy, int(model.optimizer.iterations), seconds


def standard_error(values):
    if len(values) < 2:
        return None
    return statistics.stdev(values) / len(values) ** 0.5


def table(runs):
    """Returns a row an arm, and a row of verdicts, of the seeds all have."""
    num_seeds = min(len(results) for results in runs.values())
    runs = {arm: results[:num_seeds] for arm, results in runs.items()}
    accuracies = {arm: [r[0] for r in runs[arm]] for arm in runs}
    mean = {arm: statistics.mean(accuracies[arm]) for arm in runs}
    updates = {arm: runs[arm][0][1] for arm in runs}
    rows = [
        {
            "arm": arm,
            "accuracy": mean[arm],
            "standard_error": standard_error(accuracies[arm]),
            "accuracies": accuracies[arm],
            "updates": updates[arm],
            "updates_ratio": updates[arm] / updates[base_of(arm)],
            "seconds": statistics.median(r[2] for r in runs[arm]),
        }
        for arm in runs
    ]
    verdicts = {"arm": "verdicts", "seeds": num_seeds}
    for arm in runs:
        base = base_of(arm)
        if arm == base:
            continue
        difference = np.subtract(accuracies[arm], accuracies[base]).tolist()
        verdicts[f"{arm}, minus its base"] = statistics.mean(difference)
        verdicts[f"{arm}, standard error"] = standard_error(difference)
        if arm.startswith("e large,"):
            closed = mean[arm] - mean["e large batch"]
            gap = mean[base] - mean["e large batch"]
            verdicts[f"{arm}, part of the gap closed"] = closed / gap
    return [*rows, verdicts]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--validation", action="store_true")
    options = parser.parse_args()
    loaded = datasets.fashion_mnist()
    subset = np.random.default_rng(0).permutation(len(loaded.x_train))
    subset, held_out = subset[:NUM_TRAIN], subset[-10_000:]
    x_train = loaded.x_train[subset].reshape(-1, 28, 28, 1)
    x_test, y_test = loaded.x_test, loaded.y_test
    if options.validation:
        x_test, y_test = loaded.x_train[held_out], loaded.y_train[held_out]
    x_test = x_test.reshape(-1, 28, 28, 1)
    data = (x_train, loaded.y_train[subset]), (x_test, y_test)
    runs = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            runs[arm].append(run(arm, seed, options.epochs, data))
            print(seed, arm, *runs[arm][-1], flush=True)
        if options.validation:
            continue
        question = f"{__doc__.splitlines()[0]} {options.epochs} epochs"
        harness.record("large_batch", question, table(runs))


if __name__ == "__main__":
    main()
