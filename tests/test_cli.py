import re
from importlib import metadata

import click.testing
import keras
import pytest

from keras_eff import cli
from keras_eff import datasets
from keras_eff.cli import new_run_folder

IS_TENSORFLOW_LOADED = """
import sys
import keras_eff.cli
try:
    keras_eff.cli.main({arguments!r})
except SystemExit as stop:
    sys.exit(stop.code or "tensorflow" in sys.modules)
"""


def invoke(*arguments):
    return click.testing.CliRunner().invoke(cli.main, arguments)


def words(text):
    """The text without the line breaks of an 80-column terminal."""
    return " ".join(text.split())


def tiny_digits():
    x_train, y_train, x_test, y_test = datasets.digits()
    return datasets.Data(
        x_train[:400], y_train[:400], x_test[:100], y_test[:100]
    )


def no_network():
    raise Exception("no network")


@pytest.fixture
def no_fashion_mnist(tmp_path, monkeypatch):
    """A machine without Fashion-MNIST and without a network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", no_network)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What `keras-eff demo` answers, and the folder of its runs."""
    out = tmp_path_factory.mktemp("a-folder-with-a-name-" * 4) / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(datasets.LOADERS, "digits", tiny_digits)
        options = {"--epochs": "4", "--seeds": "1", "--out": str(out)}
        arguments = [part for option in options.items() for part in option]
        return invoke("demo", *arguments), out


def test_help_names_the_command_and_every_option():
    assert "demo" in invoke("--help").output
    result = invoke("demo", "--help")
    assert result.exit_code == 0
    for option in ("--data", "--epochs", "--seeds", "--out"):
        assert option in result.output
    assert "[default: 20 digits, 12 fashion-mnist]" in words(result.output)


def test_the_version_is_that_of_the_package():
    result = invoke("--version")
    assert result.exit_code == 0
    assert metadata.version("keras-eff") in result.output


def test_the_command_offers_every_data_set_with_its_epochs():
    from keras_eff import demo as recipes

    (option,) = (p for p in cli.demo.params if p.name == "data")
    assert list(option.type.choices) == list(datasets.LOADERS)
    assert set(recipes.EPOCHS) == set(datasets.LOADERS)
    epochs = (f"{recipes.EPOCHS[name]} {name}" for name in datasets.LOADERS)
    (option,) = (p for p in cli.demo.params if p.name == "epochs")
    assert f"[default: {', '.join(epochs)}]" in option.help


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "cifar"], "'cifar' is not one of 'digits', 'fashion-mni"),
        (["--epochs", "3"], "3 is not in the range x>=4."),
        (["--epochs", "many"], "'many' is not a valid integer"),
        (["--seeds", "0"], "0 is not in the range x>=1."),
        (["--out", __file__], "is a file."),
        (["--speed", "9"], "No such option"),
        (["digits"], "Got unexpected extra argument (digits)"),
    ],
)
def test_a_bad_option_is_named_and_nothing_is_made(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = invoke("demo", *arguments)
    assert result.exit_code == 2
    assert message in words(result.output)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_is_refused():
    result = invoke("dmeo")
    assert result.exit_code == 2
    assert "No such command 'dmeo'" in result.output


def test_the_first_run_makes_the_folder_of_runs(tmp_path):
    run = new_run_folder(tmp_path / "some" / "runs")
    assert run == tmp_path / "some" / "runs" / "run-001"
    assert list(run.iterdir()) == []


def test_runs_are_numbered_one_after_the_other(tmp_path):
    names = [new_run_folder(tmp_path).name for _ in range(3)]
    assert names == ["run-001", "run-002", "run-003"]


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param(["run-002"], "run-003", id="gap-below"),
        pytest.param(["run-001", "run-005"], "run-006", id="gap-between"),
        pytest.param(["run-009", "run-010"], "run-011", id="two-digits"),
        pytest.param(["run-999", "run-1000"], "run-1001", id="four-digits"),
        pytest.param(["run-7"], "run-008", id="without-zeros"),
        pytest.param(["run-abc", "run-", "run"], "run-001", id="no-number"),
        pytest.param(["old-run-004", "ran-004"], "run-001", id="other-names"),
    ],
)
def test_a_number_that_was_used_is_not_used_again(present, expected, tmp_path):
    for name in present:
        (tmp_path / name).mkdir()
    assert new_run_folder(tmp_path).name == expected


@pytest.mark.parametrize("odd", ["run-002-old", "run-1x", "run-003.zip"])
def test_a_name_that_only_begins_like_a_run_is_no_run(odd, tmp_path):
    (tmp_path / "run-001").mkdir()
    (tmp_path / odd).mkdir()
    run = new_run_folder(tmp_path)
    assert re.fullmatch(r"run-\d{3}", run.name)
    assert list(run.iterdir()) == []


def test_a_file_takes_its_number_too(tmp_path):
    (tmp_path / "run-004").write_text("not a folder")
    assert new_run_folder(tmp_path).name == "run-005"
    assert (tmp_path / "run-004").read_text() == "not a folder"


def test_a_new_run_leaves_the_runs_before_it_alone(tmp_path):
    first = new_run_folder(tmp_path)
    (first / "savings.json").write_text("{}")
    second = new_run_folder(tmp_path)
    assert second != first
    assert (first / "savings.json").read_text() == "{}"


def test_the_demo_ends_well_and_prints_the_table(demo):
    result, _ = demo
    assert result.exit_code == 0, result.output
    shown = words(result.output)
    assert "plain Keras" in shown
    assert "keras_eff" in shown
    for row in ("test accuracy", "updates", "theoretical", "executed"):
        assert row in shown


def test_the_demo_writes_every_recipe_into_its_numbered_run(demo):
    _, out = demo
    assert [path.name for path in out.iterdir()] == ["run-001"]
    seed = out / "run-001" / "seed-0"
    for recipe in ("plain", "random", "efficient"):
        assert (seed / recipe / "savings.json").exists()
        assert list((seed / recipe / "efficiency").glob("events.out.*"))


def test_the_demo_prints_how_to_see_the_curves(demo):
    result, out = demo
    printed = "".join(result.output.split())
    assert f"tensorboard--logdir{out / 'run-001'}" in printed


def test_the_command_for_tensorboard_can_be_copied(demo):
    result, out = demo
    command = f"tensorboard --logdir {out / 'run-001'}"
    assert command in result.output.splitlines()[-1]


def test_without_fashion_mnist_the_command_says_how_to_get_it(
    no_fashion_mnist, tmp_path
):
    out = tmp_path / "runs"
    result = invoke("demo", "--data", "fashion-mnist", "--out", str(out))
    assert result.exit_code == 1
    message = words(result.output)
    assert "Error: Fashion-MNIST is not on this machine." in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "download: no network" in message
    assert "Traceback" not in message


def test_without_fashion_mnist_no_empty_run_is_left(no_fashion_mnist, tmp_path):
    out = tmp_path / "runs"
    earlier = new_run_folder(out)
    invoke("demo", "--data", "fashion-mnist", "--out", str(out))
    assert list(out.iterdir()) == [earlier]
