"""What became of the layers of a converted model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import rich.markup
import rich.table


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion replaced, and what it left alone and why.

    Args:
        converted: tuple of paths, such as `"encoder/bn_1"`.
        skipped: tuple of `(path, reason)`.
        sparsities: mapping of the paths of converted layers to floats, the
            fraction of zeros in the weights of each. Empty where the
            conversion is not about sparsity, which is the default.

    Example:
    >>> Report((), (("bn", "renorm=True"),)).to_dict()
    {'converted': [], 'skipped': [{'layer': 'bn', 'reason': 'renorm=True'}]}
    >>> Report(("dense",), (), {"dense": 0.8}).to_dict()["sparsities"]
    {'dense': 0.8}
    """

    converted: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    sparsities: Mapping[str, float] = dataclasses.field(
        default_factory=dict, hash=False
    )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary, ready for JSON."""
        fields = {
            "converted": list(self.converted),
            "skipped": [
                {"layer": path, "reason": reason}
                for path, reason in self.skipped
            ],
        }
        if self.sparsities:
            fields["sparsities"] = dict(self.sparsities)
        return fields

    def __rich__(self) -> rich.table.Table:
        title = f"Converted: {len(self.converted) or 'none'}"
        table = rich.table.Table("Layer", "Result", title=title)
        if self.sparsities:
            table.add_column("Sparsity", justify="right")
        for path in self.converted:
            cells = [path, "converted"]
            if path in self.sparsities:
                cells.append(f"{self.sparsities[path]:.3g}")
            table.add_row(*map(rich.markup.escape, cells))
        for path, reason in self.skipped:
            cells = [path, f"skipped: {reason}"]
            table.add_row(*map(rich.markup.escape, cells))
        return table
