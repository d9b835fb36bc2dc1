import json
import re

import keras
import numpy as np
import pytest
import rich.console
import tensorflow as tf

import keras_eff as ke

BN = keras.layers.BatchNormalization
GBN = ke.layers.GhostBatchNormalization


def sequential():
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4), BN(name="bn")], name="m"
    )


def functional():
    """Two inputs by name, a layer called twice, an operation, two outputs."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    shared = BN(name="shared", scale=False, momentum=0.7, epsilon=1e-2)
    total = shared(a) + shared(b)
    twice = keras.layers.Dense(6, name="twice")(total)
    outputs = {"y": BN(name="last")(twice), "z": total}
    return keras.Model({"a": a, "b": b}, outputs, name="m")


def nested():
    """A Functional in a Sequential in a Functional, the inner one shared."""
    x = keras.Input((6,))
    inner = keras.Model(x, BN(name="bn")(keras.layers.Dense(6)(x)), name="in")
    middle = keras.Sequential(
        [keras.Input((6,)), inner, BN(name="bn")], name="middle"
    )
    x = keras.Input((6,))
    return keras.Model(x, inner(middle(x)), name="m")


def image():
    return keras.Sequential(
        [
            keras.Input((6, 5, 3)),
            keras.layers.Conv2D(4, 3, use_bias=False),
            BN(name="channels_last", dtype="mixed_float16"),
            keras.layers.Permute((3, 1, 2)),
            BN(name="channels_first", axis=1, center=False),
            keras.layers.Dropout(0.5, seed=1),
        ],
        name="m",
    )


def frozen():
    model = nested()
    model.trainable = False
    model.get_layer("middle").get_layer("bn").trainable = True
    return model


def unbuilt():
    return keras.Sequential([keras.layers.Dense(4), BN(name="bn")], name="m")


MODELS = {
    "sequential": (sequential, ("bn",)),
    "functional": (functional, ("shared", "last")),
    "nested": (nested, ("middle/in/bn", "middle/bn")),
    "image": (image, ("channels_last", "channels_first")),
    "frozen": (frozen, ("middle/in/bn", "middle/bn")),
}
models = pytest.mark.parametrize(("make", "paths"), MODELS.values(), ids=MODELS)


def with_odd_weights(model):
    generator = np.random.default_rng(0)
    model.set_weights(
        [generator.uniform(0.5, 2, w.shape) for w in model.get_weights()]
    )
    return model


def inputs_of(model, batch=9):
    generator = np.random.default_rng(1)
    return keras.tree.map_structure(
        lambda x: generator.normal(size=(batch, *x.shape[1:])).astype(
            "float32"
        ),
        model.inputs[0] if len(model.inputs) == 1 else model.input,
    )


def all_layers(model):
    """The layers of a model and of those in it."""
    for layer in model.layers:
        yield layer
        yield from all_layers(layer) if hasattr(layer, "layers") else ()


def layers_of_type(model, kind):
    return {id(la): la for la in all_layers(model) if type(la) is kind}.values()


def assert_same(a, b):
    """Same predictions, weights, names, flags and dtypes, bit for bit."""
    x = inputs_of(a)
    outputs = keras.tree.flatten(a(x)), keras.tree.flatten(b(x))
    for one, other in zip(*outputs, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert (one.path, one.trainable) == (other.path, other.trainable)
        assert one is not other
    assert (a.name, a.trainable, type(a)) == (b.name, b.trainable, type(b))
    for one, other in zip(all_layers(a), all_layers(b), strict=True):
        assert one.name == other.name
        assert one.trainable == other.trainable
        assert one.dtype_policy == other.dtype_policy
    assert a.input_shape == b.input_shape


@models
@pytest.mark.parametrize("update", ["sequential", "mean", "scaled"])
def test_there_and_back_is_the_same_model(make, paths, update):
    model = with_odd_weights(make())
    ghost, report = ke.convert.ghost_batch_normalization(model, 3, update)
    assert (report.converted, report.skipped) == (paths, ())
    assert_same(model, ghost)
    found = layers_of_type(ghost, GBN)
    assert len(found) == len(paths)
    assert {(la.ghost_batch_size, la.update) for la in found} == {(3, update)}
    assert not layers_of_type(ghost, BN)
    plain, report = ke.convert.plain_batch_normalization(ghost)
    assert (report.converted, report.skipped) == (paths, ())
    assert_same(model, plain)
    assert not layers_of_type(plain, GBN)
    assert plain.get_config() == model.get_config()


@models
def test_the_given_model_is_left_as_it_is(make, paths):
    model = with_odd_weights(make())
    weights, config = model.get_weights(), model.get_config()
    ghost, _ = ke.convert.ghost_batch_normalization(model, 3)
    ghost.set_weights([w * 0 for w in weights])
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert len(layers_of_type(model, BN)) == len(paths)


def test_the_ghosts_work_in_training():
    """Negative control: the same in evaluation, not in training."""
    model = with_odd_weights(sequential())
    ghost, _ = ke.convert.ghost_batch_normalization(model, 3)
    x = inputs_of(model)
    difference = model(x, training=True) - ghost(x, training=True)
    assert np.abs(difference).max() > 0.1


def test_frozen_layers_train_like_before():
    model = with_odd_weights(nested())
    model.trainable = False
    ghost, _ = ke.convert.ghost_batch_normalization(model, 3)
    x = inputs_of(model)
    np.testing.assert_array_equal(
        model(x, training=True), ghost(x, training=True)
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_converted_model_trains_and_is_saved(jit_compile, tmp_path):
    model = functional()
    model.compile("adam", "mse")
    x = inputs_of(model, 23)
    y = {"y": x["a"], "z": x["b"]}
    model.fit(x, y, verbose=0)
    ghost, _ = ke.convert.ghost_batch_normalization(model, 4)
    assert not ghost.compiled
    ghost.compile("adam", "mse", jit_compile=jit_compile)
    before = ghost.get_weights()
    losses = ghost.fit(x, y, batch_size=8, epochs=3, verbose=0)
    assert np.isfinite(losses.history["loss"]).all()
    for a, b in zip(before, ghost.get_weights(), strict=True):
        assert not np.array_equal(a, b)
    plain, _ = ke.convert.plain_batch_normalization(ghost)
    assert_same(ghost, plain)
    ghost.save(tmp_path / "ghost.keras")
    reloaded = keras.saving.load_model(tmp_path / "ghost.keras")
    np.testing.assert_array_equal(reloaded(x)["y"], ghost(x)["y"])


@pytest.mark.parametrize("make", [sequential, functional])
def test_a_loss_that_keras_cannot_find_is_no_obstacle(make):
    def loss_of_my_own(y, prediction):
        return tf.reduce_mean(tf.abs(y - prediction))

    model = make()
    model.compile("adam", loss_of_my_own)
    ghost, report = ke.convert.ghost_batch_normalization(model)
    assert report.converted
    assert not ghost.compiled


def test_a_model_that_is_not_built_is_converted():
    ghost, report = ke.convert.ghost_batch_normalization(unbuilt(), 3)
    assert report.converted == ("bn",)
    assert ghost(np.ones((4, 2), "float32")).shape == (4, 4)


class Custom(keras.Model):
    """A Functional model with a step of its own."""

    def train_step(self, data):
        return {"mine": tf.constant(1.0)}


def test_a_subclass_with_a_step_of_its_own_keeps_it():
    x = keras.Input((6,))
    model = Custom(x, BN(name="bn")(x))
    ghost, report = ke.convert.ghost_batch_normalization(model)
    assert report.converted == ("bn",)
    assert_same(model, ghost)
    ghost.compile("sgd")
    assert ghost.fit(np.ones((4, 6)), verbose=0).history == {"mine": [1.0]}


class OwnBatchNormalization(BN):
    pass


class OwnGhosts(GBN):
    pass


class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norms = [BN(name="norm")]

    def call(self, x):
        return self.norms[0](x)


SKIPPED = {
    "renorm": (
        lambda: BN(name="bn", renorm=True),
        [("bn", "renorm=True widens the statistics")],
    ),
    "synchronized": (
        lambda: BN(name="bn", synchronized=True),
        [("bn", "synchronized=True widens the statistics")],
    ),
    "batch axis": (
        lambda: BN(name="bn", axis=-3),
        [("bn", "axis=-3 is the batch axis")],
    ),
    "subclass": (
        lambda: OwnBatchNormalization(name="bn"),
        [("bn", "OwnBatchNormalization may have a rule of its own")],
    ),
    "ghosts": (
        lambda: GBN(name="bn"),
        [("bn", "has ghosts already")],
    ),
    "wrapper": (
        lambda: keras.layers.TimeDistributed(BN(name="bn"), name="t"),
        [("t/bn", "inside a layer of type TimeDistributed")],
    ),
    "block": (
        lambda: Block(name="b"),
        [("b/norm", "inside a layer of type Block")],
    ),
    "nothing": (lambda: keras.layers.Dense(6), []),
}


@pytest.mark.parametrize(("make", "skipped"), SKIPPED.values(), ids=SKIPPED)
def test_what_is_skipped_comes_with_its_reason(make, skipped):
    model = keras.Sequential([keras.Input((5, 6), batch_size=3), make()])
    x = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    with_odd_weights(model)
    copy, report = ke.convert.ghost_batch_normalization(model)
    assert (report.converted, report.skipped) == ((), tuple(skipped))
    np.testing.assert_array_equal(copy(x), model(x))
    assert type(copy.layers[0]) is type(model.layers[0])


def test_the_way_back_skips_subclasses():
    model = keras.Sequential([keras.Input((6,)), OwnGhosts(name="bn")])
    _, report = ke.convert.plain_batch_normalization(model)
    reason = "OwnGhosts may have a rule of its own"
    assert report == ke.convert.Report((), (("bn", reason),))


@pytest.mark.parametrize(
    ("report", "title"),
    [
        (ke.convert.Report((), ()), "Converted: none"),
        (ke.convert.Report(("a",), (("[b]", "why"),)), "Converted: 1"),
        (ke.convert.Report(("a", "b"), ()), "Converted: 2"),
    ],
)
def test_a_report_prints_and_becomes_json(report, title):
    console = rich.console.Console(width=60, record=True, file=None)
    with console.capture() as capture:
        console.print(report)
    lines = capture.get()
    assert title in lines
    for path, reason in report.skipped:
        assert path in lines
        assert f"skipped: {reason}" in lines
    assert json.loads(json.dumps(report.to_dict())) == {
        "converted": list(report.converted),
        "skipped": [
            {"layer": path, "reason": reason} for path, reason in report.skipped
        ],
    }


class Subclassed(keras.Model):
    def call(self, x):
        return x


class OwnConstructor(keras.Model):
    def __init__(self, width):
        x = keras.Input((width,))
        super().__init__(x, BN()(x))


class NoConfig(keras.layers.Layer):
    def __init__(self, width):
        super().__init__(name="bare")

    def call(self, x):
        return x


def without_config():
    return keras.Sequential([keras.Input((6,)), NoConfig(2)])


@pytest.mark.parametrize(
    "convert",
    [
        ke.convert.ghost_batch_normalization,
        ke.convert.plain_batch_normalization,
    ],
)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Subclassed, "Received: model of type Subclassed"),
        (lambda: "resnet", "Received: model of type str"),
        (lambda: OwnConstructor(3), "Received: model of type OwnConstructor"),
        (without_config, "Received: layer 'bare'"),
    ],
)
def test_models_that_cannot_be_copied_are_refused(convert, make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(make())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ghost_batch_size": 0}, "Received: ghost_batch_size=0"),
        ({"update": "median"}, "Received: update='median'"),
    ],
)
def test_bad_arguments_are_named_before_the_work(arguments, message):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=re.escape(message)):
        ke.convert.ghost_batch_normalization(model, **arguments)
