import json
import math

import keras
import numpy as np
import pytest
import rich.console

from keras_eff import datasets
from keras_eff import demo
from keras_eff import demo_table
from keras_eff.savings import Total

NUM, NUM_TEST = 990, 200  # 792 kept: odd last batches at every size
EPOCHS, SEEDS = 4, 2
RECIPES = ["plain Keras", "plain, random part", "keras_eff"]
FOLDERS = dict(zip(RECIPES, ("plain", "random", "efficient"), strict=True))


def tiny_digits():
    x_train, y_train, x_test, y_test = datasets.digits()
    return datasets.Data(
        x_train[:NUM], y_train[:NUM], x_test[:NUM_TEST], y_test[:NUM_TEST]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The results of all recipes, and the folder of the run."""
    out = tmp_path_factory.mktemp("run")
    return demo.compare(tiny_digits(), EPOCHS, SEEDS, out), out


def content_of(run, recipe, seed):
    path = run[1] / f"seed-{seed}" / FOLDERS[recipe] / "savings.json"
    return json.loads(path.read_text())


def each_run(run):
    """Yields (recipe, result in memory, content of the file)."""
    for recipe in RECIPES:
        for seed in range(SEEDS):
            yield recipe, run[0][recipe][seed], content_of(run, recipe, seed)


def sum_of(history, quantity):
    return sum(epoch[quantity] for epoch in history)


def recompute(content):
    """What a run used: examples x FLOPs an example, and the costs added."""
    history, rates = content["history"], content["flops_per_example"]
    examples = sum_of(history, "examples")
    used = {
        "examples": examples,
        "updates": sum_of(history, "updates"),
        "seconds": sum_of(history, "seconds"),
        "flops_theoretical": examples * rates["training"],
        "flops_executed": examples * rates["executed_training"],
    }
    costs = dict.fromkeys(used, 0)
    for record in content["savings"]:
        if record["baseline"] == 0:
            costs[record["unit"]] += record["actual"]
    return {quantity: used[quantity] + costs[quantity] for quantity in used}


def losses_of(content):
    return [epoch["quality"]["loss"] for epoch in content["history"]]


def multiply_adds(units):
    return 64 * units + units * units + units * 10


def test_every_recipe_has_one_result_a_seed(run):
    results, _ = run
    assert list(results) == list(demo.RECIPES) == RECIPES
    assert [len(results[recipe]) for recipe in RECIPES] == [SEEDS] * 3


def test_every_recipe_learns_the_digits(run):
    for recipe, result, content in each_run(run):
        assert 0.8 < result.accuracy <= 1.0, recipe
        last = content["history"][-1]["quality"]["val_accuracy"]
        assert result.accuracy == last


def test_the_totals_on_disk_follow_from_history_flops_and_costs(run):
    for recipe, _, content in each_run(run):
        used = recompute(content)
        assert set(content["totals"]) == set(used)
        for quantity, expected in used.items():
            total = content["totals"][quantity]["used"]
            assert math.isclose(total, expected, rel_tol=1e-9), (
                recipe,
                quantity,
            )


def test_the_totals_in_memory_are_those_on_disk(run):
    for _, result, content in each_run(run):
        totals = {name: t.to_dict() for name, t in result.totals.items()}
        assert totals == content["totals"]


def test_the_flops_of_the_plain_recipe_follow_from_its_shapes(run):
    expected = 3 * 2 * multiply_adds(128) * NUM * EPOCHS
    for result in run[0]["plain Keras"]:
        assert result.totals["flops_executed"].used == expected
        assert result.totals["flops_theoretical"].used == expected


def test_the_flops_of_the_efficient_recipe_follow_from_its_shapes(run):
    kept = 792 * EPOCHS  # floor(0.8 * 990) examples
    # The scoring model trains for 3 epochs, then predicts once.
    scoring = (3 * 3 + 1) * 2 * multiply_adds(64) * NUM
    hidden, last = 2 * (64 + 128) * 128, 2 * 128 * 10
    # Weights 80 % zeros in y and dx, activations 50 % zeros in dW.
    sparse = (2 * 0.2 + 0.5) * hidden + 3 * last
    for result in run[0]["keras_eff"]:
        executed = result.totals["flops_executed"].used
        theoretical = result.totals["flops_theoretical"].used
        assert executed == 3 * (hidden + last) * kept + scoring
        assert math.isclose(theoretical, sparse * kept + scoring, rel_tol=1e-9)


def test_examples_and_updates_are_those_of_the_schedule(run):
    # The batch: 32, 32, then 5 x 32 and 25 x 32, capped at 792 // 10.
    updates = sum(math.ceil(792 / size) for size in (32, 32, 79, 79))
    scoring = 3 * math.ceil(NUM / 64)
    expected = {
        "plain Keras": (NUM * EPOCHS, math.ceil(NUM / 32) * EPOCHS),
        "plain, random part": (792 * EPOCHS, math.ceil(792 / 32) * EPOCHS),
        "keras_eff": (792 * EPOCHS + 3 * NUM, updates + scoring),
    }
    for recipe, result, _ in each_run(run):
        totals = result.totals
        used = totals["examples"].used, totals["updates"].used
        assert used == expected[recipe], recipe


def test_the_plan_of_the_efficient_recipe_is_the_plain_run(run):
    for seed in range(SEEDS):
        plain = run[0]["plain Keras"][seed].totals
        planned = run[0]["keras_eff"][seed].totals
        for quantity in ("examples", "flops_executed", "flops_theoretical"):
            expected = plain[quantity].used
            assert math.isclose(planned[quantity].planned, expected)
        seconds = plain["seconds"].used
        assert math.isclose(planned["seconds"].planned, seconds)
        # Kept examples round otherwise than all: within a batch an epoch.
        difference = plain["updates"].used - planned["updates"].planned
        assert abs(difference) < EPOCHS


def test_only_the_efficient_recipe_bears_costs(run):
    for recipe, _, content in each_run(run):
        costs = [s for s in content["savings"] if s["baseline"] == 0]
        assert bool(costs) == (recipe == "keras_eff")


def test_the_costs_are_in_every_total_of_the_efficient_recipe(run):
    content = content_of(run, "keras_eff", 0)
    without = recompute(content | {"savings": []})
    assert set(without) == set(content["totals"])
    for quantity, alone in without.items():
        assert content["totals"][quantity]["used"] > alone, quantity


def test_the_efficient_recipe_uses_fewer_updates_than_plain(run):
    results, _ = run
    for ours, plain in zip(
        results["keras_eff"], results["plain Keras"], strict=True
    ):
        assert ours.totals["updates"].used < plain.totals["updates"].used


def test_only_sparse_layers_tell_theoretical_from_executed(run):
    for recipe, result, _ in each_run(run):
        theoretical = result.totals["flops_theoretical"].used
        executed = result.totals["flops_executed"].used
        assert (theoretical < executed) == (recipe == "keras_eff")
        assert (theoretical == executed) == (recipe != "keras_eff")


def test_seconds_are_measured_and_flops_are_derived(run):
    for _, _, content in each_run(run):
        measured = {q: t["measured"] for q, t in content["totals"].items()}
        assert measured == {
            "examples": True,
            "updates": True,
            "seconds": True,
            "flops_theoretical": False,
            "flops_executed": False,
        }
        assert content["not_counted"] == {}


def test_a_seed_repeats_a_recipe(run, tmp_path):
    keras.utils.set_random_seed(1)
    task = demo.Task(tiny_digits(), EPOCHS, 1, tmp_path, tick=lambda: None)
    demo.train_on_random(task)
    again = json.loads((tmp_path / "random" / "savings.json").read_text())
    losses = losses_of(content_of(run, "plain, random part", 1))
    np.testing.assert_allclose(losses_of(again), losses, rtol=1e-3)
    other = losses_of(content_of(run, "plain, random part", 0))
    assert np.abs(np.subtract(losses, other) / losses).max() > 1e-2


def test_the_hard_selection_keeps_the_floor_of_each_class_and_its_cost():
    keras.utils.set_random_seed(0)
    data = tiny_digits()
    task = demo.Task(data, EPOCHS, 0, None, tick=lambda: None)
    kept = demo.select_hard(task)
    assert len(kept.ids) == 792
    counts = np.bincount(data.y_train[kept.ids], minlength=10)
    assert counts.min() >= int(0.5 * 792 / 10)
    assert kept.prefer == "hard"
    assert all(record.is_cost for record in kept.cost)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (4, [0.1, 0.1, 0.02, 0.004]),
        (8, [0.1] * 4 + [0.02] * 2 + [0.004] * 2),
        (40, [0.1] * 20 + [0.02] * 10 + [0.004] * 10),
    ],
)
def test_the_learning_rate_falls_at_half_and_at_three_quarters(
    epochs, expected
):
    task = demo.Task(tiny_digits(), epochs, 0, None, None)
    rate_at = demo.decay(task)
    rates = [rate_at(epoch) for epoch in range(epochs)]
    np.testing.assert_allclose(rates, expected)


def rows_of(results):
    """The table as text: label -> the rest of its line."""
    console = rich.console.Console(width=200)
    with console.capture() as captured:
        console.print(demo_table.table(results))
    lines = [
        [cell.strip() for cell in line.strip("│┃").split("│")]
        for line in captured.get().splitlines()
        if line.startswith("│")
    ]
    return {label: cells for label, *cells in lines}, captured.get()


def result_of(accuracy, **used):
    totals = {name: Total(value, None, True) for name, value in used.items()}
    return demo_table.Result(accuracy, totals)


def test_the_table_shows_means_and_differences_in_named_rows():
    results = {
        "plain": [
            result_of(
                accuracy,
                updates=1000,
                examples=32_000,
                flops_theoretical=4e9,
                flops_executed=4e9,
                seconds=seconds,
            )
            for accuracy, seconds in ((0.96, 2.0), (0.98, 4.0))
        ],
        "ours": [
            result_of(
                accuracy,
                updates=250,
                examples=24_000,
                flops_theoretical=1e9,
                flops_executed=3e9,
                seconds=6.0,
            )
            for accuracy in (0.95, 0.96)
        ],
    }
    rows, text = rows_of(results)
    assert rows == {
        "test accuracy": ["97.00 ± 1.41 %", "95.50 ± 0.71 % (-1.50)"],
        "updates": ["1,000", "250 (-75 %)"],
        "examples": ["32,000", "24,000 (-25 %)"],
        "FLOPs, theoretical": ["4e+09", "1e+09 (-75 %)"],
        "FLOPs, executed": ["4e+09", "3e+09 (-25 %)"],
        "wall seconds, measured": ["3.00 ± 1.41", "6.00 ± 0.00 (+100 %)"],
    }
    assert "mean ± standard deviation of 2 seeds" in text
    assert "What scoring costs is in" in text


def test_the_table_of_a_run_has_every_row_and_a_column_a_recipe(run):
    rows, text = rows_of(run[0])
    assert list(rows) == [
        "test accuracy",
        "updates",
        "examples",
        "FLOPs, theoretical",
        "FLOPs, executed",
        "wall seconds, measured",
    ]
    assert all(recipe in text for recipe in RECIPES)
    assert rows["FLOPs, theoretical"][0] == rows["FLOPs, executed"][0]
    assert rows["FLOPs, theoretical"][2] != rows["FLOPs, executed"][2]


def test_the_efficient_model_has_the_shapes_of_the_plain_one():
    data = tiny_digits()
    models = demo.plain_model(data), demo.efficient_model(data, demo.Sizes())
    plain, ours = ([w.shape for w in m.get_weights()] for m in models)
    assert plain == ours
    assert models[1].output_shape == (None, 10)


@pytest.mark.parametrize(("seconds", "words"), [(2, "2.00"), (0.5, "0.50")])
def test_the_verdict_says_how_long_and_why_only_when_longer(seconds, words):
    def result(used):
        return demo_table.Result(0.9, {"seconds": Total(used, None, True)})

    results = {"plain": [result(1.0)] * 2, "ours": [result(seconds)] * 2}
    verdict = demo_table.verdict(results)
    assert f"ours took {words} times the wall time of plain." in verdict
    assert ("did not make up" in verdict) is (seconds > 1)
