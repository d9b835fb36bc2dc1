"""Surgery on whole models: `sparsify`, and `strip_sparsity` to go back."""

import contextlib
import io
import json
import re
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import rich.console
import tensorflow as tf
from keras import ops
from test_convert import all_layers
from test_convert import assert_same
from test_convert import inputs_of
from test_convert import with_odd_weights

import keras_eff as ke
from keras_eff.convert.sparsity_plan import erdos_renyi

layers = keras.layers
STOCK = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.EinsumDense)
SPARSE = (
    ke.layers.SparseDense,
    ke.layers.SparseConv1D,
    ke.layers.SparseConv2D,
    ke.layers.SparseEinsumDense,
)


def chain(*stack, shape=(8,), name="m", **kwargs):
    return keras.Sequential([keras.Input(shape, **kwargs), *stack], name=name)


def sequential():
    return chain(
        layers.Dense(12, "relu", name="a", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.Dense(6, name="b", use_bias=False, kernel_constraint="non_neg"),
        layers.Dense(4, "softmax", name="c", bias_initializer="ones"),
    )


def functional():
    """Two inputs, a layer called twice, operations, two outputs."""
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    shared = layers.Dense(8, name="shared", activity_regularizer="l1")
    x = ops.take(shared(a), [3, 1, 2, 0], axis=-1)
    y = layers.Dense(4, name="on_b")(shared(b))
    outputs = {"sum": x + y, "last": layers.Dense(3, name="last")(y)}
    return keras.Model({"a": a, "b": b}, outputs, name="m")


def nested():
    """A Functional in a Sequential in a Functional, the inner one shared."""
    x = keras.Input((8,))
    inner = keras.Model(x, layers.Dense(8, name="d")(x), name="in")
    middle = chain(inner, layers.Dense(8, name="d"), name="middle")
    x = keras.Input((8,))
    return keras.Model(x, inner(middle(x)), name="m")


def image():
    return chain(
        layers.Conv2D(6, 3, strides=2, padding="same", name="a"),
        layers.Conv2D(4, (3, 1), dilation_rate=2, dtype="mixed_bfloat16"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="c"),
        shape=(9, 8, 3),
    )


def text():
    return chain(
        layers.Conv1D(8, 3, padding="causal", name="a"),
        layers.EinsumDense("abc,cde->abde", (None, 2, 4), name="b"),
        layers.EinsumDense("...de,df->...ef", (None, 4, 5), bias_axes="f"),
        shape=(5, 6),
    )


def frozen():
    model = nested()
    model.trainable = False
    model.get_layer("middle").get_layer("d").trainable = True
    return model


MODELS = {
    "sequential": sequential,
    "functional": functional,
    "nested": nested,
    "image": image,
    "text": text,
    "frozen": frozen,
}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def count(model, kinds):
    return len({id(la) for la in all_layers(model) if type(la) in kinds})


def assert_close(a, b, atol=1e-6):
    """Same outputs in evaluation, to rounding."""
    x = inputs_of(a)
    outputs = (keras.tree.flatten(m(x, training=False)) for m in (a, b))
    for one, other in zip(*outputs, strict=True):
        one, other = (
            ops.convert_to_numpy(ops.cast(y, "float32")) for y in (one, other)
        )
        scale = max(1.0, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=0, atol=atol * scale)


@models
def test_without_zeros_there_and_back_is_the_same_model(make):
    model = with_odd_weights(make())
    num_layers, config = count(model, STOCK), model.get_config()
    sparse, report = ke.convert.sparsify(model, 0.0, keep_dense=None)
    assert (len(report.converted), report.skipped) == (num_layers, ())
    assert report.sparsities == dict.fromkeys(report.converted, 0.0)
    assert (count(sparse, SPARSE), count(sparse, STOCK)) == (num_layers, 0)
    assert_same(model, sparse)
    plain, report = ke.convert.strip_sparsity(sparse)
    assert (count(plain, STOCK), count(plain, SPARSE)) == (num_layers, 0)
    assert (len(report.converted), report.skipped) == (num_layers, ())
    assert_same(model, plain)
    assert plain.get_config() == config
    # The model that was given is left as it is.
    sparse.set_weights([w * 0 for w in sparse.get_weights()])
    assert model.get_config() == config
    assert np.abs(model.get_weights()[0]).min() > 0


@models
@pytest.mark.parametrize(
    ("granularity", "compact"),
    [
        ("element", True),
        ("kernel", False),
        ("channel", False),
        ("channel", True),
    ],
)
def test_the_zeros_are_baked_in(make, granularity, compact):
    model = with_odd_weights(make())
    sparse, there = ke.convert.sparsify(
        model, 0.5, granularity=granularity, keep_dense=None
    )
    plain, back = ke.convert.strip_sparsity(sparse, compact)
    assert set(back.converted) == set(there.converted)
    assert count(plain, SPARSE) == 0
    assert there.converted
    assert set(there.sparsities.values()) == {0.5}
    # Odd numbers of channels are rounded, of zeros downwards.
    for zeros in back.sparsities.values():
        assert 0.3 < zeros < 0.51
    is_half = model.compute_dtype != "float32" or make is image
    assert_close(sparse, plain, 1e-2 if is_half else 1e-6)
    difference = np.abs(model.layers[-1].get_weights()[0])
    assert difference.min() > 0  # negative control: `model` has no zeros
    smaller = plain.count_params() < model.count_params()
    assert smaller == (compact and granularity == "channel")


def test_a_compact_model_keeps_its_structure():
    for make in (functional, nested, frozen):
        model = with_odd_weights(make())
        sparse, _ = ke.convert.sparsify(
            model, 0.5, granularity="channel", keep_dense=None
        )
        small, _ = ke.convert.strip_sparsity(sparse, compact=True)
        assert small.name == model.name
        for weight, old in zip(small.weights, model.weights, strict=True):
            assert (weight.name, weight.trainable) == (old.name, old.trainable)
            if weight.name == "kernel":
                assert tuple(weight.shape) == (old.shape[0] // 2, old.shape[1])


def test_a_model_with_a_gather_of_its_own_is_made_compact():
    """A loaded operation may have the name that Keras would give a new one."""
    model = with_odd_weights(functional())
    sparse, _ = ke.convert.sparsify(model, 0.5, granularity="channel")
    keras.utils.clear_session()
    small, _ = ke.convert.strip_sparsity(sparse, compact=True)
    assert_close(sparse, small)
    names = [operation.name for operation in small.operations]
    assert names.count("on_b_channels") == names.count("last_channels") == 1
    # The channels are in the configuration.
    reloaded = keras.Model.from_config(small.get_config())
    reloaded.set_weights(small.get_weights())
    assert_close(small, reloaded, 0)


def test_a_compact_sequential_is_functional_and_trains():
    model = with_odd_weights(sequential())
    sparse, _ = ke.convert.sparsify(model, 0.5, granularity="channel")
    small, _ = ke.convert.strip_sparsity(sparse, compact=True)
    assert not isinstance(small, keras.Sequential)
    assert isinstance(small, keras.Model)
    small.compile("adam", "mse")
    history = small.fit(inputs_of(model), np.ones((9, 4)), verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_a_layer_called_by_keyword_is_made_compact():
    x = keras.Input((8,))
    model = keras.Model(x, layers.Dense(2, name="d")(inputs=x))
    sparse, _ = ke.convert.sparsify(
        model, 0.5, granularity="channel", keep_dense=None
    )
    small, _ = ke.convert.strip_sparsity(sparse, compact=True)
    assert_close(sparse, small)
    assert small.count_params() == 4 * 2 + 2


def with_masks():
    x = keras.Input((None,), dtype="int32")
    shared = layers.Dense(8, name="shared")
    masked = layers.Embedding(10, 8, mask_zero=True)(x)
    plain = layers.Embedding(10, 8)(x)
    y = layers.LSTM(4)(layers.Dense(8, name="masked")(shared(masked)))
    z = layers.LSTM(4)(layers.Dense(8, name="plain")(shared(plain)))
    inner = chain(layers.Dense(8, name="d"), shape=(None, 8), name="inner")
    w = layers.GlobalAveragePooling1D()(inner(masked))
    last = layers.Dense(2, name="last")
    return keras.Model(x, last(layers.Concatenate()([y, z, w])))


# Keras says so of all models in models.
@pytest.mark.filterwarnings("ignore:Layer 'inner':UserWarning")
def test_masks_are_not_dropped():
    sparse, _ = ke.convert.sparsify(
        with_masks(), 0.5, granularity="channel", keep_dense=None
    )
    small, report = ke.convert.strip_sparsity(sparse, compact=True)
    x = np.array([[1, 2, 0, 0], [3, 4, 5, 0]])
    np.testing.assert_allclose(small(x), sparse(x), atol=1e-6)
    reason = "full size: its inputs have a mask, which a gather drops"
    skipped = [path for path, why in report.skipped if why == reason]
    assert sorted(skipped) == ["inner/d", "masked", "shared"]
    sizes = {
        la.name: la.kernel.shape[0]
        for la in all_layers(small)
        if type(la) is layers.Dense
    }
    assert sizes == {"shared": 8, "masked": 8, "d": 8, "plain": 4, "last": 8}


def test_all_channels_need_no_gather():
    model = chain(layers.Dense(2), shape=(3,))
    sparse, _ = ke.convert.sparsify(
        model, 0.3, granularity="channel", keep_dense=None
    )
    small, report = ke.convert.strip_sparsity(sparse, compact=True)
    assert isinstance(small, keras.Sequential)
    assert list(report.sparsities.values()) == [0.0]


def test_a_model_that_is_not_built_is_converted_both_ways():
    model = keras.Sequential([layers.Dense(4), layers.Dense(2, name="b")])
    sparse, report = ke.convert.sparsify(model, granularity="channel")
    assert report.sparsities == {"b": 0.8}
    plain, report = ke.convert.strip_sparsity(sparse, compact=True)
    assert (report.converted, report.sparsities) == (("b",), {})
    assert count(plain, SPARSE) == 0
    assert plain(np.ones((3, 5), "float32")).shape == (3, 2)


def test_settings_reach_the_layers():
    schedule = ke.schedules.linear(0.2, 0.6, epochs=4)
    settings = {
        "activation_sparsity": schedule,
        "update_every": 3,
        "threshold": "sample",
    }
    sparse, report = ke.convert.sparsify(
        sequential(), schedule, keep_dense=None, **settings
    )
    assert report.sparsities == {"a": 0.2, "b": 0.2, "c": 0.2}
    for layer in (sparse.get_layer(name) for name in "abc"):
        assert layer.sparsity == schedule
        assert layer.granularity == "element"
        for name, value in settings.items():
            assert getattr(layer, name) == value


def test_a_stored_selection_is_what_is_baked_in():
    model = with_odd_weights(sequential())
    model.compile("sgd", "mse")
    sparse, _ = ke.convert.sparsify(model, 0.5, update_every=100)
    x, y = inputs_of(model), np.zeros((9, 4))
    sparse.fit(x, y, verbose=0)
    layer = sparse.get_layer("c")
    layer.kernel.assign(0.9 * layer.kernel)
    plain, report = ke.convert.strip_sparsity(sparse)
    assert_close(sparse, plain)
    # Negative control: selected anew, half of them would be zero.
    assert report.sparsities["c"] > 0.55


@pytest.mark.parametrize(
    ("shapes", "sparsity", "expected"),
    [
        # 1 - 0.5 eps 2/1 = 0.5: one kernel gets what is asked for.
        ([(10, 10)], 0.5, [0.5]),
        ([(10, 10)] * 3, 0.8, [0.8] * 3),
        # All fits: eps = 0.2 * 20000 / 400 = 10, density 10 * 200 / 10000.
        ([(100, 100), (100, 100)], 0.8, [0.8, 0.8]),
        # 2020 weights stay; eps = 2020 / 220 would keep 183 of 100, so
        # all 100, and 1920 of the others.
        ([(10, 10), (100, 100)], 0.8, [0, 1 - 1920 / 10000]),
        # 1110 weights stay. First eps = 1110 / 224 = 4.96, 20 eps = 99 of
        # 100; then, without the 4 of the first, 1106 / 220 = 5.03: 101.
        (
            [(2, 2), (10, 10), (100, 100)],
            1 - 1110 / 10104,
            [0, 0, 1 - 1006 / 10000],
        ),
        # A convolution: eps (3 + 3 + 16 + 32) = 0.1 * 4608.
        ([(3, 3, 16, 32)], 0.9, [0.9]),
        # 0.1 * 4632 = 463.2 weights stay, eps = 463.2 / 64: 72 of 24,
        # so all 24; 439.2 of 4608.
        ([(3, 3, 16, 32), (4, 6)], 0.9, [1 - 439.2 / 4608, 0]),
        ([(4, 5), (3, 3)], 0.0, [0, 0]),
        ([], 0.5, []),
    ],
)
def test_erdos_renyi_by_hand(shapes, sparsity, expected):
    result = erdos_renyi(shapes, sparsity)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)
    sizes = [np.prod(shape) for shape in shapes]
    zeros = np.dot(result, sizes)
    np.testing.assert_allclose(zeros, sparsity * np.sum(sizes), atol=1e-6)


def test_erk_gives_small_layers_more_and_meets_the_target():
    model = chain(
        layers.Conv2D(8, 3, name="stem"),
        layers.Conv2D(32, 3, name="wide"),
        layers.Conv2D(32, 1, name="point"),
        layers.Flatten(),
        layers.Dense(64, name="dense"),
        layers.Dense(2, name="last"),
        shape=(6, 6, 3),
    )
    sparse, report = ke.convert.sparsify(model, 0.8, distribution="erk")
    kernels = {la.name: la.kernel for la in model.layers if la.weights}
    full = "erk leaves it all of its weights"
    assert report.skipped == (("last", full),)
    densities = {
        name: (1 - report.sparsities[name])
        * np.prod(kernels[name].shape)
        / sum(kernels[name].shape)
        for name in report.converted
    }
    # eps is the same for all.
    assert np.ptp([*densities.values()]) < 1e-6
    assert len(set(report.sparsities.values())) == 4
    plain, _ = ke.convert.strip_sparsity(sparse)
    zeros = sum(
        np.sum(plain.get_layer(name).kernel.numpy() == 0) for name in kernels
    )
    total = sum(np.prod(kernel.shape) for kernel in kernels.values())
    assert abs(zeros / total - 0.8) < 1e-3
    # Activations follow: `None` is that of the weights.
    assert sparse.get_layer("wide").activation_sparsity is None


def test_momentum_starts_uniform_with_variables():
    sparse, report = ke.convert.sparsify(
        sequential(), 0.7, distribution="momentum"
    )
    assert report.sparsities == {"a": 0.7, "b": 0.7, "c": 0.7}
    x = inputs_of(sparse)
    before = sparse(x).numpy()
    for name, sparsity in {"a": 0.9, "b": 0.1}.items():
        layer = sparse.get_layer(name)
        assert layer.sparsity == ke.schedules.constant(0.7)
        for variable in layer.selection.sparsities:
            variable.assign(sparsity)
        zeros = np.mean(ops.convert_to_numpy(layer.sparse_kernel()) == 0)
        assert abs(zeros - sparsity) < 0.02
    assert np.abs(sparse(x).numpy() - before).max() > 0


ALL = ("a", "b", "c")
FIRST = ("a", "the first layer stays dense")
CHOICES = {
    "the paper's": ({}, ("b", "c"), [FIRST]),
    "none dense": ({"keep_dense": None}, ALL, []),
    "an empty list": ({"keep_dense": []}, ALL, []),
    "names": (
        {"keep_dense": ["a", "c"]},
        ("b",),
        [("a", "named in `keep_dense`"), ("c", "named in `keep_dense`")],
    ),
    "erk": ({"distribution": "erk", "sparsity": 0.6}, ALL, []),
    "momentum": ({"distribution": "momentum"}, ALL, []),
    "momentum with a name": (
        {"distribution": "momentum", "keep_dense": ("b",)},
        ("a", "c"),
        [("b", "named in `keep_dense`")],
    ),
    "expression": (
        {"where": "^[ab]$", "keep_dense": None},
        ("a", "b"),
        [("c", "left out by `where`")],
    ),
    "callable": (
        {"where": lambda la: la.use_bias},
        ("c",),
        [FIRST, ("b", "left out by `where`")],
    ),
    "size": (
        {"min_params": 72, "keep_dense": None},
        ("a", "b"),
        [("c", "24 weights, of min_params=72")],
    ),
}


@pytest.mark.parametrize(
    ("arguments", "converted", "skipped"), CHOICES.values(), ids=CHOICES
)
def test_which_layers_are_chosen(arguments, converted, skipped):
    model = sequential()
    sparse, report = ke.convert.sparsify(model, **arguments)
    assert (report.converted, list(report.skipped)) == (converted, skipped)
    for name in ALL:
        is_sparse = type(sparse.get_layer(name)) in SPARSE
        assert is_sparse == (name in converted)


def test_paths_of_nested_models():
    _, report = ke.convert.sparsify(nested(), where="middle/in")
    assert report.skipped == (
        ("middle/in/d", "the first layer stays dense"),
        ("middle/d", "left out by `where`"),
    )
    _, report = ke.convert.sparsify(nested(), keep_dense=["middle/d"])
    assert report.converted == ("middle/in/d",)
    _, report = ke.convert.sparsify(nested(), keep_dense=["d"])
    assert report.converted == ()


def test_the_first_layer_is_that_which_is_called_first():
    second, first = layers.Dense(8, name="second"), layers.Dense(8, name="1")
    x = keras.Input((8,))
    model = keras.Model(x, second(first(x)))
    _, report = ke.convert.sparsify(model)
    assert report.converted == ("second",)


def test_kernels_are_those_of_convolutions():
    sparse, _ = ke.convert.sparsify(image(), granularity="kernel")
    kinds = {
        type(la).__name__: la.granularity
        for la in sparse.layers
        if type(la) in SPARSE
    }
    assert kinds == {"SparseConv2D": "kernel", "SparseDense": "element"}


class OwnDense(layers.Dense):
    pass


class OwnSparse(ke.layers.SparseDense):
    pass


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(6, name="dense")]

    def build(self, shape):
        self.blocks[0].build(shape)
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return self.blocks[0](x) * self.scale


class Matrix(layers.Layer):
    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 2), name="matrix")

    def call(self, x):
        return ops.matmul(x, self.matrix)


