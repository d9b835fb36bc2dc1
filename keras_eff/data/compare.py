"""Train on pruned data beside all that a sceptic would compare them with."""

import collections
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_eff.data.comparison import Comparison
from keras_eff.data.comparison import Row
from keras_eff.data.comparison import Run
from keras_eff.data.dynamic import Dynamic
from keras_eff.data.policies import select
from keras_eff.data.scoring import score
from keras_eff.scores import random

Scorer = Callable[[Sequence[keras.Model], Any, Any], np.ndarray]
_FORWARD = 1 / 3  # of a training step: forward, and twice that backward


def compare(
    dataset: tuple[Any, Any],
    validation: tuple[Any, Any],
    model_fn: Callable[[], keras.Model],
    keeps: Sequence[float] = (0.5, 0.3, 0.1),
    scorers: Sequence[str] | Mapping[str, str | Scorer] = ("el2n", "bald"),
    policies: Sequence[str] = ("hard", "auto"),
    seeds: int | Sequence[int] = 3,
    epochs: int = 10,
    batch_size: int = 64,
    proxies: int = 3,
    proxy_epochs: int = 2,
    verbose: str | int = "auto",
) -> Comparison:
    """Trains on pruned data and on every baseline, and says which won.

    For each seed: all data; and for each `keep` a random part (as many of
    each class as the class has of all data), a fresh random part each epoch
    (RS2), all data for as many updates, and each scorer with each policy. All
    but "all data" train for the same number of updates, so a method that does
    not beat the random ones has cost its scoring for nothing.

    Args:
        dataset: `(x, y)` arrays, or nests of them for `x`; `y` whole numbers
            of shape `(n,)`.
        validation: `(x, y)` of the same form. Do not pass the test set if you
            choose a method by the outcome.
        model_fn: function that returns a new, compiled classifier.
        keeps: fractions kept, in `(0, 1)`. Defaults to `(0.5, 0.3, 0.1)`.
        scorers: names for `score`, or dictionary of name to such a name or to
            a function `(proxies, x, y) -> scores`. Defaults to
            `("el2n", "bald")`.
        policies: values of `prefer` of `select`. Defaults to
            `("hard", "auto")`.
        seeds: integer, or sequence of integers. Defaults to `3`.
        epochs: integer, of the full training. Defaults to `10`.
        batch_size: integer. Defaults to `64`.
        proxies: integer, models that score. Defaults to `3`.
        proxy_epochs: integer, epochs that each of them trains on all data.
            Defaults to `2`.
        verbose: `"auto"`, `0` or `1`: progress bar. Defaults to `"auto"`.

    Returns:
        A `Comparison`: `rows`, a rich table, `plot`, `to_dict`.

    Raises:
        ValueError: if the labels are not whole numbers, a `keep` leaves no
            whole batch, or an argument is out of its range.

    Example:
    >>> def model_fn():
    ...     layers = [keras.Input((2,)), keras.layers.Dense(2, "softmax")]
    ...     model = keras.Sequential(layers)
    ...     model.compile("sgd", "sparse_categorical_crossentropy")
    ...     return model
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> data = x, (x[:, 0] > 0).astype("int64")
    >>> found = compare(data, data, model_fn, [0.5], ["el2n"], ["hard"],
    ...                 seeds=1, epochs=2, batch_size=8, verbose=0)
    >>> [row.method for row in found.rows]
    ['full', 'random', 'rs2', 'full, as many updates', 'el2n, hard']
    """
    x, y = dataset[0], np.asarray(dataset[1])
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise ValueError(
            "The labels must be whole numbers of shape (n,). Received: labels "
            f"of dtype {y.dtype} and shape {y.shape}"
        )
    if not isinstance(scorers, Mapping):
        scorers = {name: name for name in scorers}
    seeds = range(seeds) if isinstance(seeds, int) else list(seeds)
    if min(len(seeds), epochs, batch_size, proxies, proxy_epochs) < 1:
        raise ValueError(
            "`seeds`, `epochs`, `batch_size`, `proxies` and `proxy_epochs` "
            f"must be at least 1. Received: {len(seeds)} seeds, {epochs}, "
            f"{batch_size}, {proxies} and {proxy_epochs}"
        )
    for keep in keeps:
        if not 0 < keep < 1 or keep * len(y) < batch_size:
            raise ValueError(
                "Each of `keeps` must be in (0, 1) and keep a whole batch. "
                f"Received: keep={keep}, {len(y)} examples, batch_size="
                f"{batch_size}"
            )
    trainer = _Trainer(model_fn, (x, y), validation, epochs, batch_size)
    arms_a_seed = 1 + len(keeps) * (3 + len(scorers) * len(policies))
    progress = keras.utils.Progbar(
        len(seeds) * arms_a_seed, verbose=1 if verbose == "auto" else verbose
    )
    runs: dict[tuple[str, float], list[Run]] = collections.defaultdict(list)
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        models = trainer.proxies(proxies, proxy_epochs)
        cost = proxies * (proxy_epochs + _FORWARD)
        scored = {n: _scores(by, models, x, y) for n, by in scorers.items()}
        arms = itertools.chain(
            trainer.baselines(keeps, seed),
            trainer.pruned(scored, policies, keeps, seed, cost),
        )
        for method, keep, run in arms:
            runs[method, keep].append(run)
            progress.add(1)
    rows = [Row(*key, tuple(of_key)) for key, of_key in runs.items()]
    return Comparison(tuple(sorted(rows, key=_by_keep)), epochs, len(y))


