"""A TensorBoard process of its own for each log directory."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import metadata

import pytest
import tensorboard_plugin_keras_eff

DEADLINE_S = 60


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """A child's environment, in which TensorBoard finds the plugin once."""
    installed = metadata.entry_points(group="tensorboard_plugins")
    if "keras_eff" in installed.names:
        return dict(os.environ)
    site = tmp_path_factory.mktemp("site")
    info = site / "keras_eff-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: keras-eff\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[tensorboard_plugins]\n"
        "keras_eff = tensorboard_plugin_keras_eff.loader:Loader\n"
    )
    package = pathlib.Path(tensorboard_plugin_keras_eff.__file__).parent
    return with_path(dict(os.environ), site, package.parent)


@pytest.fixture(scope="session")
def serve(environment, tmp_path_factory):
    """Starts TensorBoard on a log directory, as a context with its address."""

    @contextlib.contextmanager
    def start(logdir, *flags, path=(), ready=lambda address: True):
        log = tmp_path_factory.mktemp("server") / "log"
        command = [sys.executable, "-m", "tensorboard.main", *flags]
        command += [f"--logdir={logdir}", "--host=127.0.0.1", "--port=0"]
        # The slow loader then serves no half-read run. The fast one ignores
        # it, but shows each file whole.
        command += ["--reload_task=blocking", "--reload_interval=0"]
        # A file, for nobody empties a pipe while the server runs.
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                env=with_path(environment, *path),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            address = wait_for(lambda: address_in(log, process))
            wait_for(lambda: ready(address))
            yield address
        finally:
            process.terminate()
            process.wait(DEADLINE_S)

    return start


def with_path(environment, *folders):
    """Returns the environment with folders put in front of PYTHONPATH."""
    inherited = environment.get("PYTHONPATH")
    path = [*map(str, folders), *([inherited] if inherited else [])]
    return {**environment, "PYTHONPATH": os.pathsep.join(path)}


def address_in(log, process):
    """Returns the address that TensorBoard wrote to its log, if any yet."""
    text = log.read_text()
    if process.poll() is not None:
        pytest.fail(f"TensorBoard exited with {process.returncode}:\n{text}")
    return next(iter(re.findall(r"at (http://\S+)/ \(Press", text)), None)


def wait_for(condition):
    """Returns the first true value of the condition."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"Nothing came within {DEADLINE_S} seconds")
        time.sleep(0.1)
    return value


@pytest.fixture(scope="session")
def get():
    """Returns status, headers and text of an address."""

    def fetch(url):
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    return fetch
