import re

import numpy as np
import pytest
import tensorflow as tf

from keras_eff import scores

GENERATOR = np.random.default_rng(0)
Z = GENERATOR.normal(size=(30, 6)).astype("float32")
MU = GENERATOR.normal(size=(4, 6)).astype("float32")


def cosine(z, mu):
    z, mu = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (z, mu))
    return 1 - (z[:, None] * mu[None]).sum(-1).max(1)


def euclidean(z, mu):
    return np.linalg.norm(z[:, None] - mu[None], axis=-1).min(1)


@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("truth", [cosine, euclidean])
def test_the_distance_is_to_the_nearest_centroid(truth, jit_compile):
    def run(z, mu):
        return scores.prototype_distance(z, mu, metric=truth.__name__)

    if jit_compile is not None:
        run = tf.function(run, jit_compile=jit_compile)
    found = np.array(run(tf.constant(Z), tf.constant(MU)))
    assert found.dtype == np.float32
    expected = truth(Z.astype("float64"), MU.astype("float64"))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_outlier_scores_highest(metric):
    near = MU[GENERATOR.integers(4, size=20)] + 0.01 * Z[:20]
    z = np.concatenate([near, -10 * MU.sum(0, keepdims=True)])
    found = np.array(scores.prototype_distance(z, MU, metric=metric))
    assert found.argmax() == 20
    assert found[20] > 10 * found[:20].max()


def test_the_length_of_an_embedding_matters_to_one_metric_only():
    long, short = (
        np.array(scores.prototype_distance(z, MU)) for z in (5 * Z, Z)
    )
    np.testing.assert_allclose(long, short, atol=1e-6)
    long, short = (
        np.array(scores.prototype_distance(z, MU, metric="euclidean"))
        for z in (5 * Z, Z)
    )
    assert (long > short).all()


def test_far_from_the_origin_little_cancels():
    found = scores.prototype_distance(Z + 1000, MU + 1000, metric="euclidean")
    np.testing.assert_allclose(found, euclidean(Z, MU), atol=1e-3)


def test_zero_is_at_right_angles_to_all():
    zeros = np.zeros((1, 6))
    assert np.array(scores.prototype_distance(zeros, MU)).tolist() == [1]


def test_a_centroid_is_at_no_distance_from_itself():
    for metric in ("cosine", "euclidean"):
        found = np.array(scores.prototype_distance(MU, MU, metric=metric))
        np.testing.assert_allclose(found, np.zeros(4), atol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Z, MU, "manhattan"), "Received: metric='manhattan'"),
        ((Z[0], MU), "Received: shapes (6,) and (4, 6)"),
        ((Z, MU[:0]), "Received: shapes (30, 6) and (0, 6)"),
        ((Z, MU[:, :5]), "Received: shapes (30, 6) and (4, 5)"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        scores.prototype_distance(*arguments)
