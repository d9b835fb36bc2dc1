"""Measure the noise of a model's gradient on given data, between steps."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_eff.optimizers.gradient_noise import noise_from_squares
from keras_eff.optimizers.gradient_noise import sum_of_squares


class NoiseProbe:
    """Takes the gradients of random micro-batches, and leaves no trace.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)`, nests of arrays.
        batch_size: integer, examples in a micro-batch.
        num_batches: integer >= 2, micro-batches of a probe.

    Raises:
        ValueError: if there are too few micro-batches or examples, or arrays
            of different lengths.
    """

    def __init__(self, data: Any, batch_size: int, num_batches: int):
        if num_batches < 2 or batch_size < 1:
            raise ValueError(
                "A probe needs at least 2 micro-batches of at least 1 example "
                "to compare with all of them together. Received: "
                f"num_batches={num_batches}, batch_size={batch_size}"
            )
        self._data = keras.tree.map_structure(np.asarray, data)
        lengths = {len(array) for array in keras.tree.flatten(self._data)}
        needed = num_batches * batch_size
        if len(lengths) != 1 or min(lengths) < needed:
            raise ValueError(
                "Argument `data` must be arrays of the same length, of at "
                f"least num_batches * batch_size = {needed} examples. "
                f"Received: arrays of lengths {sorted(lengths)}"
            )
        self.seconds = 0.0
        self._shape = (num_batches, batch_size)
        self._num_examples = min(lengths)
        self._random = np.random.default_rng(0)

    def attach(self, model: keras.Model) -> None:
        """Says whose gradients the probe takes, and starts its draws anew."""
        self._model = model
        self._random = np.random.default_rng(0)
        self._gradients = tf.function(self._gradients_of, reduce_retracing=True)

    def measure(self) -> tuple[float, float]:
        """Returns the trace of the noise and the gradient's squared norm."""
        start = time.perf_counter()
        ids = self._random.choice(
            self._num_examples, self._shape, replace=False, shuffle=False
        )
        squares, total = [], None
        with _kept(self._model):
            for row in ids:
                batch = keras.tree.map_structure(
                    lambda a, r=row: a[r], self._data
                )
                square, gradients = self._gradients(batch)
                squares.append(float(square))
                total = gradients if total is None else _sum(total, gradients)
        num_batches, batch_size = self._shape
        large = float(sum_of_squares(total)) / num_batches**2
        self.seconds += time.perf_counter() - start
        return noise_from_squares(
            float(np.mean(squares)), large, 1 / batch_size, 1 / ids.size
        )

    def _gradients_of(self, batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        model, scale = self._model, self._model.optimizer.scale_loss(1.0)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(
                x, y, model(x, training=True), sample_weight, training=True
            )
            # As in training, or small gradients underflow in float16.
            loss = model.optimizer.scale_loss(loss)
        gradients = [
            tf.cast(tf.convert_to_tensor(gradient), "float32") / scale
            for gradient in tape.gradient(loss, model.trainable_weights)
            if gradient is not None
        ]
        return sum_of_squares(gradients), gradients


def _sum(total, gradients):
    return [a + b for a, b in zip(total, gradients, strict=True)]


@contextlib.contextmanager
def _kept(model: keras.Model) -> Iterator[None]:
    """Puts statistics, seeds and metrics back that a forward pass changes."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    values = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
