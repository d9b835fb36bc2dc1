"""Score the examples of a data set with a model."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_eff import scores as _scores

Score = Callable[[Any, Any], Any]
_BY_NAME: dict[str, Score] = {"el2n": _scores.el2n}


def score(
    dataset: Any,
    by: str | Score = "el2n",
    model: keras.Model | Sequence[keras.Model] | None = None,
    batch_size: int = 256,
    from_logits: bool = False,
    verbose: str | int = "auto",
) -> np.ndarray:
    """Returns one score an example, in the order of the data; high = hard.

    Args:
        dataset: `(x, y)` arrays, or a `tf.data.Dataset` of `(x, y)`, batched
            or not, that yields the same order each time.
        by: `"el2n"`, or a function `(predictions, labels) -> scores` of shape
            `(batch,)`. Defaults to `"el2n"`.
        model: `keras.Model`, or several: their scores are averaged. For EL2N
            a model a few epochs into training ranks best.
        batch_size: positive integer, examples a prediction. A batched
            dataset keeps its own. Defaults to `256`.
        from_logits: bool, whether the model returns logits; they go through
            a softmax (one output: a sigmoid). Defaults to `False`.
        verbose: `"auto"`, `0` or `1`: progress bar. Defaults to `"auto"`.

    Returns:
        Float32 array of shape `(examples,)`.

    Raises:
        ValueError: if `by` is unknown or does not give one score an example,
            `model` is missing, `batch_size` is below 1, the data are not
            pairs, are infinite or begin with other examples on a second pass
            (only the first batch is compared), or EL2N gets no probabilities.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, activation="softmax")]
    ... )
    >>> x, y = np.ones((5, 2), "float32"), np.array([0, 1, 2, 0, 1])
    >>> score((x, y), by="el2n", model=model, verbose=0).shape
    (5,)

    Reference:
    - [Paul et al., 2021](https://arxiv.org/abs/2107.07075)
    """
    if not callable(by) and by not in _BY_NAME:
        raise ValueError(
            f"Argument `by` must be one of {sorted(_BY_NAME)} or a function. "
            f"Received: by={by!r}"
        )
    models = [model] if isinstance(model, keras.Model) else list(model or ())
    if not models:
        raise ValueError(
            "Argument `model` must be a Keras model, or several: the score "
            f"compares its predictions with the labels. Received: {model!r}"
        )
    if batch_size < 1:
        raise ValueError(
            "Argument `batch_size` must be at least 1. Received: "
            f"batch_size={batch_size}"
        )
    rule = by if callable(by) else _BY_NAME[by]
    batches, num_batches = _batches_of(dataset, models[0], batch_size)
    progress = keras.utils.Progbar(
        num_batches, verbose=1 if verbose == "auto" else verbose
    )
    scores = []
    for x, y in batches:
        by_model = []
        for member in models:
            predictions = _predict(member, x, from_logits, check=by == "el2n")
            by_model.append(_checked(rule(predictions, y), len(predictions)))
        scores.append(np.mean(by_model, axis=0))
        progress.add(1)
    return np.concatenate(scores).astype(np.float32)


def _predict(model, x, from_logits, check):
    # Half types are too coarse to see that rows sum to 1.
    predictions = model.predict_on_batch(x).astype("float32")
    if from_logits:
        one_output = predictions.shape[-1] == 1
        squash = ops.sigmoid if one_output else ops.softmax
        return ops.convert_to_numpy(squash(predictions))
    if check and not _are_probabilities(predictions):
        raise ValueError(
            "The model must return probabilities, in [0, 1] and with rows "
            "that sum to 1, for EL2N; for logits pass `from_logits=True`. "
            f"Received: predictions from {predictions.min():.3g} to "
            f"{predictions.max():.3g}"
        )
    return predictions


def _checked(scores, num_examples) -> np.ndarray:
    scores = ops.convert_to_numpy(scores)
    if scores.shape != (num_examples,):
        raise ValueError(
            "Argument `by` must return one score an example. Received: scores "
            f"of shape {scores.shape} for {num_examples} examples"
        )
    return scores


def _are_probabilities(predictions: np.ndarray) -> bool:
    tolerance = 1e-2  # half-precision models
    in_range = (predictions >= 0) & (predictions <= 1 + tolerance)
    sums = predictions.sum(axis=-1)
    is_distribution = np.abs(sums - 1) <= tolerance
    one_output = predictions.shape[-1] == 1
    return bool(in_range.all() and (one_output or is_distribution.all()))


def _batches_of(
    dataset, model, batch_size
) -> tuple[Iterator[tuple[Any, Any]], int | None]:
    """Returns an iterator over `(x, y)` batches and their number."""
    if isinstance(dataset, tf.data.Dataset):
        if not _is_batched(dataset, model):
            dataset = dataset.batch(batch_size)
        num_batches = int(dataset.cardinality())
        if num_batches == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "Argument `dataset` must end: score it before `repeat`. "
                "Received: a dataset of infinite cardinality"
            )
        _check_order(dataset)
        return iter(dataset), num_batches if num_batches >= 0 else None
    if not isinstance(dataset, tuple) or len(dataset) != 2:
        raise ValueError(
            "Argument `dataset` must be `(x, y)` arrays or a "
            f"`tf.data.Dataset` of pairs. Received: {type(dataset).__name__}"
        )
    data = keras.tree.map_structure(np.asarray, dataset)
    lengths = {len(array) for array in keras.tree.flatten(data)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "Argument `dataset` must hold arrays of one length, at least 1. "
            f"Received: lengths {sorted(lengths)}"
        )
    starts = range(0, lengths.pop(), batch_size)
    return (_rows(data, start, batch_size) for start in starts), len(starts)


def _rows(data, start, size):
    return keras.tree.map_structure(
        lambda array: array[start : start + size], data
    )


def _is_batched(dataset, model) -> bool:
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise ValueError(
            "Argument `dataset` must yield pairs `(x, y)`. Received: elements "
            f"{spec}"
        )
    # Ranks are added up: several inputs may come in another order.
    ranks = [leaf.shape.rank for leaf in keras.tree.flatten(spec[0])]
    return sum(ranks) == sum(len(x.shape) for x in _inputs_of(model))


def _inputs_of(model) -> list[Any]:
    try:
        return keras.tree.flatten(model.inputs)
    except AttributeError as error:
        raise ValueError(
            "Argument `model` must be Functional or Sequential to score a "
            "`tf.data.Dataset`: its inputs tell whether the data are batched; "
            "a subclassed model takes arrays. Received: model of type "
            f"{type(model).__name__}"
        ) from error


def _check_order(batches) -> None:
    first, again = (next(iter(batches), None) for _ in range(2))
    if first is None:
        raise ValueError(
            "Argument `dataset` must have at least one example. Received: an "
            "empty dataset"
        )
    same = [
        _are_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(
            keras.tree.flatten(first), keras.tree.flatten(again), strict=True
        )
    ]
    if not all(same):
        raise ValueError(
            "Argument `dataset` must yield the same order each time: scores "
            "belong to positions. Shuffle after pruning. Received: a dataset "
            "whose first batch differs between two passes"
        )


def _are_equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
