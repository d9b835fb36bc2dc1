"""Sparse weight and activation training (SWAT) for convolutions."""

import keras

from keras_eff.layers.convolution import SparseConv


@keras.saving.register_keras_serializable("keras_eff")
class SparseConv1D(SparseConv):
    """A `Conv1D` layer that trains with sparse weights and activations.

    Use it in place of `keras.layers.Conv1D`; `SparseDense` says how it trains
    and what it does not give.

    Args:
        filters: positive integer, channels of the output.
        kernel_size: integer, or tuple of one, size of the window.
        sparsity: float in `[0, 1)`, or a `Schedule` of such numbers, which
            the callback `SparsitySchedule` follows. Fraction of the weights
            set to zero in the products. `0.0` is exactly `Conv1D`. Defaults
            to `0.8`.
        activation_sparsity: the same, for the fraction of the inputs, over
            the whole batch, set to zero in the weight gradient. `None` means
            the same as `sparsity`. Defaults to `None`.
        granularity: `"element"`: single weights and inputs are selected.
            `"kernel"`, the structured variant of the paper: the weights by
            slices `(*kernel_size, 1, 1)`, by their sums of magnitudes.
            `"channel"`, ours: whole input channels, as in `SparseDense`.
            Defaults to `"element"`.
        update_every: as in `SparseDense`. Defaults to `1`.
        threshold: as in `SparseDense`. Defaults to `"exact"`.
        strides: as in `keras.layers.Conv1D`, like all that follow. Defaults
            to `1`.
        padding: `"valid"`, `"same"` or `"causal"`. Defaults to `"valid"`.
        data_format: Defaults to `None`, Keras' setting.
        dilation_rate: Defaults to `1`.
        groups: Defaults to `1`, the only one with `"channel"`.
        activation: Defaults to `None`.
        use_bias: bool. Defaults to `True`.
        kernel_initializer: Defaults to `"glorot_uniform"`.
        bias_initializer: Defaults to `"zeros"`.
        kernel_regularizer: Defaults to `None`. Acts on all weights.
        bias_regularizer: Defaults to `None`.
        activity_regularizer: Defaults to `None`.
        kernel_constraint: Defaults to `None`. Acts on all weights.
        bias_constraint: Defaults to `None`.
        lora_rank: as in `SparseDense`. Defaults to `None`.
        lora_alpha: as in `SparseDense`. Defaults to `None`.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, steps, channels)`.
        training: bool, whether a selection may be stored.

    Returns:
        Tensor of shape `(batch, new_steps, filters)`.

    Raises:
        ValueError: if an argument breaks its rule.

    Example:
    >>> import numpy as np
    >>> layer = SparseConv1D(8, 3, sparsity=0.5, padding="same")
    >>> tuple(layer(np.ones((2, 6, 4), "float32")).shape)
    (2, 6, 8)

    Reference:
    - [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
    """

    stock = keras.layers.Conv1D

    def __init__(
        self,
        filters,
        kernel_size,
        sparsity=0.8,
        activation_sparsity=None,
        granularity="element",
        update_every=1,
        threshold="exact",
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        use_bias=True,
        **kwargs,
    ):
        super().__init__(
            {
                "filters": filters,
                "kernel_size": kernel_size,
                "strides": strides,
                "padding": padding,
                "data_format": data_format,
                "dilation_rate": dilation_rate,
                "groups": groups,
                "use_bias": use_bias,
            },
            sparsity,
            activation_sparsity,
            granularity,
            update_every,
            threshold,
            **kwargs,
        )


@keras.saving.register_keras_serializable("keras_eff")
class SparseConv2D(SparseConv):
    """A `Conv2D` layer that trains with sparse weights and activations.

    Use it in place of `keras.layers.Conv2D`; `SparseDense` says how it trains
    and what it does not give.

    Args:
        filters: positive integer, channels of the output.
        kernel_size: integer, or tuple of two, size of the window.
        sparsity: float in `[0, 1)`, or a `Schedule` of such numbers, which
            the callback `SparsitySchedule` follows. Fraction of the weights
            set to zero in the products. `0.0` is exactly `Conv2D`. Defaults
            to `0.8`.
        activation_sparsity: the same, for the fraction of the inputs, over
            the whole batch, set to zero in the weight gradient. `None` means
            the same as `sparsity`. Defaults to `None`.
        granularity: `"element"`: single weights and inputs are selected.
            `"kernel"`, the structured variant of the paper: the weights by
            slices `(*kernel_size, 1, 1)`, by their sums of magnitudes.
            `"channel"`, ours: whole input channels, as in `SparseDense`.
            Defaults to `"element"`.
        update_every: as in `SparseDense`. Defaults to `1`.
        threshold: as in `SparseDense`. Defaults to `"exact"`.
        strides: as in `keras.layers.Conv2D`, like all that follow. Defaults
            to `(1, 1)`.
        padding: `"valid"` or `"same"`. Defaults to `"valid"`.
        data_format: Defaults to `None`, Keras' setting.
        dilation_rate: Defaults to `(1, 1)`.
        groups: Defaults to `1`, the only one with `"channel"`.
        activation: Defaults to `None`.
        use_bias: bool. Defaults to `True`.
        kernel_initializer: Defaults to `"glorot_uniform"`.
        bias_initializer: Defaults to `"zeros"`.
        kernel_regularizer: Defaults to `None`. Acts on all weights.
        bias_regularizer: Defaults to `None`.
        activity_regularizer: Defaults to `None`.
        kernel_constraint: Defaults to `None`. Acts on all weights.
        bias_constraint: Defaults to `None`.
        lora_rank: as in `SparseDense`. Defaults to `None`.
        lora_alpha: as in `SparseDense`. Defaults to `None`.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        training: bool, whether a selection may be stored.

    Returns:
        Tensor of shape `(batch, new_height, new_width, filters)`.

    Raises:
        ValueError: if an argument breaks its rule.

    Example:
    >>> import numpy as np
    >>> layer = SparseConv2D(8, 3, sparsity=0.5, padding="same")
    >>> tuple(layer(np.ones((2, 6, 6, 4), "float32")).shape)
    (2, 6, 6, 8)

    Reference:
    - [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
    """

    stock = keras.layers.Conv2D

    def __init__(
        self,
        filters,
        kernel_size,
        sparsity=0.8,
        activation_sparsity=None,
        granularity="element",
        update_every=1,
        threshold="exact",
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
        use_bias=True,
        **kwargs,
    ):
        super().__init__(
            {
                "filters": filters,
                "kernel_size": kernel_size,
                "strides": strides,
                "padding": padding,
                "data_format": data_format,
                "dilation_rate": dilation_rate,
                "groups": groups,
                "use_bias": use_bias,
            },
            sparsity,
            activation_sparsity,
            granularity,
            update_every,
            threshold,
            **kwargs,
        )
