"""Rows and columns of the table, from scalars and manifests already read."""

import collections
import csv
import io
import math

from tensorboard_plugin_keras_eff import names

_CSV_FIELDS = (*names.FIGURES, "unit", "basis")
_NO_MANIFEST = {"error": "No manifest found: techniques and basis unknown."}


def row(run, scalars, manifest):
    """Returns one run of the overview.

    Args:
        run: string, the run's name in TensorBoard.
        scalars: dict of headline tag to its last `ScalarDatum`.
        manifest: dict from `names.parse_manifest`, or `None`.
    """
    manifest = _NO_MANIFEST if manifest is None else manifest
    kinds = collections.defaultdict(dict)
    for tag, datum in scalars.items():
        kind, leaf = names.split_tag(tag)
        kinds[kind][leaf] = datum
    quality = kinds.pop(names.QUALITY, {})
    basis = manifest.get("basis", {})
    return {
        "run": run,
        "group": names.group(run),
        "manifest": manifest,
        "quality": {
            metric: {"last": _finite(datum), "step": datum.step}
            for metric, datum in quality.items()
        },
        "cards": {
            quantity: _card(quantity, figures, basis.get(quantity))
            for quantity, figures in kinds.items()
        },
    }


def columns(rows):
    """Returns the columns that at least one row fills, in their order."""
    better = {}
    for each in rows:
        better |= each["manifest"].get("quality", {})
    metrics = sorted({metric for each in rows for metric in each["quality"]})
    quantities = {quantity for each in rows for quantity in each["cards"]}
    return {
        "quality": [{"name": m, "better": better.get(m)} for m in metrics],
        "quantities": [
            {"name": quantity, "label": names.describe(quantity).label}
            for quantity in names.in_column_order(quantities)
        ],
    }


def as_csv(overview):
    """Returns the overview as CSV; what is not known stays empty."""
    metrics = [column["name"] for column in overview["columns"]["quality"]]
    quantities = [c["name"] for c in overview["columns"]["quantities"]]
    cells = [(q, field) for q in quantities for field in _CSV_FIELDS]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ["run", "techniques", *metrics, *("/".join(cell) for cell in cells)]
    )
    for each in overview["runs"]:
        techniques = each["manifest"].get("techniques", [])
        writer.writerow(
            [
                each["group"],
                " ".join(map(str, techniques)),
                *(_text(each["quality"].get(m, {}), "last") for m in metrics),
                *(_text(each["cards"].get(q, {}), f) for q, f in cells),
            ]
        )
    return text.getvalue()


def _card(quantity, figures, stated_basis):
    latest = max(figures.values(), key=lambda datum: datum.step)
    basis = names.honest_basis(quantity, stated_basis)
    return {
        **{name: _finite(figures.get(name)) for name in names.FIGURES},
        "unit": names.describe(quantity).unit,
        "basis": basis,
        "fact": names.is_fact(quantity, basis),
        "step": latest.step,
        "wall_time": latest.wall_time,
    }


def _text(record, field):
    """Returns a CSV cell, with the 7 digits that float32 carries."""
    value = record.get(field)
    return f"{value:.7g}" if isinstance(value, float) else value


def _finite(datum):
    """Returns the value, or `None`: JSON has no word for NaN."""
    known = datum is not None and math.isfinite(datum.value)
    return datum.value if known else None
