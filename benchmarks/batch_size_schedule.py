"""What a scheduled batch costs in `fit` beside a fixed one of its size."""

from functools import partial

import harness
import keras
import numpy as np
import tensorflow as tf

import keras_eff as ke

EPOCHS = 2
layers = keras.layers


def dense():
    """A step of about a millisecond: what feeding costs shows."""
    return (256,), [layers.Dense(256, activation="relu"), layers.Dense(1)]


def convolutions():
    """A small convolutional network for images of 28 x 28."""
    strided = {"strides": 2, "padding": "same", "activation": "relu"}
    return (28, 28, 1), [
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(64, 3, **strided),
        layers.Conv2D(64, 3, **strided),
        layers.Flatten(),
        layers.Dense(1),
    ]


def model_of(net):
    shape, stack = net()
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return model


def main():
    rows = []
    for net, num_examples, sizes in (
        (dense, 10_000, (32, 512)),
        (convolutions, 1_536, (32, 512)),
    ):
        shape, _ = net()
        generator = np.random.default_rng(0)
        x = generator.normal(size=(num_examples, *shape)).astype("float32")
        y = np.zeros((num_examples, 1), "float32")
        dataset = tf.data.Dataset.from_tensor_slices((x, y))
        shuffled = dataset.shuffle(num_examples)
        for batch_size in sizes:
            schedule = ke.callbacks.BatchSizeSchedule(batch_size)
            ours = [schedule]
            fit = partial(model_of(net).fit, epochs=EPOCHS, verbose=0)
            static = partial(fit, shuffle=False)
            fits = {
                "fit_arrays": partial(fit, x, y, batch_size),
                "dataset_shuffle_batch": partial(
                    static, shuffled.batch(batch_size).prefetch(-1)
                ),
                "scheduled_arrays": partial(
                    fit, schedule.batch((x, y)), callbacks=ours
                ),
                "dataset_batch": partial(
                    static, dataset.batch(batch_size).prefetch(-1)
                ),
                "scheduled_dataset": partial(
                    fit, schedule.batch(dataset), callbacks=ours
                ),
            }
            times = harness.seconds(fits, repeats=3)
            steps = EPOCHS * -(-num_examples // batch_size)
            rows.append(
                {
                    "net": net.__name__,
                    "batch_size": batch_size,
                    **{
                        f"{name}_ms_per_step": 1e3 * value / steps
                        for name, value in times.items()
                    },
                    "arrays_to_fit_arrays": (
                        times["scheduled_arrays"] / times["fit_arrays"]
                    ),
                    "arrays_to_shuffle_batch": (
                        times["scheduled_arrays"]
                        / times["dataset_shuffle_batch"]
                    ),
                    "dataset_to_dataset_batch": (
                        times["scheduled_dataset"] / times["dataset_batch"]
                    ),
                }
            )
    harness.record("batch_size_schedule", __doc__, rows)


if __name__ == "__main__":
    main()
