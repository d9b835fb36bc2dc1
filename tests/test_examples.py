"""Each example is the baseline and a few lines, and runs."""

import difflib
import os
import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
MAX_LINES = 15


def lines_of(script):
    return (EXAMPLES / f"{script}.py").read_text().splitlines()


def num_new_lines(old, new):
    return sum(line.startswith("+ ") for line in difflib.ndiff(old, new))


def test_added_and_changed_lines_are_counted():
    assert num_new_lines(["a", "b", "c"], ["a", "B", "c", "d"]) == 2


@pytest.mark.parametrize(
    "script", [name for name in SCRIPTS if name != "everything"]
)
def test_an_example_is_the_baseline_and_a_few_lines(script):
    new = num_new_lines(lines_of("baseline"), lines_of(script))
    assert new <= MAX_LINES
    assert (new == 0) == (script == "baseline")


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_uses_public_names_only(script):
    imports = [
        line
        for line in lines_of(script)
        if re.match(r"\s*(import|from) keras_eff", line)
    ]
    expected = [] if script == "baseline" else ["import keras_eff as ke"]
    assert imports == expected
    assert not re.search(r"\bke(\.\w+)*\._", "\n".join(lines_of(script)))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_runs(script, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{script}.py"],
        cwd=tmp_path,
        env={**os.environ, "KERAS_EFF_EPOCHS": "4"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    printed = re.search(r"test accuracy: (\d+\.\d+)%", done.stdout)
    assert printed, done.stdout
    # Ten classes: a network that learned nothing is right in 10 % of cases.
    assert float(printed[1]) > 50
