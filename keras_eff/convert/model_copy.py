"""Copies a model, layer by layer, with some of its layers replaced."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras

from keras_eff.convert.gather import gather
from keras_eff.convert.gather import have_mask
from keras_eff.convert.report import Report

Layer = keras.layers.Layer


@dataclasses.dataclass(frozen=True)
class Replacement:
    """A layer that takes the place of another.

    Args:
        layer: the new one, which need not be built.
        fill: callable `(old, new)` that sets the weights of `layer`, once
            both are built, or `None`: the same variables in the same order.
        sparsity: float, fraction of zeros in its weights, or `None`.
        channels: tuple of integers, the channels of the inputs that `layer`
            is to be called with, or `None`: all. Where the inputs have a mask
            it is called with all: what gathers channels would drop it.
        axis: integer, the axis of those channels.
    """

    layer: Layer
    fill: Callable[[Layer, Layer], None] | None = None
    sparsity: float | None = None
    channels: tuple[int, ...] | None = None
    axis: int = -1


# What takes the place of a layer, or the reason why nothing does, or `None`
# for a layer that the conversion is not about.
Replace = Callable[[Layer], Replacement | str | None]


def copy_model(
    model: keras.Model, replace: Replace
) -> tuple[keras.Model, Report]:
    """Copies a model with some of its layers replaced.

    Weights, names, dtypes and `trainable` flags are copied, nested models
    too; layers called twice stay shared. A `Sequential` with a layer that is
    called with some channels becomes Functional.

    Args:
        model: Functional or Sequential `keras.Model`.
        replace: function `layer -> Replacement | reason | None`.

    Returns:
        The copy, which is not compiled, and a `Report`.

    Raises:
        ValueError: if the model, its class or one of its layers cannot be
            copied.
    """
    _check_is_graph(model)
    copier = _Copier(replace)
    copy = copier.copy(model, path="")
    if copier.gathers:  # Now it is known where there are masks.
        copier = _Copier(replace, copier.masked)
        copy = copier.copy(model, path="")
    # Parents first: a flag that is set on a model goes to all its layers.
    for layer, clone in reversed(copier.pairs):
        if clone.trainable != layer.trainable:
            clone.trainable = layer.trainable
    for layer, clone in copier.pairs:
        if not _is_graph(layer):
            _fill(layer, clone, copier.replacements.get(id(clone)))
    report = Report(
        tuple(copier.converted), tuple(copier.skipped), copier.sparsities
    )
    return copy, report


def layers_of(
    model: keras.Model, path: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yields `(path, layer)` in call order, of nested models too.

    A layer that is called twice comes twice, with a path of its own where it
    is in two models. What is inside a layer that is not a model is left out.

    Args:
        model: Functional or Sequential `keras.Model`.
        path: string, that of `model`.

    Raises:
        ValueError: if `model` is neither Functional nor Sequential.
    """
    _check_is_graph(model)
    for layer in model.layers:
        inner = f"{path}/{layer.name}".lstrip("/")
        if _is_graph(layer):
            yield from layers_of(layer, inner)
        else:
            yield inner, layer


def layers_inside(layer: Any) -> Iterator[keras.layers.Layer]:
    """Yields the layers in the attributes of a layer, and those in them.

    Args:
        layer: `keras.layers.Layer` or `keras.Operation`.
    """
    seen, todo = {id(layer)}, [layer]
    while todo:
        for value in keras.tree.flatten(vars(todo.pop())):
            is_new = isinstance(value, keras.layers.Layer)
            if is_new and id(value) not in seen:
                seen.add(id(value))
                todo.append(value)
                yield value


