"""Peak memory of the process, and what is free."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_eff import device_memory

MB = 1_000_000


def test_the_peak_of_the_process_shows_what_was_freed_since():
    memory = device_memory.ProcessMemory()
    array = np.ones(100 * MB, "uint8")
    del array
    assert memory.peak_bytes() >= 90 * MB


def test_restart_forgets_the_peak_before():
    memory = device_memory.ProcessMemory()
    array = np.ones(100 * MB, "uint8")
    del array
    memory.restart()
    assert memory.peak_bytes() <= 50 * MB


def test_the_meter_is_that_of_the_device():
    has_gpu = bool(tf.config.list_logical_devices("GPU"))
    expected = "device" if has_gpu else "process"
    assert device_memory.meter().source == expected


@pytest.mark.skipif(
    not tf.config.list_logical_devices("GPU"), reason="needs a GPU"
)
def test_the_peak_of_a_device_shows_what_was_freed_since():
    memory = device_memory.meter()
    memory.restart()
    before = memory.peak_bytes()
    keras.ops.ones((25 * MB,), "float32")
    assert memory.peak_bytes() >= before + 90 * MB
    assert memory.free_bytes() is None


def test_free_memory_of_the_host(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 9 kB\nMemAvailable:     7 kB\n")
    assert device_memory.host_free_bytes(path) == 7 * 1024
    assert device_memory.host_free_bytes(tmp_path / "none") is None


def test_free_memory_of_a_container(tmp_path):
    assert device_memory.container_free_bytes(tmp_path) is None
    (tmp_path / "memory.current").write_text("60\n")
    (tmp_path / "memory.stat").write_text("anon 30\ninactive_file 20\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory.container_free_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("100\n")
    assert device_memory.container_free_bytes(tmp_path) == 60


def test_free_memory_of_a_container_of_version_1(tmp_path):
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("100\n")
    (folder / "memory.usage_in_bytes").write_text("60\n")
    (folder / "memory.stat").write_text("total_inactive_file 5\n")
    assert device_memory.container_free_bytes(tmp_path) == 45


def test_the_process_has_some_of_it_free():
    free = device_memory.ProcessMemory().free_bytes()
    assert free is None or free > 0
