"""Metrics of predicted binding: over all pairs, epitope by epitope, and how honest the probabilities are.

The score over all pairs rewards a model for knowing which epitopes have many binders in the file. The mean over
epitopes of each one's own ROC AUC does not: it is the number that speaks about receptors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geoattn.domains.metrics import CLASSIFICATION, Entry, evaluate, resampled
from geoattn.errors import ShapeError

PER_CLASS = 5
"""An epitope enters the macro average if it has this many pairs of each class."""


def evaluate_pairs(
    label: ArrayLike,
    score: ArrayLike,
    epitope: Sequence[str],
    *,
    per_class: int = PER_CLASS,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    """``roc_auc``, ``pr_auc`` and ``accuracy`` (from 0.5 up it binds) over all pairs, and ``macro_roc_auc``.

    Args:
        label: ``[P]`` 1 binds, 0 does not; NaN is a gap.
        score: ``[P]`` probabilities.
        epitope: ``[P]`` what names the epitope of a pair.
        per_class: how many pairs of each class an epitope needs to enter the macro average.
        num_bootstrap: resamplings. Those of the macro average draw pairs within each class of each epitope, so that
            it stays defined: its interval is about the pairs, for these epitopes.
        seed: of the resampling.

    Returns:
        Per metric ``value``, ``ci95`` and ``n``, as `geoattn.domains.metrics.evaluate` has them; ``n`` of
        ``macro_roc_auc`` is the number of epitopes.

    Example:
        >>> label, score = [1, 0, 1, 0], [0.9, 0.8, 0.3, 0.2]
        >>> found = evaluate_pairs(label, score, ["A", "A", "B", "B"], per_class=1)
        >>> found["roc_auc"]["value"], found["macro_roc_auc"]["value"], found["macro_roc_auc"]["n"]
        (0.75, 1.0, 2)
    """
    y, p, names = _checked(label, score, epitope)
    entries = evaluate(y[:, None], p[:, None], "classification", num_bootstrap=num_bootstrap, seed=seed)
    if np.isnan(p).any():
        entries["macro_roc_auc"] = _undefined("a prediction is NaN")
        return entries
    rows = [found for found in _epitopes(y, p, names, num_bootstrap, seed) if min(found[1:3]) >= per_class]
    if not rows:
        entries["macro_roc_auc"] = _undefined(f"no epitope has {per_class} pairs of each class")
        return entries
    entries["macro_roc_auc"] = _entry(np.mean([aucs["roc_auc"] for *_, aucs in rows], axis=0), len(rows))
    return entries


def per_epitope(
    label: ArrayLike,
    score: ArrayLike,
    epitope: Sequence[str],
    train_label: ArrayLike,
    train_epitope: Sequence[str],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Each epitope by itself, those with the most positive pairs first.

    Args:
        label, score, epitope, num_bootstrap, seed: see `evaluate_pairs`.
        train_label, train_epitope: ``[M]`` of the training pairs.

    Returns:
        Columns ``epitope``, ``n_pos``, ``n_neg``, ``train_pos`` (positive training pairs), ``seen`` (whether there is
        a training pair of any class), ``roc_auc`` with its 95 % interval ``roc_auc_low`` and ``roc_auc_high``, and
        the same of ``pr_auc``. They are NaN for an epitope with one class only.
    """
    y, p, names = _checked(label, score, epitope)
    if np.isnan(p).any():
        raise ShapeError("score", "NaN", "numbers")
    in_training = pd.Series(np.asarray(train_label, dtype=np.float64)).groupby(np.asarray(train_epitope, dtype=object))
    train_pos, seen = in_training.sum(), in_training.size()
    rows = []
    for name, n_pos, n_neg, aucs in _epitopes(y, p, names, num_bootstrap, seed):
        row = {"epitope": name, "n_pos": n_pos, "n_neg": n_neg}
        row |= {"train_pos": int(train_pos.get(name, 0)), "seen": name in seen.index}
        for metric in ("roc_auc", "pr_auc"):
            entry: Entry = _entry(aucs[metric], 1) if aucs else {"value": np.nan, "ci95": None}
            low, high = entry["ci95"] or (np.nan, np.nan)
            row |= {metric: entry["value"], f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    columns = ["epitope", "n_pos", "n_neg", "train_pos", "seen"]
    columns += [metric + end for metric in ("roc_auc", "pr_auc") for end in ("", "_low", "_high")]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["n_pos", "epitope"], ascending=[False, True], ignore_index=True)


