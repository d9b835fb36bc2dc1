import re

import keras
import numpy as np
import pytest

import keras_eff as ke
from keras_eff.callbacks import BatchSizeSchedule
from keras_eff.callbacks.batch_size_schedule.batches import EpochBatches
from keras_eff.callbacks.batch_size_schedule.phases import Phase
from keras_eff.callbacks.batch_size_schedule.phases import Phases
from keras_eff.callbacks.batch_size_schedule.phases import parse

STEPS = ke.schedules.steps(8, {30: 16})


def sizes_of(phases, num_examples, epochs):
    return [
        [(phase.batch_size, phase.examples) for phase in row]
        for row in (phases.of_epoch(e, num_examples) for e in range(epochs))
    ]


@pytest.mark.parametrize(
    ("unit", "tokens", "expected"),
    [
        # The batch that begins below 30 samples is the last one of 8.
        ("samples", None, [[(8, 32), (16, 28)], [(16, 60)]]),
        ("tokens", 2, [[(8, 16), (16, 44)], [(16, 60)]]),
        ("updates", None, [[(8, 60)]] * 3 + [[(8, 48), (16, 12)], [(16, 60)]]),
        ("epochs", None, [[(8, 60)]] * 30 + [[(16, 60)]]),
    ],
)
def test_each_unit_counts_its_own(unit, tokens, expected):
    phases = Phases(STEPS, None, unit, tokens)
    assert sizes_of(phases, 60, len(expected)) == expected
    # Asked out of order, as after a restart.
    again = Phases(STEPS, None, unit, tokens)
    last = len(expected) - 1
    assert again.of_epoch(last, 60) == phases.of_epoch(last, 60)


def test_a_plan_inside_epochs_counts_what_is_there():
    schedule = BatchSizeSchedule("0:8 30:16", unit="samples")
    plan = schedule.plan(60, 2)
    found = [(row.epoch, row.batch_size, row.updates) for row in plan.rows]
    assert found == [(0, 8, 4), (0, 16, 2), (1, 16, 4)]
    assert plan.exact_updates == 4 + 28 / 16 + 60 / 16
    assert schedule.plan(60, 2, drop_remainder=True).updates == 4 + 1 + 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:768 250K:1536", ke.schedules.steps(768, {250_000: 1536})),
        (
            "0:1k 2M:2K 1B:4k",
            ke.schedules.steps(1000, {2 * 10**6: 2000, 10**9: 4000}),
        ),
    ],
)
def test_compact_strings_are_steps(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "8", "1:8", "0:8 x:9", "0:8:9", "0:"])
def test_bad_strings_are_named(text):
    with pytest.raises(ValueError, match=re.escape(f"batch_size={text!r}")):
        parse(text)


