"""How numbers are written in cards and reports."""

import numpy as np
import pytest

from geoattn._numbers import GAP, MINUS, best_values, format_measure, format_number, measure_parts, metric_name, rows_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (7, "7"),
        (-1234567, f"{MINUS}1,234,567"),
        (np.int64(12), "12"),
        (0.5, "0.500"),
        (np.float32(1.23456), "1.23"),
        (9.999, "10.0"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (-0.05, f"{MINUS}0.0500"),
        (0.0001234, "0.000123"),
        (3.14e-7, "3.1 × 10⁻⁷"),
        (2.5e8, "2.5 × 10⁸"),
        (float("nan"), GAP),
        (float("inf"), "∞"),
        (float("-inf"), f"{MINUS}∞"),
        (None, GAP),
        (True, "True"),
        ("0.10.0", "0.10.0"),
    ],
)
def test_format_number(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        ({"value": 0.5533, "ci95": [0.48, 0.6399]}, "0.553 [0.480, 0.640]"),
        ({"value": 0.5904, "sd": 0.0421}, "0.590 ± 0.042"),
        ({"value": 0.59, "sd": 0.042, "ci95": [0.5, 0.7]}, "0.590 ± 0.042 [0.500, 0.700]"),
        ({"value": 1523.2, "ci95": [1400.0, 1700.0]}, "1,523 [1,400, 1,700]"),
        ({"value": -0.01, "ci95": [-0.05, 0]}, f"{MINUS}0.010 [{MINUS}0.050, 0.000]"),
        ({"value": 0.5, "ci95": [0.5, 0.5]}, "0.500 [0.500, 0.500]"),
        ({"value": 0.5, "ci95": [None, None]}, "0.500"),
        ({"value": None, "ci95": None}, GAP),
        ({}, GAP),
        (None, GAP),
    ],
)
def test_a_value_has_the_decimals_of_its_spread(measure, text):
    assert format_measure(measure) == text
    assert " ".join(filter(None, measure_parts(measure))) == text


def test_best_values_know_which_way_is_better():
    rows = {"a": {"rmse": {"value": 1.0}, "r2": {"value": 0.2}}, "b": {"rmse": {"value": 2.0}, "r2": {"value": None}}}
    rows["c"] = {"rmse": {"value": float("nan")}, "r2": {"value": 0.9}}
    assert best_values(rows) == {"rmse": 1.0, "r2": 0.9}


def test_the_model_stands_before_its_baselines():
    metrics = {
        "test": {"mae": {"value": 1}},
        "baselines": {"test": {"mean": {"mae": {"value": 2}}}, "valid": {"x": {}}},
    }
    assert [name for name, _ in rows_of(metrics, "test", "ours")] == ["ours", "mean"]
    assert list(rows_of({}, "test", "ours")) == []
    assert metric_name("roc_auc") == "ROC AUC" and metric_name("success_rate") == "success rate"
