"""What reading a pruned epoch costs, beside all of it and beside a lookup.

Rows in memory, as arrays, one by one and in batches; and records with JPEG
images, pruned before and after they are decoded.
"""

import pathlib
import tempfile
from functools import partial

import harness
import numpy as np
import tensorflow as tf

import keras_eff as ke

EXAMPLES, FEATURES, BATCH = 100_000, 784, 256
IMAGES, SIZE = 10_000, 96


def read(dataset):
    """Reads batches of a dataset of examples."""
    read_batches(dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE))


def read_batches(dataset):
    for _ in dataset:
        pass


def looked_up(dataset, kept):
    mask = tf.constant(kept.mask)
    return (
        dataset.enumerate()
        .filter(lambda index, element: tf.gather(mask, index))
        .map(lambda index, element: element)
    )


def ratios(keep, times, **pairs):
    return {
        "keep": keep,
        **{f"{name}_s": value for name, value in times.items()},
        **{
            name: times[over] / times[under]
            for name, (over, under) in pairs.items()
        },
    }


def rows_in_memory(keep):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 255, (EXAMPLES, FEATURES), dtype=np.uint8)
    kept = ke.data.select(generator.random(EXAMPLES), keep)
    prune = ke.data.prune(kept)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    batches = dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    times = harness.seconds(
        {
            "full": partial(read, dataset),
            "looked_up": partial(read, looked_up(dataset, kept)),
            "pruned_dataset": partial(read, dataset.apply(prune)),
            "pruned_batches": partial(read_batches, batches.apply(prune)),
            "pruned_arrays": partial(
                read, tf.data.Dataset.from_tensor_slices(prune(x))
            ),
        },
        repeats=3,
    )
    return {
        "data": "rows in memory",
        **ratios(
            keep,
            times,
            speed_up_over_lookup=("looked_up", "pruned_dataset"),
            pruned_dataset_over_full=("pruned_dataset", "full"),
            pruned_batches_over_full=("pruned_batches", "full"),
            pruned_arrays_over_full=("pruned_arrays", "full"),
        ),
    }


def decode(record):
    return tf.io.decode_jpeg(record, channels=3)


def jpeg_records(keep, path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (64, SIZE, SIZE, 3), dtype=np.uint8)
    jpegs = [tf.io.encode_jpeg(image).numpy() for image in images]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(IMAGES):
            writer.write(jpegs[index % len(jpegs)])
    records = tf.data.TFRecordDataset(str(path)).apply(
        tf.data.experimental.assert_cardinality(IMAGES)
    )
    kept = ke.data.select(generator.random(IMAGES), keep)
    prune = ke.data.prune(kept)

    def decoded(dataset):
        return dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)

    times = harness.seconds(
        {
            "full": partial(read, decoded(records)),
            "pruned_records": partial(read, decoded(records.apply(prune))),
            "pruned_images": partial(read, decoded(records).apply(prune)),
        },
        repeats=3,
    )
    return {
        "data": f"JPEG records, {SIZE} x {SIZE}",
        **ratios(
            keep,
            times,
            pruned_records_over_full=("pruned_records", "full"),
            pruned_images_over_full=("pruned_images", "full"),
        ),
    }


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "images.tfrecord"
        rows = [rows_in_memory(keep) for keep in (0.3, 0.7)]
        rows += [jpeg_records(keep, path) for keep in (0.3, 0.7)]
    harness.record("pruning", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
