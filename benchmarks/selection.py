"""How much faster bisecting the bits finds the k-th magnitude than top-k.

From cold, and from the threshold of the same weights before a step of training
(each moved by 0.1 % of their standard deviation).
"""

from functools import partial

import harness
import numpy as np
import tensorflow as tf

from keras_eff import scores

SPARSITY = 0.8


def smallest_of_top_k(x, k):
    values, _ = tf.math.top_k(tf.reshape(tf.abs(x), [-1]), k, sorted=False)
    return tf.reduce_min(values)


def _value_of(run, x, k):
    return run(x, k).numpy()  # waits for the result


def main():
    rows = []
    for size in (16_384, 262_144, 2_359_296):
        values = np.random.default_rng(0).normal(size=size)
        x = tf.constant(values, tf.float32)
        moves = np.random.default_rng(1).normal(size=size, scale=1e-3)
        k = scores.num_kept(size, SPARSITY)
        for mode, jit_compile in (("graph", False), ("xla", True)):
            before = scores.kth_largest_magnitude(
                tf.constant(values + moves, tf.float32), k
            )
            find = {
                "bisection": scores.kth_largest_magnitude,
                "from_last": partial(
                    scores.kth_largest_magnitude, guess=before
                ),
                "top_k": smallest_of_top_k,
            }
            runs = {
                name: tf.function(function, jit_compile=jit_compile)
                for name, function in find.items()
            }
            found = {name: float(run(x, k)) for name, run in runs.items()}
            if len(set(found.values())) != 1:
                raise RuntimeError(f"They disagree: {found}")
            times = harness.seconds(
                {
                    name: partial(_value_of, run, x, k)
                    for name, run in runs.items()
                }
            )
            rows.append(
                {
                    "size": size,
                    "mode": mode,
                    "bisection_ms": 1e3 * times["bisection"],
                    "top_k_ms": 1e3 * times["top_k"],
                    "from_last_ms": 1e3 * times["from_last"],
                    "speed_up": times["top_k"] / times["bisection"],
                    "speed_up_from_last": times["top_k"] / times["from_last"],
                }
            )
    harness.record("selection", __doc__.splitlines()[0], rows)


if __name__ == "__main__":
    main()
