import numpy as np
import pytest
import references

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