class SelfAttention(layers.MultiHeadAttention):
    def call(self, x):
        return super().call(x, x)

    def build(self, shape):
        super().build(shape, shape)

    def compute_output_spec(self, x):
        return super().compute_output_spec(x, x)


SKIPPED = {
    "quantized": (
        lambda: layers.Dense(2, name="d", dtype="int8_from_float32"),
        [("d", "is quantized to int8")],
    ),
    "subclass": (
        lambda: OwnDense(2, name="d"),
        [("d", "OwnDense may have a rule of its own")],
    ),
    "vector": (
        lambda: layers.EinsumDense("abc,c->abc", (None, 6), name="d"),
        [("d", "its kernel is a vector")],
    ),
    "sparse": (
        lambda: ke.layers.SparseDense(2, name="d"),
        [("d", "is sparse already")],
    ),
    "depthwise": (
        lambda: layers.DepthwiseConv1D(2, name="d"),
        [("d", "DepthwiseConv1D has no sparse form")],
    ),
    "custom": (
        lambda: Matrix(name="d"),
        [("d", "Matrix has no sparse form")],
    ),
    "wrapper": (
        lambda: layers.TimeDistributed(layers.Dense(2, name="d"), name="t"),
        [("t/d", "inside a layer of type TimeDistributed")],
    ),
    "block": (
        lambda: Block(name="b"),
        [("b/dense", "inside a layer of type Block")],
    ),
    "recurrent": (
        lambda: layers.LSTM(2, name="r"),
        [("r/lstm_cell", "inside a layer of type LSTM")],
    ),
    "attention": (
        lambda: SelfAttention(2, 2, name="m"),
        [
            (f"m/{part}", "inside a layer of type SelfAttention")
            for part in ("query", "key", "value", "attention_output")
        ],
    ),
    "nothing": (lambda: layers.BatchNormalization(), []),
}


