"""Calls a layer of Keras with some of the channels of its inputs."""

from typing import Any

import keras
from keras import ops


def gather(axis: int, name: str) -> keras.Operation:
    """Returns the operation of `keras.ops.take`, with a name.

    Any process can load it. `keras.ops.take` itself gives it a name that a
    model which comes from a file may have already.

    Args:
        axis: integer.
        name: string.

    Returns:
        Function `(inputs, indices) -> tensor` for the graph of a model.
    """
    x = keras.Input((1,))
    take = keras.Model(x, ops.take(x, [0], axis=-1)).operations[-1]
    return type(take)(axis=axis, name=name)


def have_mask(*arguments: Any) -> bool:
    """Whether one of some symbolic tensors has a mask, which `take` drops.

    Args:
        *arguments: any structures, with or without tensors.

    Example:
    >>> x = keras.Input((3, 2))
    >>> have_mask(x), have_mask([1, keras.layers.Masking()(x)])
    (False, True)
    """
    probe = _MaskProbe()
    for value in keras.tree.flatten(arguments):
        if isinstance(value, keras.KerasTensor):
            probe(value)
    return probe.found


class _MaskProbe(keras.layers.Layer):
    """Is handed the masks, as any layer is that asks for them."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True
        self.found = False

    def call(self, x, mask=None):
        self.found = self.found or mask is not None
        return x
