"""The k-th largest magnitude, from nothing and from a guess."""

import re

import ml_dtypes
import numpy as np
import pytest
import references
import tensorflow as tf

from keras_eff.scores.kth_largest import kth_largest_magnitude
from keras_eff.scores.kth_largest import num_kept

DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float64": np.float64,
}
dtypes = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def awkward(dtype):
    """Ties, signed zeros, denormals, infinities, and a spread of sizes."""
    generator = np.random.default_rng(0)
    tiny = np.float64(ml_dtypes.finfo(dtype).smallest_subnormal)
    return np.concatenate(
        [
            generator.normal(size=41),
            [2.5, -2.5, 2.5, 0.0, -0.0, np.inf, -np.inf, tiny, -tiny],
            10.0 ** generator.uniform(-4, 4, size=13),
        ]
    ).astype(dtype)


@dtypes
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_kth_largest_magnitude_is_numpys_for_every_k(dtype, jit_compile):
    x = awkward(dtype)
    find = kth_largest_magnitude
    if jit_compile is not None:
        signature = [
            tf.TensorSpec([None], tf.as_dtype(x.dtype)),
            tf.TensorSpec([], tf.int32),
        ]
        find = tf.function(
            find, jit_compile=jit_compile, input_signature=signature
        )
    for k in range(1, len(x) + 1):
        expected = references.kth_largest_magnitude(x, k)
        assert float(find(tf.constant(x), k)) == float(expected), k


def test_kth_largest_magnitude_of_any_shape():
    x = np.arange(-12, 12, dtype="float32").reshape(2, 3, 4)
    assert float(kth_largest_magnitude(x, 2)) == 11
    assert float(kth_largest_magnitude(np.float32(-3), 1)) == 3


@pytest.mark.parametrize(
    ("x", "k", "error", "message"),
    [
        (np.float32([1, 2]), 0, ValueError, "Received: k=0, x of shape (2,)"),
        (np.float32([1, 2]), 3, ValueError, "Received: k=3, x of shape (2,)"),
        (np.int32([1, 2]), 1, TypeError, "Received: dtype=int32"),
    ],
)
def test_kth_largest_magnitude_names_bad_input(x, k, error, message):
    with pytest.raises(error, match=re.escape(message)):
        kth_largest_magnitude(x, k)


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [(10, 0.7, 3), (10, 0.0, 10), (10, 0.99, 1), (7, 0.5, 4), (1, 0.9, 1)],
)
def test_num_kept_is_the_ceiling_without_float_noise(size, sparsity, kept):
    assert num_kept(size, sparsity) == kept
    dynamic = num_kept(tf.constant(size), sparsity)
    assert int(dynamic) == kept


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.7, 0.8, 0.9])
def test_static_and_dynamic_sizes_keep_the_same(sparsity):
    for size in (*range(1, 400), 2**24 + 1, 2**30):
        dynamic = int(num_kept(tf.constant(size), sparsity))
        assert dynamic == num_kept(size, sparsity), size


def tensors(dtype):
    generator = np.random.default_rng(2)
    return {
        "random": generator.normal(size=1000).astype(dtype),
        "tied": generator.integers(-3, 4, size=1000).astype(dtype),
        "all zero": np.zeros(100, dtype),
        "all equal": np.full(100, -0.3, dtype),
        "one": np.array([-2.5], dtype),
        "two": np.array([0.0, 1.5], dtype),
        "awkward": awkward(dtype),
    }


def guesses(exact, dtype):
    largest = float(ml_dtypes.finfo(dtype).max)
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    others = [0.0, -1.0, 1.0, np.inf, -np.inf, largest, tiny]
    return [exact, 0.98 * exact, 1.02 * exact, 2 * exact, *others]


@dtypes
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_a_guess_changes_nothing(dtype, jit_compile):
    find = kth_largest_magnitude
    if jit_compile is not None:
        kind = tf.as_dtype(np.zeros(0, dtype).dtype)
        signature = [
            tf.TensorSpec([None], kind),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], kind),
        ]
        find = tf.function(
            find, jit_compile=jit_compile, input_signature=signature
        )
    few = ("tied", "two") if jit_compile is None else tensors(dtype)
    for name in few:
        x = tensors(dtype)[name]
        for k in sorted({1, 2, len(x) // 5, len(x) // 2, len(x)} - {0}):
            if k > len(x):
                continue
            exact = float(references.kth_largest_magnitude(x, k))
            for guess in guesses(exact, dtype):
                with np.errstate(over="ignore"):
                    guess = np.float64(guess).astype(dtype)
                found = find(tf.constant(x), k, tf.constant(guess))
                assert float(found) == exact, (name, k, guess)


def test_a_guess_may_be_of_another_type():
    x = np.random.default_rng(0).normal(size=50).astype("float16")
    exact = references.kth_largest_magnitude(x, 7)
    for guess in (1, 0.5, np.float32(1e9), np.float64(1e-300)):
        found = kth_largest_magnitude(x, 7, guess)
        assert found.dtype == "float16"
        assert float(found) == exact


@pytest.mark.parametrize("guess", [None, 2.0])
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_nan_is_larger_than_infinity(jit_compile, guess):
    find = kth_largest_magnitude
    if jit_compile is not None:
        find = tf.function(find, jit_compile=jit_compile)
    x = tf.constant([1.0, np.nan, 3.0, 0.5, np.inf])
    for k, expected in ((2, np.inf), (3, 3.0), (5, 0.5)):
        assert float(find(x, k, guess)) == expected
    assert np.isnan(float(find(x, 1, guess)))


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.7, 0.9, 0.99])
def test_a_sparsity_in_a_tensor_keeps_the_same(sparsity):
    """It is a float32, so right to one in a million."""
    for size in (1, 7, 10, 999, 100_000):
        found = int(num_kept(size, tf.constant(sparsity)))
        assert found == num_kept(size, sparsity), size


@pytest.mark.parametrize("sparsity", [1 - 1e-9, 1.0])
def test_a_sparsity_in_a_tensor_keeps_one(sparsity):
    assert int(num_kept(100, tf.constant(sparsity))) == 1


@pytest.mark.parametrize("guess", [None, 0.5, np.nan])
def test_of_nothing_the_threshold_is_zero(guess):
    """A batch may be empty where its size is not known while tracing."""

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def second(x):
        near = None if guess is None else tf.constant(guess, tf.float32)
        return kth_largest_magnitude(x, 2, near)

    assert float(second(np.zeros((0, 3), "float32"))) == 0
    assert float(second(np.float32([[1, -2, 3]]))) == 2
