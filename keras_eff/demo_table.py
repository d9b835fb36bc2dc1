"""The table of the demo: what each recipe reached and used."""

import dataclasses

import numpy as np
import rich.table

from keras_eff.savings import Total
from keras_eff.savings import saved_pct


@dataclasses.dataclass(frozen=True)
class Result:
    """What a recipe reached and used."""

    accuracy: float
    totals: dict[str, Total]


def table(results: dict[str, list[Result]]) -> rich.table.Table:
    """Returns the comparison, one column a recipe, one row a quantity.

    Args:
        results: dictionary recipe -> one `Result` a seed; the first recipe
            is the baseline.
    """
    baseline = next(iter(results))
    shown = rich.table.Table(
        title=f"mean ± standard deviation of {len(results[baseline])} seeds",
        caption=(
            f"In brackets: against {baseline}. What scoring costs is in "
            "keras_eff's figures. Theoretical FLOPs leave out multiplications "
            "by zero, which the hardware executes all the same."
        ),
    )
    shown.add_column("")
    for recipe in results:
        shown.add_column(recipe, justify="right")
    shown.add_row(
        "test accuracy",
        *(_accuracy(results, recipe, baseline) for recipe in results),
    )
    for quantity, label in _QUANTITIES.items():
        cells = (
            _quantity(results, recipe, baseline, quantity) for recipe in results
        )
        shown.add_row(label, *cells)
    return shown


_QUANTITIES = {
    "updates": "updates",
    "examples": "examples",
    "flops_theoretical": "FLOPs, theoretical",
    "flops_executed": "FLOPs, executed",
    "seconds": "wall seconds, measured",
}


def _accuracy(results, recipe, baseline):
    values = 100 * np.array([result.accuracy for result in results[recipe]])
    cell = f"{_with_spread(values)} %"
    if recipe == baseline:
        return cell
    plain = 100 * np.mean([result.accuracy for result in results[baseline]])
    return f"{cell} ({values.mean() - plain:+.2f})"


def _quantity(results, recipe, baseline, quantity):
    def used(name):
        return [result.totals[quantity].used for result in results[name]]

    values = used(recipe)
    cell = f"{np.mean(values):,.4g}"
    if quantity in ("updates", "examples"):
        cell = f"{np.mean(values):,.0f}"
    if quantity == "seconds":
        cell = _with_spread(values)
    if recipe == baseline:
        return cell
    saved = saved_pct(np.mean(used(baseline)), np.mean(values))
    return f"{cell} ({-saved:+.0f} %)"


def _with_spread(values):
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def verdict(results: dict[str, list[Result]]) -> str:
    """Returns in a sentence what the last recipe did to the wall time.

    Args:
        results: dictionary recipe -> one `Result` a seed.
    """
    baseline, *_, ours = results
    times = {
        recipe: np.mean([r.totals["seconds"].used for r in results[recipe]])
        for recipe in (baseline, ours)
    }
    ratio = times[ours] / times[baseline]
    sentence = (
        f"On this machine {ours} took {ratio:.2f} times the wall time of "
        f"{baseline}."
    )
    if ratio > 1:
        sentence += (
            " Fewer updates and examples did not make up for scoring and for "
            "sparse layers, whose zeros are multiplied too "
            "(benchmarks/sparse.py)."
        )
    return sentence
