"""Throughput and memory of training on this device, by batch size."""

import functools
import math
import numbers
import statistics
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import rich.progress

from keras_eff import device_memory
from keras_eff import training_state
from keras_eff.batch_size_table import BatchSizeRow
from keras_eff.batch_size_table import BatchSizes
from keras_eff.batch_size_table import has_flattened
from keras_eff.batch_size_table import predicted_bytes

_MIN_STEPS = 3
_ROWS_OF_A_DATASET = 128
_LARGEST = 2**30
# By name: TensorFlow's, PyTorch's and Python's own.
_OUT_OF_MEMORY_TYPES = {
    "ResourceExhaustedError",
    "OutOfMemoryError",
    "MemoryError",
}
_OUT_OF_MEMORY_TEXTS = ("RESOURCE_EXHAUSTED", "OOM when allocating")


def find_batch_size(
    model: keras.Model,
    data: Any,
    batch_sizes: int | Sequence[int] = 8,
    max_batch_size: int | None = None,
    seconds_per_size: float = 1.0,
    max_memory_bytes: float | None = None,
    tolerance: float = 0.05,
    verbose: bool = True,
) -> BatchSizes:
    """Measures training at growing batch sizes, and where it stops to pay.

    A device that a small batch leaves idle trains more examples a second
    with a larger one, up to a point. Each size gets one step to warm up (it
    compiles), then steps that are timed until their loss is on the host:

        examples_per_second = batch_size / median(seconds of a step)

    Larger sizes are tried until `max_batch_size`, until the device is out of
    memory, or until two doublings in a row bring no more than `tolerance`.
    The size that fails is the last one tried. On a CPU the system would end
    the process, so a size is not run if the line through the last two sizes
    predicts more memory than `max_memory_bytes`; the first two are not
    predicted.

    Afterwards weights, statistics, seeds, metrics, optimizer variables and
    the compiled `train_function` are those from before, also if an error
    is raised. A model or optimizer that was not built is built then, with its
    initial values. It does NOT say how many examples training needs: a larger
    batch makes fewer updates of each epoch.

    Not put back, because Keras gives no access: state that a layer keeps
    outside Keras variables, and the generator that `keras.random` uses
    without a seed. A dataset that shuffles has been read once.

    Args:
        model: compiled `keras.Model`.
        data: array, nest such as `(x, y)` or `(x, y, sample_weight)`, or an
            unbatched `tf.data.Dataset`, of which the first 128 examples are
            read. Rows repeat where a batch is larger.
        batch_sizes: integer, the first of sizes that double, or ascending
            integers, which are all measured. Defaults to `8`.
        max_batch_size: integer. Defaults to the number of examples for sizes
            that double, if it is known.
        seconds_per_size: number > 0, for the timed steps of a size; three
            are made at least. Defaults to `1.0`.
        max_memory_bytes: number > 0. Defaults to 80 % of the memory free for
            the process on a CPU under Linux; elsewhere to no limit.
        tolerance: float in `[0, 1)`, gain that does not count. Defaults to
            `0.05`.
        verbose: bool, whether to show a progress bar.

    Returns:
        `BatchSizes`, with one row a size.

    Raises:
        ValueError: if the model is not compiled, it holds another optimizer
            that is not built, there are no examples, or an argument is out
            of its range.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> data = np.ones((64, 4)), np.ones((64, 1))
    >>> found = find_batch_size(
    ...     model, data, [16, 64], seconds_per_size=0.01, verbose=False
    ... )
    >>> found.largest
    64
    """
    _check_positive("seconds_per_size", seconds_per_size)
    if max_memory_bytes is not None:
        _check_positive("max_memory_bytes", max_memory_bytes)
    if not 0 <= tolerance < 1:
        raise ValueError(
            "Argument `tolerance` must be in [0, 1): it is a fraction of the "
            f"throughput. Received: tolerance={tolerance}"
        )
    batches = _Batches(data)
    sizes = _sizes(batch_sizes, max_batch_size, batches.num_examples)
    doubles = isinstance(batch_sizes, numbers.Integral)
    with training_state.kept(model, batches.of(1)):
        memory = device_memory.meter()
        limit = max_memory_bytes or 0.8 * (memory.free_bytes() or math.inf)
        rows = _search(
            rich.progress.track(sizes, "batch sizes", disable=not verbose),
            functools.partial(
                _measure, model, batches, memory, seconds_per_size
            ),
            limit,
            tolerance if doubles else None,
        )
    return BatchSizes(tuple(rows), tolerance, memory.source)


def _search(
    sizes: Iterable[int],
    measure: Callable[[int], BatchSizeRow],
    limit: float,
    tolerance: float | None,
) -> list[BatchSizeRow]:
    """Measures sizes up to the first that fails or, if asked, the plateau."""
    rows = []
    for size in sizes:
        predicted = predicted_bytes(rows, size)
        if predicted > limit:
            reason = (
                f"not run: about {predicted / 1e6:,.0f} MB predicted, more "
                f"than {limit / 1e6:,.0f} MB"
            )
            return [*rows, BatchSizeRow(size, failed=reason)]
        rows.append(measure(size))
        if rows[-1].failed is not None:
            return rows
        if tolerance is not None and has_flattened(rows, tolerance):
            return rows
    return rows


