"""Moves the sparsity of sparse layers while `fit` runs."""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

_MOST_KEPT = 0.99  # of a layer; Raihan and Aamodt's cap
_LEAST_KEPT = 1  # weight of a layer: none would cut the model in two


class SparsitySchedule(keras.callbacks.Callback):
    """Sets the sparsity of layers whose `sparsity` is a schedule.

    Without it they train at the value of epoch 0. `activation_sparsity` may
    be a schedule as well. Numbers are left alone. So are frozen layers
    (`trainable=False`): they keep the sparsity that they were trained to.

    With `distribution="momentum"` the layers whose `sparsity` is a schedule
    share one budget of kept weights, what their schedules give at that epoch
    together. A layer whose weights are on the move gets more of it:

        kept(layer) ~ mean |momentum of its kept weights|

    at least one weight and at most 0.99 of the layer. An `activation_sparsity`
    of None goes with the weights; else it has its own number or schedule.

    The log `sparsity` is the fraction of zeros among the weights of the layers
    whose `sparsity` is a schedule, at the end of an epoch.

    What it does not give: speed. The sparsity of `granularity="channel"`,
    which does, cannot change.

    Args:
        distribution: `None`: each layer follows its own schedule. `"momentum"`
            shares the budget anew. Defaults to `None`.
        every: integer, training steps between two distributions by momentum,
            counted from the start of the epoch, where there always is one.
            Within `steps_per_execution` it waits for the next execution.
            `None`: those of the epochs alone. Defaults to `None`.
        layers: sequence of sparse layers, such as those within a layer of
            your own. `None` means those that `model.layers` shows, nested
            models opened. Defaults to `None`.

    Raises:
        ValueError: if an argument breaks its rule; in `fit`, if no layer that
            trains has a schedule, or a model that is not built starts at a
            later epoch than 0; after the first step, if the optimizer keeps
            no momentum of a kernel (there is none with `lora_rank`).

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
        self._epoch: int | None = None
        self._due = 0  # step of the epoch

    def on_train_begin(self, logs=None):
        layers = self.model.layers if self.layers is None else self.layers
        self._moving = _moving_layers(layers)
        self._epoch = None
        needed = self._moving
        if self.distribution is not None:
            needed = [layer for layer in needed if _is_pruned(layer)]
        if not needed:
            raise ValueError(
                "`SparsitySchedule` needs a sparse layer that trains, with a "
                "Schedule as `sparsity`; without momentum, one as "
                "`activation_sparsity` will do. Pass `layers=` if it is within "
                f"a layer of your own. Received: model {self.model.name!r} "
                f"without one, distribution={self.distribution!r}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        if self._epoch is None and epoch > 0:
            self._check_built(epoch)
        self._epoch = epoch
        momenta = self._momenta()  # of what has been kept up to now
        for layer in self._moving:
            layer.set_epoch(epoch)
        self._distribute(momenta)
        self._due = self.every or 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.every is not None and batch >= self._due:
            self._distribute(self._momenta())
            self._due = (batch // self.every + 1) * self.every

    def on_epoch_end(self, epoch, logs=None):
        pruned = self._pruned()
        if logs is not None and pruned:
            sizes = [_size(layer) for layer in pruned]
            sparsities = [_weight_sparsity(layer) for layer in pruned]
            logs["sparsity"] = float(np.average(sparsities, weights=sizes))

    def _check_built(self, epoch):
        for layer in self._moving:
            if not layer.built:
                raise ValueError(
                    "A model must be built before a `fit` that starts at a "
                    "later epoch: its sparse layers are born with the value "
                    "of epoch 0. Add an `Input`, or call the model once. "
                    f"Received: initial_epoch={epoch} (layer {layer.name!r})"
                )

    def _pruned(self):
        """Returns the layers with weights whose sparsity is a schedule."""
        return [
            layer for layer in self._moving if layer.built and _is_pruned(layer)
        ]

    def _momenta(self):
        """Returns a number a layer; none where no momentum is asked for."""
        optimizer = self.model.optimizer
        if self.distribution is None or not optimizer.built:
            return []  # before the first step nothing moves
        slots = _slots_of(optimizer.variables, self.model.trainable_variables)
        return [_mean_momentum(layer, slots) for layer in self._pruned()]

    def _distribute(self, momenta):
        if not momenta:
            return
        layers = self._pruned()
        sizes = [_size(layer) for layer in layers]
        budget = sum(
            (1 - layer.asked_sparsities["sparsity"](self._epoch)) * size
            for layer, size in zip(layers, sizes, strict=True)
        )
        kept = shares_of(budget, momenta, sizes)
        for layer, count, size in zip(layers, kept, sizes, strict=True):
            _set_sparsity(layer, 1 - count / size, self._epoch)


def shares_of(
    budget: float, weights: Sequence[float], sizes: Sequence[int]
) -> list[float]:
    """Shares a budget in proportion, within bounds; the rest goes evenly.

    Args:
        budget: float, entries to be kept in all.
        weights: floats >= 0, the proportions; all zero means those of sizes.
        sizes: integers, entries of each; at least 1 and at most 0.99 of them
            are kept. Of a single one, 0.99.

    Returns:
        Floats, entries kept of each. Their sum is the budget, unless that is
        beyond what all bounds together allow.

    Example:
    >>> shares_of(110, [3.0, 1.0, 1.0], [50, 100, 100])
    [49.5, 30.25, 30.25]
    >>> shares_of(110, [0.0, 1.0], [100, 400])
    [1.0, 109.0]
    """
    caps = _MOST_KEPT * np.asarray(sizes, "float64")
    weights = np.asarray(weights, "float64")
    if not weights.sum():
        weights = caps
    kept = np.clip(budget * weights / weights.sum(), _LEAST_KEPT, caps)
    while abs(rest := budget - kept.sum()) > 1e-9 * budget:
        is_open = kept < caps if rest > 0 else kept > _LEAST_KEPT
        if not is_open.any():
            break
        kept[is_open] += rest / is_open.sum()
        kept = np.clip(kept, _LEAST_KEPT, caps)
    return kept.tolist()


def _moving_layers(layers: Iterable[Any]) -> list[Any]:
    """Returns each sparse layer that trains with a schedule, once."""
    found = {id(layer): layer for layer in _sparse_layers(layers)}
    return [
        layer
        for layer in found.values()
        if layer.trainable
        and any(callable(value) for value in layer.asked_sparsities.values())
    ]


def _sparse_layers(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        # What a sparse layer shows; other layers may count epochs as well.
        if hasattr(layer, "set_epoch") and hasattr(layer, "asked_sparsities"):
            yield layer
        inner = getattr(layer, "layers", None)
        if isinstance(inner, list | tuple):
            yield from _sparse_layers(inner)


def _is_pruned(layer: Any) -> bool:
    return callable(layer.asked_sparsities["sparsity"])


def _weight_sparsity(layer: Any) -> float:
    names = layer.asked_sparsities
    values = dict(zip(names, layer.selection.sparsities, strict=True))
    return float(ops.convert_to_numpy(values["sparsity"]))


def _set_sparsity(layer: Any, value: float, epoch: int):
    """Sets that of the weights; activations follow where they ask for it."""
    asked = dict(layer.asked_sparsities)
    if layer.activation_sparsity is None:
        asked["activation_sparsity"] = value
    asked["sparsity"] = value
    layer.selection.set_sparsities(
        [value(epoch) if callable(value) else value for value in asked.values()]
    )


def _size(layer: Any) -> int:
    return int(np.prod(layer.kernel.shape))


def _slots_of(
    of_optimizer: Iterable[Any], trained: Iterable[Any]
) -> dict[int, Any]:
    """Returns the momentum of each variable, by the variable's identity.

    Layers of two nested models may have one path. Their slots then have one
    name, and stand in the order of the variables.
    """
    by_name = collections.defaultdict(list)
    for slot in of_optimizer:
        by_name[slot.name].append(slot)
    found, of_path = {}, collections.defaultdict(list)
    for variable in trained:
        of_path[variable.path].append(variable)
    for path, variables in of_path.items():
        slots = by_name[f"{path}_momentum".replace("/", "_")]
        if len(slots) == len(variables):
            found |= dict(zip(map(id, variables), slots, strict=True))
    return found


def _mean_momentum(layer: Any, slots: dict[int, Any]) -> float:
    slot = slots.get(id(layer.kernel))
    if slot is None:
        raise ValueError(
            "distribution='momentum' needs an optimizer that keeps one, such "
            "as SGD with `momentum` or Adam, and kernels that it trains. "
            f"Received: no momentum of {layer.kernel.path!r}"
        )
    momentum = np.abs(ops.convert_to_numpy(slot))
    is_kept = ops.convert_to_numpy(layer.sparse_kernel()) != 0
    return float(momentum[is_kept].mean()) if is_kept.any() else 0.0
