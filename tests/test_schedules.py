import json
import re

import keras
import pytest

from keras_eff import schedules

EVERY_VERB = [
    schedules.constant(3),
    schedules.steps(0.1, {2: 0.02, 5: 0.004}),
    schedules.linear(8, 32, epochs=3),
    schedules.doubling(8, every=2, max_value=50),
    schedules.warmup(0.4, epochs=4, start=0.1),
    schedules.join([schedules.linear(8, 32, epochs=2), 64], boundaries=[3]),
]
by_verb = pytest.mark.parametrize("schedule", EVERY_VERB, ids=repr)


@pytest.mark.parametrize(
    ("schedule", "values"),
    list(
        zip(
            EVERY_VERB,
            [
                [3, 3, 3, 3, 3, 3, 3],
                [0.1, 0.1, 0.02, 0.02, 0.02, 0.004, 0.004],
                [8, 16, 24, 32, 32, 32, 32],
                [8, 8, 16, 16, 32, 32, 50],
                [0.1, 0.175, 0.25, 0.325, 0.4, 0.4, 0.4],
                [8, 20, 32, 64, 64, 64, 64],
            ],
            strict=True,
        )
    ),
    ids=[repr(schedule) for schedule in EVERY_VERB],
)
def test_values_by_epoch(schedule, values):
    assert [schedule(epoch) for epoch in range(7)] == pytest.approx(values)


def test_every_verb_is_in_the_table():
    assert {s.verb for s in EVERY_VERB} == set(schedules._RULES)


@by_verb
def test_repr_is_the_call_that_made_it(schedule):
    names = {verb: getattr(schedules, verb) for verb in schedules._RULES}
    assert eval(repr(schedule), names) == schedule


@by_verb
def test_config_round_trip_through_json(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    config = json.loads(json.dumps(config))
    again = keras.saving.deserialize_keras_object(config)
    assert again == schedule
    assert [again(e) for e in range(9)] == [schedule(e) for e in range(9)]


def test_different_schedules_are_not_equal():
    assert schedules.constant(3) != schedules.constant(4)
    assert schedules.constant(3) != 3
    assert len({schedules.constant(3), schedules.constant(3)}) == 1


def test_a_number_is_a_schedule_and_a_function_stays_itself():
    assert schedules.as_schedule(5)(100) == 5
    assert schedules.as_schedule(len) is len


def test_a_change_holds_from_its_epoch_in_any_order():
    schedule = schedules.steps(1, {7: 3, 4: 2})
    assert [schedule(e) for e in (3, 4, 6, 7)] == [1, 2, 2, 3]


def test_warmup_keeps_the_epochs_of_what_follows():
    decay = schedules.steps(1.0, {5: 0.1})
    schedule = schedules.warmup(decay, epochs=2)
    assert [schedule(e) for e in (0, 1, 2, 5)] == [0, 0.5, 1.0, 0.1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.constant("a"), TypeError, "Received: value='a'"),
        (lambda: schedules.constant(True), TypeError, "Received: value=True"),
        (
            lambda: schedules.constant(float("nan")),
            ValueError,
            "must be finite. Received: value=nan",
        ),
        (
            lambda: schedules.as_schedule("8"),
            TypeError,
            "Received: value='8'",
        ),
        (
            lambda: schedules.steps(1, {0: 2}),
            ValueError,
            "must be at least 1. Received: changes=0",
        ),
        (
            lambda: schedules.steps(1, {1: float("inf")}),
            ValueError,
            "must be finite. Received: changes=inf",
        ),
        (
            lambda: schedules.linear(1, 2, epochs=0),
            ValueError,
            "Received: epochs=0",
        ),
        (
            lambda: schedules.linear(1, 2, epochs=1.5),
            ValueError,
            "Received: epochs=1.5",
        ),
        (
            lambda: schedules.doubling(8, every=0),
            ValueError,
            "Received: every=0",
        ),
        (
            lambda: schedules.doubling(8, every=1, max_value=4),
            ValueError,
            "Received: max_value=4, initial=8",
        ),
        (
            lambda: schedules.warmup(1, epochs=-1),
            ValueError,
            "Received: epochs=-1",
        ),
        (
            lambda: schedules.join([1, 2], boundaries=[]),
            ValueError,
            "Received: 0 boundaries, 2 schedules",
        ),
        (
            lambda: schedules.join([1, 2, 3], boundaries=[4, 4]),
            ValueError,
            "must be at least 1 and increase. Received: boundaries=[4, 4]",
        ),
        (
            lambda: schedules.Schedule("cosine", {}),
            ValueError,
            "Received: verb='cosine'",
        ),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
