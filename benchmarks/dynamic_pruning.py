"""Accuracy and example updates of pruning during training.

    python benchmarks/dynamic_pruning.py [--noise 0.2]

Fashion-MNIST, 20,000 images, the MLP of `pruned_training.py`, 12 epochs, five
seeds. Beside all data stand all data for as many updates, which is what a
sceptic would do with the same budget.
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

NUM, EPOCHS, BATCH_SIZE, SEEDS = 20_000, 12, 128, 5
KEEPS = (0.7, 0.5)


def trained(data, method, keep, seed):
    """Returns a model, and the examples that its updates took."""
    x, y = data
    keras.utils.set_random_seed(seed)
    model = mlp()
    if method == "full":
        epochs = round(keep * EPOCHS)
        model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
        return model, epochs * len(y)
    dynamic = ke.data.Dynamic(
        data,
        keep,
        method=method,
        batch_size=BATCH_SIZE,
        loss="sparse_categorical_crossentropy",
        seed=seed,
    )
    model.compile(
        model.optimizer, model.loss, metrics=[dynamic.losses, "accuracy"]
    )
    model.fit(
        dynamic.dataset,
        epochs=EPOCHS,
        callbacks=[dynamic],
        shuffle=False,
        verbose=0,
    )
    return model, dynamic.savings()[0].actual


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, default=0.0)
    noise = parser.parse_args().noise
    loaded = datasets.fashion_mnist()
    shape = (-1, 28, 28, 1)
    y = np.asarray(loaded.y_train[:NUM]).astype("int64")
    data = loaded.x_train[:NUM].reshape(shape), noisy(y, noise)
    x_test = loaded.x_test.reshape(shape)
    rows = []
    arms = [("full", 1.0)] + [
        (method, keep)
        for keep in KEEPS
        for method in ("full", "rs2", "infobatch", "loss")
    ]
    for method, keep in arms:
        accuracies = []
        for seed in range(SEEDS):
            model, used = trained(data, method, keep, seed)
            found = model.predict(x_test, batch_size=512, verbose=0)
            accuracies.append((found.argmax(-1) == loaded.y_test).mean())
        rows.append(
            {
                "method": method,
                "keep": keep,
                "accuracy": float(statistics.mean(accuracies)),
                "std": float(statistics.stdev(accuracies)),
                "example_updates": used / (EPOCHS * len(y)),
            }
        )
        print(rows[-1], flush=True)
    name = "dynamic_pruning" + (f"_noise_{noise:g}" if noise else "")
    harness.record(name, __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
