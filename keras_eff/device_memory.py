"""Memory of this device or, on a CPU, of this process: peak and free."""

import contextlib
import pathlib
import sys

import keras


class DeviceMemory:
    """Peak of what TensorFlow allocated on the fullest of the GPUs.

    Weights and optimizer variables are part of it. TensorFlow does not tell
    how much memory a GPU has, so what is free is unknown; a GPU that is full
    raises an error instead of ending the process.
    """

    source = "device"

    def __init__(self, devices: list[str]):
        self.devices = devices

    def restart(self) -> None:
        """Starts the peak anew from what is allocated now."""
        import tensorflow as tf

        for device in self.devices:
            tf.config.experimental.reset_memory_stats(device)

    def peak_bytes(self) -> int:
        """Returns the most that was allocated since `restart`."""
        import tensorflow as tf

        info = tf.config.experimental.get_memory_info
        return max(info(device)["peak"] for device in self.devices)

    def free_bytes(self) -> None:
        """Returns `None`: not known."""


class ProcessMemory:
    """Growth of the peak of this process' resident memory.

    Counted from when the object is made, for the whole process: other threads
    count too, memory that was free inside the process does not. On Linux
    `restart` resets the peak that the kernel keeps for the process; elsewhere
    a size shows only where it exceeds every earlier peak.
    """

    source = "process"

    def __init__(self):
        self.restart()
        self._before = _peak_resident_bytes()

    def restart(self) -> None:
        """Starts the peak anew from what is resident now."""
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/self/clear_refs").write_text("5")

    def peak_bytes(self) -> int | None:
        """Returns the growth up to the peak since `restart`."""
        peak = _peak_resident_bytes()
        return None if peak is None else max(0, peak - self._before)

    def free_bytes(self) -> int | None:
        """Returns what the host and its container have left, if known."""
        known = [host_free_bytes(), container_free_bytes()]
        return min((free for free in known if free is not None), default=None)


def meter() -> DeviceMemory | ProcessMemory:
    """Returns the meter of the device that Keras computes on.

    GPUs are read under the TensorFlow backend alone.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_logical_devices("GPU")
        if gpus:
            return DeviceMemory([f"GPU:{k}" for k in range(len(gpus))])
    return ProcessMemory()


def host_free_bytes(path: str = "/proc/meminfo") -> int | None:
    """Returns what Linux calls available; `None` on another system."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(path).read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def container_free_bytes(root: str = "/sys/fs/cgroup") -> int | None:
    """Returns limit less use of the container (cgroup), `None` without one.

    File cache that the kernel can drop does not count as use.
    """
    version_2 = ("memory.max", "memory.current", "inactive_file")
    version_1 = (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "total_inactive_file",
    )
    for limit, used, cache in (version_2, version_1):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            path = pathlib.Path(root, used)
            cached = _value_of(cache, path.with_name("memory.stat"))
            most = int(pathlib.Path(root, limit).read_text())
            return most - int(path.read_text()) + cached
    return None


def _value_of(name: str, path: pathlib.Path) -> int:
    pairs = (line.split() for line in path.read_text().splitlines())
    return next(int(value) for key, value in pairs if key == name)


def _peak_resident_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
