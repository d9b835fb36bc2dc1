"""Accuracy on data that an ensemble filter keeps, beside its members alone.

    python benchmarks/filters.py [--keep 0.5]

Fashion-MNIST, 20,000 images, the MLP of `pruned_training.py`, five seeds, in
clean data and with 20 % of the labels replaced. A filter is fitted on the
first 10,000 images and decides on all as they come, in batches of 1,000.
"""

import argparse
import statistics

import harness
import keras
import numpy as np
from pruned_training import mlp
from pruned_training import noisy

import keras_eff as ke
from keras_eff import datasets

NUM, FITTED, EPOCHS, BATCH_SIZE, SEEDS = 20_000, 10_000, 10, 128, 5


def trained(x, y, epochs, seed):
    keras.utils.set_random_seed(seed)
    model = mlp()
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model


def members_of(x, y, seed):
    models = [trained(x, y, 2, 100 * seed + i) for i in range(3)]
    return {
        "probabilistic": ("bald", models),
        "standard": ("margin", models[0]),
        "adversarial": ("adversarial_margin", models[0]),
        "random": "random",
    }


def filters_of(members, keep, seed):
    alone = {
        name: ke.data.Filter({name: member}, keep)
        for name, member in members.items()
        if member != "random"
    }
    return {
        **alone,
        **{
            f"ensemble, {agreement}": ke.data.Filter(
                members, keep, agreement, seed=seed
            )
            for agreement in ("mean", 1, 2)
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=float, default=0.5)
    keep = parser.parse_args().keep
    data = datasets.fashion_mnist()
    shape = (-1, 28, 28, 1)
    x, x_test = data.x_train[:NUM].reshape(shape), data.x_test.reshape(shape)
    clean = np.asarray(data.y_train[:NUM]).astype("int64")
    rows = []
    for noise in (0.0, 0.2):
        y = noisy(clean, noise)
        found = {}
        for seed in range(SEEDS):
            masks = {"random": ke.scores.random(NUM, seed) < keep}
            members = members_of(x[:FITTED], y[:FITTED], seed)
            for name, kept in filters_of(members, keep, seed).items():
                kept.fit((x[:FITTED], y[:FITTED]))
                masks[name] = np.concatenate(
                    [
                        kept.mask((x[i : i + 1_000], y[i : i + 1_000]))
                        for i in range(0, NUM, 1_000)
                    ]
                )
            for name, mask in masks.items():
                model = trained(x[mask], y[mask], EPOCHS, seed)
                right = (
                    model.predict(x_test, batch_size=512, verbose=0).argmax(-1)
                    == data.y_test
                )
                found.setdefault(name, []).append((right.mean(), mask.mean()))
        for name, pairs in found.items():
            accuracies, kept = zip(*pairs, strict=True)
            rows.append(
                {
                    "noise": noise,
                    "filter": name,
                    "accuracy": float(statistics.mean(accuracies)),
                    "std": float(statistics.stdev(accuracies)),
                    "kept": float(statistics.mean(kept)),
                }
            )
            print(rows[-1], flush=True)
    harness.record("filters", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
