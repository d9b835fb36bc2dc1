"""Names, units and manifest of the event files, as this plugin reads them."""

import collections
import json
import re

PLUGIN = "keras_eff"
SCHEMA = 1
MANIFEST = f"{PLUGIN}/manifest"
QUALITY = "quality"
FIGURES = ("used", "planned", "saved_pct")

Quantity = collections.namedtuple("Quantity", "label unit")

# In the order of the columns.
QUANTITIES = {
    "seconds": Quantity("Time", "s"),
    "flops_executed": Quantity("Compute, executed", "FLOP"),
    "flops_theoretical": Quantity("Compute, theoretical", "FLOP"),
    "updates": Quantity("Updates", "updates"),
    "examples": Quantity("Examples", "examples"),
}

_MANIFEST_FIELDS = {
    "schema": int,
    "techniques": list,
    "basis": dict,
    "quality": dict,
    "baseline": str,
    "device": str,
}


def split_tag(tag):
    """Returns `(quantity, figure)`, `("quality", metric)` or `None`."""
    plugin, _, rest = tag.partition("/")
    kind, _, leaf = rest.partition("/")
    if plugin != PLUGIN or not leaf:
        return None
    return (kind, leaf) if kind == QUALITY or leaf in FIGURES else None


def describe(quantity):
    """Returns label and unit; an unknown quantity goes by its own name."""
    return QUANTITIES.get(quantity, Quantity(label=quantity, unit=""))


def in_column_order(quantities):
    """Returns the known quantities as they stand above, then the others."""
    known = [quantity for quantity in QUANTITIES if quantity in quantities]
    return known + sorted(set(quantities) - set(known))


def honest_basis(quantity, stated):
    """Returns the basis to show: no manifest can promote a theory."""
    return "theoretical" if quantity.endswith("_theoretical") else stated


def is_fact(quantity, basis):
    """Returns whether the hardware did this, by measure or by execution."""
    return basis == "measured" or (
        basis == "derived" and quantity.endswith("_executed")
    )


def group(run):
    """Returns the run as the user named it, without the writer's directory."""
    return re.sub(r"(^|[/\\])efficiency$", "", run) or "."


def parse_manifest(array):
    """Returns the known fields of a string tensor, or what is wrong with it."""
    try:
        manifest = _known_fields(json.loads(array.item()))
    except (TypeError, ValueError) as error:
        return {"error": f"The manifest cannot be read: {error}"}
    if manifest.get("schema", SCHEMA) > SCHEMA:
        manifest["notice"] = (
            f"Written by a newer keras_eff (schema {manifest['schema']}; this "
            f"tab knows {SCHEMA}): update it to see everything."
        )
    return manifest


def _known_fields(raw):
    if not isinstance(raw, dict):
        raise TypeError(f"it must be an object. Received: {raw!r}")
    known = {field: raw[field] for field in _MANIFEST_FIELDS if field in raw}
    for field, value in known.items():
        if not isinstance(value, _MANIFEST_FIELDS[field]):
            expected = _MANIFEST_FIELDS[field].__name__
            raise TypeError(
                f"`{field}` must be of type {expected}. Received: {value!r}"
            )
    return known
