"""What a scheduled batch costs in `fit` beside a fixed one of its size."""

from functools import partial

import harness
import keras
import numpy as np
import tensorflow as tf

import keras_eff as ke

EXAMPLES, FEATURES, EPOCHS = 20_000, 256, 3


def model_of():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return model


def main():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(EXAMPLES, FEATURES)).astype("float32")
    y = np.zeros((EXAMPLES, 1), "float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    rows = []
    for batch_size in (32, 128, 512):
        schedule = ke.callbacks.BatchSizeSchedule(batch_size)
        ours = [schedule]
        fits = {
            "fit_arrays": partial(
                model_of().fit, x, y, batch_size, shuffle=True
            ),
            "scheduled_arrays": partial(
                model_of().fit, schedule.batch((x, y)), callbacks=ours
            ),
            "dataset_batch": partial(
                model_of().fit, dataset.batch(batch_size), shuffle=False
            ),
            "scheduled_dataset": partial(
                model_of().fit, schedule.batch(dataset), callbacks=ours
            ),
        }
        times = harness.seconds(
            {
                name: partial(fit, epochs=EPOCHS, verbose=0)
                for name, fit in fits.items()
            },
            repeats=5,
        )
        rows.append(
            {
                "batch_size": batch_size,
                **{f"{name}_s": value for name, value in times.items()},
                "ratio_arrays": times["scheduled_arrays"] / times["fit_arrays"],
                "ratio_dataset": (
                    times["scheduled_dataset"] / times["dataset_batch"]
                ),
            }
        )
    harness.record("batch_size_schedule", __doc__, rows)


if __name__ == "__main__":
    main()
