"""A learning rate that is scheduled while others change it too."""

import keras
from keras import ops

from keras_eff.callbacks.batch_size_schedule.rate_rules import innermost


@keras.saving.register_keras_serializable("keras_eff")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A Keras learning-rate schedule times a factor that may change.

    Args:
        schedule: `keras.optimizers.schedules.LearningRateSchedule`.
        factor: float. Defaults to `1.0`.
    """

    def __init__(self, schedule, factor=1.0):
        self.schedule = schedule
        self.factor = keras.Variable(
            factor,
            trainable=False,
            dtype="float32",
            aggregation="only_first_replica",
            name="learning_rate_factor",
        )

    def __call__(self, step):
        return self.schedule(step) * ops.convert_to_tensor(self.factor)

    def get_config(self):
        return {"schedule": self.schedule, "factor": _read(self.factor)}


class SharedLearningRate:
    """Writes an optimizer's learning rate and keeps what others made of it.

    A factor that another callback, such as `ReduceLROnPlateau`, has put on
    the learning rate between two writes stays on all later ones. Where the
    optimizer's learning rate is a schedule, it writes a factor on it, and
    the rate is that factor.

    The velocity of Keras' SGD holds the learning rate of the time, so
    `momentum_correction` multiplies it by new / old rate at each change.

    Args:
        model: compiled `keras.Model`.
        momentum_correction: bool, whether SGD's velocity follows.

    Raises:
        ValueError: if the learning rate is a schedule and the backend is not
            TensorFlow.

    Reference:
    - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), remark 3
    """

    def __init__(self, model: keras.Model, momentum_correction: bool = True):
        self._model = model
        self._optimizer = innermost(model.optimizer)
        self._corrects = momentum_correction and isinstance(
            self._optimizer, keras.optimizers.SGD
        )
        self._scaled = self._scale_schedule()
        self.initial = self._written = self.read()
        self.factor_of_others = 1.0

    @property
    def is_factor(self) -> bool:
        """Whether a schedule has the rate, and this the factor on it."""
        return self._scaled is not None

    def write(self, rate: float) -> None:
        """Sets the learning rate to `rate`, times the factor of others.

        Args:
            rate: float, what the learning rate were without the others.
        """
        before = self.read()
        self.factor_of_others = self.factor_now()
        rate *= self.factor_of_others
        if self._scaled is None:
            self._optimizer.learning_rate = rate
        else:
            self._scaled.factor.assign(rate)
        self._written = self.read()
        if self._corrects and before and self._written != before:
            # There are none before the first step, and without momentum.
            for velocity in getattr(self._optimizer, "momentums", []):
                velocity.assign(velocity * (self._written / before))

    def factor_now(self) -> float:
        """Returns the factor that others have put on the learning rate."""
        rate = self.read()
        if rate != self._written and self._written:
            return self.factor_of_others * rate / self._written
        return self.factor_of_others

    def resume(
        self, initial: float, factor_of_others: float, rate: float
    ) -> None:
        """Goes on from what an earlier process left.

        Args:
            initial: float, its `initial`.
            factor_of_others: float, its `factor_of_others`.
            rate: float, the rate or factor that the velocity has in it.
        """
        self.initial, self.factor_of_others = initial, factor_of_others
        if self._scaled is None:
            self._optimizer.learning_rate = rate
        else:
            self._scaled.factor.assign(rate)
        self._written = self.read()

    def follow(self, initial: float, factor_of_others: float, rate: float):
        """Goes on, with the rate that a checkpoint has.

        Args:
            initial: float, as in `resume`.
            factor_of_others: float, as in `resume`.
            rate: float, what was last written: what differs is of others.
        """
        self.initial, self.factor_of_others = initial, factor_of_others
        self._written = rate

    def restore(self) -> None:
        """Takes back all own changes, and none of the others'."""
        self.write(self.initial)
        if self._scaled is not None:
            self._optimizer.learning_rate = self._scaled.schedule
            self._model.make_train_function(force=True)

    @property
    def is_untouched(self) -> bool:
        """Whether the learning rate is still the one last written."""
        return self.read() == self._written

    def read(self) -> float:
        """Returns the learning rate, or the factor on it, as of now."""
        if self._scaled is not None:
            return _read(self._scaled.factor)
        return _read(self._optimizer.learning_rate)

    def _scale_schedule(self) -> ScaledSchedule | None:
        try:
            config = self._optimizer.get_config()["learning_rate"]
            is_schedule = isinstance(config, dict)
            if is_schedule:
                schedule = keras.saving.deserialize_keras_object(config)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise ValueError(
                "A learning-rate schedule in the optimizer must be "
                "serializable for a factor to be put on it: give it "
                "`get_config` and register it, or pass `learning_rate=None`. "
                f"Received: an optimizer {self._optimizer.name!r} with a "
                "schedule that is not"
            ) from error
        if not is_schedule:
            return None
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "A learning-rate schedule in the optimizer can be scaled on "
                "the TensorFlow backend only: elsewhere its state is not part "
                "of the step. Pass `learning_rate=None`. Received: backend "
                f"{keras.backend.backend()!r}"
            )
        if isinstance(schedule, ScaledSchedule):
            schedule = schedule.schedule  # an interrupted `fit` left it
        with self._model.distribute_strategy.scope():
            scaled = ScaledSchedule(schedule)
        self._optimizer.learning_rate = scaled
        # A step that is traced already holds the schedule alone.
        self._model.make_train_function(force=True)
        return scaled


def rate_and_momentum(optimizer) -> tuple[float, float]:
    """Returns an optimizer's learning rate, as of now, and its momentum."""
    inner = innermost(optimizer)
    return _read(inner.learning_rate), getattr(inner, "momentum", 0.0)


def _read(variable) -> float:
    # By way of a tensor: a distributed variable is no number.
    return float(ops.convert_to_numpy(ops.convert_to_tensor(variable)))
