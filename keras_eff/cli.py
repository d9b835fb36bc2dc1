"""The command `keras-eff`."""

import os
import pathlib

import click


@click.group()
@click.version_option(package_name="keras-eff")
def main() -> None:
    """Train and use large Keras models for less, and see what it saved."""
    # TensorFlow's start-up notes are not for the users of a command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@main.command()
@click.option(
    "--data",
    type=click.Choice(["digits", "fashion-mnist"]),
    default="digits",
    show_default=True,
    help="Data set; digits come with scikit-learn.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=4),
    help="Epochs of each recipe.  [default: 40 digits, 12 fashion-mnist]",
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
    # Imported here: `keras-eff --help` must not wait for TensorFlow.
    import rich.console

    from keras_eff import demo as recipes

    run = new_run_folder(out)
    try:
        results = recipes.compare(
            data, epochs or recipes.EPOCHS[data], seeds, run
        )
    except FileNotFoundError as error:
        run.rmdir()
        raise click.ClickException(str(error)) from error
    console = rich.console.Console()
    console.print(recipes.table(results))
    console.print(f"\nSee the curves:  tensorboard --logdir {run}")


def new_run_folder(out: pathlib.Path) -> pathlib.Path:
    """Makes and returns `out/run-001`, or the next number that is free.

    Args:
        out: path of the folder of all runs.
    """
    taken = [int(path.name[4:]) for path in out.glob("run-[0-9]*")]
    run = out / f"run-{max(taken, default=0) + 1:03d}"
    run.mkdir(parents=True)
    return run
