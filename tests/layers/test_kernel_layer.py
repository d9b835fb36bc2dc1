"""Keras' arguments of layers with a kernel: adapters of low rank, types."""

import checks
import keras
import numpy as np
import pytest
import references
import tensorflow as tf

import keras_eff as ke
from keras_eff.layers import SparseConv1D
from keras_eff.layers import SparseConv2D
from keras_eff.layers import SparseDense
from keras_eff.layers import SparseEinsumDense

EAGER, GRAPH, XLA = None, False, True
LOW_RANK = {"lora_rank": 2, "lora_alpha": 3}

LAYERS = {
    "dense": (SparseDense, (4,), (6, 5)),
    "conv1d": (SparseConv1D, (4, 3), (6, 7, 5)),
    "conv2d": (SparseConv2D, (4, 3), (6, 7, 6, 5)),
    "einsum": (SparseEinsumDense, ("abc,cde->abde", (7, 2, 3)), (6, 7, 5)),
}
every_layer = pytest.mark.parametrize(
    ("kind", "arguments", "shape"), LAYERS.values(), ids=LAYERS
)


def inputs(shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype("float32")


def fill(*layers):
    """Gives the variables of a name the same values, none of them zeros."""
    for layer in layers:
        for i, variable in enumerate(sorted(layer.variables, key=name_of)):
            variable.assign(inputs(variable.shape, seed=i))


def name_of(variable):
    return variable.name


@every_layer
def test_an_adapter_is_that_of_keras(kind, arguments, shape):
    """Without sparsity: value, what is trained, and all gradients."""
    x = inputs(shape)
    ours = kind(*arguments, sparsity=0.0, name="layer", **LOW_RANK)
    theirs = kind.stock(*arguments, name="layer", lora_rank=2, lora_alpha=3)
    for layer in (ours, theirs):
        layer.build(shape)
    theirs.lora_alpha = 3  # Keras' `Dense` forgets its own argument.
    fill(ours, theirs)
    found = [
        checks.forward_and_gradients(layer, x, inputs(ours(x).shape, seed=1))
        for layer in (ours, theirs)
    ]
    names = [[v.name for v in la.trainable_variables] for la in (ours, theirs)]
    assert names[0] == names[1]
    assert names[0][-2:] == ["lora_kernel_a", "lora_kernel_b"]
    checks.is_close_to(*found)


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "float64"])
def test_weights_are_selected_with_the_adapter_in_them(dtype, jit_compile):
    x, dy = inputs((7, 5)), inputs((7, 4), seed=1)
    layer = SparseDense(4, sparsity=0.6, dtype=dtype, **LOW_RANK)
    layer.build((None, 5))
    fill(layer)
    a, b = layer.lora_kernel_a.numpy(), layer.lora_kernel_b.numpy()
    merged = layer.kernel.numpy() + a @ b * 1.5
    bias = layer.bias.numpy()

    x, dy = (tf.cast(value, layer.compute_dtype) for value in (x, dy))
    found = checks.forward_and_gradients(layer, x, dy, jit_compile)
    y, _, _, da, db = (np.asarray(value, "float64") for value in found)
    x, dy = (np.asarray(value, "float32") for value in (x, dy))
    expected, _, dkernel, _ = references.swat(x, merged, bias, dy, 0.6, 0.6)
    is_half = dtype == "mixed_float16"
    tolerance = {"rtol": 1e-2, "atol": 3e-2} if is_half else {"atol": 1e-5}
    np.testing.assert_allclose(y, expected, **tolerance)
    np.testing.assert_allclose(da, dkernel @ b.T * 1.5, **tolerance)
    np.testing.assert_allclose(db, a.T @ dkernel * 1.5, **tolerance)
    assert np.count_nonzero(layer.sparse_kernel()) == 8  # of 20


