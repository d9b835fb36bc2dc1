"""Measure during `fit` which batch size the gradient's noise suggests."""

import dataclasses
import math
import os
import pathlib
from typing import Any

import keras

from keras_eff.callbacks.noise_probe import NoiseProbe
from keras_eff.optimizers.gradient_noise import corrected
from keras_eff.optimizers.scheduled_accumulation import ScheduledAccumulation
from keras_eff.savings import Saving


@dataclasses.dataclass(frozen=True)
class NoiseRecord:
    """What was known of the noise at the end of an epoch.

    Args:
        epoch: integer, of `fit`.
        updates: integer, `iterations` of the optimizer.
        noise_scale: float, examples; NaN if undefined.
        trace: float, of the covariance of the examples' gradients.
        grad_sq: float, squared norm of the true gradient.
        batch_size: integer in use, where a `BatchSizeSchedule` before it in
            `callbacks` tells it; else `None`.
    """

    epoch: int
    updates: int
    noise_scale: float
    trace: float
    grad_sq: float
    batch_size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary, ready for JSON."""
        return dataclasses.asdict(self)


class GradientNoiseScale(keras.callbacks.Callback):
    """Measures the simple noise scale of the gradient.

    The batch size at which the noise of a gradient is as large as the
    gradient. Well below it a larger batch saves updates almost in proportion;
    well above it, hardly any:

        noise_scale = trace(covariance of the examples' gradients) / |G|^2

    Both parts come from gradients of two batch sizes, without bias; their
    running means are taken before the ratio. Where gradients accumulate, with
    `ScheduledAccumulation` or a `BatchSizeSchedule` that wraps the optimizer
    with it, the micro-batches give them in passing. Otherwise pass `data`:
    a probe then takes gradients of micro-batches, and puts statistics, seeds
    and metrics back. Training is the same with and without it.

    `logs` get `noise_scale`, `noise_trace` and `noise_grad_sq` at the end of
    each epoch, for `History` and `TensorBoard`.

    What it does not give: the critical batch size. The noise scale is a proxy
    of it, and an unreliable one. It is NaN where undefined: no measurement
    yet, or `noise_grad_sq` not positive. A probe costs passes, see `savings`.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)`, arrays or nests of them, to
            probe with. `None` measures where gradients accumulate. Defaults
            to `None`.
        every: integer, batches of `fit` from a probe to the next. `None`
            probes at the end of each epoch. Defaults to `None`.
        ema: float in `[0, 1)`, decay of the running means from a measurement
            to the next: an update with two or more micro-batches, or a probe.
            Defaults to `0.99`.
        num_batches: integer >= 2, micro-batches of a probe. Defaults to `8`.
        batch_size: integer, examples in a micro-batch of a probe. Defaults to
            `32`.

    Raises:
        ValueError: if `ema` or `every` is out of range, or `data` holds fewer
            than `num_batches * batch_size` examples; in `fit`, if neither
            `data` is given nor gradients accumulate.

    Example:
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(512, 3))
    >>> y = x[:, :1]
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> noise = GradientNoiseScale(data=(x, y))
    >>> history = model.fit(x, y, epochs=2, callbacks=[noise], verbose=0)
    >>> len(history.history["noise_scale"]), noise.noise_scale > 0
    (2, True)

    Reference:
    - [McCandlish et al., 2018](https://arxiv.org/abs/1812.06162)
    - [arXiv 2505.23971](https://arxiv.org/abs/2505.23971), its limits
    """

    def __init__(
        self, data=None, every=None, ema=0.99, num_batches=8, batch_size=32
    ):
        super().__init__()
        if not 0 <= ema < 1:
            raise ValueError(
                "Argument `ema` must be in [0, 1): it is the weight of the "
                f"past. Received: ema={ema}"
            )
        if every is not None and (every < 1 or data is None):
            raise ValueError(
                "Argument `every` must be at least 1, and needs `data`: where "
                "gradients accumulate, each update is measured. "
                f"Received: every={every}, data of {type(data).__name__}"
            )
        self.data = data
        self.every = every
        self.ema = ema
        self.num_batches = num_batches
        self.batch_size = batch_size
        self.history: list[NoiseRecord] = []
        self._probe = None
        if data is not None:
            self._probe = NoiseProbe(data, batch_size, num_batches)
        self._means = (0.0, 0.0, 0)  # trace, grad_sq, number of probes
        self._noise = (math.nan, math.nan, 0)  # the means, corrected
        self._batches = self._batches_before_epoch = 0
        self._accumulation: ScheduledAccumulation | None = None
        self._found = (False, 0.0)  # what its measurement was set to

    @property
    def noise_scale(self) -> float:
        """`trace / |G|^2` in examples; NaN if undefined."""
        trace, grad_sq, _ = self._noise
        return trace / grad_sq if grad_sq > 0 else math.nan

    def savings(self) -> list[Saving]:
        """Returns what the probes cost; empty where gradients accumulate."""
        if self._probe is None:
            return []
        seconds = self._probe.seconds
        return [
            Saving("gradient_noise_scale", "seconds", 0, seconds, measured=True)
        ]

    def plot(self, path: str | os.PathLike) -> None:
        """Writes a picture of the noise scale over the updates.

        Args:
            path: file that does not exist yet, such as `"noise.png"`.

        Raises:
            FileExistsError: if there is such a file.
            ImportError: if matplotlib is not installed.
        """
        if pathlib.Path(path).exists():
            raise FileExistsError(
                "`plot` overwrites nothing: pass the name of a new file. "
                f"Received: path={os.fspath(path)!r}"
            )
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "`plot` needs matplotlib: `pip install keras-eff[plots]`. "
                f"Received: {error}"
            ) from error
        axes = Figure(layout="constrained").add_subplot()
        for name in ("noise_scale", "batch_size"):
            known = [
                (record.updates, getattr(record, name))
                for record in self.history
                if getattr(record, name) is not None
            ]
            if known:
                label = name.replace("_", " ")
                axes.plot(*zip(*known, strict=True), marker=".", label=label)
        axes.set(xlabel="updates", ylabel="examples")
        axes.legend()
        axes.figure.savefig(path)

    def on_train_begin(self, logs=None):
        self._give_back()  # An interrupted `fit` did not.
        self._means = (0.0, 0.0, 0)
        self._noise = (math.nan, math.nan, 0)
        self._batches = 0
        self.history = []
        if self._probe is not None:
            self._probe.attach(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        # Not before: a schedule wraps the optimizer when training begins.
        if self._probe is None and self._accumulation is None:
            self._measure_accumulation()
        self._batches_before_epoch = self._batches

    def on_train_batch_end(self, batch, logs=None):
        before = self._batches
        self._batches = self._batches_before_epoch + batch + 1
        if self.every and self._batches // self.every > before // self.every:
            self._take_probe()

    def on_epoch_end(self, epoch, logs=None):
        if self._probe is not None and self.every is None:
            self._take_probe()
        if self._accumulation is not None:
            self._noise = self._accumulation.noise
        trace, grad_sq, _ = self._noise
        updates = int(self.model.optimizer.iterations.numpy())
        batch_size = (logs or {}).get("batch_size")
        record = NoiseRecord(
            epoch, updates, self.noise_scale, trace, grad_sq, batch_size
        )
        self.history.append(record)
        if logs is not None:
            logs["noise_scale"] = record.noise_scale
            logs["noise_trace"] = record.trace
            logs["noise_grad_sq"] = record.grad_sq

    def on_train_end(self, logs=None):
        self._give_back()

    def _take_probe(self) -> None:
        trace, grad_sq = self._probe.measure()
        if not math.isfinite(trace + grad_sq):  # an overflow of half types
            return
        old_trace, old_grad_sq, number = self._means
        self._means = (
            self.ema * old_trace + (1 - self.ema) * trace,
            self.ema * old_grad_sq + (1 - self.ema) * grad_sq,
            number + 1,
        )
        self._noise = corrected(*self._means, self.ema)

    def _measure_accumulation(self) -> None:
        optimizer = self.model.optimizer
        while not isinstance(optimizer, ScheduledAccumulation):
            optimizer = getattr(optimizer, "inner_optimizer", None)
            if optimizer is None:
                raise ValueError(
                    "The noise shows in gradients of two batch sizes: pass "
                    "`data=(x, y)` to probe with, or accumulate gradients, by "
                    "`BatchSizeSchedule(..., max_physical_batch_size=...)` or "
                    "`ScheduledAccumulation`. Received: data=None, optimizer "
                    f"{self.model.optimizer.name!r}"
                )
        self._accumulation = optimizer
        self._found = (optimizer.measure_noise, optimizer.noise_decay)
        optimizer.measure_noise, optimizer.noise_decay = True, self.ema
        optimizer.restart_noise()
        self.model.make_train_function(force=True)

    def _give_back(self) -> None:
        if self._accumulation is not None:
            optimizer, self._accumulation = self._accumulation, None
            optimizer.measure_noise, optimizer.noise_decay = self._found
            self.model.make_train_function(force=True)
