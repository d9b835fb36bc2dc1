"""The gradient of a product at other factors than those it was made of."""

import keras


def pull_back(product, inputs, kernel, upstream, argument):
    """Returns the gradient of a bilinear function by one of its arguments.

    The gradient of `product(x, w)` by `x` depends on `w` alone, and the other
    way round, so each may be taken at factors that differ from those of the
    forward pass. `keras.ops` has no such function: this is the one place in
    `layers` that asks the backend. The value of `product` is not used, and a
    compiled step does not compute it.

    Args:
        product: callable `(inputs, kernel) -> tensor`, linear in each.
        inputs: tensor; for its own gradient only shape and dtype matter.
        kernel: tensor, likewise.
        upstream: tensor, gradient by the result of `product`.
        argument: `0` for the gradient by `inputs`, `1` by `kernel`.

    Returns:
        Tensor of the shape of that argument.

    Raises:
        NotImplementedError: on other backends than TensorFlow and JAX.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            # That argument alone: else an eager tape finds both gradients.
            tape.watch(factor := (inputs, kernel)[argument])
            value = product(inputs, kernel)
        return tape.gradient(value, factor, output_gradients=upstream)
    if backend == "jax":
        import jax

        _, gradients_of = jax.vjp(product, inputs, kernel)
        return gradients_of(upstream)[argument]
    raise NotImplementedError(
        "Sparse layers train on the TensorFlow and JAX backends. Received: "
        f"backend {backend!r}"
    )