def model_with_adapters(**kwargs):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            SparseDense(5, 0.5, activation="relu", **LOW_RANK, **kwargs),
            SparseDense(2, 0.5, **LOW_RANK, **kwargs),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_the_kernel_stays_and_the_factors_learn(granularity):
    model = model_with_adapters(granularity=granularity, update_every=2)
    x, y = inputs((64, 6)), inputs((64, 2), seed=1)
    model.trainable = False
    model.trainable = True  # Does not thaw the kernels.
    model.compile(keras.optimizers.Adam(0.01), "mse")
    before = {v.path: v.numpy() for v in model.variables}
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for layer in model.layers:
        for variable in [layer.kernel, *layer.trainable_variables]:
            is_same = np.array_equal(before[variable.path], variable)
            assert is_same == (variable is layer.kernel)


def test_training_goes_on_from_a_file(tmp_path):
    x, y = inputs((64, 6)), inputs((64, 2), seed=1)
    options = {"verbose": 0, "shuffle": False}
    model = model_with_adapters(update_every=3)
    model.fit(x, y, epochs=2, **options)
    model.save(tmp_path / "model.keras")
    model.fit(x, y, epochs=2, **options)
    other = keras.models.load_model(tmp_path / "model.keras")
    other.fit(x, y, epochs=2, **options)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@every_layer
def test_adapters_survive_both_conversions(kind, arguments, shape):
    x = inputs(shape)
    layer = kind.stock(*arguments, **LOW_RANK, name="layer")
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    fill(layer)
    same, _ = ke.convert.sparsify(model, sparsity=0.0, keep_dense=None)
    assert same.layers[0].lora_enabled
    np.testing.assert_allclose(same(x), model(x), rtol=1e-5, atol=1e-4)
    sparse, report = ke.convert.sparsify(model, sparsity=0.5, keep_dense=None)
    assert not report.skipped
    plain, report = ke.convert.strip_sparsity(sparse)
    assert plain.layers[0].lora_enabled is False
    assert report.sparsities["layer"] == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(plain(x), sparse(x), rtol=1e-5, atol=1e-4)


def test_flops_of_adapters_are_listed_as_not_counted():
    model = model_with_adapters()
    (row, _) = ke.flops.count(model).unsupported
    assert row.reason == "LoRA adapters are not counted"
    assert model.layers[0].savings() == []


def test_momentum_needs_a_kernel_that_is_trained():
    dense = keras.layers.Dense(5, lora_rank=2)
    model = keras.Sequential([keras.Input((6,)), dense])
    model.compile("adam", "mse")
    sparse, _ = ke.convert.sparsify(model, 0.5, "momentum", keep_dense=None)
    schedule = ke.callbacks.SparsitySchedule(distribution="momentum")
    with pytest.raises(ValueError, match=r"no momentum of '.*dense.*/kernel'"):
        sparse.fit(
            inputs((8, 6)),
            inputs((8, 5)),
            callbacks=[schedule],
            verbose=0,
            epochs=2,
        )


def test_a_quantization_is_kept_for_the_layer_that_is_exported():
    config = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    layer = SparseDense(4, 0.5, quantization_config=config, name="layer")
    layer = SparseDense.from_config(layer.get_config())
    model = keras.Sequential([keras.Input((6,)), layer])
    plain, _ = ke.convert.strip_sparsity(model)
    kept = plain.layers[0].quantization_config
    assert kept.get_config() == config.get_config()
    again, _ = ke.convert.sparsify(plain, 0.5, keep_dense=None)
    kept = again.layers[0].quantization_config
    assert kept.get_config() == config.get_config()
    x = inputs((8, 6))
    plain.layers[0].quantize(config=plain.layers[0].quantization_config)
    np.testing.assert_allclose(plain(x), model(x), atol=0.1)


