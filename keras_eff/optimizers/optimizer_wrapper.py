"""An optimizer that stands for another, in training and in checkpoints."""

import keras


class OptimizerWrapper(keras.optimizers.Optimizer):
    """Has the state, the learning rate and the files of its inner optimizer.

    A subclass says in `apply` when and with what the inner one updates.

    Args:
        inner_optimizer: `keras.optimizers.Optimizer`.
        name: string, name of the optimizer. Defaults to `None`.
    """

    def __init__(self, inner_optimizer, name=None):
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer

    def __dir__(self):
        # Keras saves each optimizer that it finds among the attributes under
        # the attribute's name. The inner one is saved in place of this one,
        # and a file of the inner one alone has no second group for it.
        return [name for name in super().__dir__() if name != "inner_optimizer"]

    @property
    def variables(self):
        """All state: that of this optimizer, then the inner optimizer's."""
        return super().variables + self.inner_optimizer.variables

    @property
    def iterations(self):
        """Real updates, counted by the inner optimizer."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss):
        """Scales the loss as the inner optimizer does."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        """Sets the final weights as the inner optimizer does."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def save_own_variables(self, store):
        """Saves the inner optimizer in its own format, and nothing else."""
        self.inner_optimizer.save_own_variables(store)

    def load_own_variables(self, store):
        """Loads what the inner optimizer saved."""
        self.inner_optimizer.load_own_variables(store)
