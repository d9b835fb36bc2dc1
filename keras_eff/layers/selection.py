"""Which weights and activations a sparse layer keeps, and since when."""

import numbers

import keras
from keras import ops

from keras_eff import scores
from keras_eff.layers import swat

_NEVER = -1.0  # what stands where no selection has been stored yet


class Selection:
    """Selects by magnitude, and keeps the selection for some steps.

    With `update_every=1` it is made at each call and nothing is stored. Else
    a training step makes it where the last one is `update_every` steps old;
    in between it is read, and inference reads it always. Where none is stored
    yet, inference makes one and does not store it.

    Args:
        layer: `SparseLayer` with its kernel.
    """

    def __init__(self, layer):
        self._update_every = layer.update_every
        self._is_sampled = layer.threshold == "sample"
        self._granularity = layer.granularity
        self._axes = layer.channel_axes
        self._kernel_shape = layer.kernel.shape
        # Floats throughout: TensorFlow has no int32 variables on a GPU. Not
        # in half types, in which the numbers of channels would be rounded.
        is_double = layer.variable_dtype == "float64"
        is_threshold = self._granularity != "channel"
        self._dtype = "float64" if is_double and is_threshold else "float32"
        self.sparsities = [
            self._variable(layer, name, (), value(0))
            if callable(value)
            else value
            for name, value in layer.asked_sparsities.items()
        ]
        if self._update_every > 1:
            self._age = self._variable(layer, "age", (), 0.0)
            shapes = [(), ()]
            if self._granularity == "channel":
                shapes = [(count,) for count in self.num_channels_kept]
            self._stored = [
                self._variable(layer, name, shape, _NEVER)
                for name, shape in zip(
                    ("kept_weights", "kept_activations"), shapes, strict=True
                )
            ]

    def _variable(self, layer, name, shape, value):
        return layer.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.Constant(value),
            dtype=self._dtype,
            trainable=False,
            autocast=False,
            # Channels have no mean over replicas.
            aggregation="only_first_replica",
        )

    def set_sparsities(self, values):
        """Sets those sparsities that are variables; the next step selects.

        Args:
            values: iterable of two floats.
        """
        for variable, value in zip(self.sparsities, values, strict=True):
            if not isinstance(variable, numbers.Real):
                variable.assign(value)
        if self._update_every > 1:
            self._age.assign(0.0)

    @property
    def num_channels_kept(self):
        """Input channels whose weights and whose activations are kept."""
        size = self._kernel_shape[self._axes[1]]
        return [scores.num_kept(size, value) for value in self.sparsities]

    @property
    def kept_fractions(self):
        """Fractions of the weights and of the activations that are kept."""
        if self._granularity == "channel":
            size = self._kernel_shape[self._axes[1]]
            return [count / size for count in self.num_channels_kept]
        return [1 - float(value) for value in self.sparsities]

    def __call__(self, inputs, kernel, training):
        """Returns what is kept of weights and activations.

        Args:
            inputs: tensor that the layer is called with.
            kernel: tensor, the weights in full precision.
            training: bool, whether a selection is stored.

        Returns:
            Pair of tensors: channels, with `granularity="channel"`, else
            thresholds. See `activation_threshold`.
        """

        def select(near=(None, None)):
            return [
                self._of_weights(kernel, near[0]),
                self._of_activations(inputs, near[1]),
            ]

        if self._update_every == 1:
            return select()
        stored = [ops.convert_to_tensor(value) for value in self._stored]
        if not training:
            is_stored = ops.max(stored[0]) >= 0
            return ops.cond(is_stored, lambda: stored, select)
        age = ops.convert_to_tensor(self._age)
        kept = ops.cond(age == 0, lambda: select(stored), lambda: stored)
        for variable, value in zip(self._stored, kept, strict=True):
            variable.assign(value)
        self._age.assign((age + 1) % self._update_every)
        return kept

    def of_weights(self, kernel):
        """Returns what inference keeps of the weights: threshold or channels.

        Args:
            kernel: tensor, the weights in full precision.
        """
        if self._update_every > 1:
            stored = ops.convert_to_tensor(self._stored[0])
            if ops.convert_to_numpy(stored).max() >= 0:
                return stored
        return self._of_weights(kernel)

    def _of_weights(self, kernel, guess=None):
        if self._granularity == "channel":
            count, _ = self.num_channels_kept
            return swat.largest_channels(kernel, self._axes[1], count)
        score = self.score(kernel)
        threshold = swat.threshold_of(score, self._sparsity(0), guess)
        return ops.cast(threshold, self._dtype)

    def _of_activations(self, inputs, guess=None):
        if self._granularity == "channel":
            _, count = self.num_channels_kept
            return swat.largest_channels(inputs, self._axes[0], count)
        if self._update_every == 1:
            return ops.zeros((), self._dtype)  # see the next function
        threshold = swat.threshold_of(
            inputs, self._sparsity(1), guess, self._is_sampled
        )
        return ops.cast(threshold, self._dtype)

    def activation_threshold(self, inputs, threshold):
        """Returns the threshold of the activations, in the backward pass.

        With `update_every=1` it is found here, so that inference is spared.
        """
        if self._update_every > 1:
            return ops.cast(threshold, inputs.dtype)
        return swat.threshold_of(
            inputs, self._sparsity(1), sample=self._is_sampled
        )

    def score(self, kernel):
        """Returns what the threshold of the weights is compared with."""
        if self._granularity == "kernel":
            return swat.kernel_sums(kernel)
        return scores.magnitude(kernel)

    def _sparsity(self, index):
        value = self.sparsities[index]
        is_number = isinstance(value, numbers.Real)
        return value if is_number else ops.convert_to_tensor(value)
