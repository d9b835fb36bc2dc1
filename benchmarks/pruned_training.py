"""Accuracy on pruned data, beside all data and every random baseline.

    python benchmarks/pruned_training.py [--net mlp|cnn] [--noise 0.2]

Fashion-MNIST, all 10,000 test images. The policies and their constants are
those of the package; none was chosen on these runs. With `--noise`, that part
of the training labels is replaced by other classes.
"""

import argparse

import harness
import keras
import numpy as np
import rich
from keras import layers

import keras_eff as ke
from keras_eff import datasets

# (images, epochs, batch size, proxies, epochs of each)
SIZES = {"mlp": (60_000, 6, 128, 3, 2), "cnn": (12_000, 6, 128, 3, 2)}


def mlp():
    """The network of the pilot in the notes."""
    stack = [
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dense(128, activation="relu"),
    ]
    return classifier(stack)


def cnn():
    """Two strided convolutions."""
    strided = {"strides": 2, "padding": "same", "activation": "relu"}
    stack = [
        layers.Conv2D(16, 3, **strided),
        layers.Conv2D(32, 3, **strided),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
    ]
    return classifier(stack)


def classifier(stack):
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *stack,
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy"
    )
    return model


def prototype(proxies, x, y, seed):
    """Far from the centroids of the first proxy's embedding."""
    return ke.data.score(
        (x, y),
        by="prototype_distance",
        model=proxies[0],
        num_clusters=100,
        seed=seed,
        verbose=0,
    )


SCORERS = {
    "el2n": "el2n",
    "bald": "bald",
    "adversarial_margin": "adversarial_margin",
    "prototype_distance": prototype,
}


def noisy(labels, share, seed=0):
    """Returns labels of which that share is another class."""
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(labels)) < share
    shift = generator.integers(1, 10, size=len(labels))
    return np.where(wrong, (labels + shift) % 10, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=("mlp", "cnn"), default="mlp")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=float, nargs="+")
    given = parser.parse_args()
    num, epochs, batch_size, proxies, proxy_epochs = SIZES[given.net]
    data = datasets.fashion_mnist()
    shape = (-1, 28, 28, 1)
    x = data.x_train[:num].reshape(shape)
    y = np.asarray(data.y_train[:num]).astype("int64")
    found = ke.data.compare(
        (x, noisy(y, given.noise)),
        (data.x_test.reshape(shape), data.y_test),
        {"mlp": mlp, "cnn": cnn}[given.net],
        keeps=given.keep or (0.5, 0.3, 0.1),
        scorers=SCORERS,
        policies=("hard", "auto"),
        seeds=given.seeds,
        epochs=epochs,
        batch_size=batch_size,
        proxies=proxies,
        proxy_epochs=proxy_epochs,
    )
    rich.print(found)
    name = f"pruned_training_{given.net}"
    if given.noise:
        name += f"_noise_{given.noise:g}"
    harness.record(name, __doc__.splitlines()[0], found.to_dict()["rows"])


if __name__ == "__main__":
    main()
