"""The contract that every layer, callback and source keeps."""

import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_eff.savings import Saving
from keras_eff.savings import Source


def inputs_of(setting, dtype="float32"):
    generator = np.random.default_rng(0)
    return generator.normal(size=setting.input_shape).astype(dtype)


def model_of(setting, **kwargs):
    """A model with the layer in the middle and one output."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(setting.input_shape[1:]),
            setting.make(**kwargs),
            keras.layers.Flatten(),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )


def forward_and_gradients(layer, x, dy, jit_compile=None):
    """Returns y, dx and the gradients of the weights for upstream dy.

    `jit_compile` is `None` in eager mode, `False` for a graph.
    """

    def run(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        weights = [w.value for w in layer.trainable_weights]
        return y, *tape.gradient(y, [x, *weights], output_gradients=dy)

    if jit_compile is not None:
        run = tf.function(run, jit_compile=jit_compile)
    return [t.numpy() for t in run(tf.constant(x), tf.constant(dy))]


def is_close_to(found, expected, relative=1e-5):
    """No entry is farther off than this part of the largest."""
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        error = np.abs(np.asarray(a, "float64") - b).max()
        assert error <= relative * np.abs(b).max() + 1e-12, error


def config_survives_build_and_round_trip(setting):
    layer = setting.make(name="under_test")
    before = layer.get_config()
    layer(inputs_of(setting), training=True)
    assert layer.get_config() == before
    assert type(layer).from_config(before).get_config() == before


def symbolic_shape_is_real_shape(setting):
    symbolic = setting.make()(keras.Input(setting.input_shape[1:]))
    real = setting.make()(inputs_of(setting))
    assert tuple(symbolic.shape) == (None, *setting.output_shape[1:])
    assert tuple(real.shape) == setting.output_shape


def eager_graph_and_xla_agree(setting, dtype):
    """Outputs, gradients and states after one training call are the same."""
    x = inputs_of(setting, "float64" if dtype == "float64" else "float32")
    atol = {
        "float64": 1e-12,
        "float32": 1e-5,
        "mixed_float16": 5e-3,
        "mixed_bfloat16": 4e-2,
    }
    results = []
    for wrap in (
        lambda step: step,
        lambda step: tf.function(step, jit_compile=False),
        lambda step: tf.function(step, jit_compile=True),
        # A batch of unknown size, as in `fit`.
        lambda step: tf.function(
            step,
            input_signature=[tf.TensorSpec((None, *x.shape[1:]), x.dtype)],
        ),
    ):
        keras.utils.set_random_seed(0)
        layer = setting.make(dtype=dtype)
        layer.build(x.shape)

        def step(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
                loss = tf.reduce_sum(tf.square(tf.cast(y, "float32")))
            weights = [w.value for w in layer.trainable_weights]
            return [y, *tape.gradient(loss, [x, *weights])]

        outputs = wrap(step)(tf.constant(x))
        assert all(gradient is not None for gradient in outputs)
        results.append(
            [np.array(tf.cast(tensor, "float64")) for tensor in outputs]
            + [w.numpy() for w in layer.non_trainable_weights]
        )
    eager, *others = results
    for other in others:
        for a, b in zip(eager, other, strict=True):
            scale = max(1.0, np.abs(a).max())
            np.testing.assert_allclose(b, a, atol=atol[dtype] * scale)


def fits_twice(setting, dtype, jit_compile, run_eagerly=False):
    model = model_of(setting, dtype=dtype)
    model.compile(
        "sgd", "mse", jit_compile=jit_compile, run_eagerly=run_eagerly
    )
    x, y = inputs_of(setting), np.ones((setting.input_shape[0], 1))
    before = [w.copy() for w in model.get_weights()]
    for _ in range(2):
        losses = model.fit(x, y, batch_size=3, epochs=2, verbose=0)
        assert np.isfinite(losses.history["loss"]).all()
    # What is learned changes. State may stay: the same channels, a round age.
    for weight, old in zip(model.weights, before, strict=True):
        if weight.trainable:
            assert not np.array_equal(old, weight.numpy()), weight.path


_LOAD = """
import sys
import keras, numpy as np
import keras_eff
model = keras.saving.load_model(sys.argv[1])
y = model.predict(np.load(sys.argv[2]), verbose=0)
np.save(sys.argv[3], y)
"""


def reloads_in_a_fresh_process(setting, folder):
    """`.keras` round trip, without custom_objects."""
    model, x = model_of(setting), inputs_of(setting)
    model.compile("sgd", "mse")
    model.fit(x, np.ones((len(x), 1)), verbose=0)
    paths = [folder / name for name in ("m.keras", "x.npy", "y.npy")]
    model.save(paths[0])
    np.save(paths[1], x)
    subprocess.run([sys.executable, "-c", _LOAD, *map(str, paths)], check=True)
    np.testing.assert_allclose(
        np.load(paths[2]), model.predict(x, verbose=0), atol=1e-6
    )


def callback_leaves_no_trace(setting):
    """Fit twice: the optimizer's learning rate is what it was before."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.125), "mse")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(10, 2)).astype("float32")
    y = generator.normal(size=(10, 1)).astype("float32")
    copies = x.copy(), y.copy()
    callback, data = setting.make(x, y)
    for _ in range(2):
        history = model.fit(**data, epochs=3, callbacks=[callback], verbose=0)
        assert len(history.history["loss"]) == 3
        assert float(model.optimizer.learning_rate) == 0.125
    np.testing.assert_array_equal((x, y)[0], copies[0])
    np.testing.assert_array_equal((x, y)[1], copies[1])


def source_reports_savings(source):
    assert isinstance(source, Source)
    savings = source.savings()
    assert savings
    for saving in savings:
        assert isinstance(saving, Saving)
        assert isinstance(saving.measured, bool)
        assert saving.technique == saving.technique.lower()
        assert " " not in saving.unit
    assert source.savings() == savings  # asking changes nothing
