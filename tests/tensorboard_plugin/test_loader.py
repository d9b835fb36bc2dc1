import json
import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorboard_plugin_keras_eff


def python(environment, code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.parametrize(
    ("module", "too_heavy"),
    [
        ("loader", ["tensorboard_plugin_keras_eff.plugin", "werkzeug"]),
        ("plugin", ["tensorflow", "keras", "keras_eff"]),
    ],
)
def test_import_stays_light(environment, module, too_heavy):
    code = (
        f"import sys, json, tensorboard_plugin_keras_eff.{module}\n"
        "print(json.dumps(list(sys.modules)))"
    )
    loaded = json.loads(python(environment, code))
    assert f"tensorboard_plugin_keras_eff.{module}" in loaded
    assert not set(too_heavy) & set(loaded)


def test_is_registered_once(environment):
    code = (
        "from importlib import metadata\n"
        "found = metadata.entry_points(group='tensorboard_plugins')\n"
        "print([e.value for e in found if e.name == 'keras_eff'])"
    )
    entry = "tensorboard_plugin_keras_eff.loader:Loader"
    assert python(environment, code).strip() == f"['{entry}']"


@pytest.fixture
def broken_copy(tmp_path):
    """A folder with a copy of the package whose plugin cannot be imported."""
    package = pathlib.Path(tensorboard_plugin_keras_eff.__file__).parent
    copy = tmp_path / "site" / package.name
    shutil.copytree(package, copy)
    (copy / "plugin.py").write_text("raise ImportError('broken on purpose')")
    return copy.parent


def test_broken_plugin_leaves_tensorboard_up(serve, get, tmp_path, broken_copy):
    with serve(tmp_path / "logs", path=[broken_copy]) as address:
        status, _, text = get(f"{address}/data/plugins_listing")
    assert status == 200
    assert "scalars" in json.loads(text)
    assert "keras_eff" not in json.loads(text)
