"""What a Keras model costs: FLOPs by layer, under a named convention.

FLOPs of one example, three columns that never mix:

- `dense_*`: every multiplication of the layer, zeros included;
- `forward`, `training`: without multiplications by zeros that a layer knows
  of (theoretical: stock hardware executes them all the same);
- `executed_*`: what the hardware is given to do.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_eff import model_calls

# Convention "matmul": 2 FLOPs a multiply-add of a matrix product or
# convolution; training is 3 forward passes (forward, input gradient, weight
# gradient), the first layer's input gradient included, frozen layers as if
# they were trained. Biases, activations, normalization and the optimizer are
# not counted, as in nanoGPT's accounting (github.com/karpathy/nanoGPT,
# transformer_sizing.ipynb).
CONVENTIONS = ("matmul",)

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs of one example in six numbers.

    Args:
        forward: float, theoretical FLOPs of inference.
        training: float, theoretical FLOPs of a training step, an example.
        executed_forward: float, FLOPs that the hardware executes.
        executed_training: float, the same for a training step.
        dense_forward: float, FLOPs of the same layer without sparsity.
        dense_training: float, the same for a training step.
    """

    forward: float
    training: float
    executed_forward: float
    executed_training: float
    dense_forward: float
    dense_training: float

    @classmethod
    def of_dense(cls, forward: float) -> "Flops":
        """Returns the cost of a layer that multiplies everything.

        Args:
            forward: float, FLOPs of the forward pass.
        """
        return cls(
            forward=forward,
            training=3 * forward,
            executed_forward=forward,
            executed_training=3 * forward,
            dense_forward=forward,
            dense_training=3 * forward,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary, ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerFlops(Flops):
    """One row of a report: the cost of one call of one layer."""

    path: str
    layer: str


@dataclasses.dataclass(frozen=True)
class Unsupported:
    """A layer that was not counted, and why."""

    path: str
    layer: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Flops):
    """The cost of a model: sums, rows by layer, and what was not counted."""

    convention: str
    layers: tuple[LayerFlops, ...]
    unsupported: tuple[Unsupported, ...]

    def __rich__(self) -> Any:
        import rich.table

        table = rich.table.Table(
            title=f"FLOPs of one example, convention {self.convention!r}",
            caption="theoretical: multiplications by known zeros left out",
        )
        for heading in ("layer", "training, theoretical", "executed", "dense"):
            table.add_column(
                heading, justify="right" if table.columns else "left"
            )
        for row in self.layers:
            if row.dense_forward:
                table.add_row(f"{row.path} ({row.layer})", *_training(row))
        for row in self.unsupported:
            table.add_row(
                f"{row.path} ({row.layer})", "not counted", row.reason
            )
        table.add_section()
        table.add_row("sum", *_training(self))
        return table


Rule = Callable[[Any, Shape, Shape], Flops]
_RULES: dict[type, Rule] = {}

# These multiply no matrices. Everything that is neither here nor in `_RULES`
# is reported as unsupported.
_FREE = tuple(
    getattr(keras.layers, name)
    for name in (
        "Activation ActivityRegularization Add AlphaDropout Average"
        " AveragePooling1D AveragePooling2D AveragePooling3D"
        " BatchNormalization CategoryEncoding Concatenate Cropping1D"
        " Cropping2D Cropping3D Dropout ELU Embedding Flatten GaussianDropout"
        " GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D"
        " GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D"
        " GlobalMaxPooling3D GroupNormalization Identity InputLayer"
        " LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D"
        " MaxPooling3D Maximum Minimum Multiply Normalization PReLU Permute"
        " RMSNormalization ReLU RepeatVector Rescaling Reshape Softmax"
        " SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract"
        " UnitNormalization UpSampling1D UpSampling2D UpSampling3D"
        " ZeroPadding1D ZeroPadding2D ZeroPadding3D"
    ).split()
)


