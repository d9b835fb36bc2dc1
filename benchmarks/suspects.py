"""Labels that models contradict, beside the part that is wrong.

Fashion-MNIST, all training images, three MLPs of two epochs. What `"auto"` of
`keras_eff.data.select` cuts follows from it.
"""

import harness
import keras
import numpy as np
from pruned_training import mlp
from pruned_training import noisy

import keras_eff as ke
from keras_eff import datasets


def main():
    data = datasets.fashion_mnist()
    x = data.x_train.reshape(-1, 28, 28, 1)
    clean = np.asarray(data.y_train).astype("int64")
    rows = []
    for noise in (0.0, 0.1, 0.2, 0.4):
        y = noisy(clean, noise)
        models = []
        for seed in range(3):
            keras.utils.set_random_seed(seed)
            model = mlp()
            model.fit(x, y, batch_size=128, epochs=2, verbose=0)
            models.append(model)
        rows.append({"wrong": float((y != clean).mean())})
        for by in ("el2n", "loss"):
            scores = ke.data.score((x, y), by=by, model=models, verbose=0)
            rows[-1][f"suspects_by_{by}"] = scores.suspects
    harness.record("suspects", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
