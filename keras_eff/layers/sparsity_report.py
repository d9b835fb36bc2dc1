"""What the sparse layers of a model reached: zeros, FLOPs, bytes."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import rich.markup
import rich.table
from keras import ops

from keras_eff.layers.sparse_layer import SparseLayer

_COLUMNS = (
    "layer",
    "granularity",
    "sparsity",
    "reached",
    "FLOPs",
    "executed",
    "dense",
    "kernel",
    "non-zero",
    "kept",
    "dense",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparsityRow:
    """One sparse layer.

    Args:
        layer: string, path of the layer.
        granularity: string.
        sparsity: float, fraction of the weights asked to be zero, as of now.
        reached_sparsity: float, fraction that is zero in the products.
        flops: float, theoretical training FLOPs of an example; `None`, as the
            next two, with `lora_rank`: those of adapters are not counted.
        executed_flops: float, those that the hardware executes.
        dense_flops: float, those of the Keras layer.
        kernel_bytes: integer, the kernel in memory, all of it.
        nonzero_kernel_bytes: integer, its non-zeros, without their places.
        residual_bytes: float, what the layer keeps of an example for the
            backward pass, derived from shapes: inputs, and bits of a fused
            ReLU.
        dense_residual_bytes: float, the same for the Keras layer: inputs, and
            the output of its ReLU.
    """

    layer: str
    granularity: str
    sparsity: float
    reached_sparsity: float
    flops: float | None
    executed_flops: float | None
    dense_flops: float | None
    kernel_bytes: int
    nonzero_kernel_bytes: int
    residual_bytes: float
    dense_residual_bytes: float


@dataclasses.dataclass(frozen=True)
class SparsityReport:
    """What the sparse layers of a model reached.

    Args:
        rows: tuple of `SparsityRow`.
        convention: string, see `keras_eff.flops.count`.
    """

    rows: tuple[SparsityRow, ...]
    convention: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary, ready for JSON."""
        return dataclasses.asdict(self)

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(
            title="Sparse layers, training an example",
            caption=(
                f"FLOPs in convention {self.convention!r}: theoretical, "
                "executed, dense; bytes: kernel in memory and its non-zeros, "
                "kept for the backward pass and kept by the Keras layer"
            ),
        )
        for heading in _COLUMNS:
            is_text = heading in _COLUMNS[:2]
            table.add_column(heading, justify="left" if is_text else "right")
        for row in self.rows:
            numbers = list(dataclasses.astuple(row))[2:]
            table.add_row(
                rich.markup.escape(row.layer),
                row.granularity,
                *(f"{value:.1%}" for value in numbers[:2]),
                *map(_cell, numbers[2:]),
            )
        return table


def _cell(value: float | None) -> str:
    return "not counted" if value is None else f"{value:,.0f}"


def sparsity_report(
    model: keras.Model, convention: str = "matmul"
) -> SparsityReport:
    """Reports what the sparse layers of a model reached.

    Args:
        model: `keras.Model`, built. Models within it are opened; a sparse
            layer within a layer of another kind is not seen.
        convention: string, how FLOPs are counted, see
            `keras_eff.flops.count`. Defaults to `"matmul"`.

    Returns:
        A `SparsityReport`.

    Raises:
        ValueError: if the model has no sparse layer, or one is not built or
            has an axis, beside the batch, of no static size.

    Example:
    >>> from keras_eff.layers import SparseDense
    >>> model = keras.Sequential([keras.Input((8,)), SparseDense(4)])
    >>> row = sparsity_report(model).rows[0]
    >>> row.sparsity, row.reached_sparsity  # 7 of 32 weights are kept
    (0.8, 0.78125)
    """
    layers = dict(_sparse_layers(model, ""))
    if not layers:
        raise ValueError(
            "Argument `model` must have a sparse layer. Received: model "
            f"{model.name!r} without one"
        )
    rows = [_row(path, la, convention) for path, la in layers.items()]
    return SparsityReport(tuple(rows), convention)


def _sparse_layers(
    model: Any, prefix: str
) -> Iterator[tuple[str, SparseLayer]]:
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        if isinstance(layer, SparseLayer):
            yield path, layer
        elif hasattr(layer, "layers"):
            yield from _sparse_layers(layer, f"{path}/")


def _row(path: str, layer: SparseLayer, convention: str) -> SparsityRow:
    shape = (layer.get_build_config() or {}).get("input_shape")
    if shape is None or None in shape[1:]:
        raise ValueError(
            "A sparse layer must be built, with static sizes beside the batch, "
            f"for its FLOPs to be known. Received: layer {path!r}, input shape "
            f"{shape}"
        )
    cost = None
    if not layer.lora_enabled:
        cost = layer.products(shape).flops(convention)
    kernel = ops.convert_to_numpy(layer.sparse_kernel())
    num_nonzero = int(np.count_nonzero(kernel))
    asked, kept = 0.0, 1.0
    if layer.selection is not None:
        asked = float(ops.convert_to_numpy(layer.selection.sparsities[0]))
        if layer.granularity == "channel":
            kept = layer.selection.kept_fractions[1]
    itemsize = keras.backend.standardize_dtype(layer.compute_dtype)
    itemsize = 4 if itemsize == "float32" else 8 if "64" in itemsize else 2
    inputs = itemsize * math.prod(shape[1:])
    *places, width = layer.compute_output_shape(shape)[1:]
    outputs = math.prod(places) * width
    is_relu = layer.activation is keras.activations.relu
    dense_relu = relu = itemsize * outputs if is_relu else 0
    if is_relu and layer.granularity == "channel":
        relu = math.prod(places) * -(-width // 8)  # bits in whole bytes
    return SparsityRow(
        layer=path,
        granularity=layer.granularity,
        sparsity=asked,
        reached_sparsity=1 - num_nonzero / kernel.size,
        flops=cost and cost.training,
        executed_flops=cost and cost.executed_training,
        dense_flops=cost and cost.dense_training,
        kernel_bytes=kernel.nbytes,
        nonzero_kernel_bytes=num_nonzero * kernel.itemsize,
        residual_bytes=kept * inputs + relu,
        dense_residual_bytes=inputs + dense_relu,
    )
