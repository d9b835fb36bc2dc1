import re

import numpy as np
import pytest
import tensorflow as tf

from keras_eff import scores

GENERATOR = np.random.default_rng(0)
MEMBERS = GENERATOR.dirichlet(np.ones(4), size=(5, 9))  # (members, batch, 4)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def votes_of(members):
    chosen = members.argmax(-1)
    return np.stack([(chosen == c).mean(0) for c in range(4)], axis=-1)


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_scores_of_an_ensemble_follow_the_formula(jit_compile):
    run = [scores.bald, scores.vote_entropy]
    if jit_compile is not None:
        run = [tf.function(f, jit_compile=jit_compile) for f in run]
    bald, votes = (np.array(f(tf.constant(MEMBERS))) for f in run)
    assert bald.dtype == votes.dtype == np.float32
    expected = entropy(MEMBERS.mean(0)) - entropy(MEMBERS).mean(0)
    np.testing.assert_allclose(bald, expected, atol=1e-6)
    shares = np.maximum(votes_of(MEMBERS), 1e-30)
    np.testing.assert_allclose(votes, entropy(shares), atol=1e-6)


def test_disagreement_is_high_and_shared_doubt_is_not():
    sure, torn = np.array([0.98, 0.01, 0.01]), np.full(3, 1 / 3)
    # Agreed, disputed, and doubted by both alike.
    members = np.stack([[sure, sure, torn], [sure, sure[::-1], torn]])
    agreed, disputed, doubted = np.array(scores.bald(members))
    assert disputed > 0.5
    assert agreed == pytest.approx(0, abs=1e-6)
    assert doubted == pytest.approx(0, abs=1e-6)
    # Negative control: entropy ranks the doubted first.
    mean = np.array(scores.entropy(members.mean(0)))
    assert mean[2] > mean[1]
    votes = np.array(scores.vote_entropy(members))
    np.testing.assert_allclose(votes, [0, np.log(2), 0], atol=1e-6)


def test_one_member_cannot_disagree():
    for rule in (scores.bald, scores.vote_entropy):
        np.testing.assert_allclose(rule(MEMBERS[:1]), np.zeros(9), atol=1e-6)


def test_bald_is_never_negative():
    assert np.array(scores.bald(np.repeat(MEMBERS[:1], 7, 0))).min() >= 0


def test_one_output_is_the_second_of_two_classes():
    p = GENERATOR.random((3, 6, 1))
    both = np.concatenate([1 - p, p], axis=-1)
    for rule in (scores.bald, scores.vote_entropy):
        np.testing.assert_allclose(rule(p), rule(both), atol=1e-6)


@pytest.mark.parametrize("rule", [scores.bald, scores.vote_entropy])
def test_another_shape_is_named(rule):
    message = re.escape("Received: shape (9, 4)")
    with pytest.raises(ValueError, match=message):
        rule(MEMBERS[0])