def calibration(
    label: ArrayLike, probability: ArrayLike, *, bins: int = 10, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Entry]:
    r"""``ece``, the expected calibration error, and ``brier``, the mean of :math:`(p - y)^2`.

    .. math:: \mathrm{ece} = \sum_b \frac{n_b}{n} |\overline{y}_b - \overline{p}_b|

    over bins of the probability that hold about as many pairs each; equal probabilities share a bin. The bins stay
    when pairs are drawn again. An ``ece`` of few pairs is too large even for an honest model, and its interval, which
    adds the chance of drawing to the chance in the data, lies higher still.

    Args:
        label: ``[P]``; NaN is a gap.
        probability: ``[P]`` between 0 and 1.
        bins: at most this many.
        num_bootstrap, seed: resamplings of the pairs.

    Example:
        >>> found = calibration([0, 1, 1, 1], [0.5, 0.5, 1.0, 1.0], bins=2)
        >>> found["ece"]["value"], found["brier"]["value"]
        (0.0, 0.125)
    """
    y, p, _ = _checked(label, probability, None)
    if not len(y) or np.isnan(p).any():
        reason = "a prediction is NaN" if len(y) else "no row has a value"
        return {"ece": _undefined(reason), "brier": _undefined(reason)}
    if p.min() < 0 or p.max() > 1:
        raise ShapeError("probability", f"values from {p.min():.3g} to {p.max():.3g}", "0 to 1", "Apply a sigmoid.")
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="lower"))
    in_bin = np.searchsorted(edges, p, side="left")[:, None] == np.arange(len(edges) + 1)
    weights = _weights(np.random.default_rng(seed), num_bootstrap, len(y))
    gaps = np.abs(weights @ (in_bin * (y - p)[:, None])).sum(axis=1) / len(y)
    return {"ece": _entry(gaps, len(y)) | {"ci95": None}, "brier": _entry(weights @ (y - p) ** 2 / len(y), len(y))}


def _checked(
    label: ArrayLike, score: ArrayLike, epitope: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns without the rows that have no label."""
    y, p = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    names = np.zeros(y.shape) if epitope is None else np.asarray(epitope, dtype=object)
    if y.ndim != 1 or y.shape != p.shape or y.shape != names.shape:
        raise ShapeError("score", f"shape {p.shape}", f"[P] as label {y.shape} and epitope {names.shape}")
    known = ~np.isnan(y)
    if not np.isin(y[known], (0, 1)).all():
        raise ShapeError("label", f"values like {y[known][~np.isin(y[known], (0, 1))][0]:g}", "0 and 1")
    return y[known], p[known], names[known]


def _epitopes(
    y: np.ndarray, p: np.ndarray, names: np.ndarray, num_bootstrap: int, seed: int
) -> Iterator[tuple[str, int, int, dict[str, np.ndarray]]]:
    """Name, positives, negatives, and per metric ``[1 + R]`` the value and its replicates (none for one class)."""
    rng = np.random.default_rng(seed)
    order = np.argsort(names, kind="stable")
    for rows in np.split(order, np.flatnonzero(names[order][1:] != names[order][:-1]) + 1) if len(order) else ():
        rows = rows[np.argsort(y[rows], kind="stable")]
        n_pos = int(y[rows].sum())
        n_neg = len(rows) - n_pos
        aucs = {}
        if n_pos and n_neg:
            weights = np.hstack([_weights(rng, num_bootstrap, n) for n in (n_neg, n_pos)])
            aucs = {metric: CLASSIFICATION[metric](y[rows], p[rows], weights) for metric in ("roc_auc", "pr_auc")}
        yield names[rows[0]], n_pos, n_neg, aucs


def _weights(rng: np.random.Generator, num_bootstrap: int, num_rows: int) -> np.ndarray:
    """``[1 + R, n]``: ones, which are the data themselves, and how often each row was drawn."""
    return np.vstack([np.ones((1, num_rows)), resampled(rng, num_bootstrap, num_rows)])


def _entry(values: np.ndarray, count: int) -> Entry:
    """Of the value and its replicates."""
    interval = [float(bound) for bound in np.quantile(values[1:], [0.025, 0.975])] if len(values) > 1 else None
    return {"value": float(values[0]), "ci95": interval, "n": count}


def _undefined(reason: str) -> Entry:
    return {"value": None, "ci95": None, "n": 0, "reason": reason}