@pytest.mark.parametrize(("make", "skipped"), SKIPPED.values(), ids=SKIPPED)
def test_what_is_skipped_comes_with_its_reason(make, skipped):
    model = chain(make(), shape=(5, 6), batch_size=3)
    copy, report = ke.convert.sparsify(model, 0.5, keep_dense=None)
    assert report.converted == ()
    assert sorted(report.skipped) == sorted(skipped)
    assert report.sparsities == {}
    x = inputs_of(model, 3)
    np.testing.assert_array_equal(copy(x), model(x))
    assert type(copy.layers[0]) is type(model.layers[0])


EINSUM = "abcd,cde->abe"
NO_CHANNELS = {
    "groups": (
        lambda: layers.Conv2D(4, 3, groups=2, name="d"),
        (6, 6, 4),
        "groups=2 have channels of their own",
    ),
    "one channel": (
        lambda: layers.Conv2D(4, 3, name="d"),
        (6, 6, 1),
        "has one input channel",
    ),
    "one feature": (
        lambda: layers.Dense(4, name="d"),
        (1,),
        "has one input channel",
    ),
    "two sums": (
        lambda: layers.EinsumDense(EINSUM, (None, 4), name="d"),
        (5, 2, 3),
        "sums over 2 axes, so it has no channels",
    ),
    "no sum": (
        lambda: layers.EinsumDense("abc,bc->abc", (2, 3), name="d"),
        (2, 3),
        "sums over 0 axes, so it has no channels",
    ),
    "one channel in the sum": (
        lambda: layers.EinsumDense("ab,bc->ac", 3, name="d"),
        (1,),
        "has one input channel",
    ),
}


