"""Metrics of predictions with 95 % bootstrap intervals; gaps in the targets are left out.

Every metric is written once, for weighted rows: with weights 1 it gives the value, with resampling counts as weights
all bootstrap replicates at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from geoattn.errors import ShapeError

Entry = dict[str, Any]
"""``{"value": float | None, "ci95": [low, high] | None, "n": int}``; without a value also ``"reason"``."""

HIGHER_IS_BETTER = frozenset({"r2", "pearson", "roc_auc", "pr_auc", "macro_roc_auc", "accuracy"})
_ELEMENTS_AT_ONCE = 4_000_000


def evaluate(
    y: np.ndarray,
    prediction: np.ndarray,
    task: Literal["regression", "energy", "classification"],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    """The metrics of a task, averaged over targets.

    Args:
        y: ``[N, T]`` true values; NaN is a gap and counts for nothing.
        prediction: ``[N, T]`` in the same units; probabilities of class 1 for classification.
        task: ``mae rmse r2 pearson`` for regression and energy, ``roc_auc pr_auc accuracy`` for classification.
        num_bootstrap: resamplings of the rows; all targets of a row are drawn together.
        seed: of the resampling.

    Returns:
        Per metric ``value``, ``ci95`` (2.5 % and 97.5 % quantiles of the resamplings) and ``n``, the number of values
        that are no gap. Where a metric is not defined (one class only, a constant target, no value, a prediction that
        is NaN) ``value`` and ``ci95`` are None and ``reason`` says why; such a target does not enter an average.

    Example:
        >>> y = np.array([[1.0], [2.0], [4.0]])
        >>> evaluate(y, y + 0.5, "regression")["mae"]["value"]
        0.5
    """
    y, prediction = _checked(y, prediction)
    values, replicates, counts, reasons = _all_targets(y, prediction, task, num_bootstrap, seed)
    return {
        name: _entry(values[name], replicates[name], sum(counts), next((r for r in reasons[name] if r), ""))
        for name in values
    }


def evaluate_targets(
    y: np.ndarray,
    prediction: np.ndarray,
    task: Literal["regression", "energy", "classification"],
    names: Sequence[str],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Entry]]:
    """`evaluate` for each of the T targets by itself, under its name."""
    y, prediction = _checked(y, prediction)
    values, replicates, counts, reasons = _all_targets(y, prediction, task, num_bootstrap, seed)
    return {
        target: {name: _entry(values[name][[t]], replicates[name][[t]], counts[t], reasons[name][t]) for name in values}
        for t, target in enumerate(names)
    }


def _checked(y: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.ndim != 2 or y.shape != prediction.shape:
        raise ShapeError("prediction", f"shape {prediction.shape}", f"[N, T] as y, which has shape {y.shape}")
    return y, prediction


def _all_targets(
    y: np.ndarray, prediction: np.ndarray, task: str, num_bootstrap: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[int], dict[str, list[str]]]:
    """Per metric: value ``[T]``, replicates ``[T, R]`` and reasons; and the number of values of each target."""
    num_rows, num_targets = y.shape
    metrics = CLASSIFICATION if task == "classification" else REGRESSION
    known = ~np.isnan(y)
    reasons = {name: [_reason(name, y[m, t], prediction[m, t]) for t, m in enumerate(known.T)] for name in metrics}
    values = {name: np.full(num_targets, np.nan) for name in metrics}
    replicates = {name: np.full((num_targets, num_bootstrap), np.nan) for name in metrics}
    rng = np.random.default_rng(seed)
    step = max(1, _ELEMENTS_AT_ONCE // max(num_rows, 1))
    for start in range(0, num_bootstrap + 1, step):
        stop = min(start + step, num_bootstrap + 1)
        weights = resampled(rng, stop - start, num_rows)
        if start == 0:
            weights[0] = 1.0  # the first "resampling" is the data themselves
        for t in range(num_targets):
            mask = known[:, t]
            for name, metric in metrics.items():
                if reasons[name][t]:
                    continue
                with np.errstate(divide="ignore", invalid="ignore"):
                    result = metric(y[mask, t], prediction[mask, t], weights[:, mask])
                if start == 0:
                    values[name][t] = result[0]
                replicates[name][t, max(start - 1, 0) : stop - 1] = result[1 if start == 0 else 0 :]
    return values, replicates, known.sum(axis=0).tolist(), reasons


def resampled(rng: np.random.Generator, num_replicates: int, num_rows: int) -> np.ndarray:
    """``[R, N]``: how often each row was drawn in each resampling."""
    drawn = (
        rng.integers(0, num_rows, size=(num_replicates, num_rows)) if num_rows else np.empty((num_replicates, 0), int)
    )
    drawn += np.arange(num_replicates)[:, None] * num_rows
    counts = np.bincount(drawn.ravel(), minlength=num_replicates * num_rows)
    return counts.reshape(num_replicates, num_rows).astype(np.float64)


def _entry(values: np.ndarray, replicates: np.ndarray, count: int, reason: str) -> Entry:
    """The average over targets; a target without a value does not count."""
    defined = ~np.isnan(values)
    if not defined.any():
        return {"value": None, "ci95": None, "n": int(count), "reason": reason}
    known = ~np.isnan(replicates[defined])
    with np.errstate(invalid="ignore"):
        means = np.where(known, replicates[defined], 0.0).sum(axis=0) / known.sum(axis=0)
    means = means[np.isfinite(means)]
    interval = [float(bound) for bound in np.quantile(means, [0.025, 0.975])] if len(means) else None
    return {"value": float(values[defined].mean()), "ci95": interval, "n": int(count)}


def _reason(name: str, y: np.ndarray, prediction: np.ndarray) -> str:
    """Why a metric is not defined; empty if it is."""
    if len(y) == 0:
        return "no row has a value"
    if np.isnan(prediction).any():
        return "a prediction is NaN"
    if name in ("roc_auc", "pr_auc") and len(np.unique(y)) < 2:
        return f"every row is of class {int(y[0])}"
    if name in ("r2", "pearson") and np.ptp(y) == 0:
        return "the true values are all the same"
    if name == "pearson" and np.ptp(prediction) == 0:
        return "the predictions are all the same"
    return ""


# --- metrics of y [n], p [n] and weights w [R, n]; each returns [R] ------------------------------------------------


def _mae(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return w @ np.abs(y - p) / w.sum(axis=1)


def _rmse(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.sqrt(w @ (y - p) ** 2 / w.sum(axis=1))


def _r2(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return 1 - (w @ (y - p) ** 2 / w.sum(axis=1)) / _covariance(y, y, w)


def _pearson(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return _covariance(y, p, w) / np.sqrt(_covariance(y, y, w) * _covariance(p, p, w))


def _covariance(a: np.ndarray, b: np.ndarray, w: np.ndarray) -> np.ndarray:
    a, b, total = a - a.mean(), b - b.mean(), w.sum(axis=1)
    return w @ (a * b) / total - (w @ a / total) * (w @ b / total)


def _roc_auc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Share of pairs (class 1, class 0) that are ordered rightly, ties half."""
    positive, negative = _by_score(y, p, w)
    below = np.cumsum(negative, axis=1) - negative
    return (positive * (below + negative / 2)).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))


def _pr_auc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Average precision: precision at each threshold, weighted by the gain in recall."""
    positive, negative = (part[:, ::-1] for part in _by_score(y, p, w))
    above = np.cumsum(positive, axis=1)
    precision = np.divide(above, above + np.cumsum(negative, axis=1), out=np.zeros_like(above), where=above > 0)
    return (positive * precision).sum(axis=1) / positive.sum(axis=1)


def _accuracy(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return w @ ((p >= 0.5) == (y == 1)) / w.sum(axis=1)


def _by_score(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of class 1 and of class 0 at each distinct score, ascending; ``[R, G]`` each."""
    order = np.argsort(p, kind="stable")
    scores, y, w = p[order], y[order], w[:, order]
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    return np.add.reduceat(w * (y == 1), starts, axis=1), np.add.reduceat(w * (y == 0), starts, axis=1)


Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
REGRESSION: dict[str, Metric] = {"mae": _mae, "rmse": _rmse, "r2": _r2, "pearson": _pearson}
CLASSIFICATION: dict[str, Metric] = {"roc_auc": _roc_auc, "pr_auc": _pr_auc, "accuracy": _accuracy}
