"""What layers with a kernel share: the arguments of Keras' own, and LoRA."""

import math
import numbers

import keras
from keras import ops

# Arguments that are functions or objects, and what serializes them.
KERNEL_OBJECTS = {
    "activation": keras.activations,
    "kernel_initializer": keras.initializers,
    "bias_initializer": keras.initializers,
    "kernel_regularizer": keras.regularizers,
    "bias_regularizer": keras.regularizers,
    "activity_regularizer": keras.regularizers,
    "kernel_constraint": keras.constraints,
    "bias_constraint": keras.constraints,
}


class KernelLayer(keras.layers.Layer):
    """A layer with a kernel, perhaps a bias, perhaps an adapter of low rank.

    With `lora_rank` the kernel is never trained; the layer works with

        kernel + lora_alpha / lora_rank * lora_kernel_a @ lora_kernel_b

    and trains the two factors, which are float32. Unlike Keras' layers it
    saves them beside the kernel, so that training goes on where it stopped,
    and `trainable = True` does not thaw the kernel.

    Args:
        activation: as in `keras.layers.Dense`, like all that follow.
        kernel_initializer: initializer.
        bias_initializer: initializer.
        kernel_regularizer: regularizer. With `lora_rank`, of the factors.
        bias_regularizer: regularizer.
        activity_regularizer: regularizer.
        kernel_constraint: constraint.
        bias_constraint: constraint.
        lora_rank: positive integer, or `None`: no adapter.
        lora_alpha: positive number, or `None` for `lora_rank`.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Raises:
        ValueError: if an argument breaks its rule.

    Reference:
    - [Hu et al., 2021](https://arxiv.org/abs/2106.09685)
    """

    def __init__(
        self,
        activation=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.lora_rank = lora_rank
        self.lora_alpha = lora_rank if lora_alpha is None else lora_alpha
        self.bias = None
        self._check_low_rank()
        self._check_quantization()

    def _add_weights(self, kernel_shape, bias_shape, initializer=None):
        """Creates the weights of the Keras layer."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=kernel_shape,
            initializer=initializer or self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            trainable=not self.lora_enabled,
            # Half types make many magnitudes tie, and ties keep more: the
            # selection is made on the full-precision weights.
            autocast=False,
        )
        if bias_shape is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=bias_shape,
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        if not self.lora_enabled:
            return
        *inner, last = kernel_shape
        factors = {
            "lora_kernel_a": ("he_uniform", (*inner, self.lora_rank)),
            "lora_kernel_b": ("zeros", (self.lora_rank, last)),
        }
        self.lora_kernel_a, self.lora_kernel_b = (
            self.add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                regularizer=self.kernel_regularizer,
                dtype="float32",
                autocast=False,
            )
            for name, (initializer, shape) in factors.items()
        )

    @property
    def lora_enabled(self):
        """Whether the kernel has an adapter, as in Keras' layers."""
        return self.lora_rank is not None

    def merged_kernel(self):
        """Returns the kernel with its adapter, in full precision.

        Returns:
            Tensor of the shape and dtype of `kernel`.
        """
        kernel = ops.cast(self.kernel, self.variable_dtype)
        if not self.lora_enabled:
            return kernel
        low_rank = ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
        low_rank = low_rank * (self.lora_alpha / self.lora_rank)
        return kernel + ops.cast(low_rank, kernel.dtype)

    def get_config(self):
        config = {
            name: module.serialize(getattr(self, name))
            for name, module in KERNEL_OBJECTS.items()
        }
        if self.lora_enabled:
            config["lora_rank"] = self.lora_rank
            config["lora_alpha"] = self.lora_alpha
        return {**super().get_config(), **config}

    def _check_low_rank(self):
        rank, alpha = self.lora_rank, self.lora_alpha
        if rank is not None and (type(rank) is not int or rank < 1):
            raise ValueError(
                "Argument `lora_rank` must be a positive integer, or None. "
                f"Received: lora_rank={rank!r} (layer {self.name!r})"
            )
        is_number = isinstance(alpha, numbers.Real) and type(alpha) is not bool
        is_positive = is_number and 0 < alpha < math.inf
        if alpha is not None and (rank is None or not is_positive):
            raise ValueError(
                "Argument `lora_alpha` must be a positive, finite number, and "
                f"goes with `lora_rank`. Received: lora_alpha={alpha!r}, "
                f"lora_rank={rank!r} (layer {self.name!r})"
            )
        if rank is not None and self.kernel_constraint is not None:
            raise ValueError(
                "Argument `lora_rank` must be None with a `kernel_constraint`: "
                "the kernel that it would constrain is not trained. Received: "
                f"lora_rank={rank}, kernel_constraint="
                f"{self.kernel_constraint!r} (layer {self.name!r})"
            )

    def _check_quantization(self):
        if self.quantization_mode is not None:
            raise ValueError(
                "Argument `dtype` must be a floating-point type or policy: "
                "quantized weights do not train. Quantize what "
                "`keras_eff.convert.strip_sparsity` returns. Received: "
                f"dtype={self.dtype_policy.name!r} (layer {self.name!r})"
            )

    def quantize(self, mode=None, type_check=True, config=None):
        raise NotImplementedError(
            f"Layer {self.name!r} of type {type(self).__name__} trains in "
            "floating point. Quantize what `keras_eff.convert.strip_sparsity` "
            f"returns. Received: mode={mode!r}"
        )
