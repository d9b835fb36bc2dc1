"""Sparse weight and activation training (SWAT) for fully connected layers."""

import keras
from keras import ops

from keras_eff import flops
from keras_eff.layers.sparse_layer import SparseLayer


@keras.saving.register_keras_serializable("keras_eff")
class SparseDense(SparseLayer):
    """A `Dense` layer that trains with sparse weights and activations (SWAT).

    Use it in place of `keras.layers.Dense` to train a network whose large
    weights do the work, and which can be pruned at the end without a second
    training. All weights stay dense in memory and all of them learn; which
    ones are used is decided anew by magnitude:

        y  = x @ top(W, sparsity) + b
        dx = dy @ top(W, sparsity).T
        dW = top(x, activation_sparsity).T @ dy

    What it does not give: speed, with `granularity="element"`. The products
    are dense products of matrices with zeros in them; the FLOPs saved are
    theoretical, and selecting costs some time. The 3.3x of the paper is a
    simulated accelerator. `granularity="channel"` is smaller and faster
    products, and it is ours: no publication says what it does to accuracy.
    The patent status of the method is not cleared.

    Args:
        units: positive integer, size of the output.
        sparsity: float in `[0, 1)`, or a `Schedule` of such numbers, which
            the callback `SparsitySchedule` follows. Fraction of the weights
            set to zero in the products. `0.0` is exactly `Dense`. Defaults
            to `0.8`.
        activation_sparsity: the same, for the fraction of the inputs, over
            the whole batch, set to zero in the weight gradient. `None` means
            the same as `sparsity`. Defaults to `None`.
        granularity: `"element"`: single weights and inputs are selected.
            `"channel"`: whole input features, by the sums of magnitudes of
            their weights (for `y`, `dx`) and of their inputs (for `dW`); the
            activation `"relu"` then keeps one bit an output for the backward
            pass. Defaults to `"element"`.
        update_every: positive integer, training steps for which a selection
            is kept. From 2 on the layer stores it, and inference uses it.
            Defaults to `1`.
        threshold: `"exact"`, or `"sample"`: the smallest input that is kept
            is that of 16,384 of them. Defaults to `"exact"`.
        activation: as in `keras.layers.Dense`, like all that follow.
        use_bias: bool. Defaults to `True`.
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
        inputs: Tensor of shape `(batch, ..., features)`.
        training: bool, whether a selection may be stored.

    Returns:
        Tensor of shape `(batch, ..., units)`.

    Raises:
        ValueError: if an argument breaks its rule.

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

    stock = keras.layers.Dense

    def __init__(
        self,
        units,
        sparsity=0.8,
        activation_sparsity=None,
        granularity="element",
        update_every=1,
        threshold="exact",
        use_bias=True,
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
        if type(units) is not int or units <= 0:
            raise ValueError(
                "Argument `units` must be a positive integer. "
                f"Received: units={units!r} (layer {self.name!r})"
            )
        self.units = units
        self.use_bias = use_bias
        self.quantization_config = quantization_config
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        features = input_shape[-1]
        self._add_weights(
            (features, self.units), (self.units,) if self.use_bias else None
        )
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: features}
        )

    def product(self, inputs, kernel):
        """Returns the matrix product of inputs and kernel."""
        return ops.matmul(inputs, kernel)

    def _dense_flops(self, input_shape, output_shape):
        return flops.matmul(input_shape[-1], output_shape)

    def stock_arguments(self):
        """Returns arguments of `Dense` by name."""
        names = ("units", "use_bias", "quantization_config")
        return {name: getattr(self, name) for name in names}