@pytest.mark.parametrize(
    ("make", "shape", "reason"), NO_CHANNELS.values(), ids=NO_CHANNELS
)
def test_layers_without_channels_to_leave_out(make, shape, reason):
    model = chain(make(), shape=shape)
    arguments = {"sparsity": 0.5, "keep_dense": None}
    _, report = ke.convert.sparsify(model, granularity="channel", **arguments)
    assert report == ke.convert.Report((), (("d", reason),))
    # Negative control: single weights can be.
    _, report = ke.convert.sparsify(model, **arguments)
    assert report.converted == ("d",)


@pytest.mark.parametrize(
    ("make", "skipped"),
    [
        (
            lambda: OwnSparse(2, name="d"),
            ("d", "OwnSparse may have a rule of its own"),
        ),
        (
            lambda: layers.TimeDistributed(
                ke.layers.SparseDense(2, name="d"), name="t"
            ),
            ("t/d", "inside a layer of type TimeDistributed"),
        ),
    ],
)
def test_what_is_not_stripped_comes_with_its_reason(make, skipped):
    model = chain(make(), shape=(5, 6), batch_size=3)
    copy, report = ke.convert.strip_sparsity(model)
    assert report == ke.convert.Report((), (skipped,))
    assert_close(model, copy, 0)


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_layers_are_copied(mode):
    model = sequential()
    name = model.layers[0].name
    model.layers[0].quantize(mode)
    sparse, report = ke.convert.sparsify(model, 0.0, keep_dense=None)
    assert (name, f"is quantized to {mode}") in report.skipped
    assert_close(model, sparse, 1e-6)


