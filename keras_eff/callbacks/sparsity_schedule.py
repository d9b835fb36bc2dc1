"""Moves the sparsity of sparse layers while `fit` runs."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

_MOST_KEPT = 0.99  # of a layer; Raihan and Aamodt's cap


class SparsitySchedule(keras.callbacks.Callback):
    """Sets the sparsity of layers whose `sparsity` is a schedule.

    Without it they train at the value of epoch 0. Layers with a number as
    `sparsity` are left alone.

    With `distribution="momentum"` all such layers share one budget of kept
    weights, what their schedules give at that epoch together. A layer whose
    weights are on the move gets more of it:

        kept(layer) ~ mean |momentum of its kept weights|, at most 0.99

    What it does not give: speed. The sparsity of `granularity="channel"`,
    which does, cannot change.

    Args:
        distribution: `None`: each layer follows its own schedule. `"momentum"`
            shares the budget anew. Defaults to `None`.
        every: integer, training steps between two distributions by momentum.
            `None` makes one at the start of each epoch. Defaults to `None`.
        layers: sequence of sparse layers, such as those within a layer of
            your own. `None` means those that `model.layers` shows, nested
            models opened. Defaults to `None`.

    Raises:
        ValueError: if an argument breaks its rule; in `fit`, if there is no
            layer with a schedule, or the optimizer keeps no momentum.

    Example:
    >>> import keras_eff as ke
    >>> grow = ke.schedules.linear(0.0, 0.8, epochs=2)
    >>> layer = ke.layers.SparseDense(4, sparsity=grow)
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((4, 8)), np.ones((4, 4))
    >>> history = model.fit(
    ...     x, y, epochs=3, callbacks=[SparsitySchedule()], verbose=0
    ... )
    >>> [round(value, 3) for value in history.history["sparsity"]]
    [0.0, 0.4, 0.8]

    Reference:
    - [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
    - [Dettmers and Zettlemoyer, 2019](https://arxiv.org/abs/1907.04840)
    """

    def __init__(
        self,
        distribution: str | None = None,
        every: int | None = None,
        layers: Sequence[keras.layers.Layer] | None = None,
    ):
        super().__init__()
        if distribution not in (None, "momentum"):
            raise ValueError(
                "Argument `distribution` must be None or 'momentum'. "
                f"Received: distribution={distribution!r}"
            )
        if every is not None and (type(every) is not int or every < 1):
            raise ValueError(
                "Argument `every` must be a positive integer, or None. "
                f"Received: every={every!r}"
            )
        if every is not None and distribution is None:
            raise ValueError(
                "Argument `every` goes with distribution='momentum': schedules "
                f"count epochs. Received: every={every}, distribution=None"
            )
        self.distribution = distribution
        self.every = every
        self.layers = layers
        self._moving: list[keras.layers.Layer] = []
        self._steps = 0

    def on_train_begin(self, logs=None):
        layers = self.layers or _sparse_layers(self.model.layers)
        self._moving = [layer for layer in layers if _variables(layer)]
        self._steps = 0
        if not self._moving:
            raise ValueError(
                "`SparsitySchedule` needs a sparse layer with a Schedule as "
                "`sparsity`; pass `layers=` if it is within a layer of your "
                f"own. Received: model {self.model.name!r} without one"
            )

    def on_epoch_begin(self, epoch, logs=None):
        for layer in self._moving:
            layer.set_epoch(epoch)
        self._budget = sum(
            (1 - _sparsity(layer)) * _size(layer) for layer in self._moving
        )
        if self.distribution is not None:
            self._distribute()

    def on_train_batch_begin(self, batch, logs=None):
        if self.every is not None:
            if self._steps % self.every == 0:
                self._distribute()
            self._steps += self.model.steps_per_execution

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            sizes = [_size(layer) for layer in self._moving]
            sparsities = [_sparsity(layer) for layer in self._moving]
            logs["sparsity"] = float(np.average(sparsities, weights=sizes))

    def _distribute(self):
        optimizer = _innermost(self.model.optimizer)
        if not optimizer.built:  # before the first step nothing moves
            return
        slots = {variable.name: variable for variable in optimizer.variables}
        weights = [_mean_momentum(layer, slots) for layer in self._moving]
        sizes = [_size(layer) for layer in self._moving]
        kept = shares_of(self._budget, weights, sizes)
        for layer, count, size in zip(self._moving, kept, sizes, strict=True):
            for variable in _variables(layer):
                variable.assign(1 - count / size)


def shares_of(
    budget: float, weights: Sequence[float], sizes: Sequence[int]
) -> list[float]:
    """Shares a budget in proportion, with a cap; the rest goes evenly.

    Args:
        budget: float, entries to be kept in all.
        weights: floats >= 0, the proportions; all zero means those of sizes.
        sizes: integers, entries of each; at most 0.99 of them are kept.

    Returns:
        Floats, entries kept of each. Their sum is the budget, unless the caps
        together are below it.

    Example:
    >>> shares_of(110, [3.0, 1.0, 1.0], [50, 100, 100])
    [49.5, 30.25, 30.25]
    """
    caps = _MOST_KEPT * np.asarray(sizes, "float64")
    weights = np.asarray(weights, "float64")
    if not weights.sum():
        weights = caps
    kept = np.minimum(budget * weights / weights.sum(), caps)
    while budget - kept.sum() > 1e-9 * budget and (kept < caps).any():
        is_open = kept < caps
        kept[is_open] += (budget - kept.sum()) / is_open.sum()
        kept = np.minimum(kept, caps)
    return kept.tolist()


def _sparse_layers(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        if hasattr(layer, "set_epoch"):
            yield layer
        yield from _sparse_layers(getattr(layer, "layers", []))


def _variables(layer: Any) -> list[Any]:
    """Returns the variables that hold sparsities, none if they are numbers."""
    sparsities = layer.selection.sparsities if layer.selection else []
    return [value for value in sparsities if hasattr(value, "assign")]


def _sparsity(layer: Any) -> float:
    return float(ops.convert_to_numpy(_variables(layer)[0]))


def _size(layer: Any) -> int:
    return int(np.prod(layer.kernel.shape))


def _innermost(optimizer: Any) -> Any:
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def _mean_momentum(layer: Any, slots: dict[str, Any]) -> float:
    name = f"{layer.kernel.path}_momentum".replace("/", "_")
    if name not in slots:
        raise ValueError(
            "distribution='momentum' needs an optimizer that keeps one, such "
            "as SGD with `momentum` or Adam. Received: no momentum of "
            f"{layer.kernel.path!r}"
        )
    momentum = np.abs(ops.convert_to_numpy(slots[name]))
    is_kept = ops.convert_to_numpy(layer.sparse_kernel()) != 0
    return float(momentum[is_kept].mean()) if is_kept.any() else 0.0
