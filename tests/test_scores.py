import re

import ml_dtypes
import numpy as np
import pytest
import references
import tensorflow as tf

from keras_eff import scores

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
    find = scores.kth_largest_magnitude
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
    assert float(scores.kth_largest_magnitude(x, 2)) == 11
    assert float(scores.kth_largest_magnitude(np.float32(-3), 1)) == 3


@pytest.mark.parametrize(
    ("x", "k", "error", "message"),
    [
        (np.float32([1, 2]), 0, ValueError, "Received: k=0, x of shape (2,)"),
        (np.float32([1, 2]), 3, ValueError, "Received: k=3, x of shape (2,)"),
        (np.float32([1, np.nan]), 1, ValueError, "x of shape (2,) with NaN"),
        (np.int32([1, 2]), 1, TypeError, "Received: dtype=int32"),
    ],
)
def test_kth_largest_magnitude_names_bad_input(x, k, error, message):
    with pytest.raises(error, match=re.escape(message)):
        scores.kth_largest_magnitude(x, k)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_nan_stays_visible_in_a_traced_step(jit_compile):
    keep = tf.function(
        lambda x: scores.keep_largest(x, 0.5), jit_compile=jit_compile
    )
    kept = keep(tf.constant([1.0, np.nan, 3.0, 0.5])).numpy()
    assert np.isnan(kept[1])
    assert kept[[0, 2, 3]].tolist() == [0, 3, 0]


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.7, 0.9, 0.99])
def test_keep_largest_follows_the_reference(sparsity):
    x = np.random.default_rng(1).normal(size=(7, 5)).astype("float32")
    kept = np.array(scores.keep_largest(x, sparsity))
    np.testing.assert_array_equal(kept, references.keep_largest(x, sparsity))
    assert (kept != 0).sum() == scores.num_kept(35, sparsity)


def test_ties_keep_more():
    kept = np.array(scores.keep_largest(np.float32([3, -1, 2, -2]), 0.5))
    assert kept.tolist() == [3, 0, 2, -2]


def test_all_zero_stays_zero():
    kept = np.array(scores.keep_largest(np.zeros(4, "float32"), 0.75))
    assert kept.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [(10, 0.7, 3), (10, 0.0, 10), (10, 0.99, 1), (7, 0.5, 4), (1, 0.9, 1)],
)
def test_num_kept_is_the_ceiling_without_float_noise(size, sparsity, kept):
    assert scores.num_kept(size, sparsity) == kept
    dynamic = scores.num_kept(tf.constant(size), sparsity)
    assert int(dynamic) == kept


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.7, 0.8, 0.9])
def test_static_and_dynamic_sizes_keep_the_same(sparsity):
    for size in (*range(1, 400), 2**24 + 1, 2**30):
        dynamic = int(scores.num_kept(tf.constant(size), sparsity))
        assert dynamic == scores.num_kept(size, sparsity), size


def test_magnitude_is_the_absolute_value():
    assert np.array(scores.magnitude([-2.0, 1.0])).tolist() == [2, 1]


def test_el2n_is_the_length_of_the_error():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=9)
    labels = generator.integers(0, 4, size=9)
    expected = references.el2n(probabilities, labels)
    for given in (labels, labels[:, None], np.eye(4)[labels]):
        found = np.array(scores.el2n(probabilities, given))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_el2n_of_one_output_is_that_of_two_classes():
    p = np.array([[0.2], [0.9]])
    found = np.array(scores.el2n(p, np.array([1, 1])))
    two = np.concatenate([1 - p, p], axis=1)
    np.testing.assert_allclose(found, references.el2n(two, [1, 1]), rtol=1e-6)


def test_el2n_is_high_for_a_wrong_label():
    p = np.array([[0.98, 0.01, 0.01]] * 2)
    right, wrong = np.array(scores.el2n(p, np.array([0, 2])))
    assert right < 0.1 < 1.3 < wrong


@pytest.mark.parametrize("labels", [[0, 3], [-1, 1]])
def test_el2n_names_labels_that_are_no_class(labels):
    message = f"Received: labels from {min(labels)} to {max(labels)}"
    with pytest.raises(ValueError, match=message):
        scores.el2n(np.full((2, 3), 1 / 3), np.array(labels))


def test_top_k_breaks_ties_by_position():
    values = [0.5, 0.9, 0.5, 0.5, np.inf, -np.inf]
    assert scores.top_k(values, 0).tolist() == []
    assert scores.top_k(values, 3).tolist() == [0, 1, 4]
    assert scores.top_k(values, 4).tolist() == [0, 1, 2, 4]
    assert scores.top_k(values, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_top_k_of_unsigned_integers_is_not_reversed():
    assert scores.top_k(np.uint8([0, 200, 100]), 1).tolist() == [1]


@pytest.mark.parametrize(
    ("values", "k", "message"),
    [
        ([[1.0]], 1, "Received: scores of shape (1, 1)"),
        ([1.0], 2, "Received: k=2, 1 scores"),
        ([1.0], -1, "Received: k=-1, 1 scores"),
        ([1.0, np.nan], 1, "Received: 1 NaN in 2 scores"),
    ],
)
def test_top_k_names_bad_input(values, k, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        scores.top_k(values, k)
