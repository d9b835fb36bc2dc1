import io
import json

import keras
import numpy as np
import pytest
import rich.console

import keras_eff as ke
from keras_eff.layers import sparsity_report


def model_of(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((40,)), *layers])


def test_channels_make_flops_kernel_and_residuals_smaller():
    layer = ke.layers.SparseDense(
        16, sparsity=0.75, granularity="channel", activation="relu", name="a"
    )
    (row,) = sparsity_report(model_of(layer)).rows
    assert (row.layer, row.granularity) == ("a", "channel")
    assert (row.sparsity, row.reached_sparsity) == (0.75, 0.75)
    dense = 3 * 2 * 40 * 16
    assert row.flops == row.executed_flops == dense / 4
    assert row.dense_flops == dense
    assert row.kernel_bytes == 4 * 40 * 16
    assert row.nonzero_kernel_bytes == 4 * 10 * 16
    assert row.residual_bytes == 4 * 10 + 16 / 8
    assert row.dense_residual_bytes == 4 * 40 + 4 * 16


def test_the_bits_of_a_relu_fill_whole_bytes():
    layer = ke.layers.SparseDense(
        9, sparsity=0.75, granularity="channel", activation="relu"
    )
    model = keras.Sequential([keras.Input((5, 40)), layer])
    (row,) = sparsity_report(model).rows
    assert row.residual_bytes == 4 * 5 * 10 + 5 * 2


def test_flops_of_adapters_are_not_told():
    model = model_of(ke.layers.SparseDense(16, sparsity=0.5, lora_rank=2))
    report = sparsity_report(model)
    (row,) = report.rows
    assert (row.flops, row.executed_flops, row.dense_flops) == (None,) * 3
    assert row.reached_sparsity == 0.5
    console = rich.console.Console(width=160)
    with console.capture() as capture:
        console.print(report)
    assert capture.get().count("not counted") == 3


def test_elements_keep_and_execute_all():
    layer = ke.layers.SparseDense(16, sparsity=0.75, activation_sparsity=0)
    (row,) = sparsity_report(model_of(layer)).rows
    assert row.reached_sparsity == 0.75
    assert row.flops == 2 * 40 * 16 * (0.25 + 0.25 + 1)
    assert row.executed_flops == row.dense_flops
    assert row.residual_bytes == row.dense_residual_bytes == 4 * 40


def test_a_schedule_shows_what_is_in_force():
    grow = ke.schedules.steps(0.5, {1: 0.75})
    layer = ke.layers.SparseDense(16, sparsity=grow)
    model = model_of(layer)
    assert sparsity_report(model).rows[0].sparsity == 0.5
    layer.set_epoch(1)
    (row,) = sparsity_report(model).rows
    assert (row.sparsity, row.reached_sparsity) == (0.75, 0.75)


def test_nested_models_half_types_and_dense_layers():
    inner = keras.Sequential(
        [
            keras.Input((40,)),
            ke.layers.SparseDense(8, dtype="mixed_bfloat16", name="b"),
        ],
        name="inner",
    )
    zero = ke.layers.SparseDense(4, sparsity=0, name="zero")
    report = sparsity_report(model_of(inner, keras.layers.Dense(8), zero))
    assert [row.layer for row in report.rows] == ["inner/b", "zero"]
    assert report.rows[0].residual_bytes == 2 * 40
    assert report.rows[1].reached_sparsity == 0
    assert json.loads(json.dumps(report.to_dict()))["convention"] == "matmul"


def test_the_convention_is_that_of_the_flops():
    layer = ke.layers.SparseConv1D(2, 3, strides=2, padding="same", sparsity=0)
    model = keras.Sequential([keras.Input((8, 3)), layer])
    m = 2 * 3 * 3 * 2 * 4
    assert sparsity_report(model).rows[0].dense_flops == 3 * m
    assert sparsity_report(model, "swat").rows[0].dense_flops == 4 * m


def test_the_table_names_layers_and_percentages():
    console = rich.console.Console(width=200, record=True, file=io.StringIO())
    layer = ke.layers.SparseDense(10, name="[bold]")
    console.print(sparsity_report(model_of(layer)))
    text = console.export_text()
    assert "[bold]" in text
    assert "80.0%" in text


def test_a_model_without_sparse_layers_is_refused():
    model = model_of(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="must have a sparse layer"):
        sparsity_report(model)


def test_an_unknown_size_is_refused():
    layer = ke.layers.SparseDense(2, name="s")
    model = keras.Sequential([keras.Input((None, 3)), layer])
    message = r"Received: layer 's', input shape \(None, None, 3\)"
    with pytest.raises(ValueError, match=message):
        sparsity_report(model)
    assert np.isfinite(model(np.ones((2, 5, 3), "float32"))).all()