class Unnamed(layers.Layer):
    """Keras numbers a weight without a name: a copy has another one."""

    def build(self, input_shape):
        self.first = self.add_weight(shape=(6,), initializer="normal")
        self.second = self.add_weight(shape=(6,), initializer="normal")

    def call(self, x):
        return x * self.first + self.second


def test_weights_without_names_are_copied():
    model = chain(Unnamed(), layers.Dense(3, name="d"), shape=(6,))
    copy, report = ke.convert.sparsify(model, 0.0, keep_dense=None)
    assert report.converted == ("d",)
    assert_close(model, copy, 0)


def test_the_first_layer_may_be_sparse_already():
    first = ke.layers.SparseDense(4, name="first")
    model = chain(first, layers.Dense(3, name="second"))
    _, report = ke.convert.sparsify(model)
    assert report.skipped == (("first", "is sparse already"),)
    assert report.converted == ("second",)


def test_compile_state_is_kept():
    model = sequential()
    model.compile(
        keras.optimizers.SGD(0.25, momentum=0.5),
        "mse",
        metrics=["mae"],
        jit_compile=True,
        steps_per_execution=2,
    )
    x, y = inputs_of(model), np.ones((9, 4))
    model.fit(x, y, verbose=0)
    model.optimizer.learning_rate = 0.125
    sparse, _ = ke.convert.sparsify(model)
    assert sparse.compiled
    assert sparse.optimizer is not model.optimizer
    assert sparse.optimizer.get_config() == model.optimizer.get_config()
    assert int(sparse.optimizer.iterations) == 0
    assert sparse.jit_compile is True
    assert sparse.steps_per_execution == 2
    assert sorted(sparse.fit(x, y, verbose=0).history) == ["loss", "mae"]
    # What is stripped has to load without keras_eff, its optimizer too.
    plain, _ = ke.convert.strip_sparsity(sparse)
    assert not plain.compiled
    sparse, _ = ke.convert.sparsify(sequential())
    assert not sparse.compiled


