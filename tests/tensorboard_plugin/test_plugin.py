import csv
import io
import json
import math
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorboard_plugin_keras_eff
from tensorboard.backend.event_processing import data_provider
from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.proto import summary_pb2
from tensorboard.compat.proto import tensor_pb2
from tensorboard.compat.proto import types_pb2
from tensorboard.plugins import base_plugin
from tensorboard.summary.writer import record_writer
from tensorboard_plugin_keras_eff import names
from tensorboard_plugin_keras_eff import plugin
from werkzeug import test as werkzeug_test

STATIC = pathlib.Path(tensorboard_plugin_keras_eff.__file__).parent / "static"
ROOT = "/data/plugin/keras_eff"
ODD_NAME = "pruned run+α"
MANIFEST = {
    "schema": 1,
    "techniques": ["pruning", "swat"],
    "basis": {
        "examples": "measured",
        "flops_theoretical": "derived",
        "flops_executed": "derived",
        "seconds": "measured",
    },
    "quality": {"val_accuracy": "max", "val_loss": "min"},
    "baseline": "the same run without the techniques",
    "device": "CPU",
    "of_the_future": [1, 2],
}
SCALARS = {
    "keras_eff/examples/used": 70.0,
    "keras_eff/examples/planned": 100.0,
    "keras_eff/examples/saved_pct": 30.0,
    "keras_eff/flops_theoretical/used": 2e15,
    "keras_eff/flops_theoretical/planned": 4e15,
    "keras_eff/flops_theoretical/saved_pct": 50.0,
    "keras_eff/flops_executed/used": 4e15,
    "keras_eff/flops_executed/planned": 4e15,
    "keras_eff/flops_executed/saved_pct": 0.0,
    "keras_eff/seconds/used": 12.5,
    "keras_eff/puffs_of_smoke/used": 3.0,
    "keras_eff/quality/val_accuracy": 0.5,
    "keras_eff/batch_size": 32.0,
    "epoch_loss": 1.0,
}


def value(tag, plugin_name, data_class, **content):
    metadata = summary_pb2.SummaryMetadata(data_class=data_class)
    metadata.plugin_data.plugin_name = plugin_name
    tensor = tensor_pb2.TensorProto(**content)
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def scalar(tag, number):
    return value(
        tag,
        "scalars",
        summary_pb2.DATA_CLASS_SCALAR,
        dtype=types_pb2.DT_FLOAT,
        float_val=[number],
    )


def manifest_value(text):
    return value(
        names.MANIFEST,
        names.PLUGIN,
        summary_pb2.DATA_CLASS_TENSOR,
        dtype=types_pb2.DT_STRING,
        string_val=[text.encode()],
    )


def write_run(folder, *steps):
    """Writes an event file; a step is `(scalars, manifest text or None)`."""
    folder.mkdir(parents=True)
    events = [event_pb2.Event(wall_time=1, file_version="brain.Event:2")]
    for step, (scalars, manifest) in enumerate(steps):
        values = [scalar(*item) for item in scalars.items()]
        if manifest is not None:
            values.append(manifest_value(manifest))
        summary = summary_pb2.Summary(value=values)
        events.append(
            event_pb2.Event(wall_time=2 + step, step=step, summary=summary)
        )
    with (folder / "events.out.tfevents.1.test").open("wb") as file:
        records = record_writer.RecordWriter(file)
        for event in events:
            records.write(event.SerializeToString())


def write_logs(root):
    good = json.dumps(MANIFEST)
    earlier = {**SCALARS, "keras_eff/examples/used": 7.0}
    few = {
        "keras_eff/examples/used": 1.0,
        "keras_eff/quality/val_accuracy": 0.1,
    }
    nan = {**SCALARS, "keras_eff/examples/saved_pct": math.nan}
    nan["keras_eff/quality/val_accuracy"] = math.inf
    for name, steps in {
        "plain/efficiency": [(earlier, "{}"), (SCALARS, good)],
        f"{ODD_NAME}/efficiency": [(few, good)],
        "nan/efficiency": [(nan, good)],
        "bad/efficiency": [(SCALARS, "{not json")],
        "newer/efficiency": [(few, json.dumps({"schema": 2}))],
        "orphan": [(few, None)],
        "foreign": [({"epoch_loss": 1.0}, None)],
    }.items():
        write_run(root / name, *steps)


