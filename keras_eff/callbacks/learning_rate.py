"""A learning rate that is scheduled while other callbacks change it too."""

import keras
from keras import ops


class SharedLearningRate:
    """Writes an optimizer's learning rate and keeps what others made of it.

    A factor that another callback, such as `ReduceLROnPlateau`, has put on
    the learning rate between two writes stays on all later ones.

    Args:
        optimizer: `keras.optimizers.Optimizer` whose learning rate is a
            number.

    Raises:
        ValueError: if the optimizer's learning rate is a schedule.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self.optimizer = optimizer
        self.initial = self._written = self.read()
        self._factor_of_others = 1.0
        try:
            self.write(self.initial)
        except (AttributeError, TypeError) as error:
            raise ValueError(
                "The optimizer's learning rate must be a number for a "
                "callback to change it; with a schedule in the optimizer pass "
                "`learning_rate=None`. Received: an optimizer "
                f"{optimizer.name!r} with a learning-rate schedule"
            ) from error

    def write(self, rate: float) -> None:
        """Sets the learning rate to `rate`, times the factor of others.

        Args:
            rate: float, what the learning rate were without the others.
        """
        current = self.read()
        if current != self._written and self._written:
            self._factor_of_others *= current / self._written
        self.optimizer.learning_rate = rate * self._factor_of_others
        self._written = self.read()

    def restore(self) -> None:
        """Takes back all own changes, and none of the others'."""
        self.write(self.initial)

    @property
    def is_untouched(self) -> bool:
        """Whether the learning rate is still the one last written."""
        return self.read() == self._written

    def read(self) -> float:
        """Returns the learning rate that is in the optimizer now."""
        # By way of a tensor: a distributed variable is no number.
        rate = ops.convert_to_tensor(self.optimizer.learning_rate)
        return float(ops.convert_to_numpy(rate))