def _by_keep(row: Row) -> float:
    return -row.keep


def _scores(by: str | Scorer, models, x, y) -> np.ndarray:
    if callable(by):
        return by(models, x, y)
    return score((x, y), by=by, model=models, verbose=0)


class _Trainer:
    """Trains a new model on some examples and looks at the validation set."""

    def __init__(self, model_fn, dataset, validation, epochs, batch_size):
        self.model_fn = model_fn
        self.x, self.y = dataset
        self.validation = validation
        self.epochs = epochs
        self.batch_size = batch_size

    def proxies(self, count: int, epochs: int) -> list[keras.Model]:
        models = [self.model_fn() for _ in range(count)]
        for model in models:
            self._fit(model, np.arange(len(self.y)), epochs)
        return models

    def baselines(self, keeps, seed) -> Iterator[tuple[str, float, Run]]:
        everything = np.arange(len(self.y))
        yield "full", 1.0, self.run(everything, seed)
        for keep in keeps:
            yield "random", keep, self.run(self._random(keep, seed), seed)
            yield "rs2", keep, self._run_rs2(keep, seed)
            run = self.run(everything, seed, keep * self.epochs)
            yield "full, as many updates", keep, run

    def pruned(self, scored, policies, keeps, seed, cost) -> Iterator[Any]:
        for keep, (name, scores), policy in itertools.product(
            keeps, scored.items(), policies
        ):
            kept = select(scores, keep, policy, labels=self.y, seed=seed)
            yield f"{name}, {policy}", keep, self.run(kept.ids, seed, cost=cost)

    def run(self, ids, seed, epochs=None, cost=0.0) -> Run:
        keras.utils.set_random_seed(seed)
        model = self.model_fn()
        self._fit(model, ids, epochs or self.epochs)
        return self._look_at(model, self.y[ids], cost)

    def _run_rs2(self, keep, seed) -> Run:
        keras.utils.set_random_seed(seed)
        model = self.model_fn()
        fresh = Dynamic(
            (self.x, self.y),
            keep,
            method="rs2",
            batch_size=self.batch_size,
            anneal=0.0,
            seed=seed,
        )
        model.fit(
            fresh.dataset,
            epochs=self.epochs,
            callbacks=[fresh],
            shuffle=False,
            verbose=0,
        )
        return self._look_at(model, self.y, 0.0)

    def _random(self, keep, seed) -> np.ndarray:
        """Returns as much of each class as there is of all."""
        scores = random(len(self.y), seed)
        return np.sort(
            np.concatenate(
                [
                    members[np.argsort(scores[members])][: round(keep * size)]
                    for members in map(np.flatnonzero, self._classes())
                    if (size := len(members))
                ]
            )
        )

    def _classes(self):
        return [self.y == label for label in np.unique(self.y)]

    def _fit(self, model, ids, epochs) -> None:
        """Trains some epochs, and a part of one on a random part."""
        whole, part = divmod(epochs, 1)
        rest = np.random.default_rng(0).permutation(ids)[
            : round(part * len(ids))
        ]
        for chosen, times in ((ids, int(whole)), (rest, 1)):
            if times and len(chosen):
                x = keras.tree.map_structure(
                    lambda leaf, chosen=chosen: np.asarray(leaf)[chosen], self.x
                )
                model.fit(
                    x,
                    self.y[chosen],
                    batch_size=self.batch_size,
                    epochs=times,
                    verbose=0,
                )

    def _look_at(self, model, labels, cost) -> Run:
        x, y = self.validation
        predictions = model.predict(x, batch_size=256, verbose=0)
        found = _classes_of(predictions)
        y = np.asarray(y)
        recalls = [(found[y == c] == c).mean() for c in np.unique(y)]
        counts = np.unique(labels, return_counts=True)[1]
        return Run(
            accuracy=float((found == y).mean()),
            worst_class=float(min(recalls)),
            imbalance=float(counts.max() / counts.min()),
            updates=int(model.optimizer.iterations),
            cost=float(cost),
        )


def _classes_of(predictions: np.ndarray) -> np.ndarray:
    if predictions.shape[-1] == 1:
        return (predictions[..., 0] > 0.5).astype(int)
    return predictions.argmax(axis=-1)
