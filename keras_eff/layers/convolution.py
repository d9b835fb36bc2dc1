"""What the sparse convolutions share."""

import math

import keras
from keras import ops

from keras_eff import flops
from keras_eff.layers.sparse_layer import SparseLayer


class SparseConv(SparseLayer):
    """What the sparse convolutions share; see `SparseConv2D`."""

    granularities = ("element", "kernel", "channel")

    def __init__(self, convolution, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        # Keras' layer checks them and makes tuples of numbers. With a name
        # and initializers of its own it would use up numbers and seeds.
        stock = self.stock(
            **convolution, kernel_initializer="zeros", name=self.name
        )
        for name in (*convolution, "data_format"):
            setattr(self, name, getattr(stock, name))
        self._convolution = tuple(convolution)
        self.input_spec = stock.input_spec
        if self.data_format == "channels_first":
            self.channel_axes = (1, -2)
        if self.granularity == "channel" and self.groups > 1:
            raise ValueError(
                "With granularity='channel' a convolution must have one "
                "group: groups have channels of their own. Received: "
                f"groups={self.groups} (layer {self.name!r})"
            )

    def build(self, input_shape):
        channels = input_shape[self.channel_axes[0]]
        if channels % self.groups:
            raise ValueError(
                "Argument `groups` must divide the channels of the input. "
                f"Received: groups={self.groups}, input of shape "
                f"{input_shape} (layer {self.name!r})"
            )
        self.compute_output_shape(input_shape)  # refuses what is too small
        self._add_weights(
            (*self.kernel_size, channels // self.groups, self.filters),
            (self.filters,) if self.use_bias else None,
        )
        self.input_spec = keras.layers.InputSpec(
            min_ndim=len(input_shape), axes={self.channel_axes[0]: channels}
        )

    def product(self, inputs, kernel):
        """Returns the convolution of inputs with kernel."""
        padding = self.padding
        if padding == "causal":
            padding = "valid"
            before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            widths = [(0, 0), (before, 0), (0, 0)]
            if self.data_format == "channels_first":
                widths = [(0, 0), (0, 0), (before, 0)]
            inputs = ops.pad(inputs, widths)
        return ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def _bias_of(self, x):
        if self.data_format == "channels_last":
            return self.bias
        return ops.reshape(self.bias, (1, -1, *[1] * len(self.kernel_size)))

    def _stride(self):
        return math.prod(self.strides)

    def _dense_flops(self, input_shape, output_shape):
        return flops.matmul(math.prod(self.kernel.shape[:-1]), output_shape)

    def stock_arguments(self):
        """Returns arguments of the convolution by name."""
        return {name: getattr(self, name) for name in self._convolution}
