import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from geoattn.domains.metrics import evaluate, evaluate_targets
from geoattn.errors import ShapeError


@pytest.fixture
def regression():
    rng = np.random.default_rng(1)
    y = rng.normal(100, 3, size=(80, 1))
    return y, y + rng.normal(size=y.shape)


@pytest.fixture
def classification():
    """Scores are rounded, so that many are tied."""
    rng = np.random.default_rng(2)
    y = (rng.random((200, 1)) < 0.2).astype(float)
    return y, np.round(0.4 * y + 0.6 * rng.random(y.shape), 1)


def test_regression_values(regression):
    y, p = regression
    result = evaluate(y, p, "regression")
    assert result["mae"]["value"] == pytest.approx(mean_absolute_error(y, p))
    assert result["rmse"]["value"] == pytest.approx(root_mean_squared_error(y, p))
    assert result["r2"]["value"] == pytest.approx(r2_score(y, p))
    assert result["pearson"]["value"] == pytest.approx(pearsonr(y[:, 0], p[:, 0]).statistic)
    assert all(entry["n"] == 80 for entry in result.values())


def test_classification_values(classification):
    y, p = classification
    result = evaluate(y, p, "classification")
    assert result["roc_auc"]["value"] == pytest.approx(roc_auc_score(y, p))
    assert result["pr_auc"]["value"] == pytest.approx(average_precision_score(y, p))
    assert result["accuracy"]["value"] == pytest.approx(accuracy_score(y, p >= 0.5))


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_intervals_are_those_of_a_plain_bootstrap(task, request):
    y, p = request.getfixturevalue(task)
    rng = np.random.default_rng(7)
    draws = [rng.integers(0, len(y), len(y)) for _ in range(1000)]
    plain = [evaluate(y[draw], p[draw], task, num_bootstrap=1) for draw in draws]
    for metric, entry in evaluate(y, p, task, num_bootstrap=2000).items():
        low, high = np.quantile([one[metric]["value"] for one in plain], [0.025, 0.975])
        np.testing.assert_allclose(entry["ci95"], [low, high], atol=0.2 * (high - low), err_msg=metric)
        assert entry["ci95"][0] < entry["value"] < entry["ci95"][1]


def test_bootstrap_in_pieces_is_the_same(regression, monkeypatch):
    whole = evaluate(*regression, "regression", num_bootstrap=50)
    monkeypatch.setattr("geoattn.domains.metrics._ELEMENTS_AT_ONCE", 7 * 80)
    pieces = evaluate(*regression, "regression", num_bootstrap=50)
    assert {m: e["value"] for m, e in pieces.items()} == {m: e["value"] for m, e in whole.items()}
    np.testing.assert_allclose(pieces["mae"]["ci95"], whole["mae"]["ci95"])


def test_gaps_are_left_out(regression):
    y, p = (np.hstack([a, a]) for a in regression)
    y[::2, 1] = np.nan
    per_target = evaluate_targets(y, p, "regression", ["a", "b"])
    assert per_target["b"]["mae"]["n"] == 40
    assert per_target["b"]["mae"]["value"] == pytest.approx(np.abs(y - p)[1::2, 1].mean())
    both = evaluate(y, p, "regression")["mae"]
    assert both["n"] == 120
    assert both["value"] == pytest.approx((per_target["a"]["mae"]["value"] + per_target["b"]["mae"]["value"]) / 2)


@pytest.mark.parametrize(
    ("y", "p", "task", "metric", "reason"),
    [
        ([1, 1, 1], [0.2, 0.3, 0.4], "classification", "roc_auc", "every row is of class 1"),
        ([2, 2, 2], [1, 2, 3], "regression", "r2", "the true values are all the same"),
        ([1, 2, 3], [2, 2, 2], "regression", "pearson", "the predictions are all the same"),
        ([np.nan] * 3, [1, 2, 3], "regression", "mae", "no row has a value"),
        ([1, 2, 3], [1, np.nan, 3], "regression", "rmse", "a prediction is NaN"),
        ([], [], "regression", "mae", "no row has a value"),
    ],
)
def test_undefined_metrics_say_why(y, p, task, metric, reason):
    entry = evaluate(np.array(y, float)[:, None], np.array(p, float)[:, None], task)[metric]
    assert entry["value"] is None and entry["ci95"] is None and entry["reason"] == reason


def test_target_without_a_value_does_not_spoil_the_average():
    y = np.array([[0.0, 1], [1, 1], [0, 1], [1, 1]])
    p = np.array([[0.1, 0.5], [0.9, 0.5], [0.8, 0.5], [0.7, 0.5]])
    assert evaluate(y, p, "classification")["roc_auc"]["value"] == pytest.approx(0.75)


def test_one_row():
    entry = evaluate(np.array([[1.0]]), np.array([[3.0]]), "regression")
    assert entry["mae"]["value"] == 2 and entry["mae"]["ci95"] == [2, 2] and entry["r2"]["value"] is None


def test_the_same_every_time(regression):
    assert evaluate(*regression, "regression") == evaluate(*regression, "regression")
    assert (
        evaluate(*regression, "regression")["mae"]["ci95"] != evaluate(*regression, "regression", seed=1)["mae"]["ci95"]
    )


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 1)])
def test_shapes(shape):
    with pytest.raises(ShapeError, match="prediction"):
        evaluate(np.zeros((3, 1)), np.zeros(shape), "regression")
