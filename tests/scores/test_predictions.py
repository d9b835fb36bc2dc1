import re

import numpy as np
import pytest
import references
import tensorflow as tf

from keras_eff import scores


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


P = np.random.default_rng(5).dirichlet(np.ones(4), size=9)
LABELS = np.arange(9) % 4


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_scores_of_a_prediction_follow_the_formula(jit_compile):
    def run(p):
        return scores.loss(p, LABELS), scores.entropy(p), scores.margin(p)

    if jit_compile is not None:
        run = tf.function(run, jit_compile=jit_compile)
    loss, entropy, margin = (np.array(s) for s in run(tf.constant(P)))
    assert {s.dtype.name for s in (loss, entropy, margin)} == {"float32"}
    expected = -np.log(P[np.arange(9), LABELS])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(entropy, -(P * np.log(P)).sum(1), rtol=1e-5)
    ordered = np.sort(P, axis=1)
    expected = 1 - (ordered[:, -1] - ordered[:, -2])
    np.testing.assert_allclose(margin, expected, rtol=1e-5)


def test_the_ends_of_each_score_are_where_they_belong():
    sure, torn = [0.98, 0.01, 0.01], [0.5, 0.49, 0.01]
    p = np.array([sure, sure, torn])
    labels = np.array([0, 1, 0])  # right, wrong, torn
    assert np.array(scores.loss(p, labels)).argmax() == 1
    assert np.array(scores.loss(p, labels)).argmin() == 0
    assert np.array(scores.entropy(p)).argmax() == 2
    assert np.array(scores.margin(p)).argmax() == 2


def test_certainty_has_finite_scores():
    p = np.array([[1.0, 0.0]])
    assert np.array(scores.loss(p, np.array([1]))) == pytest.approx(16.1, 0.01)
    assert np.array(scores.entropy(p)).tolist() == [0]
    assert np.array(scores.margin(p)).tolist() == [0]


def test_loss_takes_labels_in_every_form():
    expected = np.array(scores.loss(P, LABELS))
    for labels in (LABELS[:, None], np.eye(4)[LABELS]):
        np.testing.assert_allclose(scores.loss(P, labels), expected, rtol=1e-6)
    soft = np.full((9, 4), 0.25)
    expected = -np.log(P).mean(1)
    np.testing.assert_allclose(scores.loss(P, soft), expected, rtol=1e-5)


@pytest.mark.parametrize("rule", [scores.entropy, scores.margin])
def test_one_output_is_that_of_two_classes(rule):
    p = np.array([[0.2], [0.9]])
    two = np.concatenate([1 - p, p], axis=1)
    np.testing.assert_allclose(rule(p), rule(two), rtol=1e-6)
    found = np.array(scores.loss(p, np.array([1, 0])))
    assert found == pytest.approx(-np.log([0.2, 0.1]), rel=1e-5)


def test_loss_names_labels_that_are_no_class():
    with pytest.raises(ValueError, match="Received: labels from 0 to 4"):
        scores.loss(P, np.arange(9) % 5)


@pytest.mark.parametrize("rule", [scores.el2n, scores.loss])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], "Received: labels of shape (1,), 9 predictions of 4 classes"),
        ([0, 1, 2], "Received: labels of shape (3,), 9 predictions"),
        (np.eye(3)[LABELS % 3], "Received: labels of shape (9, 3)"),
        (LABELS / 2, "Received: labels from 0.0 to 1.5"),
    ],
)
def test_labels_that_do_not_fit_are_named(rule, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rule(P, np.array(labels))


@pytest.mark.parametrize("rule", [scores.el2n, scores.loss])
def test_whole_numbers_may_be_floats(rule):
    np.testing.assert_array_equal(rule(P, LABELS * 1.0), rule(P, LABELS))
