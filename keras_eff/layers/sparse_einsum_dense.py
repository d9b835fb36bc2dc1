"""Sparse weight and activation training (SWAT) for einsum layers."""

import keras
from keras import ops

from keras_eff import flops
from keras_eff.layers.sparse_layer import SparseLayer


@keras.saving.register_keras_serializable("keras_eff")
class SparseEinsumDense(SparseLayer):
    """An `EinsumDense` layer that trains sparse (SWAT), for transformers.

    Use it in place of `keras.layers.EinsumDense`, of which attention and
    feed-forward blocks are made; `SparseDense` says how it trains and what it
    does not give.

    Args:
        equation: string, as in `keras.layers.EinsumDense`.
        output_shape: integer or tuple, likewise, without the batch axis.
        sparsity: float in `[0, 1)`, or a `Schedule` of such numbers, which
            the callback `SparsitySchedule` follows. Fraction of the weights
            set to zero in the products. `0.0` is exactly `EinsumDense`.
            Defaults to `0.8`.
        activation_sparsity: the same, for the fraction of the inputs, over
            the whole batch, set to zero in the weight gradient. `None` means
            the same as `sparsity`. Defaults to `None`.
        granularity: `"element"` or `"channel"`, as in `SparseDense`. A channel
            is an entry of the axis that is summed over, of which there must
            be one. Defaults to `"element"`.
        update_every: as in `SparseDense`. Defaults to `1`.
        threshold: as in `SparseDense`. Defaults to `"exact"`.
        activation: as in `keras.layers.EinsumDense`, like all that follow.
        bias_axes: string. Defaults to `None`, no bias.
        kernel_initializer: Defaults to `"glorot_uniform"`.
        bias_initializer: Defaults to `"zeros"`.
        kernel_regularizer: Defaults to `None`. Acts on all weights.
        bias_regularizer: Defaults to `None`.
        activity_regularizer: Defaults to `None`.
        kernel_constraint: Defaults to `None`. Acts on all weights.
        bias_constraint: Defaults to `None`.
        lora_rank: integer: the kernel is not trained, but two factors of
            that rank are, which are added to it before weights are selected.
            Defaults to `None`.
        lora_alpha: number, the factors are scaled by `lora_alpha / lora_rank`.
            Defaults to `None`, `lora_rank`.
        quantization_config: kept for the Keras layer that
            `keras_eff.convert.strip_sparsity` returns; this one trains in
            floating point. Defaults to `None`.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of the shape that `equation` says.
        training: bool, whether a selection may be stored.

    Returns:
        Tensor of the shape that `equation` and `output_shape` say.

    Raises:
        ValueError: if an argument breaks its rule; in `build`, if
            `granularity="channel"` and the equation sums over more axes.

    Example:
    >>> import numpy as np
    >>> layer = SparseEinsumDense("abc,cde->abde", (None, 2, 4), sparsity=0.5)
    >>> tuple(layer(np.ones((3, 5, 8), "float32")).shape)
    (3, 5, 2, 4)

    Reference:
    - [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
    """

    stock = keras.layers.EinsumDense

    def __init__(
        self,
        equation,
        output_shape,
        sparsity=0.8,
        activation_sparsity=None,
        granularity="element",
        update_every=1,
        threshold="exact",
        bias_axes=None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(
            sparsity,
            activation_sparsity,
            granularity,
            update_every,
            threshold,
            **kwargs,
        )
        self.equation = equation
        is_integer = isinstance(output_shape, int)
        # `output_shape` is a property of Keras' layers.
        self.partial_output_shape = (
            (output_shape,) if is_integer else tuple(output_shape)
        )
        self.bias_axes = bias_axes
        self.quantization_config = quantization_config

    def build(self, input_shape):
        equation = flops.EinsumEquation.parse(self.equation)
        if self.granularity == "channel":
            self.channel_axes = self._axes_of_the_sum(equation, input_shape)
        shapes = input_shape, self.compute_output_shape(input_shape)
        bias_shape = None
        if self.bias_axes is not None:
            bias_shape = equation.bias_shape(self.bias_axes, *shapes)
        self._add_weights(
            equation.kernel_shape(*shapes),
            bias_shape,
            self._initializer_for(equation),
        )
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape))

    def product(self, inputs, kernel):
        """Returns the einsum of inputs and kernel."""
        return ops.einsum(self.equation, inputs, kernel)

    def _axes_of_the_sum(self, equation, input_shape):
        if len(equation.summed) != 1:
            raise ValueError(
                "With granularity='channel' the argument `equation` must sum "
                "over one axis, the channels. Received: "
                f"equation={self.equation!r} (layer {self.name!r})"
            )
        equation = equation.spelled_out(len(input_shape))
        return (
            equation.inputs.index(equation.summed),
            equation.kernel.index(equation.summed),
        )

    def _initializer_for(self, equation):
        """Tells an initializer that scales by axes which they are, as Keras."""
        initializer = self.kernel_initializer
        if not isinstance(initializer, keras.initializers.VarianceScaling):
            return initializer
        if None not in (initializer.input_axes, initializer.output_axes):
            return initializer
        axes = {True: [], False: []}
        for axis, letter in enumerate(equation.kernel):
            axes[letter in equation.output].append(axis)
        config = {
            **initializer.get_config(),
            "seed": initializer.seed,  # as drawn, where none was given
            "input_axes": axes[False],
            "output_axes": axes[True],
        }
        return type(initializer).from_config(config)

    def _dense_flops(self, input_shape, output_shape):
        equation = flops.EinsumEquation.parse(self.equation)
        return equation.flops(input_shape, self.kernel.shape)

    def stock_arguments(self):
        """Returns arguments of `EinsumDense` by name."""
        return {
            "equation": self.equation,
            "output_shape": self.partial_output_shape,
            "bias_axes": self.bias_axes,
            "quantization_config": self.quantization_config,
        }
