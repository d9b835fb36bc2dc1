import re

import keras
import numpy as np
import pytest

from keras_eff.data import prune
from keras_eff.data import query


def model():
    """Returns its first input as the probability of the second class."""
    return keras.Sequential([keras.Input((2,)), First()])


@keras.saving.register_keras_serializable("test_active")
class First(keras.layers.Layer):
    def call(self, x):
        return x[:, :1]


def pool(num=200, seed=0):
    return np.random.default_rng(seed).random((num, 2)).astype("float32")


def doubt(x):
    return -np.abs(x[:, 0] - 0.5)


def test_without_embeddings_the_least_certain_are_chosen():
    x = pool()
    chosen = query(x, 7, model(), by="entropy", verbose=0)
    assert chosen.ids.tolist() == np.sort(np.argsort(-doubt(x))[:7]).tolist()
    assert chosen.prefer == "query"
    assert chosen.num_examples == 200
    assert len(chosen.dropped) == 193


def test_diversity_chooses_among_the_least_certain():
    x = pool()
    chosen = query(x, 5, model(), embeddings=x, candidates=4, seed=0, verbose=0)
    best = np.argsort(-doubt(x))[:20]
    assert len(set(chosen.ids.tolist())) == 5
    assert set(chosen.ids.tolist()) <= set(best.tolist())
    certain = query(x, 5, model(), verbose=0)

    def spread(ids):
        distances = np.abs(x[ids, None] - x[None, ids]).sum(-1)
        return (distances + 9 * np.eye(5)).min()

    assert spread(chosen.ids) > spread(certain.ids)


def test_planted_twins_are_chosen_once():
    """Of four heaps of equal, uncertain examples each gives one."""
    heaps = np.float32([[0.5, 0], [0.5, 1], [0.5, 2], [0.5, 3]])
    x = np.concatenate([np.repeat(heaps, 10, axis=0), pool(40) * 0.1])
    chosen = query(x, 4, model(), embeddings=x, seed=1, verbose=0)
    assert sorted(chosen.ids // 10) == [0, 1, 2, 3]
    # Negative control: without diversity they come from one heap.
    alike = query(x, 4, model(), verbose=0)
    assert sorted(alike.ids // 10) == [0, 0, 0, 0]


def test_equal_embeddings_still_give_n():
    x = pool(30)
    same = np.ones((30, 3), "float16")
    chosen = query(x, 8, model(), embeddings=same, seed=0, verbose=0)
    assert len(np.unique(chosen.ids)) == 8


def test_random_needs_no_model_and_follows_its_seed():
    x = pool()
    first = query(x, 50, by="random", seed=3)
    assert first.ids.tolist() == query(x, 50, by="random", seed=3).ids.tolist()
    assert first.ids.tolist() != query(x, 50, by="random", seed=4).ids.tolist()
    assert len(first.ids) == 50


def test_a_seed_repeats_the_choice():
    x = pool()
    ids = [
        query(x, 9, model(), embeddings=x, seed=seed, verbose=0).ids.tolist()
        for seed in (0, 0, 1)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_all_of_the_pool_can_be_chosen():
    x = pool(6)
    chosen = query(x, 6, model(), embeddings=x, verbose=0)
    assert chosen.ids.tolist() == list(range(6))
    assert len(chosen.dropped) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "Received: n=0, 200 examples"),
        ({"n": 201}, "Received: n=201, 200 examples"),
        ({"candidates": 0}, "Received: candidates=0"),
        (
            {"embeddings": np.zeros((3, 2))},
            "Received: embeddings of shape (3, 2), 200 examples",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        query(pool(), **{"n": 3, "model": model(), "verbose": 0, **arguments})


def test_the_selection_knows_its_pool():
    x = pool(40)
    chosen = query(x, 5, model(), verbose=0)
    assert prune(chosen)(x).shape == (5, 2)
    with pytest.raises(ValueError, match="another example at position 0"):
        prune(chosen)(x[::-1])


def test_the_seed_is_that_of_dropout_too():
    keras.utils.set_random_seed(0)
    random = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(8),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    x = pool()
    ids = [
        query(x, 20, random, by="bald", seed=seed, verbose=0).ids.tolist()
        for seed in (0, 0, 1)
    ]
    assert ids[0] == ids[1] != ids[2]
