"""The state of a compiled model, kept while something trains it."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


@contextlib.contextmanager
def kept(model: keras.Model, batch: Any) -> Iterator[None]:
    """Puts the state of a compiled model back at the end of a `with` block.

    Weights, statistics, seeds, metrics, optimizer variables, and the compiled
    `train_function`; model and optimizer are built first if they are not.

    Args:
        model: `keras.Model`.
        batch: nest of NumPy arrays, as `train_step` takes it.

    Raises:
        ValueError: if the model is not compiled, or another optimizer that is
            an attribute of it is not built.
    """
    _build(model, batch)
    optimizers = _optimizers_of(model)
    variables = [
        *model.variables,
        *model.metrics_variables,
        *itertools.chain.from_iterable(o.variables for o in optimizers),
    ]
    # Copies on the host: the device's memory is what is measured.
    values = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    train_function = model.train_function
    try:
        yield
    finally:
        model.train_function = train_function
        model.reset_metrics()  # those that the first step made
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _build(model: keras.Model, batch: Any) -> None:
    if not model.compiled:
        raise ValueError(
            "Argument `model` must be compiled: call `model.compile` first, "
            "with the optimizer and loss to train with. Received: "
            f"model={model.name!r}"
        )
    if not model.built:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        model(keras.tree.map_structure(_symbol_of, x))
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    for optimizer in _optimizers_of(model):
        if not optimizer.built:
            raise ValueError(
                "Every further optimizer of the model must be built, so that "
                "its state can be put back: call `optimizer.build(variables)`. "
                f"Received: optimizer={optimizer.name!r}"
            )


def _symbol_of(array: np.ndarray) -> keras.KerasTensor:
    return keras.KerasTensor((None, *array.shape[1:]), str(array.dtype))


def _optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    held = vars(model).values()
    return [o for o in held if isinstance(o, keras.optimizers.Optimizer)]
