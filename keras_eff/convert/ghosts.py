"""Batch normalization with ghosts in place of that without, and back."""

import keras

from keras_eff.convert.model_copy import Replacement
from keras_eff.convert.model_copy import copy_model
from keras_eff.convert.report import Report
from keras_eff.layers.ghost_batch_normalization import GhostBatchNormalization


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
        return _why_no_ghosts(layer) or Replacement(
            GhostBatchNormalization.from_config(
                {**layer.get_config(), **settings}
            )
        )

    return copy_model(model, replace)


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
        return Replacement(keras.layers.BatchNormalization.from_config(config))

    return copy_model(model, replace)


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
