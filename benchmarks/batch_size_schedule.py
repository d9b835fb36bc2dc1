"""What an epoch of scheduled batches costs beside fixed batches of the size.

Seconds of an epoch, from the second one on: what `fit` does once, such as
reading a PyDataset's structure, is left out. The median of the epochs of a
`fit`, and the least of those over several models, as where a model lies in
memory can double its time. Beside `tf.data` stands a
PyDataset that returns the same batches from a list: what Keras itself takes to
feed one.
"""

import statistics
import time

import harness
import keras
import numpy as np
import tensorflow as tf

import keras_eff as ke

EPOCHS, BUILDS = 4, 4
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


class FixedBatches(keras.utils.PyDataset):
    """Batches that are made already."""

    def __init__(self, x, y, batch_size):
        super().__init__()
        starts = range(0, len(x), batch_size)
        self.batches = [
            (x[i : i + batch_size].copy(), y[i : i + batch_size].copy())
            for i in starts
        ]

    @property
    def num_batches(self):  # noqa: D102
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class EpochTimes(keras.callbacks.Callback):
    """Notes when each epoch begins."""

    def on_train_begin(self, logs=None):  # noqa: D102
        self.begins = []

    def on_epoch_begin(self, epoch, logs=None):  # noqa: D102
        self.begins.append(time.perf_counter())


def model_of(net):
    shape, stack = net()
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return model


def epoch_seconds(model, data, callbacks=(), **arguments):
    times = EpochTimes()
    arguments["callbacks"] = [times, *callbacks]
    model.fit(*data, epochs=EPOCHS, verbose=0, **arguments)
    return statistics.median(np.diff(times.begins)[1:])


def arms(arrays, dataset, shuffled, size):
    """Returns the arguments of `fit` of each arm."""
    schedule = ke.callbacks.BatchSizeSchedule(size)
    ours = {"callbacks": [schedule]}
    return {
        "fit_arrays": (arrays, {"batch_size": size}),
        "shuffle_batch": ((shuffled.batch(size).prefetch(-1),), {}),
        "scheduled_arrays": ((schedule.batch(arrays),), ours),
        "dataset_batch": ((dataset.batch(size).prefetch(-1),), {}),
        "scheduled_dataset": ((schedule.batch(dataset),), ours),
        "fixed_pydataset": ((FixedBatches(*arrays, size),), {}),
    }


def main():
    rows = []
    for net, num_examples, sizes in (
        (dense, 32_768, (32, 512)),
        (convolutions, 6_144, (32, 512)),
    ):
        shape, _ = net()
        generator = np.random.default_rng(0)
        x = generator.normal(size=(num_examples, *shape)).astype("float32")
        y = np.zeros((num_examples, 1), "float32")
        dataset = tf.data.Dataset.from_tensor_slices((x, y))
        shuffled = dataset.shuffle(num_examples)
        for size in sizes:
            seconds = {}
            for _ in range(BUILDS):
                model = model_of(net)
                for name, (data, arguments) in arms(
                    (x, y), dataset, shuffled, size
                ).items():
                    taken = epoch_seconds(model, data, **arguments)
                    seconds[name] = min(seconds.get(name, taken), taken)
            steps = -(-num_examples // size)
            rows.append(
                {
                    "net": net.__name__,
                    "batch_size": size,
                    **{
                        f"{name}_ms_per_step": 1e3 * value / steps
                        for name, value in seconds.items()
                    },
                    **{
                        f"{ours}_to_{other}": seconds[ours] / seconds[other]
                        for ours, other in (
                            ("scheduled_arrays", "fit_arrays"),
                            ("scheduled_arrays", "shuffle_batch"),
                            ("scheduled_dataset", "dataset_batch"),
                            ("fixed_pydataset", "dataset_batch"),
                        )
                    },
                }
            )
    harness.record("batch_size_schedule", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