@pytest.mark.parametrize(
    ("round_to", "cap", "expected"),
    [
        (1, None, [10, 13, 17, 20]),
        (4, None, [12, 12, 16, 20]),  # 10 / 4 = 2.5 rounds to even: 8?
        (64, None, [64] * 4),
        ("doubling", None, [10, 10, 10, 20]),
        ("doubling", 15, [10, 10, 10, 15]),
    ],
)
def test_sizes_are_quantised(round_to, cap, expected):
    if round_to == 4:
        expected = [8, *expected[1:]]
    phases = Phases(
        ke.schedules.linear(10, 20, epochs=3),
        None,
        max_batch_size=cap,
        round_to=round_to,
    )
    assert [phases.size_at(epoch) for epoch in range(4)] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": "steps"}, "Received: unit='steps'"),
        ({"unit": "tokens"}, "Received: tokens_per_example=None"),
        ({"tokens_per_example": 4}, "Received: tokens_per_example=4"),
        (
            {"unit": "tokens", "tokens_per_example": 0},
            "Received: tokens_per_example=0",
        ),
        ({"round_to": 0}, "Received: round_to=0"),
        ({"max_physical_batch_size": 0.5}, "max_physical_batch_size=0.5"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BatchSizeSchedule(8, **arguments)


# shared/notes/batch.md, T1 and T2: the exact numbers of updates.
CIFAR = ke.schedules.steps(0.1, {60: 0.02, 120: 0.004, 160: 0.0008})
CIFAR_5 = ke.schedules.steps(0.5, {60: 0.1, 120: 0.02, 160: 0.004})
IMAGENET = ke.schedules.steps(3.0, {30: 0.3, 60: 0.03, 80: 0.003})
from_learning_rate = BatchSizeSchedule.from_learning_rate


@pytest.mark.parametrize(
    ("schedule", "num_examples", "epochs", "exact"),
    [
        (BatchSizeSchedule(128, CIFAR), 50_000, 200, 78_125),
        (from_learning_rate(CIFAR, 128, 5120), 50_000, 200, 29_141),
        (from_learning_rate(CIFAR_5, 640, 5120), 50_000, 200, 6_406),
        (BatchSizeSchedule(8192, IMAGENET), 1_281_167, 90, 14_075),
        (
            BatchSizeSchedule(ke.schedules.steps(8192, {30: 81920})),
            1_281_167,
            90,
            5_630,
        ),
        (from_learning_rate(IMAGENET, 8192, 65536), 1_281_167, 90, 5_865),
    ],
)
def test_exact_updates_of_the_paper(schedule, num_examples, epochs, exact):
    plan = schedule.plan(num_examples, epochs)
    assert round(plan.exact_updates) == exact


@pytest.mark.parametrize(
    ("rate", "size", "momentum", "noise"),
    [
        (0.1, 128, 0.9, 389.625),
        (0.5, 640, 0.9, 385.625),
        (0.5, 3200, 0.98, 365.625),
    ],
)
def test_noise_scales_of_the_paper(rate, size, momentum, noise):
    """T3."""
    schedule = BatchSizeSchedule(size, learning_rate=rate)
    plan = schedule.plan(50_000, 1, momentum=momentum)
    assert plan.rows[0].noise_scale == pytest.approx(noise)
    optimizer = keras.optimizers.SGD(rate, momentum=momentum)
    plan = BatchSizeSchedule(size).plan(50_000, 1, optimizer=optimizer)
    assert plan.rows[0].noise_scale == pytest.approx(noise)


def test_batch_growth_lowers_the_noise_as_decay_does():
    """T3: the batch path beside the learning-rate path."""
    grown = from_learning_rate(
        ke.schedules.steps(0.1, {1: 0.02, 2: 0.004}), 128
    )
    rows = grown.plan(50_000, 3).rows
    noise = [row.noise_scale for row in rows]
    assert noise == pytest.approx([38.96, 7.71, 1.4625], abs=5e-3)


def test_seesaw_doubles_where_the_rate_would_halve():
    halving = ke.schedules.steps(0.8, {1: 0.4, 2: 0.2, 3: 0.1})
    rows = from_learning_rate(halving, 32, rule="seesaw").plan(1000, 4).rows
    assert [row.batch_size for row in rows] == [32, 64, 128, 256]
    expected = [0.8, 0.8 / 2**0.5, 0.4, 0.4 / 2**0.5]
    assert [row.learning_rate for row in rows] == pytest.approx(expected)
    capped = from_learning_rate(halving, 32, 64, rule="seesaw").plan(1000, 4)
    expected = [0.8, 0.8 / 2**0.5, 0.4 / 2**0.5, 0.2 / 2**0.5]
    found = [row.learning_rate for row in capped.rows]
    assert found == pytest.approx(expected)


def test_seesaw_ignores_what_is_less_than_a_halving():
    slow = ke.schedules.steps(0.8, {1: 0.6, 2: 0.41, 3: 0.3})
    rows = from_learning_rate(slow, 32, rule="seesaw").plan(1000, 4).rows
    assert [row.batch_size for row in rows] == [32, 32, 32, 64]
    assert rows[2].learning_rate == pytest.approx(0.8)


def test_sqrt_growth_keeps_rate_by_root_of_batch():
    decay = ke.schedules.steps(0.8, {1: 0.2})
    rows = from_learning_rate(decay, 32, rule="sqrt").plan(1000, 2).rows
    assert [row.batch_size for row in rows] == [32, 128]
    assert rows[1].learning_rate == pytest.approx(0.4)


def test_auto_is_linear_for_sgd_and_else_the_root():
    """T7: linear .1 at 256 -> 3.2 at 8192; root .1 at 128 -> .5657 at 4096."""
    for optimizer, sizes, rate in (
        (keras.optimizers.SGD(0.1), (256, 8192), 3.2),
        (keras.optimizers.Adam(0.1), (128, 4096), 0.565685),
    ):
        schedule = BatchSizeSchedule(
            ke.schedules.steps(sizes[0], {1: sizes[1]}), learning_rate="auto"
        )
        rows = schedule.plan(100_000, 2, optimizer=optimizer).rows
        assert rows[1].learning_rate == pytest.approx(rate, rel=1e-5)
    with pytest.raises(ValueError, match="Received: optimizer=None"):
        schedule.plan(100, 1)


@pytest.mark.parametrize("limit", [None, 1, 3, 4, 8, 100])
def test_batches_of_an_epoch_cover_it_and_know_their_updates(limit):
    phases = (Phase(8, None, 32), Phase(16, None, 28))
    batches = EpochBatches(0, phases, limit)
    ends = batches.starts + batches.sizes
    assert batches.starts[0] == 0
    assert (batches.starts[1:] == ends[:-1]).all()
    assert ends[-1] == 60
    assert batches.sizes.max() <= (limit or 16)
    assert batches.updates[-1] == 4 + 2
    # Where an update ends, its batches add up to its size.
    seen = 0
    for size, whole, done, before in zip(
        batches.sizes,
        batches.batch_sizes,
        batches.updates,
        [0, *batches.updates[:-1]],
        strict=True,
    ):
        seen += size
        assert (seen == whole) == (done == before + 1)
        seen = 0 if seen == whole else seen
    assert batches.counts(len(batches), 8) == (6, 8)


def test_growth_is_rounded_once_and_the_rate_follows_it():
    decay = ke.schedules.steps(0.05, {2: 0.01, 4: 0.002})
    schedule = from_learning_rate(decay, 16, 100, round_to="doubling")
    rows = schedule.plan(1000, 5).rows
    assert [row.batch_size for row in rows] == [16, 16, 64, 64, 100]
    ratios = [row.learning_rate / row.batch_size for row in rows]
    expected = [decay(epoch) / 16 for epoch in range(5)]
    assert ratios == pytest.approx(expected)


def test_a_cap_is_rounded_down():
    steps = ke.schedules.steps(32, {1: 200})
    schedule = BatchSizeSchedule(steps, max_batch_size=100, round_to=8)
    assert [row.batch_size for row in schedule.plan(1000, 2).rows] == [32, 96]


def test_growth_and_decay_end_at_the_same_noise():
    """Vectors T9 of the notes: E[theta^2] = rate / (batch * (2 - rate))."""
    rng = np.random.default_rng(0)

    def stationary(rate, batch):
        theta = np.zeros(20_000)
        for _ in range(int(8 / rate)):
            noise = rng.normal(size=theta.shape) / batch**0.5
            theta -= rate * (theta + noise)
        return np.mean(theta**2)

    decay = ke.schedules.steps(0.1, {1: 0.02})
    schedule = BatchSizeSchedule.from_learning_rate(decay, 8)
    first, grown = schedule.plan(1000, epochs=2).rows
    found = [stationary(r.learning_rate, r.batch_size) for r in (first, grown)]
    found.append(stationary(decay(1), 8))
    assert found == pytest.approx([0.006579, 0.001316, 0.001263], rel=0.03)
