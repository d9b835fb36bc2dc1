"""The maths of sparse weight and activation training (SWAT), alone."""

from keras import ops

from keras_eff import scores


def sparse_matmul(inputs, kernel, weight_sparsity, activation_sparsity):
    """Multiplies with the largest weights; trains on the largest activations.

        y  = x @ top(W)
        dx = dy @ top(W).T          (dy is never sparsified)
        dW = top(x).T @ dy          (dense: masked weights get a gradient)

    `top` keeps the entries of largest magnitude of the whole tensor, the
    batch axis included (`scores.keep_largest`).

    Args:
        inputs: tensor of shape `(batch, ..., features)`.
        kernel: tensor of shape `(features, units)`, of the precision in which
            to rank the weights. Not a variable: `keras.ops.custom_gradient`
            refuses those in an eager tape.
        weight_sparsity: float in `[0, 1)`, fraction of `kernel` set to zero.
        activation_sparsity: float in `[0, 1)`, fraction of `inputs` set to
            zero, in the weight gradient only.

    Returns:
        Tensor of shape `(batch, ..., units)`, of the dtype of `inputs`.

    Reference:
    - [Raihan and Aamodt, 2020](https://arxiv.org/abs/2001.01969)
    """

    @ops.custom_gradient
    def product(inputs, kernel):
        weights = scores.keep_largest(kernel, weight_sparsity)
        weights = ops.cast(weights, inputs.dtype)

        def gradient(*args, upstream=None):
            if upstream is None:  # JAX passes it by position.
                (upstream,) = args
            # Selecting here, not in the forward pass, spares inference the
            # selection. It holds no more memory: the zeros are stored too.
            activations = scores.keep_largest(inputs, activation_sparsity)
            rows = _as_rows(activations)  # (batch * ..., features)
            d_inputs = ops.matmul(upstream, ops.transpose(weights))
            d_kernel = ops.matmul(ops.transpose(rows), _as_rows(upstream))
            return d_inputs, ops.cast(d_kernel, kernel.dtype)

        return ops.matmul(inputs, weights), gradient

    return product(inputs, kernel)


def _as_rows(x):
    return ops.reshape(x, (-1, x.shape[-1]))