def test_a_loss_that_keras_cannot_find_is_told():
    def loss_of_my_own(y, prediction):
        return tf.reduce_mean(tf.abs(y - prediction))

    model = sequential()
    model.compile("adam", loss_of_my_own)
    text = re.escape("The copy is not compiled: call `compile` on it")
    with pytest.warns(UserWarning, match=f"{text}.*loss_of_my_own"):
        sparse, report = ke.convert.sparsify(model)
    assert report.converted
    assert not sparse.compiled


@pytest.mark.parametrize(
    ("granularity", "jit_compile"),
    [("element", True), ("kernel", False), ("channel", False)],
)
def test_a_sparse_copy_trains(granularity, jit_compile):
    model = image()
    model.compile("adam", "mse", jit_compile=jit_compile)
    sparse, _ = ke.convert.sparsify(
        model, 0.5, granularity=granularity, keep_dense=None, update_every=2
    )
    assert sparse.layers[1].dtype_policy.name == "mixed_bfloat16"
    assert sparse.jit_compile is jit_compile
    before = sparse.get_weights()
    x = inputs_of(model, 23)
    history = sparse.fit(
        x, np.ones((23, 3)), batch_size=8, epochs=2, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    for layer, old in zip(sparse.weights, before, strict=True):
        is_trained = not np.array_equal(layer.numpy(), old)
        # The age of a selection has come round.
        assert is_trained or "age" in layer.name
    plain, _ = ke.convert.strip_sparsity(sparse)
    assert_close(sparse, plain, 1e-2)


def test_frozen_layers_do_not_train():
    model = with_odd_weights(sequential())
    model.get_layer("b").trainable = False
    model.compile("sgd", "mse")
    sparse, _ = ke.convert.sparsify(model, 0.5, keep_dense=None)
    before = sparse.get_weights()
    sparse.fit(inputs_of(model), np.ones((9, 4)), verbose=0)
    same = [
        weight.path
        for weight, old in zip(sparse.weights, before, strict=True)
        if np.array_equal(weight.numpy(), old)
    ]
    assert same == ["m/b/kernel"]


def test_the_report_prints_and_becomes_json():
    _, report = ke.convert.sparsify(sequential(), 0.75)
    console = rich.console.Console(width=60, record=True, file=None)
    with console.capture() as capture:
        console.print(report)
    lines = capture.get()
    assert "Converted: 2" in lines
    assert "Sparsity" in lines
    assert re.search(r"b +│ converted +│ +0.75", lines)
    assert "skipped: the first layer stays dense" in lines
    assert json.loads(json.dumps(report.to_dict())) == {
        "converted": ["b", "c"],
        "skipped": [{"layer": "a", "reason": FIRST[1]}],
        "sparsities": {"b": 0.75, "c": 0.75},
    }


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    "convert", [ke.convert.sparsify, ke.convert.strip_sparsity]
)
def test_subclassed_models_are_refused_with_the_remedy(convert):
    message = (
        "Argument `model` must be a Functional or Sequential model: the "
        "layers of a subclassed model are not known before it runs. Put the "
        "layers of `keras_eff.layers` in its class yourself, and its weights "
        "in them. Received: model of type Subclassed"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(Subclassed())


SCHEDULE = ke.schedules.constant(0.5)
ERRORS = {
    "sparsity": (
        {"sparsity": 1.5},
        "Argument `sparsity` must be in [0, 1), or a Schedule of such numbers",
    ),
    "activation sparsity": (
        {"activation_sparsity": -0.5},
        "Received: activation_sparsity=-0.5",
    ),
    "granularity": ({"granularity": "row"}, "Received: granularity='row'"),
    "update_every": ({"update_every": 0}, "Received: update_every=0"),
    "threshold": ({"threshold": "top"}, "Received: threshold='top'"),
    "distribution": (
        {"distribution": "even"},
        "Argument `distribution` must be one of ['uniform', 'erk', "
        "'momentum']. Received: distribution='even'",
    ),
    "momentum with channels": (
        {"distribution": "momentum", "granularity": "channel"},
        "Argument `distribution` must not be 'momentum' with "
        "granularity='channel': it moves the sparsities in training, and the "
        "shapes of the products follow from them. Received: "
        "distribution='momentum', granularity='channel'",
    ),
    "erk with a schedule": (
        {"distribution": "erk", "sparsity": SCHEDULE},
        "Received: sparsity=constant(value=0.5), distribution='erk'",
    ),
    "channels with a schedule": (
        {"granularity": "channel", "sparsity": SCHEDULE},
        "With granularity='channel' the argument `sparsity` must be a number",
    ),
    "keep_dense": (
        {"keep_dense": "last"},
        "Argument `keep_dense` must be 'first', None or a list of names. "
        "Received: keep_dense='last'",
    ),
    "keep_dense of numbers": (
        {"keep_dense": [1]},
        "Received: keep_dense=[1]",
    ),
    "keep_dense of no layer": (
        {"keep_dense": ["a", "z"]},
        "Argument `keep_dense` must hold names or paths of layers of the "
        "model. Received: keep_dense=['a', 'z'], without a layer: ['z']",
    ),
    "where": (
        {"where": 3},
        "Argument `where` must be a regular expression for the path of a "
        "layer, a function `layer -> bool`, or None. Received: where=3",
    ),
    "where that is no expression": (
        {"where": "("},
        "Received: where='(', missing ), unterminated subpattern",
    ),
    "min_params": (
        {"min_params": -1},
        "Argument `min_params` must be an integer, at least 0: it is a "
        "number of weights. Received: min_params=-1",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments_are_named_before_the_work(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ke.convert.sparsify(sequential(), **arguments)


@pytest.mark.parametrize("rule", [{"min_params": 1}, {"distribution": "erk"}])
def test_rules_about_shapes_need_a_built_model(rule):
    model = keras.Sequential([layers.Dense(4), layers.Dense(2, name="b")])
    message = "ask for the shapes of its kernels. Received: layer "
    with pytest.raises(ValueError, match=message):
        ke.convert.sparsify(model, **rule)


def test_a_gather_needs_a_graph():
    sparse = ke.layers.SparseDense(2, 0.5, granularity="channel")
    sparse.build((None, 8))
    model = keras.Sequential([layers.Flatten(), sparse], name="m")
    with pytest.raises(ValueError, match="must be built: a Sequential model"):
        ke.convert.strip_sparsity(model, compact=True)
    assert ke.convert.strip_sparsity(model)[1].converted


def graph_of(folder):
    """The operations of a SavedModel, and those of its functions."""
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    graph = signature.graph.as_graph_def()
    nodes = [*graph.node]
    for function in graph.library.function:
        nodes += function.node_def
    return {node.op for node in nodes}


def sorts(operations):
    return [op for op in operations if re.search("topk|sort", op.lower())]


def trained(granularity):
    model = chain(
        layers.Conv2D(4, 3, activation="relu"),
        layers.Conv2D(6, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(8),
        layers.Dense(3),
        shape=(8, 8, 3),
    )
    model.compile("adam", "mse")
    sparse, _ = ke.convert.sparsify(model, 0.5, granularity=granularity)
    sparse.fit(inputs_of(model), np.ones((9, 3)), verbose=0)
    return sparse


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder a model, with `.keras`, SavedModel, LiteRT and its outputs."""
    folders = {}
    for name, granularity in {
        "element": "element",
        "channel": "channel",
        "compact": "channel",
    }.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        sparse = trained(granularity)
        model, _ = ke.convert.strip_sparsity(sparse, name == "compact")
        x = inputs_of(model)
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", sparse(x, training=False))
        model.save(folder / "model.keras")
        model.export(folder / "saved", verbose=False)
        model.export(folder / "m.tflite", format="litert", verbose=False)
    return folders


LOAD = """
import pathlib, sys, warnings
import keras
import numpy as np
import tensorflow as tf

for folder in map(pathlib.Path, sys.argv[1:]):
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    model = keras.saving.load_model(folder / "model.keras")
    saved = tf.saved_model.load(folder / "saved")
    lite = tf.lite.Interpreter(str(folder / "m.tflite"))
    run = lite.get_signature_runner()
    (name,) = run.get_input_details()
    for result in (
        model(x),
        saved.serve(x),
        np.concatenate([*run(**{name: x}).values()]),
    ):
        np.testing.assert_allclose(result, y, rtol=0, atol=1e-5)
assert "keras_eff" not in sys.modules
print("done")
"""


def test_files_load_in_a_process_without_keras_eff(exported):
    run = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, exported.values())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "done", run.stderr


def test_what_is_exported_does_not_rank(exported, tmp_path):
    for folder in exported.values():
        assert sorts(graph_of(folder / "saved")) == []
        listing = io.StringIO()
        with contextlib.redirect_stdout(listing):
            tf.lite.experimental.Analyzer.analyze(str(folder / "m.tflite"))
        operations = re.findall(r"Op#\d+ (\w+)", listing.getvalue())
        assert "CONV_2D" in operations
        assert sorts(operations) == []
        model = keras.saving.load_model(folder / "model.keras")
        graph = (
            tf.function(model)
            .get_concrete_function(tf.TensorSpec((None, 8, 8, 3)))
            .graph
        )
        assert sorts(node.type for node in graph.get_operations()) == []
    # Negative control: it does, as long as the layers are ours.
    trained("channel").export(tmp_path / "saved", verbose=False)
    assert sorts(graph_of(tmp_path / "saved")) == ["TopKV2"]


def test_a_stripped_model_shares_no_activation():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            ke.layers.SparseDense(5, sparsity=0.5, activation=layers.PReLU()),
            layers.Dense(1),
        ]
    )
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    model(x)
    model.layers[0].activation.set_weights([np.linspace(0.1, 0.5, 5)])
    stripped, _ = ke.convert.strip_sparsity(model)
    before = np.array(model(x))
    np.testing.assert_allclose(stripped(x), before, rtol=0, atol=1e-6)
    stripped.compile(keras.optimizers.SGD(0.5), "mse")
    stripped.fit(x, np.ones((8, 1)), verbose=0)
    np.testing.assert_array_equal(model(x), before)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # tf2onnx on NumPy 2
def test_onnx_does_not_rank(exported, tmp_path):
    for folder in exported.values():
        model = keras.saving.load_model(folder / "model.keras")
        x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
        path = str(tmp_path / f"{folder.name}.onnx")
        model(x)  # Keras exports to ONNX what was called
        model.export(path, format="onnx", verbose=False)
        graph = onnx.load(path).graph
        assert sorts(node.op_type for node in graph.node) == []
        session = onnxruntime.InferenceSession(path)
        (result,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(result, y, rtol=0, atol=1e-5)
