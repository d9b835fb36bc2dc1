"""What the demo's recipes reach and use, on the digits.

Prints the table of the README, which a test compares with the record.
"""

import pathlib
import tempfile

import harness
import numpy as np

from keras_eff import datasets
from keras_eff import demo

SEEDS = 3


def main():
    out = pathlib.Path(tempfile.mkdtemp())
    epochs = demo.EPOCHS["digits"]
    results = demo.compare(datasets.digits(), epochs, SEEDS, out)
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
                "standard_deviation": float(np.std(accuracies, ddof=1)),
                **quantities,
            }
        )
    harness.record("demo", f"{SEEDS} seeds, {epochs} epochs", rows)
    print(markdown(rows))


def markdown(rows):
    """Returns the rows as a table of the README."""
    plain = rows[0]
    lines = [
        f"| | {' | '.join(row['recipe'] for row in rows)} |",
        "|---" * (len(rows) + 1) + "|",
        "| test accuracy | "
        + " | ".join(
            f"{row['accuracy']:.2f} ± {row['standard_deviation']:.2f} %"
            for row in rows
        )
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


if __name__ == "__main__":
    main()
