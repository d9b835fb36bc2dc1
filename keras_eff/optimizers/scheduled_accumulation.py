"""Update once an effective batch is complete, however `fit` slices it."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from keras_eff.optimizers.gradient_noise import NoiseMeter
from keras_eff.optimizers.optimizer_wrapper import OptimizerWrapper

_NOISE_DECAY = 0.99


@keras.saving.register_keras_serializable("keras_eff")
class ScheduledAccumulation(OptimizerWrapper):
    """Accumulates gradients over micro-batches, of scheduled number and size.

    `fit` feeds micro-batches that fit in memory; the inner optimizer sees the
    mean gradient of the effective batch, once it is complete. Weight decay,
    clipping, averages of the weights and `iterations` are those of its real
    updates. With `n_i` examples and the mean gradient `g_i` in micro-batch i:

        gradient = sum(n_i * g_i) / sum(n_i)

    Until `expect` is called each micro-batch is an update. A micro-batch that
    is an effective batch goes to the inner optimizer untouched, bit for bit.

    What it does not give: speed. On one device it makes a large batch
    possible, at the price of one more copy of the trainable weights. It runs
    on the TensorFlow backend.

    Checkpoints hold the inner optimizer alone, in its own format, so they
    interchange with those of a model that is compiled without accumulation.
    An incomplete effective batch is not saved.

    Args:
        inner_optimizer: `keras.optimizers.Optimizer`, may be built already.
        num_slots: integer >= 1, micro-batches that `expect` describes; the
            `steps_per_execution` of the model. Defaults to `1`.
        measure_noise: bool, whether to measure the noise of the gradient at
            each update of two or more micro-batches, see `noise`. Read when
            the training step is traced. Defaults to `False`.
        name: string, name of the optimizer. Defaults to `None`.

    Raises:
        ValueError: if `num_slots` is below 1; if the inner optimizer has its
            own `gradient_accumulation_steps`; in `build`, if a variable is
            overwritten with its gradient, as in float8 training.

    Example:
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> optimizer = ScheduledAccumulation(keras.optimizers.SGD(0.1))
    >>> model.compile(optimizer, "mse")
    >>> optimizer.expect(examples=[8], batch_sizes=[32])
    >>> x, y = np.ones((64, 3)), np.ones((64, 1))
    >>> history = model.fit(x, y, batch_size=8, verbose=0)
    >>> int(optimizer.iterations)
    2

    Reference:
    - [McCandlish et al., 2018](https://arxiv.org/abs/1812.06162), the noise
    """

    def __init__(
        self, inner_optimizer, num_slots=1, measure_noise=False, name=None
    ):
        super().__init__(inner_optimizer, name=name)
        if num_slots < 1:
            raise ValueError(
                "Argument `num_slots` must be at least 1: it is the "
                "`steps_per_execution` of the model. "
                f"Received: num_slots={num_slots}"
            )
        if inner_optimizer.gradient_accumulation_steps:
            raise ValueError(
                "The inner optimizer must not accumulate gradients itself. "
                "Received: gradient_accumulation_steps="
                f"{inner_optimizer.gradient_accumulation_steps}"
            )
        self.num_slots = num_slots
        self.measure_noise = measure_noise
        self.noise_decay = _NOISE_DECAY
        self._written = ((1,) * num_slots, (1,) * num_slots)
        # Rows: examples of the micro-batch, examples of its effective batch.
        self._expected = self.add_variable(
            (2, num_slots), "ones", dtype="int", name="expected"
        )
        self._slot = self.add_variable((), "zeros", dtype="int", name="slot")
        self._count = self.add_variable((), "zeros", dtype="int", name="count")
        self._meter = NoiseMeter(self.add_variable)

    def build(self, variables):
        """Creates the accumulators, and the inner optimizer's variables."""
        if self.built:
            return
        variables = list(variables)
        for variable in variables:
            if getattr(variable, "overwrite_with_gradient", False):
                raise ValueError(
                    "A variable that is overwritten with its gradient, as in "
                    "float8 training, has no mean to accumulate. "
                    f"Received: variable {variable.path!r}"
                )
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)
        self._targets = variables
        self._accumulators = self.add_optimizer_variables(
            variables, "accumulator"
        )

    def expect(
        self, examples: Sequence[int], batch_sizes: Sequence[int]
    ) -> None:
        """Says what the next micro-batches are, from the first slot on.

        Micro-batch `t` from now on is that of slot `t % num_slots`. Call it
        between executions of the training step.

        Args:
            examples: `num_slots` integers, examples in each micro-batch.
            batch_sizes: `num_slots` integers, examples in the effective batch
                that the micro-batch belongs to. The inner optimizer updates
                as soon as so many are accumulated.

        Raises:
            ValueError: if there are not `num_slots` positive numbers each.
        """
        new = (tuple(examples), tuple(batch_sizes))
        if new != self._written:
            lengths = {len(row) for row in new}
            if lengths != {self.num_slots} or min(map(min, new)) < 1:
                raise ValueError(
                    "`examples` and `batch_sizes` must hold one positive "
                    f"integer for each of the {self.num_slots} slots. "
                    f"Received: examples={examples}, batch_sizes={batch_sizes}"
                )
            self._expected.assign(new)
            self._written = new
        if self.num_slots > 1:
            self._slot.assign(0)

    def restart(self) -> None:
        """Drops an incomplete effective batch and returns to the first slot."""
        accumulators = self._accumulators if self.built else []
        for variable in [self._slot, self._count, *accumulators]:
            variable.assign(ops.zeros_like(variable))
        self._meter.drop()

    @property
    def noise(self) -> tuple[float, float, int]:
        """What `measure_noise` found: `(trace, grad_sq, num_measurements)`.

        The trace of the covariance of the examples' gradients, and the square
        of the true gradient's norm, each a running mean of decay
        `noise_decay`, corrected for its start at zero. Unbiased, so both may
        be negative. NaN before the first measurement.
        """
        return self._meter.read(self.noise_decay)

    def restart_noise(self) -> None:
        """Forgets what `measure_noise` found."""
        self._meter.restart()

    def apply(self, grads, trainable_variables=None):
        """Applies or accumulates the mean gradients of a micro-batch.

        Args:
            grads: list of gradients, dense, sparse or `None`.
            trainable_variables: list of variables that they belong to. The
                first call needs them. Defaults to `None`, all.

        Raises:
            ValueError: if the optimizer is not built, and no variables are
                given.
        """
        if not self.built:
            if trainable_variables is None:
                raise ValueError(
                    "The first call of `apply` must pass the variables, or "
                    "call `build` before. Received: trainable_variables=None"
                )
            self.build(trainable_variables)
        variables = list(trainable_variables or self._targets)

        # The condition stands outside the replicas: the inner optimizer adds
        # up their gradients, which a branch within a replica could not do.
        def step(strategy, grads):
            def on_replicas(function, *args):
                strategy.extended.call_for_each_replica(function, args=args)

            self._step(on_replicas, grads, variables)

        context = tf.distribute.get_replica_context()
        context.merge_call(step, args=(list(grads),))

    def _step(self, on_replicas, grads, variables):
        examples, batch_size = self._next_expected()

        def accumulate():
            on_replicas(self._accumulate, grads, variables, examples)
            ops.cond(
                self._count >= batch_size,
                lambda: on_replicas(self._update, grads, variables),
                lambda: None,
            )

        ops.cond(
            ops.logical_and(self._count == 0, examples >= batch_size),
            lambda: on_replicas(self.inner_optimizer.apply, grads, variables),
            accumulate,
        )

    def _next_expected(self):
        """Returns examples of this micro-batch and of its effective batch."""
        if self.num_slots == 1:
            return ops.unstack(self._expected[:, 0])
        slot = ops.convert_to_tensor(self._slot)
        expected = ops.take(self._expected, slot, axis=1)
        self._slot.assign((slot + 1) % self.num_slots)
        return ops.unstack(expected)

    def _accumulate(self, grads, variables, examples):
        for grad, variable in zip(grads, variables, strict=True):
            if grad is not None:
                weight = ops.cast(examples, grad.dtype)
                accumulator = self._accumulator_of(variable)
                self.assign_add(accumulator, grad * weight)
        self._count.assign_add(examples)
        if self.measure_noise:
            self._meter.add(grads, examples)

    def _update(self, grads, variables):
        present = [
            variable
            for grad, variable in zip(grads, variables, strict=True)
            if grad is not None
        ]
        accumulators = [self._accumulator_of(variable) for variable in present]
        means = [
            accumulator / ops.cast(self._count, accumulator.dtype)
            for accumulator in accumulators
        ]
        if self.measure_noise:
            self._meter.measure(
                means, self._count, self.scale_loss(1.0), self.noise_decay
            )
        self.inner_optimizer.apply(means, present)
        for variable in [self._count, *accumulators]:
            variable.assign(ops.zeros_like(variable))

    def _accumulator_of(self, variable):
        return self._accumulators[self._get_variable_index(variable)]

    def load_own_variables(self, store):
        """Loads what the inner optimizer saved; nothing is accumulated."""
        super().load_own_variables(store)
        self.restart()

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            "num_slots": self.num_slots,
            "measure_noise": self.measure_noise,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes an optimizer from `get_config`."""
        inner_optimizer = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "inner_optimizer": inner_optimizer})
