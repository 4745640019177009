"""Errors group by group, against what they are by hand."""

import numpy as np
import pytest

from geoattn.domains.synergy.metrics import per_group

REGRESSION = ["name", "n", "rmse", "rmse_low", "rmse_high", "pearson", "bias"]
CLASSES = ["name", "n", "positive", "roc_auc", "roc_auc_low", "roc_auc_high"]


def test_scores_by_hand():
    score, prediction = [0.0, 2.0, 4.0, 1.0, 1.0], [1.0, 3.0, 5.0, 1.0, 3.0]
    table = per_group(score, prediction, [["A"], ["A"], ["A"], ["B"], ["B"]], "regression")
    assert list(table) == REGRESSION and table["name"].tolist() == ["A", "B"] and table["n"].tolist() == [3, 2]
    np.testing.assert_allclose(table["rmse"], [1.0, np.sqrt(2)])
    np.testing.assert_allclose(table["bias"], [1.0, 1.0])
    assert table["pearson"][0] == pytest.approx(1.0) and np.isnan(table["pearson"][1])  # scores of B are all the same
    assert (table["rmse_low"] <= table["rmse"] + 1e-12).all() and (table["rmse_high"] >= table["rmse"] - 1e-12).all()


def test_labels_by_hand():
    label, probability = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0], [0.1, 0.9, 0.3, 0.5, 0.2, 0.4]
    table = per_group(label, probability, [["A"]] * 4 + [["B"]] * 2, "classification")
    assert list(table) == CLASSES and table["positive"].tolist() == [2, 2]
    assert table["roc_auc"][0] == pytest.approx(3 / 4) and np.isnan(table["roc_auc"][1])  # B has one class
    assert table[["roc_auc_low", "roc_auc_high"]].isna().loc[1].all()
    assert all(table[column].dtype == float for column in CLASSES[3:])


def test_a_row_may_be_in_several_groups():
    """As a pair has two drugs: each counts it; the largest group stands first."""
    pairs = [["a", "b"], ["b", "c"], ["b", "a"]]
    table = per_group([1.0, 2.0, 3.0], [2.0, 2.0, 1.0], pairs, "regression").set_index("name")
    assert table.index[0] == "b" and table["n"].to_dict() == {"b": 3, "a": 2, "c": 1}
    assert table.loc["a", "rmse"] == pytest.approx(np.sqrt((1 + 4) / 2))
    assert table.loc["a", "bias"] == pytest.approx(-0.5) and table.loc["c", "rmse"] == 0.0


def test_intervals_repeat():
    score, groups = np.random.default_rng(0).normal(size=40), [["A"], ["B"]] * 20
    first, second = (per_group(score, score**2, groups, "regression", num_bootstrap=20) for _ in range(2))
    assert first.equals(second) and (first["rmse_low"] < first["rmse_high"]).all()