class _Copier:
    """Copies layers, each one once, and notes what became of them.

    Args:
        replace: function, see `copy_model`.
        masked: set of ids, the layers that are called with all channels, or
            `None`: no channels are gathered, and this set is made.
    """

    def __init__(self, replace: Replace, masked: set[int] | None = None):
        self.replace = replace
        self.masked = masked or set()
        self.pairs: list[tuple[Layer, Layer]] = []
        self.converted: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self.sparsities: dict[str, float] = {}
        # By the id of the new layer, what it replaces and how to call it.
        self.replacements: dict[int, Replacement] = {}
        self.gathers: dict[int, tuple[Layer, keras.Operation]] = {}
        self._is_first = masked is None
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
            layers = [copy(la) for la in inputs + model.layers]
            if any(id(layer) in self.gathers for layer in layers):
                return self._chain(layers, model)
            return _of_class(model, layers)
        # `clone_model` also compiles what was compiled, and gives an input
        # without a name another one: it gets a plain view, and the inputs.
        inputs = {id(la.output): copy(la) for la in _input_layers(model)}
        clone = keras.models.clone_model(
            keras.Model(model.input, model.output),
            input_tensors=keras.tree.map_structure(
                lambda tensor: inputs[id(tensor)].output, model.input
            ),
            clone_function=copy,
            call_function=self._call,
        )
        return _of_class(model, clone.input, clone.output)

    def _copy_layer(self, layer, path):
        result = self.replace(layer)
        if isinstance(result, Replacement):
            self._note(layer, result, path)
            return result.layer
        if result is not None:
            self.skipped.append((path, result))
        for inner in layers_inside(layer):
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

    def _note(self, old, replacement, path):
        new = replacement.layer
        self.converted.append(path)
        self.replacements[id(new)] = replacement
        if replacement.sparsity is not None:
            self.sparsities[path] = replacement.sparsity
        if id(old) in self.masked:
            reason = "full size: its inputs have a mask, which a gather drops"
            self.skipped.append((path, reason))
        elif replacement.channels is not None:
            take = gather(replacement.axis, f"{new.name}_channels")
            self.gathers[id(new)] = old, take

    def _call(self, layer, *args, **kwargs):
        if self._is_first:
            self._look_for_masks(layer, *args, **kwargs)
        elif id(layer) in self.gathers:
            inputs, *args = args or (kwargs.pop("inputs"),)
            _, take = self.gathers[id(layer)]
            channels = list(self.replacements[id(layer)].channels)
            args = take(inputs, channels), *args
        return layer(*args, **kwargs)

    def _look_for_masks(self, layer, *args, **kwargs):
        called = [layer]
        if _is_graph(layer):  # It may hand a mask on to what is in it.
            called = [inner for _, inner in layers_of(layer)]
        olds = [
            self.gathers[id(new)][0]
            for new in called
            if id(new) in self.gathers and new.supports_masking
        ]
        if olds and have_mask(args, kwargs):
            self.masked |= {id(old) for old in olds}

    def _chain(self, layers, model):
        inputs, *layers = layers
        if not isinstance(inputs, keras.layers.InputLayer):
            raise ValueError(
                "Argument `model` must be built: a Sequential model without "
                "an input has no graph to put a gather in. Received: model "
                f"{model.name!r}"
            )
        x = inputs.output
        for layer in layers:
            x = self._call(layer, x)
        return keras.Model(inputs.output, x, name=model.name)


def _check_is_graph(model: Any) -> None:
    if not _is_graph(model):
        raise ValueError(
            "Argument `model` must be a Functional or Sequential model: the "
            "layers of a subclassed model are not known before it runs. Put "
            "the layers of `keras_eff.layers` in its class yourself, and its "
            f"weights in them. Received: model of type {type(model).__name__}"
        )


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


def _fill(layer: Layer, clone: Layer, replacement: Replacement | None) -> None:
    """Sets the weights of a copy."""
    if layer.built and not clone.built:
        clone.build_from_config(layer.get_build_config())
    if layer.built and replacement is not None and replacement.fill:
        replacement.fill(layer, clone)
        return
    olds, news = layer.variables, clone.variables
    by_name = {variable.name: variable for variable in news}
    if by_name.keys() == {old.name for old in olds} and len(by_name) == len(
        olds
    ):
        # A layer that was quantized has them in another order.
        news = [by_name[old.name] for old in olds]
    for old, new in zip(olds, news, strict=True):
        new.assign(old)