BAD = {
    "rank 0": (
        {"lora_rank": 0},
        r"`lora_rank` must be a positive.*lora_rank=0",
    ),
    "rank 1.5": ({"lora_rank": 1.5}, r"Received: lora_rank=1\.5"),
    "alpha alone": ({"lora_alpha": 2}, r"lora_alpha=2, lora_rank=None"),
    "alpha infinite": (
        {"lora_rank": 2, "lora_alpha": float("inf")},
        r"lora_alpha=inf",
    ),
    "alpha a string": ({"lora_rank": 2, "lora_alpha": "x"}, r"lora_alpha='x'"),
    "alpha true": ({"lora_rank": 2, "lora_alpha": True}, r"lora_alpha=True"),
    "alpha 0": ({"lora_rank": 2, "lora_alpha": 0}, r"lora_alpha=0"),
    "constraint": (
        {"lora_rank": 2, "kernel_constraint": "non_neg"},
        r"`lora_rank` must be None with a `kernel_constraint`",
    ),
    "integers": (
        {"dtype": "int8_from_float32"},
        r"must be a floating-point.*strip_sparsity.*int8_from_float32",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseDense(4, **arguments)


def test_quantize_says_what_to_do():
    layer = SparseDense(4)
    layer.build((None, 6))
    with pytest.raises(NotImplementedError, match=r"strip_sparsity.*'int8'"):
        layer.quantize("int8")


def test_convolutions_have_no_quantization_in_keras_either():
    with pytest.raises(ValueError, match="quantization_config"):
        SparseConv2D(4, 3, quantization_config=None)


@every_layer
def test_whole_numbers_are_taken_as_numbers(kind, arguments, shape):
    """As in Keras' `Dense`: not with weights rounded to 0."""
    x = np.random.default_rng(0).integers(0, 9, shape)
    layer = kind(*arguments, sparsity=0.5)
    found = layer(x)
    assert np.abs(found).max() > 0.1
    np.testing.assert_array_equal(found, layer(x.astype("float32")))


def test_whole_numbers_train():
    model = keras.Sequential(
        [keras.Input((5,), dtype="int64"), SparseDense(2, 0.5)]
    )
    model.compile("sgd", "mse")
    before = model.layers[0].kernel.numpy()
    model.fit(np.ones((8, 5), int), np.ones((8, 2)), verbose=0)
    assert not np.array_equal(before, model.layers[0].kernel)


def twice(x):
    return 2 * x


def half(kernel):
    return kernel / 2


def ones(shape, dtype):
    return keras.ops.ones(shape, dtype)


def total(values):
    return keras.ops.sum(values)


@every_layer
def test_functions_need_no_registration(kind, arguments, shape):
    """Those that Keras cannot find again, in all places that take one."""
    layer = kind(
        *arguments,
        activation=twice,
        kernel_initializer=ones,
        kernel_regularizer=total,
        kernel_constraint=half,
        activity_regularizer=total,
    )
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == layer.compute_output_shape((None, *shape[1:]))
    model.compile("sgd", "mse")
    x = np.ones(shape)
    model.fit(x, np.zeros(model(x).shape), verbose=0)
    plain, _ = ke.convert.strip_sparsity(model)
    again, _ = ke.convert.sparsify(plain, 0.0, keep_dense=None)
    np.testing.assert_allclose(again(x), model(x), rtol=1e-4)


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_nan_stops_training_as_it_does_dense(granularity, run_eagerly):
    layer = SparseDense(2, 0.5, granularity=granularity)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    x = inputs((32, 5))
    x[9] = np.nan
    stop = keras.callbacks.TerminateOnNaN()
    history = model.fit(
        x, x[:, :2], 8, shuffle=False, epochs=2, callbacks=[stop], verbose=0
    )
    assert len(history.history["loss"]) == 1
    assert np.isnan(history.history["loss"][0])


@pytest.mark.parametrize("jit_compile", [EAGER, GRAPH, XLA])
@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_an_empty_batch_has_no_gradient(granularity, jit_compile):
    layer = SparseDense(4, 0.5, granularity=granularity)
    x, dy = np.zeros((0, 5), "float32"), np.zeros((0, 4), "float32")
    layer.build(x.shape)
    y, dx, dkernel, dbias = checks.forward_and_gradients(
        layer, x, dy, jit_compile
    )
    assert (y.shape, dx.shape) == ((0, 4), (0, 5))
    assert not dkernel.any()
    assert not dbias.any()


@every_layer
def test_a_layer_may_be_built_when_the_step_is_compiled(kind, arguments, shape):
    """Keras builds models without an `Input` there, under XLA too."""
    model = keras.Sequential([kind(*arguments, sparsity=0.5)])
    model.compile("sgd", "mse", jit_compile=True)
    output_shape = kind(*arguments).compute_output_shape(shape)
    model.fit(inputs(shape), inputs(output_shape), verbose=0)
    assert model.built
