import itertools
import re

import numpy as np
import pytest

from keras_eff import scores

GENERATOR = np.random.default_rng(0)


def forgotten(is_correct):
    """One example, read epoch by epoch."""
    if not any(is_correct):
        return len(is_correct)
    pairs = itertools.pairwise(is_correct)
    return sum(before and not now for before, now in pairs)


def test_forgetting_counts_each_loss_of_what_was_right():
    is_correct = GENERATOR.random((12, 40)) < 0.3
    found = scores.forgetting(is_correct)
    assert found.dtype == np.float32
    assert found.tolist() == [forgotten(x) for x in is_correct.T.tolist()]


def test_what_is_never_learned_scores_highest():
    epochs = [[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]]
    assert scores.forgetting(epochs).tolist() == [0, 2, 4]


def test_one_epoch_forgets_nothing():
    assert scores.forgetting([[True, False]]).tolist() == [0, 1]


def test_aum_is_high_for_a_label_that_loses():
    margins = GENERATOR.normal(size=(7, 20))
    found = scores.aum(margins)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, -margins.mean(0), atol=1e-6)
    right, wrong = scores.aum([[0.2, -0.1], [0.9, -0.8]])
    assert wrong > 0 > right


@pytest.mark.parametrize(
    ("epochs", "window"), [(12, 4), (5, 5), (3, 10), (2, 2)]
)
def test_dynamic_uncertainty_is_the_mean_deviation_of_windows(epochs, window):
    p = GENERATOR.random((epochs, 15))
    size = min(epochs, window)
    starts = range(epochs - size + 1)
    expected = [p[i : i + size].std(axis=0, ddof=1) for i in starts]
    found = scores.dynamic_uncertainty(p, window)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-6)


def test_what_moves_is_more_uncertain_than_what_is_learned_or_never_is():
    p = np.full((10, 3), 0.5)
    p[:, 0], p[:, 2] = 0.99, 0.01
    p[::2, 1] = 0.9
    learned, moving, never = scores.dynamic_uncertainty(p, window=5)
    assert moving > 0.1 > max(learned, never)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: scores.forgetting([1, 0]),
            "Argument `is_correct` must have shape (epochs, n), at least 1 "
            "epochs. Received: shape (2,)",
        ),
        (lambda: scores.forgetting(np.zeros((0, 3))), "shape (0, 3)"),
        (lambda: scores.forgetting([[np.nan, 1.0]]), "Received: 1 NaN"),
        (lambda: scores.aum(np.zeros(3)), "Argument `margins` must"),
        (
            lambda: scores.dynamic_uncertainty(np.zeros((1, 3))),
            "at least 2 epochs. Received: shape (1, 3)",
        ),
        (
            lambda: scores.dynamic_uncertainty(np.zeros((4, 3)), 1),
            "Received: window=1",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