def strict_json(text):
    """Parses JSON as a browser does: NaN and Infinity are errors."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(word))


@pytest.fixture(scope="module", params=["rust", "python"])
def address(request, serve, get, tmp_path_factory):
    """TensorBoard on the logs above, once with each loader."""
    fast = request.param == "rust"
    if fast:
        server = pytest.importorskip("tensorboard_data_server")
        if server.server_binary() is None:
            pytest.skip("tensorboard_data_server has no binary here")
    logs = tmp_path_factory.mktemp("logs")
    write_logs(logs)
    flag = f"--load_fast={fast}".lower()
    with serve(logs, flag, ready=lambda url: has_runs(get, url, 6)) as url:
        yield url


def has_runs(get, url, count):
    text = get(f"{url}{ROOT}/overview")[2]
    return len(json.loads(text)["runs"]) == count


@pytest.fixture(scope="module")
def overview(address, get):
    return strict_json(get(f"{address}{ROOT}/overview")[2])


@pytest.fixture(scope="module")
def runs(overview):
    return {run["group"]: run for run in overview["runs"]}


def test_tab_is_active_by_its_manifests(address, get):
    _, _, text = get(f"{address}/data/plugins_listing")
    listed = json.loads(text)["keras_eff"]
    assert listed["enabled"]
    assert listed["tab_name"] == "Efficiency"
    assert listed["loading_mechanism"]["module_path"] == (
        f"{ROOT}/static/index.js"
    )


def test_runs_without_our_tags_are_left_out(runs):
    expected = ["bad", "nan", "newer", "orphan", "plain", ODD_NAME]
    assert list(runs) == expected


def test_overview_holds_the_last_numbers_written(runs):
    run = runs["plain"]
    assert run["run"] == "plain/efficiency"
    assert run["manifest"] == {
        key: MANIFEST[key] for key in MANIFEST if key != "of_the_future"
    }
    assert run["quality"] == {"val_accuracy": {"last": 0.5, "step": 1}}
    assert run["cards"]["examples"] == {
        "used": 70.0,
        "planned": 100.0,
        "saved_pct": 30.0,
        "unit": "examples",
        "basis": "measured",
        "fact": True,
        "step": 1,
        "wall_time": 3.0,
    }


def test_columns_are_known_quantities_then_unknown_ones(overview):
    assert overview["columns"] == {
        "quality": [{"name": "val_accuracy", "better": "max"}],
        "quantities": [
            {"name": "seconds", "label": "Time"},
            {"name": "flops_executed", "label": "Compute, executed"},
            {"name": "flops_theoretical", "label": "Compute, theoretical"},
            {"name": "examples", "label": "Examples"},
            {"name": "puffs_of_smoke", "label": "puffs_of_smoke"},
        ],
    }


def test_no_baseline_is_not_zero_saved(runs):
    seconds = runs["plain"]["cards"]["seconds"]
    assert seconds["used"] == 12.5
    assert seconds["planned"] is None
    assert seconds["saved_pct"] is None


def test_theory_is_marked_and_is_no_fact(runs):
    theory = runs["plain"]["cards"]["flops_theoretical"]
    executed = runs["plain"]["cards"]["flops_executed"]
    assert (theory["basis"], theory["fact"]) == ("theoretical", False)
    assert (executed["basis"], executed["fact"]) == ("derived", True)


def test_what_is_not_finite_is_null(runs):
    assert runs["nan"]["cards"]["examples"]["saved_pct"] is None
    assert runs["nan"]["quality"]["val_accuracy"]["last"] is None


def test_run_with_unreadable_manifest_is_shown(runs):
    assert "cannot be read" in runs["bad"]["manifest"]["error"]
    assert runs["bad"]["cards"]["examples"]["used"] == 70.0
    assert runs["bad"]["cards"]["examples"]["basis"] is None
    assert not runs["bad"]["cards"]["flops_executed"]["fact"]


def test_run_without_manifest_is_shown(runs):
    assert "No manifest" in runs["orphan"]["manifest"]["error"]
    assert runs["orphan"]["cards"]["examples"]["used"] == 1.0


def test_newer_schema_gives_a_notice(runs):
    manifest = runs["newer"]["manifest"]
    assert "schema 2; this tab knows 1" in manifest["notice"]
    assert "error" not in manifest


def test_csv_holds_the_same_table(address, get):
    _, headers, text = get(f"{address}{ROOT}/table.csv")
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(text))}
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    assert len(rows) == 6
    assert rows["plain"]["techniques"] == "pruning swat"
    assert rows["plain"]["val_accuracy"] == "0.5"
    assert rows["plain"]["examples/saved_pct"] == "30"
    assert rows["plain"]["flops_theoretical/basis"] == "theoretical"
    assert rows["plain"]["seconds/planned"] == ""
    assert rows[ODD_NAME]["seconds/used"] == ""
    assert rows[ODD_NAME]["val_accuracy"] == "0.1"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("index.js", "text/javascript; charset=utf-8"),
        ("table.js", "text/javascript; charset=utf-8"),
        ("format.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
    ],
)
def test_static_files_come_with_their_type(address, get, name, content_type):
    status, headers, text = get(f"{address}{ROOT}/static/{name}")
    assert status == 200
    assert headers["Content-Type"] == content_type
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert text == (STATIC / name).read_text()


@pytest.mark.parametrize(
    "path", ["../plugin.py", "..%2fplugin.py", "%2e%2e/plugin.py", "", "no.js"]
)
def test_nothing_else_is_served(address, get, path):
    status, _, text = get(f"{address}{ROOT}/static/{path}")
    assert status == 404
    assert "EfficiencyPlugin" not in text


def test_works_under_a_path_prefix(serve, get, tmp_path):
    write_run(tmp_path / "efficiency", (SCALARS, json.dumps(MANIFEST)))
    flags = ["--load_fast=false", "--path_prefix=/a/b"]
    with serve(tmp_path, *flags) as address:
        _, _, text = get(f"{address}{ROOT}/overview")
    assert address.endswith("/a/b")
    assert [run["group"] for run in json.loads(text)["runs"]] == ["."]


@pytest.fixture
def client(tmp_path):
    """Calls a route of the plugin in this process, on real event files."""

    def call(route):
        multiplexer = plugin_event_multiplexer.EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(tmp_path))
        multiplexer.Reload()
        context = base_plugin.TBContext(
            data_provider=data_provider.MultiplexerDataProvider(
                multiplexer, str(tmp_path)
            )
        )
        apps = plugin.EfficiencyPlugin(context).get_plugin_apps()
        return werkzeug_test.Client(apps[route]).get(route)

    return call


def test_no_runs_give_an_empty_table(client):
    assert client("/overview").json == {
        "schema": 1,
        "columns": {"quality": [], "quantities": []},
        "runs": [],
        "truncated": False,
    }
    assert client("/table.csv").text.splitlines() == ["run,techniques"]


def test_runs_over_the_limit_are_declared(client, tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "MAX_RUNS", 2)
    for name in "cab":
        write_run(tmp_path / name, (SCALARS, None))
    overview = client("/overview").json
    assert overview["truncated"]
    assert [run["group"] for run in overview["runs"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("a/efficiency", "a"),
        ("a\\efficiency", "a"),
        ("a/b/efficiency", "a/b"),
        ("efficiency", "."),
        ("inefficiency", "inefficiency"),
        ("efficiency/a", "efficiency/a"),
    ],
)
def test_group_is_the_run_without_the_writers_folder(run, expected):
    assert names.group(run) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("keras_eff/examples/used", ("examples", "used")),
        ("keras_eff/quality/val/top-5", ("quality", "val/top-5")),
        ("keras_eff/quality/", None),
        ("keras_eff/batch_size", None),
        ("keras_eff/examples/used/up", None),
        ("keras_eff_layers/examples/used", None),
    ],
)
def test_only_headline_tags_are_read(tag, expected):
    assert names.split_tag(tag) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "Expecting value"),
        ("[]", r"must be an object. Received: \[\]"),
        ('{"schema": "1"}', "`schema` must be of type int. Received: '1'"),
        ('{"basis": []}', r"`basis` must be of type dict. Received: \[\]"),
    ],
)
def test_error_says_what_is_wrong_with_a_manifest(text, error):
    parsed = names.parse_manifest(np.array(text.encode(), dtype=object))
    assert list(parsed) == ["error"]
    assert re.search(error, parsed["error"])


@pytest.mark.parametrize(
    ("basis", "quantity", "fact"),
    [
        ("measured", "seconds", True),
        ("derived", "flops_executed", True),
        ("derived", "seconds", False),
        (None, "flops_executed", False),
        ("theoretical", "flops_theoretical", False),
    ],
)
def test_only_executed_and_measured_figures_are_facts(basis, quantity, fact):
    assert names.is_fact(quantity, basis) is fact


def test_no_manifest_can_promote_a_theory():
    basis = names.honest_basis("flops_theoretical", "measured")
    assert basis == "theoretical"


FORMATS = [
    ("amount(3.59e15, 'FLOP')", "3.59 PFLOP"),
    ("amount(999.6, 'FLOP')", "1.00 kFLOP"),
    ("amount(0, 'FLOP')", "0.00 FLOP"),
    ("amount(95700, 'examples')", "95,700 examples"),
    ("amount(0.0234, '')", "0.0234"),
    ("amount(12.5, 's')", "12.5 s"),
    ("amount(252.4, 's')", "4 min 12 s"),
    ("amount(7500, 's')", "2 h 05 min"),
    ("amount(null, 's')", "n/a"),
    ("saving({saved_pct: 22.5, planned: 9})", "22.5 % less"),
    ("saving({saved_pct: -3, planned: 9})", "+3.0 % more"),
    ("saving({saved_pct: 0, planned: 9})", "0 %"),
    ("saving({saved_pct: null, planned: 9})", "n/a"),
    ("saving({saved_pct: null, planned: null})", "no baseline"),
    ("saving({saved_pct: 0, planned: 0})", "no baseline"),
    ("quality(0.9)", "0.9000"),
    ("quality(null)", "n/a"),
]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_numbers_read_well():
    calls = ",".join(call for call, _ in FORMATS)
    code = (
        f"import {{ amount, quality, saving }} from '{STATIC}/format.js';"
        f"console.log(JSON.stringify([{calls}]))"
    )
    command = ["node", "--input-type=module", "--eval", code]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    shown = [
        text.replace("\N{NO-BREAK SPACE}", " ") for text in json.loads(output)
    ]
    assert shown == [text for _, text in FORMATS]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("name", [n for n in plugin.STATIC if ".js" in n])
def test_scripts_are_valid_modules(name):
    command = ["node", "--input-type=module", "--check"]
    subprocess.run(command, check=True, input=(STATIC / name).read_bytes())