def rule(layer_class: type) -> Callable[[Rule], Rule]:
    """Registers how to count a layer class; used as a decorator.

    The function takes `(layer, input_shape, output_shape)`, shapes with the
    batch axis, and returns `Flops`. A rule of a subclass wins over its base's.
    A rule that raises `NotImplementedError` has the layer listed as
    unsupported, with the message as the reason.

    Args:
        layer_class: class of the layers that the rule counts.

    Example:
    >>> class Twice(keras.layers.Dense):
    ...     def call(self, inputs):
    ...         return super().call(inputs) + super().call(inputs)
    >>> @rule(Twice)
    ... def _twice(layer, input_shape, output_shape):
    ...     return Flops.of_dense(2 * matmul(input_shape[-1], output_shape))
    >>> model = keras.Sequential([keras.Input((4,)), Twice(3)])
    >>> count(model).forward
    48
    """

    def register(function: Rule) -> Rule:
        _RULES[layer_class] = function
        return function

    return register


def matmul(inner: int, output_shape: Shape) -> int:
    """Returns the FLOPs of a product with `inner` terms an output entry.

    Args:
        inner: integer, length of the sums.
        output_shape: tuple, shape of the output with its batch axis.
    """
    return 2 * inner * math.prod(output_shape[1:])


@rule(keras.layers.Dense)
def _dense(layer, input_shape, output_shape):
    return Flops.of_dense(matmul(input_shape[-1], output_shape))


@rule(keras.layers.Conv1D)
@rule(keras.layers.Conv2D)
@rule(keras.layers.Conv3D)
def _conv(layer, input_shape, output_shape):
    # (*kernel_size, channels / groups, filters)
    terms = math.prod(layer.kernel.shape[:-1])
    return Flops.of_dense(matmul(terms, output_shape))


def count(model: keras.Model, convention: str = "matmul") -> Report:
    """Counts the FLOPs that a Functional or Sequential model costs an example.

    A layer that is called twice counts twice. Layers without a rule, and
    layers whose shapes are not static, are listed in `.unsupported` with the
    reason and are not in the sums.

    Args:
        model: built `keras.Model`, Functional or Sequential.
        convention: string, one of `CONVENTIONS`. Defaults to `"matmul"`.

    Returns:
        A `Report`: `.forward`, `.training` (theoretical), `.executed_forward`,
        `.executed_training`, `.dense_forward`, `.dense_training`, `.layers`,
        `.unsupported`.

    Raises:
        ValueError: if `convention` is unknown, or the model is subclassed or
            not built.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> report = count(model)
    >>> report.forward, report.training
    (64, 192)
    """
    if convention not in CONVENTIONS:
        raise ValueError(
            f"Argument `convention` must be one of {CONVENTIONS}. "
            f"Received: convention={convention!r}"
        )
    rows, unsupported = [], []
    for path, layer, input_shape in model_calls.calls_of(model):
        name = type(layer).__name__
        try:
            flops = _flops_of(layer, input_shape)
        except NotImplementedError as error:
            unsupported.append(Unsupported(path, name, str(error)))
        else:
            rows.append(LayerFlops(path=path, layer=name, **flops.to_dict()))
    sums = {
        field.name: sum(getattr(row, field.name) for row in rows)
        for field in dataclasses.fields(Flops)
    }
    return Report(
        convention=convention,
        layers=tuple(rows),
        unsupported=tuple(unsupported),
        **sums,
    )


def _flops_of(layer: Any, input_shape: Any) -> Flops:
    if getattr(layer, "lora_enabled", False):
        raise NotImplementedError("LoRA adapters are not counted")
    for base in type(layer).__mro__:
        if base in _RULES:
            output_shape = layer.compute_output_shape(input_shape)
            if None in (*input_shape[1:], *output_shape[1:]):
                raise NotImplementedError(
                    f"shape {input_shape} is not static beyond the batch"
                )
            return _RULES[base](layer, input_shape, output_shape)
    if isinstance(layer, _FREE):
        return Flops.of_dense(0)
    raise NotImplementedError("no rule for this layer; see flops.rule")


def _training(flops: Flops) -> list[str]:
    columns = (flops.training, flops.executed_training, flops.dense_training)
    return [f"{value:,.0f}" for value in columns]
