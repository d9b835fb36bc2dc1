"""Replaces layers of a whole model, both ways, and reports what was left."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import rich.markup
import rich.table

from keras_eff.layers.ghost_batch_normalization import GhostBatchNormalization

# The layer that takes the place of another, or the reason why none does, or
# `None` for a layer that the conversion is not about.
Replace = Callable[[keras.layers.Layer], keras.layers.Layer | str | None]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion replaced, and what it left alone and why.

    Args:
        converted: tuple of paths, such as `"encoder/bn_1"`.
        skipped: tuple of `(path, reason)`.

    Example:
    >>> Report((), (("bn", "renorm=True"),)).to_dict()
    {'converted': [], 'skipped': [{'layer': 'bn', 'reason': 'renorm=True'}]}
    """

    converted: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary, ready for JSON."""
        return {
            "converted": list(self.converted),
            "skipped": [
                {"layer": path, "reason": reason}
                for path, reason in self.skipped
            ],
        }

    def __rich__(self) -> rich.table.Table:
        title = f"Converted: {len(self.converted) or 'none'}"
        table = rich.table.Table("Layer", "Result", title=title)
        for path in self.converted:
            table.add_row(rich.markup.escape(path), "converted")
        for path, reason in self.skipped:
            reason = rich.markup.escape(f"skipped: {reason}")
            table.add_row(rich.markup.escape(path), reason)
        return table


def ghost_batch_normalization(
    model: keras.Model,
    ghost_batch_size: int = 32,
    update: str = "sequential",
) -> tuple[keras.Model, Report]:
    """Returns a copy of a model that trains with ghost batch statistics.

    Each `BatchNormalization` becomes a `GhostBatchNormalization` of the same
    name, weights, dtype and `trainable` flag. The rest is copied, nested
    models included; layers called twice stay shared. Predictions are the same
    bit for bit. Frozen layers stay frozen: they use the moving statistics in
    training too, so that ghosts change nothing until they are thawed.

    The model that comes back is not compiled: call `compile` before `fit`.
    The one that was given is left as it is.

    Args:
        model: Functional or Sequential `keras.Model`.
        ghost_batch_size: positive integer, examples a group. Defaults to `32`.
        update: `"sequential"`, `"mean"` or `"scaled"`, see
            `keras_eff.layers.GhostBatchNormalization`.

    Returns:
        The new model and a `Report`. Skipped, each with its reason: layers
        with `renorm`, `synchronized` or the batch axis, subclasses of
        `BatchNormalization`, and what is inside another layer, such as
        `TimeDistributed`.

    Raises:
        ValueError: if `model` is neither Functional nor Sequential, if one of
            its layers or its class cannot be copied, or if
            `ghost_batch_size` or `update` is invalid.

    Example:
    >>> bn = keras.layers.BatchNormalization(name="bn")
    >>> model = keras.Sequential([keras.Input((4,)), bn])
    >>> ghost, report = ghost_batch_normalization(model, ghost_batch_size=16)
    >>> type(ghost.layers[0]).__name__, report.converted
    ('GhostBatchNormalization', ('bn',))

    Reference:
    - [Hoffer et al., 2017](https://arxiv.org/abs/1705.08741)
    """
    settings = {"ghost_batch_size": ghost_batch_size, "update": update}
    GhostBatchNormalization(**settings)  # refuses them before the work starts

    def replace(layer):
        if not isinstance(layer, keras.layers.BatchNormalization):
            return None
        reason = _why_no_ghosts(layer)
        return reason or GhostBatchNormalization.from_config(
            {**layer.get_config(), **settings}
        )

    return _convert(model, replace)


def plain_batch_normalization(
    model: keras.Model,
) -> tuple[keras.Model, Report]:
    """Returns a copy of a model without ghosts, for those without keras_eff.

    The way back from `ghost_batch_normalization`: each
    `GhostBatchNormalization` becomes a `BatchNormalization`, with the same
    weights and, bit for bit, the same predictions. The model that comes back
    is not compiled.

    Args:
        model: Functional or Sequential `keras.Model`.

    Returns:
        The new model and a `Report`.

    Raises:
        ValueError: if `model` is neither Functional nor Sequential, or if one
            of its layers or its class cannot be copied.

    Example:
    >>> ghost = GhostBatchNormalization(16, name="bn")
    >>> model = keras.Sequential([keras.Input((4,)), ghost])
    >>> plain, report = plain_batch_normalization(model)
    >>> type(plain.layers[0]).__name__, report.converted
    ('BatchNormalization', ('bn',))
    """

    def replace(layer):
        if not isinstance(layer, GhostBatchNormalization):
            return None
        if type(layer) is not GhostBatchNormalization:
            return f"{type(layer).__name__} may have a rule of its own"
        config = layer.get_config()
        for argument in ("ghost_batch_size", "update"):
            del config[argument]
        return keras.layers.BatchNormalization.from_config(config)

    return _convert(model, replace)


def _why_no_ghosts(layer: keras.layers.BatchNormalization) -> str | None:
    if type(layer) is GhostBatchNormalization:
        return "has ghosts already"
    if type(layer) is not keras.layers.BatchNormalization:
        return f"{type(layer).__name__} may have a rule of its own"
    for argument in ("renorm", "synchronized"):
        if getattr(layer, argument):
            return f"{argument}=True widens the statistics"
    if layer.built and layer.axis % layer.input_spec.ndim == 0:
        return f"axis={layer.axis} is the batch axis"
    return None


def _convert(
    model: keras.Model, replace: Replace
) -> tuple[keras.Model, Report]:
    """Copies a model with some of its layers replaced."""
    if not _is_graph(model):
        raise ValueError(
            "Argument `model` must be a Functional or Sequential model: the "
            "layers of a subclassed model are not known before it runs. "
            f"Received: model of type {type(model).__name__}"
        )
    copier = _Copier(replace)
    copy = copier.copy(model, path="")
    # Parents first: a flag that is set on a model goes to all its layers.
    for layer, clone in reversed(copier.pairs):
        if clone.trainable != layer.trainable:
            clone.trainable = layer.trainable
    for layer, clone in copier.pairs:
        if not _is_graph(layer):
            _copy_variables(layer, clone)
    return copy, Report(tuple(copier.converted), tuple(copier.skipped))


class _Copier:
    """Copies layers, each one once, and notes what became of them."""

    def __init__(self, replace: Replace):
        self.replace = replace
        self.pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self.converted: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self._copies: dict[int, Any] = {}

    def copy(self, layer: Any, path: str) -> Any:
        if id(layer) not in self._copies:
            make = self._copy_model if _is_graph(layer) else self._copy_layer
            self._copies[id(layer)] = make(layer, path)
            if isinstance(layer, keras.layers.Layer):  # not `x + y`
                self.pairs.append((layer, self._copies[id(layer)]))
        return self._copies[id(layer)]

    def _copy_model(self, model, path):
        def copy(layer):
            return self.copy(layer, f"{path}/{layer.name}".lstrip("/"))

        if isinstance(model, keras.Sequential):
            inputs = _input_layers(model) if model.built else []
            return _of_class(model, [copy(la) for la in inputs + model.layers])
        # `clone_model` also compiles what was compiled, and gives an input
        # without a name another one: it gets a plain view, and the inputs.
        inputs = {id(la.output): copy(la) for la in _input_layers(model)}
        clone = keras.models.clone_model(
            keras.Model(model.input, model.output),
            input_tensors=keras.tree.map_structure(
                lambda tensor: inputs[id(tensor)].output, model.input
            ),
            clone_function=copy,
        )
        return _of_class(model, clone.input, clone.output)

    def _copy_layer(self, layer, path):
        result = self.replace(layer)
        if isinstance(result, keras.layers.Layer):
            self.converted.append(path)
            return result
        if result is not None:
            self.skipped.append((path, result))
        for inner in _layers_inside(layer):
            if self.replace(inner) is not None:
                reason = f"inside a layer of type {type(layer).__name__}"
                self.skipped.append((f"{path}/{inner.name}", reason))
        try:
            return type(layer).from_config(layer.get_config())
        except (NotImplementedError, TypeError) as error:
            raise ValueError(
                "Argument `model` must hold layers with a `get_config`: they "
                f"are copied by it. Received: layer {path!r}. {error}"
            ) from error


def _is_graph(layer: Any) -> bool:
    # A Functional model knows its operations; a subclassed one has none.
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "operations")
    )


def _input_layers(model: keras.Model) -> list[keras.layers.InputLayer]:
    # `Sequential.layers` leaves out its own.
    layers = keras.Model(model.inputs, model.outputs).layers
    return [la for la in layers if isinstance(la, keras.layers.InputLayer)]


def _of_class(model: keras.Model, *arguments: Any) -> keras.Model:
    """A subclass that adds a `train_step`, say, stays what it is."""
    try:
        return type(model)(*arguments, name=model.name)
    except TypeError as error:
        raise ValueError(
            "Argument `model` must be of a class with the constructor of "
            "`keras.Model`, so that a copy can be made. Received: model of "
            f"type {type(model).__name__}. {error}"
        ) from error


def _layers_inside(layer: Any) -> Iterator[keras.layers.Layer]:
    """Yields the layers in the attributes of a layer, and those in them."""
    seen, todo = {id(layer)}, [layer]
    while todo:
        for value in keras.tree.flatten(vars(todo.pop())):
            is_new = isinstance(value, keras.layers.Layer)
            if is_new and id(value) not in seen:
                seen.add(id(value))
                todo.append(value)
                yield value


def _copy_variables(layer, clone) -> None:
    if layer.built and not clone.built:
        clone.build_from_config(layer.get_build_config())
    for variable, copy in zip(layer.variables, clone.variables, strict=True):
        copy.assign(variable)
