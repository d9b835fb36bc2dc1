"""Both callbacks under MirroredStrategy, in processes with logical CPUs."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
import keras_eff as ke

num_replicas, log_dir = int(sys.argv[1]), sys.argv[2]
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * num_replicas,
)
devices = [f"CPU:{index}" for index in range(num_replicas)]
generator = np.random.default_rng(0)
x = generator.normal(size=(96, 4)).astype("float32")
y = generator.normal(size=(96, 1)).astype("float32")
copies = x.copy(), y.copy()
schedule = ke.callbacks.BatchSizeSchedule(ke.schedules.steps(8, {1: 24, 2: 4}))
ledger = ke.callbacks.SavingsLedger(log_dir, [schedule], verbose=0)
keras.utils.set_random_seed(0)
with tf.distribute.MirroredStrategy(devices).scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
model.fit(
    schedule.batch((x, y), seed=0),
    epochs=3,
    callbacks=[schedule, ledger],
    shuffle=False,
    verbose=0,
)
print(json.dumps({
    "weights": [w.tolist() for w in model.get_weights()],
    "rate": float(model.optimizer.learning_rate.numpy()),
    "iterations": int(model.optimizer.iterations.numpy()),
    "unchanged": all(np.array_equal(a, b) for a, b in zip((x, y), copies)),
}))
"""


def run(num_replicas, folder):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(num_replicas), str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    content = json.loads((folder / "savings.json").read_text())
    return result, content["totals"]


def test_two_replicas_train_and_count_like_one(tmp_path):
    (one, totals), (two, totals_of_two) = (
        run(num_replicas, tmp_path / str(num_replicas))
        for num_replicas in (1, 2)
    )
    flat = [
        [value for row in result["weights"][0] for value in row]
        + result["weights"][1]
        for result in (one, two)
    ]
    assert flat[0] == pytest.approx(flat[1], rel=1e-5, abs=1e-6)
    for result, counted in ((one, totals), (two, totals_of_two)):
        assert result["unchanged"]
        assert result["rate"] == pytest.approx(0.01)
        assert result["iterations"] == counted["updates"]["used"] == 12 + 4 + 24
        assert counted["examples"]["used"] == 3 * 96
        assert counted["updates"]["planned"] == 3 * 96 / 8
