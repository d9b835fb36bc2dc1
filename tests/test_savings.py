import dataclasses
import re

import pytest

from keras_eff.savings import Saving
from keras_eff.savings import Source
from keras_eff.savings import Total
from keras_eff.savings import account
from keras_eff.savings import saved_pct
from keras_eff.savings import totals


def test_a_saving_is_frozen_and_becomes_a_dictionary():
    saving = Saving("pruning", "examples", 100, 70, measured=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        saving.actual = 0
    assert Saving(**saving.to_dict()) == saving
    assert saving.saved_pct == 30
    assert not saving.is_cost


def test_more_used_than_planned_is_a_negative_saving():
    assert saved_pct(100, 150) == -50
    assert saved_pct(0, 5) is None


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
@pytest.mark.parametrize("field", ["baseline", "actual"])
def test_bad_numbers_are_named(field, value):
    numbers = {"baseline": 1, "actual": 1, field: value}
    message = f"Received: {field}={value} (technique 't', unit 'u')"
    with pytest.raises(ValueError, match=re.escape(message)):
        Saving("t", "u", **numbers, measured=True)


def test_totals_add_within_technique_and_unit_only():
    sums = totals(
        [
            Saving("swat", "flops", 10, 2, measured=False),
            Saving("swat", "flops", 30, 6, measured=True),
            Saving("swat", "bytes", 5, 1, measured=True),
            Saving("other", "flops", 7, 7, measured=True),
        ]
    )
    assert sums["swat", "flops"] == Saving("swat", "flops", 40, 8, False)
    assert sums["swat", "bytes"].measured
    assert len(sums) == 3


def test_techniques_multiply_and_are_counted_once():
    """Half of the examples, in batches twice as large, at a fifth of FLOPs."""
    sums = account(
        counts={"examples": 500, "updates": 10},
        rates={"flops_theoretical": (100, 20), "flops_executed": (100, 100)},
        savings=[
            Saving("pruning", "examples", 60, 30, measured=True),
            Saving("batch_size_schedule", "updates", 20, 10, measured=True),
            Saving("swat", "flops_theoretical_per_example", 9, 1, False),
        ],
    )
    assert sums["examples"] == Total(500, 1000, True)
    assert sums["updates"] == Total(10, 40, True)
    assert sums["flops_theoretical"] == Total(10_000, 100_000, False)
    assert sums["flops_executed"] == Total(50_000, 100_000, False)
    assert sums["flops_theoretical"].saved_pct == 90


def test_costs_are_added_to_what_was_used_only():
    sums = account(
        counts={"examples": 100, "updates": 5},
        rates={},
        savings=[
            Saving("pruning", "examples", 0, 40, measured=True),
            Saving("pruning", "seconds", 0, 2, measured=True),
            Saving("pruning", "kwh", 0, 3, measured=False),
        ],
        others={"seconds": Total(8, 20, True)},
    )
    assert sums["examples"] == Total(140, 100, True)
    assert sums["updates"] == Total(5, 5, True)
    assert sums["seconds"] == Total(10, 20, True)
    assert "kwh" not in sums  # not counted: the cost is not the whole


def test_a_source_that_has_used_nothing_yet_changes_nothing():
    idle = Saving("batch_size_schedule", "updates", 0, 0, measured=True)
    sums = account({"examples": 3, "updates": 1}, {}, [idle])
    assert sums["updates"] == Total(1, 1, True)


def test_a_total_without_a_plan_has_no_percentage():
    assert Total(5, None, True).saved_pct is None
    assert Total(5, 0, True).to_dict()["saved_pct"] is None


def test_source_is_a_protocol():
    class Has:
        def savings(self):
            return []

    assert isinstance(Has(), Source)
    assert not isinstance(object(), Source)
