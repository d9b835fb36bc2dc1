"""What the accumulating optimizer costs where a step is an update."""

import functools

import harness
import keras
import numpy as np
import tensorflow as tf

from keras_eff.optimizers import ScheduledAccumulation

STEPS = 50


def model_of(optimizer, jit_compile):
    """About a million weights."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((512,)),
            keras.layers.Dense(1024, activation="relu"),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    return model


def runs_of(make, jit_compile, data):
    """Returns a fit of a new model for each optimizer."""
    window_4 = ScheduledAccumulation(make())
    window_4.expect([64], [256])
    optimizers = {
        "plain": make(),
        "window_1": ScheduledAccumulation(make()),
        "window_4": window_4,
        "window_1_noise": ScheduledAccumulation(make(), measure_noise=True),
    }
    return {
        name: functools.partial(
            model_of(optimizer, jit_compile).fit,
            data,
            shuffle=False,
            verbose=0,
        )
        for name, optimizer in optimizers.items()
    }


def main():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 512)).astype("float32")
    y = np.zeros((64, 1), "float32")
    data = tf.data.Dataset.from_tensors((x, y)).repeat(STEPS)
    rows = []
    for mode, jit_compile in (("graph", False), ("xla", True)):
        for name, make in (
            ("SGD, momentum", lambda: keras.optimizers.SGD(1e-3, 0.9)),
            ("Adam", lambda: keras.optimizers.Adam(1e-3)),
        ):
            make_runs = functools.partial(runs_of, make, jit_compile, data)
            times = harness.seconds_of_builds(make_runs, builds=8, repeats=7)
            rows.append(
                {
                    "mode": mode,
                    "optimizer": name,
                    "plain_ms_per_step": 1e3 * times["plain"] / STEPS,
                    **{
                        f"ratio_{key}": times[key] / times["plain"]
                        for key in ("window_1", "window_4", "window_1_noise")
                    },
                }
            )
    harness.record("scheduled_accumulation", __doc__, rows)


if __name__ == "__main__":
    main()
