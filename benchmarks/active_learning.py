"""Labels that active learning needs, beside random labels.

    python benchmarks/active_learning.py

Fashion-MNIST, 20,000 images as the pool, the MLP of `pruned_training.py`; 200
labels at random, then 200 more a round. Each round trains a new model on all
labels so far. The test accuracy of each round, five seeds.
"""

import harness
import keras
import numpy as np
from pruned_training import mlp

import keras_eff as ke
from keras_eff import datasets

POOL, FIRST, STEP, ROUNDS, SEEDS, EPOCHS = 20_000, 200, 200, 7, 5, 20
ARMS = {
    "random": {"by": "random"},
    "margin": {"by": "margin"},
    "margin, diverse": {"by": "margin", "is_diverse": True},
}


def train(x, y, seed):
    keras.utils.set_random_seed(seed)
    model = mlp()
    model.fit(x, y, batch_size=32, epochs=EPOCHS, verbose=0)
    return model


def loop(x, y, test, seed, by, is_diverse=False):
    """Returns the accuracy after each round."""
    labelled = ke.data.query(x, FIRST, by="random", seed=seed).ids
    accuracies = []
    for turn in range(ROUNDS):
        model = train(x[labelled], y[labelled], seed)
        found = model.predict(test[0], batch_size=512, verbose=0)
        accuracies.append(float((found.argmax(-1) == test[1]).mean()))
        rest = np.setdiff1d(np.arange(len(x)), labelled)
        pool = x[rest]
        chosen = ke.data.query(
            pool,
            STEP,
            None if by == "random" else model,
            by,
            embeddings=ke.data.embed(pool, model, verbose=0)
            if is_diverse
            else None,
            seed=1_000 * seed + turn,
            verbose=0,
        )
        labelled = np.append(labelled, rest[chosen.ids])
    return accuracies


def labels_for(accuracies, level):
    """Returns labels at which a curve first reaches a level, on lines."""
    labels = FIRST + STEP * np.arange(ROUNDS)
    above = np.flatnonzero(np.array(accuracies) >= level)
    if not len(above):
        return float("nan")
    last = above[0]
    if last == 0:
        return float(labels[0])
    pair = [last - 1, last]
    return float(np.interp(level, np.array(accuracies)[pair], labels[pair]))


def main():
    data = datasets.fashion_mnist()
    shape = (-1, 28, 28, 1)
    x = data.x_train[:POOL].reshape(shape)
    y = np.asarray(data.y_train[:POOL]).astype("int64")
    test = data.x_test.reshape(shape), np.asarray(data.y_test)
    curves = {
        name: np.mean(
            [loop(x, y, test, seed, **arm) for seed in range(SEEDS)], axis=0
        )
        for name, arm in ARMS.items()
    }
    level = float(curves["random"][-1])  # what all random labels reach
    needed = labels_for(curves["random"], level)
    rows = [
        {
            "method": name,
            "level": level,
            "labels": labels_for(curve, level),
            "fewer_than_random": 1 - labels_for(curve, level) / needed,
            "accuracy_at_the_end": float(curve[-1]),
            "curve": curve.round(4).tolist(),
        }
        for name, curve in curves.items()
    ]
    harness.record("active_learning", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
