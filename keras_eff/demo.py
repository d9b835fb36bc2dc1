"""The main job: a plain Keras recipe beside the efficient one, on real data.

Reads from top to bottom: two models, three recipes, the loop.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import rich.progress

from keras_eff import callbacks
from keras_eff import data as eff_data
from keras_eff import layers
from keras_eff import schedules
from keras_eff.datasets import Data
from keras_eff.demo_table import Result

EPOCHS = {"digits": 20, "fashion-mnist": 12}
UNITS, PROXY_UNITS = 128, 64
BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What was chosen, on a quarter of the digits' training part.

    benchmarks/demo_sizes.py shows against what: most differences are within
    the spread of the seeds. The test part is only reported.
    """

    learning_rate: float = 0.1
    keep: float = 0.8
    proxy_epochs: int = 3
    ghost_batch_size: int = 16
    sparsity: float = 0.8
    activation_sparsity: float = 0.5


@dataclasses.dataclass(frozen=True)
class Task:
    """What every recipe gets: the same data, budget, seed and place."""

    data: Data
    epochs: int
    seed: int
    log_dir: pathlib.Path
    tick: Callable[[], object]
    sizes: Sizes = Sizes()


def plain_model(data: Data, units: int = UNITS) -> keras.Model:
    """Returns a multilayer perceptron of stock layers.

    Args:
        data: `Data`, gives the sizes of the input and the output.
        units: integer, width of both hidden layers.
    """
    return _perceptron(
        data,
        units,
        dense=keras.layers.Dense,
        normalization=keras.layers.BatchNormalization,
    )


def efficient_model(data: Data, sizes: Sizes) -> keras.Model:
    """Returns the same perceptron with sparse layers and ghost batches.

    Args:
        data: `Data`, gives the sizes of the input and the output.
        sizes: `Sizes`, how sparse, and how large a ghost.
    """
    return _perceptron(
        data,
        UNITS,
        dense=functools.partial(
            layers.SparseDense,
            sparsity=sizes.sparsity,
            activation_sparsity=sizes.activation_sparsity,
        ),
        normalization=functools.partial(
            layers.GhostBatchNormalization, sizes.ghost_batch_size
        ),
    )


def train_plain(task: Task) -> Result:
    """Trains the plain model on all examples, decaying the learning rate."""
    return _train_plain(task, task.data.x_train, task.data.y_train)


def train_on_random(task: Task) -> Result:
    """Trains the plain model on as many examples, chosen at random.

    The baseline that every score must beat.
    """
    x, y = task.data.x_train, task.data.y_train
    kept = eff_data.select(
        np.zeros(len(y)),
        task.sizes.keep,
        prefer="random",
        labels=y,
        seed=task.seed,
    )
    x, y = eff_data.prune(kept)((x, y))
    return _train_plain(task, x, y, sources=(kept,))


def train_efficiently(task: Task) -> Result:
    """Trains the efficient model on chosen examples, growing the batch."""
    x, y = task.data.x_train, task.data.y_train
    kept = select_hard(task)
    schedule = callbacks.BatchSizeSchedule.from_learning_rate(
        decay(task), BATCH_SIZE, max_batch_size=len(kept.ids) // 10
    )
    train = schedule.batch(eff_data.prune(kept)((x, y)), seed=task.seed)
    ledger = callbacks.SavingsLedger(
        task.log_dir / "efficient",
        sources=(kept, schedule),
        baseline=task.log_dir / "plain" / "savings.json",
        verbose=0,
    )
    model = efficient_model(task.data, task.sizes)
    return _fit(task, model, ledger, x=train, callbacks=[schedule])


RECIPES = {
    "plain Keras": train_plain,
    "plain, random part": train_on_random,
    "keras_eff": train_efficiently,
}


def select_hard(task: Task) -> eff_data.Selection:
    """Scores all examples with a small, shortly trained model.

    What that costs, training and scoring, goes with the selection.
    """
    x, y = task.data.x_train, task.data.y_train
    proxy = plain_model(task.data, PROXY_UNITS)
    proxy.compile("adam", "sparse_categorical_crossentropy")
    ledger = callbacks.SavingsLedger(verbose=0)
    proxy.fit(
        x,
        y,
        batch_size=64,
        epochs=task.sizes.proxy_epochs,
        callbacks=[ledger],
        verbose=0,
    )
    scores = eff_data.score((x, y), by="el2n", model=proxy, verbose=0)
    return eff_data.select(
        scores, task.sizes.keep, labels=y, cost=ledger.cost("pruning")
    )


def decay(task: Task) -> schedules.Schedule:
    """Returns the learning rate by epoch: a fifth at 50 %, again at 75 %.

    Args:
        task: `Task`, gives the epochs and the first learning rate.
    """
    rate, epochs = task.sizes.learning_rate, task.epochs
    return schedules.steps(
        rate,
        {max(1, epochs // 2): rate / 5, max(2, epochs * 3 // 4): rate / 25},
    )


def compare(
    data: Data, epochs: int, num_seeds: int, out: pathlib.Path
) -> dict[str, list[Result]]:
    """Trains every recipe with every seed and shows the progress.

    Args:
        data: `Data`, what to train and test on.
        epochs: integer, epochs of each recipe.
        num_seeds: integer, repetitions.
        out: path of an empty folder for the runs.

    Returns:
        Dictionary recipe -> one `Result` a seed.
    """
    results = {recipe: [] for recipe in RECIPES}
    with rich.progress.Progress() as progress:
        bar = progress.add_task("training", total=None)
        warm_up(data)
        progress.update(bar, total=num_seeds * len(RECIPES) * epochs)
        for seed in range(num_seeds):
            for recipe, train in RECIPES.items():
                progress.update(bar, description=f"{recipe}, seed {seed}")
                keras.utils.set_random_seed(seed)
                task = Task(
                    data,
                    epochs,
                    seed,
                    out / f"seed-{seed}",
                    tick=lambda: progress.advance(bar),
                )
                results[recipe].append(train(task))
    return results


def warm_up(data: Data) -> None:
    """Runs one step, so that no recipe pays for the start of TensorFlow."""
    model = plain_model(data)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(data.x_train[:2], data.y_train[:2])


def _perceptron(data, units, dense, normalization) -> keras.Model:
    num_classes = int(data.y_train.max()) + 1
    return keras.Sequential(
        [
            keras.Input(data.x_train.shape[1:]),
            dense(units),
            normalization(),
            keras.layers.ReLU(),
            dense(units),
            normalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )


def _train_plain(task, x, y, sources=()) -> Result:
    name = "random" if sources else "plain"
    ledger = callbacks.SavingsLedger(
        task.log_dir / name, sources=sources, verbose=0
    )
    rate = keras.callbacks.LearningRateScheduler(decay(task))
    model = plain_model(task.data)
    return _fit(
        task, model, ledger, x=x, y=y, batch_size=BATCH_SIZE, callbacks=[rate]
    )


def _fit(task, model, ledger, callbacks, **data) -> Result:
    model.compile(
        keras.optimizers.SGD(task.sizes.learning_rate, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    test = task.data.x_test, task.data.y_test
    tick = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: task.tick()
    )
    history = model.fit(
        **data,
        epochs=task.epochs,
        validation_data=test,  # for the curves; nothing is chosen by it
        validation_freq=[task.epochs * fifth // 5 for fifth in range(1, 6)],
        validation_batch_size=1024,
        callbacks=[*callbacks, ledger, tick],
        verbose=0,
    )
    return Result(history.history["val_accuracy"][-1], ledger.totals())
