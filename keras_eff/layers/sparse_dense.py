"""Sparse weight and activation training (SWAT) for fully connected layers."""

import numbers

import keras
from keras import ops

from keras_eff import flops
from keras_eff.layers import swat
from keras_eff.savings import Saving

_SERIALIZERS = {
    "activation": keras.activations,
    "kernel_initializer": keras.initializers,
    "bias_initializer": keras.initializers,
    "kernel_regularizer": keras.regularizers,
    "bias_regularizer": keras.regularizers,
    "activity_regularizer": keras.regularizers,
    "kernel_constraint": keras.constraints,
    "bias_constraint": keras.constraints,
}


@keras.saving.register_keras_serializable("keras_eff")
class SparseDense(keras.layers.Layer):
    """A `Dense` layer that trains with sparse weights and activations (SWAT).

    Use it in place of `keras.layers.Dense` to train a network whose large
    weights do the work, and which can be pruned at the end without a second
    training. All weights stay dense in memory and all of them learn; which
    ones are used is decided anew at each step, by magnitude:

        y  = x @ top(W, sparsity) + b
        dx = dy @ top(W, sparsity).T
        dW = top(x, activation_sparsity).T @ dy

    What it does not give: speed. The products are dense products of matrices
    with zeros in them; the FLOPs saved are theoretical, and selecting costs
    some time. The 3.3x of the paper is a simulated accelerator. The patent
    status of the method is not cleared. `Dense` arguments that are not here:
    `lora_rank`, `lora_alpha` and `quantization_config`.

    Args:
        units: positive integer, size of the output.
        sparsity: float in `[0, 1)`. Fraction of the weights set to zero in
            the products. `0.0` is exactly `Dense`. Defaults to `0.8`.
        activation_sparsity: float in `[0, 1)`. Fraction of the inputs, over
            the whole batch, set to zero in the weight gradient. `None` means
            the same as `sparsity`. Defaults to `None`.
        granularity: `"element"`: single entries are selected. Defaults to
            `"element"`, the one kind there is at present.
        activation: as in `keras.layers.Dense`, like all that follow.
        use_bias: bool. Defaults to `True`.
        kernel_initializer: Defaults to `"glorot_uniform"`.
        bias_initializer: Defaults to `"zeros"`.
        kernel_regularizer: Defaults to `None`. Acts on all weights.
        bias_regularizer: Defaults to `None`.
        activity_regularizer: Defaults to `None`.
        kernel_constraint: Defaults to `None`. Acts on all weights.
        bias_constraint: Defaults to `None`.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, ..., features)`.

    Returns:
        Tensor of shape `(batch, ..., units)`.

    Raises:
        ValueError: if `units` is not a positive integer, a sparsity is
            outside `[0, 1)`, or `granularity` is unknown.

    Example:
    >>> import numpy as np
    >>> layer = SparseDense(3, sparsity=0.5)
    >>> tuple(layer(np.ones((2, 4), "float32")).shape)
    (2, 3)
    >>> [round(saving.saved_pct) for saving in layer.savings()]
    [50, 0]

    Reference:
    - [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
    """

    def __init__(
        self,
        units,
        sparsity=0.8,
        activation_sparsity=None,
        granularity="element",
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if type(units) is not int or units <= 0:
            raise ValueError(
                "Argument `units` must be a positive integer. "
                f"Received: units={units!r} (layer {self.name!r})"
            )
        if granularity != "element":
            raise ValueError(
                "Argument `granularity` must be 'element'. Received: "
                f"granularity={granularity!r} (layer {self.name!r})"
            )
        self._check_sparsity(sparsity, "sparsity")
        if activation_sparsity is not None:
            self._check_sparsity(activation_sparsity, "activation_sparsity")
        self.units = units
        self.sparsity = sparsity
        self.activation_sparsity = activation_sparsity
        self.granularity = granularity
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            # Half types make many magnitudes tie, and ties keep more: the
            # selection is made on the full-precision weights.
            autocast=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: input_shape[-1]}
        )

    def call(self, inputs):
        x = self._matmul(inputs)
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return x if self.activation is None else self.activation(x)

    def _matmul(self, inputs):
        of_weights, of_activations = self._sparsities()
        if of_weights == of_activations == 0:
            kernel = ops.cast(self.kernel, self.compute_dtype)
            return ops.matmul(inputs, kernel)
        kernel = ops.cast(self.kernel, self.variable_dtype)
        return swat.sparse_matmul(inputs, kernel, of_weights, of_activations)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def savings(self):
        """Returns the training FLOPs an example costs, derived from shapes.

        Two records: what the multiplications with non-zeros cost
        (theoretical), and what the hardware executes, which is all of them.
        Empty before `build`, and where an inner axis has no static size.
        """
        shape = self.get_build_config() or {}
        shape = shape.get("input_shape", (None, None))
        if None in shape[1:]:
            return []
        cost = _flops(self, shape, self.compute_output_shape(shape))
        rates = {
            "flops_theoretical_per_example": cost.training,
            "flops_executed_per_example": cost.executed_training,
        }
        return [
            Saving("swat", unit, cost.dense_training, rate, measured=False)
            for unit, rate in rates.items()
        ]

    def get_config(self):
        plain = ("units", "sparsity", "activation_sparsity", "granularity")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in (*plain, "use_bias")},
            **{
                name: module.serialize(getattr(self, name))
                for name, module in _SERIALIZERS.items()
            },
        }

    def _sparsities(self):
        if self.activation_sparsity is None:
            return self.sparsity, self.sparsity
        return self.sparsity, self.activation_sparsity

    def _check_sparsity(self, value, argument):
        is_number = isinstance(value, numbers.Real)
        if not is_number or not 0 <= value < 1:
            raise ValueError(
                f"Argument `{argument}` must be in [0, 1): it is the fraction "
                "of zeros, not the fraction kept. Received: "
                f"{argument}={value!r} (layer {self.name!r})"
            )


@flops.rule(SparseDense)
def _flops(layer, input_shape, output_shape):
    dense = flops.matmul(input_shape[-1], output_shape)
    of_weights, of_activations = layer._sparsities()
    forward = (1 - of_weights) * dense  # y = x @ top(W); dx costs the same
    return flops.Flops(
        dense_forward=dense,
        dense_training=3 * dense,
        forward=forward,
        training=2 * forward + (1 - of_activations) * dense,
        executed_forward=dense,
        executed_training=3 * dense,
    )