def _measure(
    model: keras.Model,
    batches: "_Batches",
    memory: device_memory.DeviceMemory | device_memory.ProcessMemory,
    seconds: float,
    size: int,
) -> BatchSizeRow:
    memory.restart()
    try:
        step = statistics.median(
            _step_seconds(model, batches.of(size), seconds)
        )
    except Exception as error:
        reason = _out_of_memory_reason(error)
        if reason is None:
            raise
        return BatchSizeRow(size, failed=reason)
    return BatchSizeRow(size, size / step, step, memory.peak_bytes())


def _step_seconds(
    model: keras.Model, batch: Any, seconds: float
) -> list[float]:
    # Made anew: a function that knows the size, as `fit` would make it.
    model.make_train_function(force=True)
    step = functools.partial(
        model.train_on_batch, *keras.utils.unpack_x_y_sample_weight(batch)
    )
    step()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < _MIN_STEPS or time.perf_counter() < end:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return times


def _out_of_memory_reason(error: BaseException | None) -> str | None:
    """Returns what an error says if it, or one it hides, is of memory."""
    while error is not None:
        types = {kind.__name__ for kind in type(error).__mro__}
        lines = [line for line in str(error).splitlines() if line.strip()]
        telling = [
            line
            for line in lines
            if any(text in line for text in _OUT_OF_MEMORY_TEXTS)
        ]
        if telling or types & _OUT_OF_MEMORY_TYPES:
            text = [*telling, *lines, "no message"][0]
            return f"{type(error).__name__}: {text.strip()}"
        # Keras wraps some errors of a layer into a `RuntimeError`.
        error = error.__cause__ or error.__context__
    return None


class _Batches:
    """Batches of the first rows, repeated where a batch needs more."""

    def __init__(self, data: Any):
        is_dataset = hasattr(data, "element_spec")
        self.arrays = _first_rows(data) if is_dataset else data
        self.arrays = keras.tree.map_structure(_as_array, self.arrays)
        leaves = keras.tree.flatten(self.arrays)
        lengths = {a.shape[:1] for a in leaves if a is not None}
        if len(lengths) != 1 or lengths & {(), (0,)}:
            raise ValueError(
                "Argument `data` must hold at least one example, and as many "
                "in each array. Received: arrays of shapes "
                f"{[np.shape(leaf) for leaf in leaves]}"
            )
        ((self.num_examples,),) = lengths
        if is_dataset:
            size = int(data.cardinality())  # negative: infinite or unknown
            self.num_examples = size if size >= 0 else None

    def of(self, size: int) -> Any:
        """Returns a batch, copied."""
        return keras.tree.map_structure(
            lambda a: a if a is None else a.take(range(size), 0, mode="wrap"),
            self.arrays,
        )


def _first_rows(dataset: Any) -> Any:
    rows = list(dataset.take(_ROWS_OF_A_DATASET).as_numpy_iterator())
    if not rows:
        return ()
    return keras.tree.map_structure(lambda *row: np.stack(row), *rows)


def _as_array(leaf: Any) -> np.ndarray | None:
    if leaf is None:
        return None
    array = np.asarray(keras.ops.convert_to_numpy(leaf))
    # As `fit` does with arrays.
    is_float = np.issubdtype(array.dtype, np.floating)
    return array.astype(keras.config.floatx()) if is_float else array


def _sizes(
    batch_sizes: int | Sequence[int],
    max_batch_size: int | None,
    num_examples: int | None,
) -> list[int]:
    if max_batch_size is not None:
        _check_size("max_batch_size", max_batch_size)
    if not isinstance(batch_sizes, numbers.Integral):
        sizes = list(batch_sizes)
        cap = max_batch_size
    else:
        _check_size("batch_sizes", batch_sizes)
        cap = max_batch_size or num_examples or _LARGEST
        num_doublings = max(0, (cap // batch_sizes).bit_length() - 1)
        sizes = [int(batch_sizes) << k for k in range(num_doublings + 1)]
    for size in sizes:
        _check_size("batch_sizes", size)
    if not sizes or sizes != sorted(set(sizes)):
        raise ValueError(
            "Argument `batch_sizes` must be one size, or ascending ones: the "
            f"search ends at the first that fails. Received: {batch_sizes}"
        )
    if cap is not None and sizes[-1] > cap:
        raise ValueError(
            "Argument `batch_sizes` must not exceed `max_batch_size`, by "
            "default the number of examples. Received: "
            f"batch_sizes={batch_sizes}, at most {cap}"
        )
    return sizes


def _check_size(name: str, value: Any) -> None:
    is_integer = isinstance(value, numbers.Integral)
    if not is_integer or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"Argument `{name}` must hold positive integers. Received: "
            f"{name}={value!r}"
        )


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(
            f"Argument `{name}` must be positive. Received: {name}={value}"
        )
