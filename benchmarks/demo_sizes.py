"""How the sizes of the demo were chosen, each side by itself.

On a quarter of the digits' training part; the test part takes no part.
"""

import dataclasses
import pathlib
import tempfile

import harness
import keras
import numpy as np
import sklearn.model_selection

from keras_eff import datasets
from keras_eff import demo

SEEDS = 6
ONE_CHANGE = [
    {"learning_rate": 0.02},
    {"learning_rate": 0.05},
    {"learning_rate": 0.2},
    {"keep": 0.7},
    {"keep": 0.9},
    {"proxy_epochs": 1},
    {"ghost_batch_size": 32},
    {"sparsity": 0.5},
    {"activation_sparsity": 0.8},
]


def validation_data():
    x, y, _, _ = datasets.digits()
    x_train, x_val, y_train, y_val = sklearn.model_selection.train_test_split(
        x, y, test_size=0.25, stratify=y, random_state=1
    )
    return datasets.Data(x_train, y_train, x_val, y_val)


def accuracies(data, recipe, sizes):
    values = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        folder = pathlib.Path(tempfile.mkdtemp())
        task = demo.Task(
            data, demo.EPOCHS["digits"], seed, folder, lambda: None, sizes
        )
        if recipe == "keras_eff":  # it compares its seconds with the plain run
            demo.train_plain(task)
            keras.utils.set_random_seed(seed)
        values.append(100 * demo.RECIPES[recipe](task).accuracy)
    return values


def main():
    data = validation_data()
    rows = []
    for recipe in ("plain Keras", "keras_eff"):
        for change in [{}, *ONE_CHANGE]:
            if recipe == "plain Keras" and change.keys() - {"learning_rate"}:
                continue
            sizes = dataclasses.replace(demo.Sizes(), **change)
            values = accuracies(data, recipe, sizes)
            rows.append(
                {
                    "recipe": recipe,
                    "change": str(change or "as in the demo"),
                    "accuracy": float(np.mean(values)),
                    "standard_deviation": float(np.std(values, ddof=1)),
                }
            )
    harness.record("demo_sizes", __doc__.strip(), rows)


if __name__ == "__main__":
    main()
