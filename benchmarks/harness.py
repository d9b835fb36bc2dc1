"""Times things side by side in one run and records the ratio."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "numpy")


def seconds(
    runs: dict[str, Callable[[], object]], repeats: int = 9
) -> dict[str, float]:
    """Returns the median seconds of each, called in turn after one warm-up.

    In turn, so that a slow minute of the machine falls on all of them.
    """
    times = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def seconds_of_builds(
    make_runs: Callable[[], dict[str, Callable[[], object]]],
    builds: int,
    repeats: int,
) -> dict[str, float]:
    """Returns the least of the medians of `seconds`, over several builds.

    Where a model lies in memory can double its time for as long as it lives,
    so each build makes all the models anew.
    """
    times = [seconds(make_runs(), repeats) for _ in range(builds)]
    return {name: min(build[name] for build in times) for name in times[0]}


def record(name: str, question: str, rows: list[dict]) -> None:
    """Prints the rows and writes them to `results/<name>.json`."""
    print(question)
    for row in rows:
        print("  ", ", ".join(f"{key}: {_short(row[key])}" for key in row))
    content = {
        "question": question,
        "date": datetime.date.today().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else value


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
