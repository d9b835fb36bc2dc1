import re

import numpy as np
import pytest
import references
import tensorflow as tf

from keras_eff import scores


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


def test_magnitude_is_the_absolute_value():
    assert np.array(scores.magnitude([-2.0, 1.0])).tolist() == [2, 1]


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


def test_random_scores_follow_their_seed():
    first = scores.random(1_000, seed=0)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, scores.random(1_000, seed=0))
    assert (first != scores.random(1_000, seed=1)).any()
    assert 0 <= first.min() < 0.01 < 0.99 < first.max() < 1
    assert (scores.random(9) != scores.random(9)).any()
    assert len(scores.random(0)) == 0


def test_a_mixture_is_the_weighted_mean_of_ranks():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=20), generator.normal(size=20) ** 3
    ranks = [(x[:, None] > x[None]).sum(1) / 19 for x in (a, b)]
    found = scores.mix({"a": a, "b": b}, {"a": 1, "b": 3})
    assert found.dtype == np.float32
    expected = (ranks[0] + 3 * ranks[1]) / 4
    np.testing.assert_allclose(found, expected, atol=1e-6)
    even = scores.mix({"a": a, "b": b})
    np.testing.assert_allclose(even, (ranks[0] + ranks[1]) / 2, atol=1e-6)
    alone = scores.mix({"a": a, "b": b}, {"b": 0})
    np.testing.assert_allclose(alone, ranks[0], atol=1e-6)


def test_equal_scores_share_their_ranks():
    shared = scores.mix({"a": [2, 1, 2, 3]}).tolist()
    assert shared == pytest.approx([0.5, 0, 0.5, 1])
    assert scores.mix({"a": [7, 7, 7]}).tolist() == [0.5] * 3
    assert scores.mix({"a": [7]}).tolist() == [0.5]
    assert scores.mix({"a": []}).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": [1], "b": [1, 2]},), "shapes {'a': (1,), 'b': (2,)}"),
        (({"a": [[1]]},), "shapes {'a': (1, 1)}"),
        (({},), "Received: shapes {}"),
        (({"a": [1, np.nan]},), "Received: 1 NaN in 'a'"),
        (({"a": [1]}, {"b": 1}), "weights={'a': 1.0, 'b': 1}"),
        (({"a": [1]}, {"a": -1}), "weights={'a': -1}"),
        (({"a": [1]}, {"a": 0}), "not all of them 0"),
        (({"a": [1]}, {"a": np.inf}), "weights={'a': inf}"),
        (({"a": [1]}, {"a": np.nan}), "weights={'a': nan}"),
    ],
)
def test_a_mixture_names_bad_input(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        scores.mix(*arguments)
