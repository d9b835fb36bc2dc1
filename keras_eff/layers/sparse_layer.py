"""What all sparse layers share: arguments, call, configuration, savings."""

import numbers

import keras
from keras import ops

from keras_eff import flops
from keras_eff import schedules
from keras_eff.layers import swat
from keras_eff.layers.bit_relu import bit_relu
from keras_eff.layers.kernel_layer import KERNEL_OBJECTS
from keras_eff.layers.kernel_layer import KernelLayer
from keras_eff.layers.selection import Selection
from keras_eff.savings import Saving

# What these layers have and Keras' own have not.
_SPARSE_ARGUMENTS = (
    "sparsity",
    "activation_sparsity",
    "granularity",
    "update_every",
    "threshold",
)
# Arguments that may be objects, which a configuration holds serialized.
_OBJECTS = {"sparsity", "activation_sparsity", "quantization_config"}


class SparseLayer(KernelLayer):
    """A layer with a product that is sparse in weights and activations.

    A subclass has `product(inputs, kernel)`, linear in each; `build` calls
    `_add_weights`. `stock` is the class of the Keras layer that it stands for,
    `stock_arguments()` are those of it that not all such layers have.

    Args:
        sparsity: float in `[0, 1)`, or `Schedule` of such numbers.
        activation_sparsity: the same, or `None` for `sparsity`.
        granularity: string, one of `granularities`.
        update_every: positive integer, training steps a selection lasts.
        threshold: `"exact"` or `"sample"`, for activations.
        **kwargs: arguments of `KernelLayer`.

    Raises:
        ValueError: if an argument breaks its rule.
    """

    stock = None
    granularities = ("element", "channel")
    # Axes of the input channels, in the inputs and in the kernel.
    channel_axes = (-1, -2)

    def __init__(
        self,
        sparsity,
        activation_sparsity,
        granularity,
        update_every,
        threshold,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sparsity = sparsity
        self.activation_sparsity = activation_sparsity
        self.granularity = granularity
        self.update_every = update_every
        self.threshold = threshold
        self._check_arguments()
        self.selection = None

    @property
    def asked_sparsities(self):
        """The two sparsities as they were asked for, by name."""
        of_weights, of_activations = self.sparsity, self.activation_sparsity
        if of_activations is None:
            of_activations = of_weights
        return {"sparsity": of_weights, "activation_sparsity": of_activations}

    def _add_weights(self, kernel_shape, bias_shape, initializer=None):
        super()._add_weights(kernel_shape, bias_shape, initializer)
        if any(value != 0 for value in self.asked_sparsities.values()):
            self.selection = Selection(self)

    def call(self, inputs, training=None):
        if not keras.backend.is_float_dtype(inputs.dtype):
            inputs = ops.cast(inputs, self.compute_dtype)
        x = self._sparse_product(inputs, training)
        if self.bias is not None:
            x = ops.add(x, self._bias_of(x))
        is_relu = self.activation is keras.activations.relu
        if self.granularity == "channel" and is_relu:
            return bit_relu(x)
        return x if self.activation is None else self.activation(x)

    def _sparse_product(self, inputs, training):
        kernel = self.merged_kernel()
        if self.selection is None:
            return self.product(inputs, ops.cast(kernel, self.compute_dtype))
        # A frozen layer keeps its selection, as it keeps its weights.
        training = training and self.trainable
        kept = self.selection(inputs, kernel, training)
        if self.granularity == "channel":
            return swat.channel_product(
                self.product, inputs, kernel, self.channel_axes, *kept
            )
        return swat.element_product(
            self.product,
            inputs,
            kernel,
            self.selection.score,
            kept,
            self.selection.activation_threshold,
        )

    def sparse_kernel(self):
        """Returns the kernel that inference multiplies with, zeros included.

        Returns:
            Tensor of the shape and dtype of `kernel`.
        """
        kernel = self.merged_kernel()
        if self.selection is None:
            return kernel
        kept = self.selection.of_weights(kernel)
        if self.granularity == "channel":
            return swat.keep_channels(kernel, kept, self.channel_axes[1])
        return swat.drop_below(kernel, self.selection.score(kernel), kept)

    def _bias_of(self, x):
        return self.bias

    def stock_layer(self, **objects):
        """Returns the Keras layer that this one stands for, not built.

        It has no adapter of low rank: `sparse_kernel` is merged with it.

        Args:
            **objects: arguments such as `activation` that are not to be this
                layer's own objects.
        """
        return self.stock(
            **self.stock_arguments(),
            # The same, not copies: those would draw a seed and move all
            # others, and what is not registered has no copy.
            **{name: getattr(self, name) for name in KERNEL_OBJECTS} | objects,
            name=self.name,
            dtype=self.dtype_policy,
            trainable=self.trainable,
        )

    def compute_output_shape(self, input_shape):
        return self.stock_layer().compute_output_shape(input_shape)

    def set_epoch(self, epoch):
        """Sets sparsities that are schedules to their value at `epoch`.

        Args:
            epoch: integer, counted from 0.
        """
        values = {
            name: value(epoch) if callable(value) else value
            for name, value in self.asked_sparsities.items()
        }
        for name, value in values.items():
            self._check_sparsity(value, name)
        if self.selection is not None:  # else not built, or not sparse
            self.selection.set_sparsities(values.values())

    def savings(self, input_shape=None):
        """Returns the training FLOPs an example costs, derived from shapes.

        Two records: what the multiplications with non-zeros cost
        (theoretical), and what the hardware executes: all of them, except
        with `granularity="channel"`. The sparsities are those of the moment.
        Empty before `build`, where an inner axis has no static size, and with
        `lora_rank`, as in `flops.count`.

        Args:
            input_shape: tuple, shape of the call to tell, of a layer that is
                shared. `None` means the one that it was built with.
        """
        shape = input_shape
        if shape is None:
            shape = (self.get_build_config() or {}).get("input_shape")
        if not self.built or self.lora_enabled:
            return []
        if shape is None or None in shape[1:]:
            return []
        cost = self.products(shape).flops("matmul")
        rates = {
            "flops_theoretical_per_example": cost.training,
            "flops_executed_per_example": cost.executed_training,
        }
        return [
            Saving("swat", unit, cost.dense_training, rate, measured=False)
            for unit, rate in rates.items()
        ]

    def products(self, input_shape):
        """Returns what the products of an example cost, a `flops.Products`."""
        weights, activations = (1.0, 1.0)
        if self.selection is not None:
            weights, activations = self.selection.kept_fractions
        is_small = self.granularity == "channel"
        output_shape = self.compute_output_shape(input_shape)
        return flops.Products(
            forward=self._dense_flops(input_shape, output_shape),
            stride=self._stride(),
            weights_kept=weights,
            activations_kept=activations,
            executed_weights_kept=weights if is_small else 1.0,
            executed_activations_kept=activations if is_small else 1.0,
        )

    def _stride(self):
        return 1

    def get_config(self):
        config = {
            **super().get_config(),
            **{name: getattr(self, name) for name in _SPARSE_ARGUMENTS},
            **self.stock_arguments(),
        }
        for name in _OBJECTS & config.keys():
            config[name] = keras.saving.serialize_keras_object(config[name])
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in _OBJECTS & config.keys():
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)

    def _check_arguments(self):
        for name, value in self.asked_sparsities.items():
            is_schedule = isinstance(value, schedules.Schedule)
            self._check_sparsity(value(0) if is_schedule else value, name)
            if is_schedule and self.granularity == "channel":
                raise ValueError(
                    f"With granularity='channel' the argument `{name}` must be "
                    "a number: the shapes of the products follow from it. "
                    f"Received: {name}={value!r} (layer {self.name!r})"
                )
        self._check_choice("granularity", self.granularities)
        self._check_choice("threshold", ("exact", "sample"))
        if type(self.update_every) is not int or self.update_every < 1:
            raise ValueError(
                "Argument `update_every` must be a positive integer. Received: "
                f"update_every={self.update_every!r} (layer {self.name!r})"
            )

    def _check_sparsity(self, value, argument):
        if not (isinstance(value, numbers.Real) and 0 <= value < 1):
            raise ValueError(
                f"Argument `{argument}` must be in [0, 1), or a Schedule of "
                "such numbers (of `keras_eff.schedules`: it is saved with the "
                "layer). It is the fraction of zeros, not the fraction kept. "
                f"Received: {argument}={value!r} (layer {self.name!r})"
            )

    def _check_choice(self, argument, choices):
        value = getattr(self, argument)
        if value not in choices:
            raise ValueError(
                f"Argument `{argument}` must be one of {list(choices)}. "
                f"Received: {argument}={value!r} (layer {self.name!r})"
            )


@flops.rule(SparseLayer)
def _products(layer, input_shape, output_shape):
    return layer.products(input_shape)
