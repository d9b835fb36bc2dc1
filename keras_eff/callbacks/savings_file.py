"""The file `savings.json`: its schema number, how it is read and written."""

import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
from typing import Any

import keras
import numpy as np
import tensorflow as tf

SCHEMA = 1


def header() -> dict[str, Any]:
    """Returns the entries that say where and with what a run was made."""
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(),
        "versions": {
            "keras": keras.version(),
            "keras_eff": importlib.metadata.version("keras-eff"),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
        },
        "device": device(),
    }


def device() -> str:
    """Returns the hardware in words."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"CPU, {os.cpu_count()} cores, {platform.machine()}"
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"{len(gpus)} x {details.get('device_name', 'GPU')}"


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the content of a file of this schema.

    Args:
        path: path of a `savings.json`.

    Raises:
        ValueError: if the file is not JSON or of another schema.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(
            f"The file must be a `savings.json` of schema {SCHEMA}. "
            f"Received: path={str(path)!r}"
        )
    return content


def seconds_per_example(path: str | os.PathLike) -> float:
    """Returns what a measured run took for an example.

    Args:
        path: path of its `savings.json`.

    Raises:
        ValueError: if the file is of another kind or counts no examples.
    """
    totals = read(path)["totals"]
    examples = totals.get("examples", {}).get("used", 0)
    if not examples:
        raise ValueError(
            "Argument `baseline` must be a run that counted its examples. "
            f"Received: path={str(path)!r}, {examples} examples"
        )
    return totals["seconds"]["used"] / examples


def check_absent(*paths: pathlib.Path) -> None:
    """Makes sure that a new run mixes with no other.

    Args:
        *paths: what a ledger writes.

    Raises:
        FileExistsError: if one of them is there.
    """
    for path in paths:
        if path.exists():
            raise FileExistsError(
                "Argument `log_dir` must be new: what another run wrote is "
                f"never overwritten or mixed. Received: {str(path)!r} exists"
            )


def write(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes the whole file or nothing.

    Args:
        path: path of the file; missing folders are made.
        content: dictionary, ready for JSON.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".json.part")
    text = json.dumps(_without_nan(content), indent=2, allow_nan=False)
    part.write_text(text + "\n")
    os.replace(part, path)


def _without_nan(content: Any) -> Any:
    """Returns the content with `None` for NaN and infinity: JSON has none."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    is_float = isinstance(content, float)
    return None if is_float and not math.isfinite(content) else content
