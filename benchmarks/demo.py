"""What the demo's recipes reach and use.

    python benchmarks/demo.py [digits | fashion-mnist] [seeds]

Prints the table of the README, which a test compares with the record.
"""

import pathlib
import sys
import tempfile

import harness
import numpy as np

from keras_eff import datasets
from keras_eff import demo


def main(name="digits", num_seeds=3):
    out = pathlib.Path(tempfile.mkdtemp())
    epochs = demo.EPOCHS[name]
    data = datasets.LOADERS[name]()
    results = demo.compare(data, epochs, num_seeds, out)
    rows = []
    for recipe, runs in results.items():
        accuracies = [100 * run.accuracy for run in runs]
        quantities = {
            quantity: float(
                np.mean([run.totals[quantity].used for run in runs])
            )
            for quantity in runs[0].totals
        }
        rows.append(
            {
                "recipe": recipe,
                "accuracy": float(np.mean(accuracies)),
                "standard_deviation": (
                    float(np.std(accuracies, ddof=1)) if num_seeds > 1 else None
                ),
                **quantities,
            }
        )
    record = "demo" if name == "digits" else f"demo_{name.replace('-', '_')}"
    harness.record(record, f"{name}: {num_seeds} seeds, {epochs} epochs", rows)
    print(markdown(rows))


def markdown(rows):
    """Returns the rows as a table of the README."""
    plain = rows[0]
    lines = [
        f"| | {' | '.join(row['recipe'] for row in rows)} |",
        "|---" * (len(rows) + 1) + "|",
        "| test accuracy | "
        + " | ".join(_accuracy(row) for row in rows)
        + " |",
    ]
    for quantity, (label, form) in {
        "updates": ("updates", ",.0f"),
        "examples": ("examples", ",.0f"),
        "flops_theoretical": ("FLOPs, theoretical", ".3g"),
        "flops_executed": ("FLOPs, executed", ".3g"),
        "seconds": ("wall seconds, measured", ".2f"),
    }.items():
        cells = [
            f"{row[quantity]:{form}} "
            f"({100 * (row[quantity] / plain[quantity] - 1):+.0f} %)"
            for row in rows[1:]
        ]
        cells = [f"{plain[quantity]:{form}}", *cells]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(row):
    spread = row["standard_deviation"]
    after = "" if spread is None else f" ± {spread:.2f}"
    return f"{row['accuracy']:.2f}{after} %"


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
