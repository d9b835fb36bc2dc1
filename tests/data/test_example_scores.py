import copy
import pickle

import numpy as np
import pytest

from keras_eff.data import ExampleScores
from keras_eff.savings import Saving

COST = (Saving("pruning", "seconds", 0, 2.0, measured=True),)


def scores():
    return ExampleScores([0.5, 0.25, 1], fingerprint="print", cost=list(COST))


def test_scores_are_a_float32_array_with_two_attributes():
    assert isinstance(scores(), np.ndarray)
    assert scores().dtype == np.float32
    assert scores().tolist() == [0.5, 0.25, 1.0]
    assert scores().fingerprint == "print"
    assert scores().cost == COST


@pytest.mark.parametrize(
    "computed",
    [
        scores()[:2],
        scores()[[2, 1, 0]],
        -scores(),
        scores() + scores(),
        np.sort(scores()),
        scores().astype("float64"),
        np.concatenate([scores(), scores()]),
    ],
    ids=str,
)
def test_what_is_computed_belongs_to_other_examples(computed):
    assert getattr(computed, "fingerprint", None) is None
    assert getattr(computed, "cost", ()) == ()


def test_a_reduction_is_a_number():
    assert type(scores().max()) is np.float32
    assert type(scores().mean()) is np.float32


def test_the_values_are_copied():
    values = np.ones(2, np.float32)
    made = ExampleScores(values)
    values[0] = 7
    assert made.tolist() == [1, 1]


@pytest.mark.parametrize(
    "again", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy]
)
def test_scores_survive_a_pickle(again):
    found = again(scores())
    assert found.tolist() == scores().tolist()
    if again is not copy.copy:
        assert (found.fingerprint, found.cost) == ("print", COST)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"Received: values of shape \(2, 1\)"):
        ExampleScores(np.ones((2, 1)))
