"""Which layers of a model become sparse, and how sparse each."""

import dataclasses
import math
import numbers
import re
from collections.abc import Callable
from collections.abc import Sequence

import keras

from keras_eff import schedules
from keras_eff.convert.model_copy import layers_of
from keras_eff.convert.sparse_forms import SPARSE_FORMS
from keras_eff.convert.sparse_forms import why_no_channels
from keras_eff.convert.sparse_forms import why_no_form

DISTRIBUTIONS = ("uniform", "erk", "momentum")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The arguments of `sparsify` that say which layer gets what.

    Args:
        sparsity: float or `Schedule`.
        distribution: string, one of `DISTRIBUTIONS`.
        granularity: string.
        keep_dense: `"first"`, names or paths of layers, or `None`.
        where: regular expression, callable `layer -> bool`, or `None`.
        min_params: integer.

    Raises:
        ValueError: if an argument breaks its rule.
    """

    sparsity: float | schedules.Schedule
    distribution: str
    granularity: str
    keep_dense: str | Sequence[str] | None
    where: str | Callable[[keras.layers.Layer], bool] | None
    min_params: int

    def __post_init__(self):
        self._check_distribution()
        self._check_keep_dense()
        self._check_where()
        if type(self.min_params) is not int or self.min_params < 0:
            raise ValueError(
                "Argument `min_params` must be an integer, at least 0: it is "
                "a number of weights. Received: "
                f"min_params={self.min_params!r}"
            )

    def _check_distribution(self):
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"Argument `distribution` must be one of {[*DISTRIBUTIONS]}. "
                f"Received: distribution={self.distribution!r}"
            )
        if self.distribution == "momentum" and self.granularity == "channel":
            raise ValueError(
                "Argument `distribution` must not be 'momentum' with "
                "granularity='channel': it moves the sparsities in training, "
                "and the shapes of the products follow from them. Received: "
                "distribution='momentum', granularity='channel'"
            )
        is_number = isinstance(self.sparsity, numbers.Real)
        if self.distribution != "uniform" and not is_number:
            raise ValueError(
                "Argument `sparsity` must be a number, except with "
                "distribution='uniform': it is the target of the whole model. "
                f"Received: sparsity={self.sparsity!r}, "
                f"distribution={self.distribution!r}"
            )

    def _check_keep_dense(self):
        names = self.keep_dense
        if names is None or names == "first":
            return
        is_list = isinstance(names, list | tuple | set)
        if not is_list or not all(isinstance(name, str) for name in names):
            raise ValueError(
                "Argument `keep_dense` must be 'first', None or a list of "
                f"names. Received: keep_dense={names!r}"
            )

    def _check_where(self):
        if self.where is None or callable(self.where):
            return
        try:
            re.compile(self.where)
        except (TypeError, re.error) as error:
            raise ValueError(
                "Argument `where` must be a regular expression for the path "
                "of a layer, a function `layer -> bool`, or None. Received: "
                f"where={self.where!r}, {error}"
            ) from error

    def sparsities(
        self, model: keras.Model
    ) -> dict[int, float | schedules.Schedule | str]:
        """Returns the sparsity of each layer, or why it has none, by id.

        Args:
            model: Functional or Sequential `keras.Model`.

        Raises:
            ValueError: if `keep_dense` names layers that `model` has not, or
                if the rule needs shapes and `model` is not built.
        """
        layers = {}  # each one once, under its first path
        for path, layer in layers_of(model):
            layers.setdefault(id(layer), (path, layer))
        self._check_names(layers.values())
        kinds = (*SPARSE_FORMS, *SPARSE_FORMS.values())
        first = next((la for _, la in layers.values() if type(la) in kinds), 0)
        reasons = {
            key: self._why_dense(path, layer, layer is first)
            for key, (path, layer) in layers.items()
        }
        sparse = [
            layer
            for key, (_, layer) in layers.items()
            if reasons[key] is None and _has_form(layer)
        ]
        shares = zip(sparse, self._shares(sparse), strict=True)
        return {
            **{key: why for key, why in reasons.items() if why is not None},
            **{id(layer): share for layer, share in shares},
        }

    def _shares(self, layers):
        if self.distribution == "momentum":
            # A variable of the layer: a callback moves it.
            return [schedules.constant(float(self.sparsity))] * len(layers)
        if self.distribution == "uniform":
            return [self.sparsity] * len(layers)
        shapes = [_kernel_of(layer).shape for layer in layers]
        return [
            share or "erk leaves it all of its weights"
            for share in erdos_renyi(shapes, self.sparsity)
        ]

    def _why_dense(self, path, layer, is_first):
        reason = why_no_form(layer)
        if reason is not None or not _has_form(layer):
            return reason
        if not self._is_chosen(path, layer):
            return "left out by `where`"
        if self.keep_dense == "first":
            if is_first and self.distribution == "uniform":
                return "the first layer stays dense"
        elif {path, layer.name} & {*(self.keep_dense or ())}:
            return "named in `keep_dense`"
        if self.min_params:
            size = math.prod(_kernel_of(layer).shape)
            if size < self.min_params:
                return f"{size} weights, of min_params={self.min_params}"
        if self.granularity == "channel":
            return why_no_channels(layer)
        return None

    def _is_chosen(self, path, layer):
        if isinstance(self.where, str):
            return re.search(self.where, path) is not None
        return self.where is None or self.where(layer)

    def _check_names(self, layers):
        if self.keep_dense in (None, "first"):
            return
        known = {name for path, la in layers for name in (path, la.name)}
        missing = [name for name in self.keep_dense if name not in known]
        if missing:
            raise ValueError(
                "Argument `keep_dense` must hold names or paths of layers of "
                f"the model. Received: keep_dense={list(self.keep_dense)}, "
                f"without a layer: {missing}"
            )


def erdos_renyi(
    shapes: Sequence[Sequence[int]], sparsity: float
) -> list[float]:
    """Returns the sparsity of each kernel, more for larger ones (ERK).

        1 - sparsity_l = min(1, eps * sum(shape_l) / prod(shape_l))

    with `eps` such that the kernels together have the `sparsity` asked for.

    Args:
        shapes: sequence of the shapes of kernels.
        sparsity: float in `[0, 1)`, of all weights together.

    Returns:
        List of floats in `[0, 1)`.

    Example:
    >>> sparsities = erdos_renyi([(10, 10), (100, 100)], 0.8)
    >>> [round(sparsity, 3) for sparsity in sparsities]
    [0.0, 0.808]

    Reference:
    - [Evci et al., 2020](https://arxiv.org/abs/1911.11134), section 3
    """
    sizes = [math.prod(shape) for shape in shapes]
    budget = (1 - sparsity) * sum(sizes)
    full: set[int] = set()
    while len(full) < len(shapes):
        others = set(range(len(shapes))) - full
        left = budget - sum(sizes[i] for i in full)
        epsilon = left / sum(sum(shapes[i]) for i in others)
        kept = {i: epsilon * sum(shapes[i]) for i in others}
        over = {i for i in others if kept[i] >= (1 - 1e-9) * sizes[i]}
        if not over:
            return [
                0.0 if i in full else 1 - kept[i] / sizes[i]
                for i in range(len(shapes))
            ]
        full |= over
    return [0.0] * len(shapes)


def _has_form(layer):
    return type(layer) in SPARSE_FORMS


def _kernel_of(layer):
    if not layer.built:
        raise ValueError(
            "Argument `model` must be built where distribution='erk' or "
            "`min_params` ask for the shapes of its kernels. Received: layer "
            f"{layer.name!r}, not built"
        )
    return layer.kernel
