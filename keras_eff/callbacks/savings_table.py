"""The ledger's table, for people."""

from collections.abc import Callable

import rich.table

from keras_eff.savings import Total


def table(
    totals: dict[str, Total],
    basis: Callable[[str, Total], str],
    caption: str,
    not_counted: dict[str, str],
) -> rich.table.Table:
    """Returns one row a quantity, with on what its number rests.

    Args:
        totals: dictionary quantity -> `Total`.
        basis: callable `(quantity, total) -> words`.
        caption: string, what `planned` means.
        not_counted: dictionary name -> reason, of what the sums leave out.
    """
    for name, reason in not_counted.items():
        caption += f"\nnot counted: {name} ({reason})"
    shown = rich.table.Table(title="Savings", caption=caption)
    shown.add_column("quantity")
    for heading in ("used", "planned", "saved", "basis"):
        shown.add_column(heading, justify="right")
    for quantity, total in totals.items():
        planned, saved = total.planned, total.saved_pct
        shown.add_row(
            quantity.replace("_", " "),
            f"{total.used:,.4g}",
            "no baseline" if planned is None else f"{planned:,.4g}",
            "" if saved is None else f"{saved:.1f} %",
            basis(quantity, total),
        )
    return shown
