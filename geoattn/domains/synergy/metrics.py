"""Metrics of synergy scores and labels: over all combinations, with rank correlation and a stated threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from geoattn.domains.metrics import Entry, evaluate
from geoattn.domains.synergy.baselines import Task


def evaluate_combinations(
    score: ArrayLike,
    prediction: ArrayLike,
    task: Task,
    *,
    threshold: float | None = None,
    cells: ArrayLike | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    """The metrics of a task.

    Args:
        score: ``[P]`` scores, or labels; NaN is a gap.
        prediction: ``[P]`` scores, or probabilities of class 1.
        task: ``mae rmse r2 pearson`` and ``spearman`` for regression; ``roc_auc pr_auc accuracy`` for classification.
        threshold: regression: ``roc_auc`` and ``pr_auc`` too, of scores of at least this against the others.
        cells: ``[P]`` names of the cell lines: ``macro_pearson`` or ``macro_roc_auc`` too, the mean over cell lines of
            each one's own, which knowing that some cell lines show more synergy than others does not raise.
        num_bootstrap: resamplings of the rows; the means over cell lines have no interval.
        seed: of the resampling.

    Returns:
        Per metric ``value``, ``ci95`` and ``n``, as `geoattn.domains.metrics.evaluate` has them. ``n`` of a mean over
        cell lines is how many have one.

    Example:
        >>> found = evaluate_combinations([1.0, 2.0, 4.0], [0.0, 1.0, 9.0], "regression", threshold=3.0)
        >>> found["spearman"]["value"], found["roc_auc"]["value"]
        (1.0, 1.0)
    """
    y, p = (np.asarray(values, dtype=np.float64).reshape(-1, 1) for values in (score, prediction))
    entries = evaluate(y, p, task, num_bootstrap=num_bootstrap, seed=seed)
    known = ~np.isnan(y[:, 0])
    if task == "regression":
        entries["spearman"] = _spearman(y[known], p[known], num_bootstrap, seed)
        if threshold is not None:
            classes = np.where(np.isnan(y), np.nan, y >= threshold)
            found = evaluate(classes, p, "classification", num_bootstrap=num_bootstrap, seed=seed)
            entries |= {name: found[name] for name in ("roc_auc", "pr_auc")}
    if cells is not None:
        metric = "pearson" if task == "regression" else "roc_auc"
        entries[f"macro_{metric}"] = _macro(y[known, 0], p[known, 0], np.asarray(cells)[known], metric)
    return entries


def per_group(
    score: ArrayLike, prediction: ArrayLike, groups: Sequence[Sequence[str]], task: Task, num_bootstrap: int = 200
) -> pd.DataFrame:
    """The errors group by group, e.g. cell line by cell line; a row may be in several groups, as a pair has two drugs.

    Args:
        score: ``[P]`` scores, or labels.
        prediction: ``[P]`` scores, or probabilities of class 1.
        groups: the names of the groups of each row.
        task: what the scores are.
        num_bootstrap: resamplings for the intervals.

    Returns:
        One row per group, the largest first: ``name``, ``n``; ``rmse`` with ``rmse_low`` and ``rmse_high`` (95 %),
        ``pearson`` and ``bias`` (mean of predicted - measured) for regression; ``positive``, ``roc_auc`` with
        ``roc_auc_low`` and ``roc_auc_high`` for classification. What is not defined is NaN.
    """
    y, p = (np.asarray(values, dtype=np.float64) for values in (score, prediction))
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(groups):
        for name in names:
            rows.setdefault(name, []).append(row)
    table = []
    for name, chosen in sorted(rows.items(), key=lambda item: -len(item[1])):
        found = evaluate(y[chosen, None], p[chosen, None], task, num_bootstrap=num_bootstrap)
        metric = "rmse" if task == "regression" else "roc_auc"
        low, high = found[metric]["ci95"] or (None, None)
        entry = {"name": name, "n": len(chosen)}
        entry |= {} if task == "regression" else {"positive": int(y[chosen].sum())}
        entry |= {metric: found[metric]["value"], f"{metric}_low": low, f"{metric}_high": high}
        if task == "regression":
            entry |= {"pearson": found["pearson"]["value"], "bias": float(np.mean(p[chosen] - y[chosen]))}
        table.append(entry)
    whole = ("name", "n", "positive")
    frame = pd.DataFrame(table)
    return frame.astype({column: float for column in frame if column not in whole})


def _spearman(y: np.ndarray, p: np.ndarray, num_bootstrap: int, seed: int) -> Entry:
    """Pearson's r of the ranks among all rows; a resampling keeps these ranks."""
    if np.isnan(p).any():
        return {"value": None, "ci95": None, "n": len(y), "reason": "a prediction is NaN"}
    y, p = rankdata(y, axis=0), rankdata(p, axis=0)
    return evaluate(y, p, "regression", num_bootstrap=num_bootstrap, seed=seed)["pearson"]


def _macro(y: np.ndarray, p: np.ndarray, cells: np.ndarray, metric: str) -> Entry:
    task: Task = "regression" if metric == "pearson" else "classification"
    values = []
    for name in np.unique(cells):
        rows = cells == name
        value = evaluate(y[rows, None], p[rows, None], task, num_bootstrap=0)[metric]["value"]
        if value is not None:
            values.append(value)
    if not values:
        return {"value": None, "ci95": None, "n": 0, "reason": f"no cell line has a {metric}"}
    return {"value": float(np.mean(values)), "ci95": None, "n": len(values)}
