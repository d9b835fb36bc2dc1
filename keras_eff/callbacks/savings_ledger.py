"""One account of what a training run used, and what its techniques saved."""

import pathlib
import time
from typing import Any

import keras
import rich.console
import rich.table

from keras_eff import flops
from keras_eff import savings as _savings
from keras_eff.callbacks import savings_file
from keras_eff.callbacks.savings_events import SavingsEvents
from keras_eff.savings import Saving
from keras_eff.savings import Source
from keras_eff.savings import Total

DERIVED_BASELINE = "the same run without the techniques, derived"


class SavingsLedger(keras.callbacks.Callback):
    """Counts what `fit` uses and compares it with the run without techniques.

    Examples, updates and seconds (of training, without validation) are counted
    while `fit` runs. FLOPs are these examples times those that
    `keras_eff.flops.count` derives from the
    model, theoretical and executed apart. What the run would have used
    without the techniques (`planned`) follows from the records of the
    sources; layers that can tell their savings are found in the model.

    With `log_dir` each epoch writes TensorBoard scalars to
    `<log_dir>/efficiency` (`keras_eff/<quantity>/{used,planned,saved_pct}`,
    `keras_eff_techniques/<technique>/<unit>/{baseline,actual}`) and the end
    of training writes `<log_dir>/savings.json`.

    What it does not give: seconds saved, unless another run was measured and
    is passed as `baseline`. Examples are counted up to 2**24 an epoch
    exactly. Under a distribution strategy of several workers every worker
    keeps its own ledger.

    Args:
        log_dir: path of the run, without the files of another ledger. `None`
            writes nothing. Defaults to `None`.
        sources: objects with `savings() -> list[Saving]`: a `Selection`, a
            `BatchSizeSchedule`, ... Defaults to `()`.
        baseline: path of the `savings.json` of a measured run to compare
            seconds with. Defaults to `None`.
        verbose: `0`, or `1` to print a table when training ends. Defaults to
            `1`.

    Raises:
        TypeError: if a source has no `savings`.
        ValueError: if `baseline` is no `savings.json` of this schema.
        FileExistsError: in `fit`, if `log_dir` has another ledger's files.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> ledger = SavingsLedger(verbose=0)
    >>> import numpy as np
    >>> x, y = np.ones((10, 4)), np.ones((10, 1))
    >>> history = model.fit(x, y, epochs=2, callbacks=[ledger], verbose=0)
    >>> totals = ledger.totals()
    >>> totals["examples"].used, totals["flops_executed"].used
    (20, 480)
    """

    def __init__(self, log_dir=None, sources=(), baseline=None, verbose=1):
        super().__init__()
        for source in sources:
            if not isinstance(source, Source):
                raise TypeError(
                    "Argument `sources` must hold objects with a method "
                    "`savings() -> list[Saving]`. Received: "
                    f"{type(source).__name__}"
                )
        self.log_dir = log_dir
        self.sources = sources
        self.baseline = baseline
        self.verbose = verbose
        self._baseline_seconds = None
        if baseline is not None:
            measured = savings_file.read(baseline)["totals"]
            self._baseline_seconds = measured["seconds"]["used"]
        self._flops: flops.Report | None = None
        self._not_counted: dict[str, str] = {}
        self._history: list[dict[str, Any]] = []
        self._events: SavingsEvents | None = None
        self._epoch: int | None = None  # the epoch that is running

    def savings(self) -> list[tuple[str, Saving]]:
        """Returns `(source, record)` of all layers and sources so far."""
        named = [
            *_sources_in(self.model),
            *((type(source).__name__, source) for source in self.sources),
        ]
        return [
            (name, saving)
            for name, source in named
            for saving in source.savings()
        ]

    def totals(self) -> dict[str, Total]:
        """Returns a `Total` for each quantity, costs included."""
        counts = {
            quantity: sum(epoch[quantity] for epoch in self._history)
            for quantity in ("examples", "updates")
            if quantity not in self._not_counted
        }
        seconds = sum(epoch["seconds"] for epoch in self._history)
        return _savings.account(
            counts,
            self._rates(),
            [saving for _, saving in self.savings()],
            {"seconds": Total(seconds, self._baseline_seconds, True)},
        )

    def cost(self, technique: str) -> list[Saving]:
        """Returns what this run used as costs of a technique.

        For runs that only serve another one, such as training the model that
        scores a data set: `select(..., cost=ledger.cost("pruning"))`.

        Args:
            technique: string, who bears the cost.
        """
        return [
            Saving(technique, quantity, 0, total.used, total.measured)
            for quantity, total in self.totals().items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of `savings.json`."""
        report = self._flops
        return {
            **savings_file.header(),
            "baseline": {
                "declared": DERIVED_BASELINE,
                "measured": self.baseline and str(self.baseline),
            },
            "totals": {
                quantity: total.to_dict()
                for quantity, total in self.totals().items()
            },
            "not_counted": self._not_counted,
            "flops_per_example": report and report.to_dict(),
            "savings": [
                {"source": name, **saving.to_dict()}
                for name, saving in self.savings()
            ],
            "history": self._history,
        }

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(
            title="Savings", caption=f"planned: {DERIVED_BASELINE}"
        )
        for heading in ("quantity", "used", "planned", "saved", "basis"):
            table.add_column(
                heading, justify="left" if heading == "quantity" else "right"
            )
        for quantity, total in self.totals().items():
            planned, saved = total.planned, total.saved_pct
            table.add_row(
                quantity.replace("_", " "),
                f"{total.used:,.4g}",
                "no baseline" if planned is None else f"{planned:,.4g}",
                "" if saved is None else f"{saved:.1f} %",
                "measured" if total.measured else "derived",
            )
        return table

    def on_train_begin(self, logs=None):
        self._count_flops()
        if self.log_dir is not None and not self._history:
            events = self._path.with_name(SavingsEvents.FOLDER)
            if self._path.exists() or events.exists():
                raise FileExistsError(
                    "Argument `log_dir` must be new: what another run wrote "
                    "is never overwritten or mixed. Received: "
                    f"log_dir={self.log_dir!r}"
                )
        self._started = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._updates, self._examples = epoch, 0, None

    def on_train_batch_end(self, batch, logs=None):
        # With `steps_per_execution` the last index can be past the end.
        steps = self.params.get("steps")
        self._updates = batch + 1 if steps is None else min(batch + 1, steps)

    def on_test_begin(self, logs=None):
        # Validation resets the metric that counts the training examples.
        if self._epoch is not None:
            self._examples = self._read_examples()
            self._test_started = time.perf_counter()

    def on_test_end(self, logs=None):
        if self._epoch is not None:
            self._started += time.perf_counter() - self._test_started

    def on_epoch_end(self, epoch, logs=None):
        if self._examples is None:
            self._examples = self._read_examples()
        now = time.perf_counter()
        self._history.append(
            {
                "epoch": epoch,
                "examples": self._examples,
                "updates": int(self._updates),
                "seconds": now - self._started,
                "quality": {k: float(v) for k, v in (logs or {}).items()},
            }
        )
        self._started, self._epoch = now, None
        if self.log_dir is not None:
            self._write_events()

    def on_train_end(self, logs=None):
        if self.log_dir is not None:
            self._events.close()
            self._events = None
            savings_file.write(self._path, self.to_dict())
        if self.verbose:
            rich.console.Console().print(self)

    @property
    def _path(self) -> pathlib.Path:
        return pathlib.Path(self.log_dir) / "savings.json"

    def _count_flops(self) -> None:
        try:
            report = flops.count(self.model)
        except ValueError as error:
            self._not_counted["flops"] = str(error)
            return
        if self._flops not in (None, report):
            raise ValueError(
                "A ledger keeps the account of one model. Received: a model "
                f"of {report.training:,} training FLOPs an example after one "
                f"of {self._flops.training:,}"
            )
        self._flops = report
        for layer in report.unsupported:
            self._not_counted[layer.path] = layer.reason

    def _rates(self) -> dict[str, tuple[float, float]]:
        report = self._flops
        if report is None or "examples" in self._not_counted:
            return {}
        planned = report.dense_training
        return {
            "flops_theoretical": (planned, report.training),
            "flops_executed": (planned, report.executed_training),
        }

    def _read_examples(self) -> int:
        """Returns the examples of this epoch, as the loss metric counts."""
        counts = [
            int(metric.count)
            for metric in self.model.metrics
            if metric.name == "loss" and isinstance(metric, keras.metrics.Mean)
        ]
        if not any(counts):  # a `train_step` of the user's own
            self._not_counted["examples"] = "no metric `loss` counts them"
        return sum(counts)

    def _write_events(self) -> None:
        quality = self._history[-1]["quality"]
        totals = self.totals()
        techniques = _savings.totals([saving for _, saving in self.savings()])
        if self._events is None:
            self._events = SavingsEvents(self.log_dir)
            self._events.write_manifest(
                totals,
                techniques,
                quality,
                baseline=DERIVED_BASELINE,
                device=savings_file.device(),
            )
        step = sum(epoch["updates"] for epoch in self._history)
        self._events.write(step, totals, techniques, quality)


def _sources_in(model: keras.Model | None, prefix: str = ""):
    """Yields `(path, layer)` of the layers that can tell their savings."""
    for layer in model.layers if model is not None else ():
        if isinstance(layer, Source):
            yield f"{prefix}{layer.name}", layer
        if isinstance(layer, keras.Model):
            yield from _sources_in(layer, f"{prefix}{layer.name}/")
