"""The command `keras-eff`."""

import logging
import pathlib
import re

import click
import rich

from keras_eff import demo as recipes
from keras_eff import demo_table
from keras_eff.datasets import LOADERS


@click.group()
@click.version_option(package_name="keras-eff")
def main() -> None:
    """Train and use large Keras models for less, and see what it saved."""
    # TensorFlow's notes to programmers are not for the users of a command.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@main.command()
@click.option(
    "--data",
    type=click.Choice(list(LOADERS)),
    default="digits",
    show_default=True,
    help="Data set; digits come with scikit-learn.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=4),
    help="Epochs of each recipe.  [default: 20 digits, 12 fashion-mnist]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Repetitions with different seeds.",
)
@click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    default=pathlib.Path("keras-eff-runs"),
    show_default=True,
    help="Folder of the numbered runs.",
)
def demo(data: str, epochs: int | None, seeds: int, out: pathlib.Path) -> None:
    """Train a plain Keras recipe and the efficient one on the same data."""
    try:
        loaded = LOADERS[data]()
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    run = new_run_folder(out)
    results = recipes.compare(
        loaded, epochs or recipes.EPOCHS[data], seeds, run
    )
    rich.print(demo_table.table(results))
    click.echo(demo_table.verdict(results))
    click.echo(f"\nSee the curves:  tensorboard --logdir {run}")


def new_run_folder(out: pathlib.Path) -> pathlib.Path:
    """Makes and returns `out/run-001`, or the next number that is free.

    Args:
        out: path of the folder of all runs.
    """
    names = (re.match(r"run-(\d+)", path.name) for path in out.glob("run-*"))
    taken = (int(name.group(1)) for name in names if name)
    run = out / f"run-{max(taken, default=0) + 1:03d}"
    run.mkdir(parents=True)
    return run
