"""Which layers a Keras model calls, and on which shapes."""

from collections.abc import Iterator
from typing import Any

import keras

Shape = tuple[int | None, ...]


def calls_of(model: keras.Model) -> Iterator[tuple[str, Any, Any]]:
    """Yields `(path, layer, input shape)` of each call, nested models opened.

    A layer that is called twice comes twice. A layer of several inputs comes
    with the list of their shapes. The layer can be an operation, such as the
    `Add` of `x + y`.

    Args:
        model: built `keras.Model`, Functional or Sequential.

    Raises:
        ValueError: if the model is subclassed or not built.

    Example:
    >>> layer = keras.layers.Flatten(name="flat")
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> [(path, shape) for path, _, shape in calls_of(model)]
    [('flat', (None, 8))]
    """
    if not _is_opened(model):
        raise ValueError(
            "Argument `model` must be a Functional or Sequential model: the "
            "calls of a subclassed model are not known before it runs. "
            f"Received: model of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            "Argument `model` must be built: add a `keras.Input` or call it "
            f"once. Received: model={model.name!r}, not built"
        )
    yield from _calls(model, model.input_shape, prefix="")


def _is_opened(model: Any) -> bool:
    # A Functional model knows its operations; a subclassed one has none.
    is_functional = isinstance(model, keras.Model) and hasattr(
        model, "operations"
    )
    return is_functional or isinstance(model, keras.Sequential)


def _calls(model, input_shape, prefix) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(model, keras.Sequential):
        calls = _sequential_calls(model, input_shape)
    else:
        calls = _functional_calls(model)
    for layer, shape in calls:
        path = f"{prefix}{layer.name}"
        if _is_opened(layer):
            yield from _calls(layer, shape, f"{path}/")
        else:
            yield path, layer, shape


def _sequential_calls(model, input_shape):
    for layer in model.layers:
        yield layer, input_shape
        input_shape = layer.compute_output_shape(input_shape)


def _functional_calls(model):
    # The same graph as a plain model: a subclass may have its own config.
    model = keras.Model(model.inputs, model.outputs)
    try:
        entries = model.get_config()["layers"]
    except NotImplementedError as error:
        raise ValueError(
            "Argument `model` must hold layers with a `get_config`: the calls "
            f"are read from it. Received: {error}"
        ) from error
    operations = {operation.name: operation for operation in model.operations}
    for entry in entries:
        for node in entry["inbound_nodes"]:
            shapes = _tensor_shapes(node["args"]) + _tensor_shapes(
                node["kwargs"]
            )
            yield (
                operations[entry["name"]],
                shapes[0] if len(shapes) == 1 else shapes,
            )


def _tensor_shapes(config: Any) -> list[Shape]:
    """Returns the shapes of the Keras tensors in a node's arguments."""
    if isinstance(config, dict):
        if config.get("class_name") == "__keras_tensor__":
            return [tuple(config["config"]["shape"])]
        config = config.values()
    elif not isinstance(config, list | tuple):
        return []
    return [shape for item in config for shape in _tensor_shapes(item)]
