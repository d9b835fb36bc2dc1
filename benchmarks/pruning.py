"""What reading a pruned epoch costs, beside all of it and beside a lookup."""

from functools import partial

import harness
import numpy as np
import tensorflow as tf

import keras_eff as ke

EXAMPLES, FEATURES, BATCH = 100_000, 784, 256


def read(dataset):
    for _ in dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE):
        pass


def looked_up(dataset, kept):
    mask = tf.constant(kept.mask)
    return (
        dataset.enumerate()
        .filter(lambda index, element: tf.gather(mask, index))
        .map(lambda index, element: element)
    )


def main():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 255, (EXAMPLES, FEATURES), dtype=np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    rows = []
    for keep in (0.3, 0.7):
        kept = ke.data.select(generator.random(EXAMPLES), keep)
        pruned = dataset.apply(ke.data.prune(kept))
        arrays = tf.data.Dataset.from_tensor_slices(ke.data.prune(kept)(x))
        times = harness.seconds(
            {
                "full": partial(read, dataset),
                "looked_up": partial(read, looked_up(dataset, kept)),
                "pruned_dataset": partial(read, pruned),
                "pruned_arrays": partial(read, arrays),
            },
            repeats=3,
        )
        rows.append(
            {
                "keep": keep,
                **{f"{name}_s": value for name, value in times.items()},
                "speed_up_over_lookup": (
                    times["looked_up"] / times["pruned_dataset"]
                ),
                "pruned_dataset_over_full": (
                    times["pruned_dataset"] / times["full"]
                ),
                "pruned_arrays_over_full": (
                    times["pruned_arrays"] / times["full"]
                ),
            }
        )
    harness.record("pruning", __doc__, rows)


if __name__ == "__main__":
    main()
