"""Metrics of clouds: classes, classes of points, partitions and normals, with 95 % bootstrap intervals over clouds.

Clouds are drawn again as wholes, because the points of one cloud say nearly the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geoattn.domains.metrics import Entry, resampled
from geoattn.errors import ShapeError

HIGHER_IS_BETTER = frozenset(
    {"accuracy", "macro_accuracy", "miou", "shape_miou", "rand_index", "below_10", "below_30", "oriented_below_30"}
)


def evaluate_classes(
    label: ArrayLike, predicted: ArrayLike, *, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Entry]:
    """``accuracy``, and ``macro_accuracy``: the mean over the classes of the share of each that is recognised.

    Args:
        label: ``[M]`` classes.
        predicted: ``[M]`` classes, or ``[M, K]`` scores of which the largest counts.
        num_bootstrap: resamplings; those of the macro average draw clouds within each class, so that it stays defined.
        seed: of the resampling.

    Returns:
        Per metric ``value``, ``ci95`` and ``n``, as `geoattn.domains.metrics.evaluate` has them; ``n`` of
        ``macro_accuracy`` is the number of classes. Where all clouds are right, or all wrong, drawing them again says
        nothing, and the interval of ``accuracy`` is Wilson's (1927) for a share.

    Example:
        >>> found = evaluate_classes([0, 0, 0, 1], [0, 0, 0, 0])
        >>> found["accuracy"]["value"], found["macro_accuracy"]["value"]
        (0.75, 0.5)
    """
    y, p = _classes(label, predicted)
    if not len(y):
        return {name: _undefined("there is no cloud") for name in ("accuracy", "macro_accuracy")}
    rng = np.random.default_rng(seed)
    hit = (y == p).astype(np.float64)
    accuracy = _weights(rng, num_bootstrap, len(y)) @ hit / len(y)
    classes = np.unique(y)
    macro = [_weights(rng, num_bootstrap, int((y == k).sum())) @ hit[y == k] / (y == k).sum() for k in classes]
    share = _entry(accuracy, len(y))
    if hit.min() == hit.max() and share["ci95"] is not None:
        share["ci95"] = _wilson(float(hit[0]), len(y))
    return {
        "accuracy": share,
        "macro_accuracy": _entry(np.mean(macro, axis=0), len(classes)),
    }


def confusion(label: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> pd.DataFrame:
    """Counts: one row per true class, one column per predicted class, in the order of ``class_names``."""
    from sklearn.metrics import confusion_matrix

    y, p = _classes(label, predicted)
    counts = confusion_matrix(y, p, labels=np.arange(len(class_names)))
    return pd.DataFrame(counts, index=pd.Index(class_names, name="true"), columns=list(class_names))


def evaluate_segments(
    truth: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    *,
    parts: Sequence[Sequence[int]] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Entry]:
    """``accuracy``, ``miou`` and ``shape_miou`` of classes of points. Points of class -1 count for nothing.

    ``miou`` is the mean over classes of intersection over union of all points, as for scenes; ``shape_miou`` the mean
    over clouds of the mean over the classes ``parts`` of that cloud, as for the parts of shapes (a class that is
    neither there nor predicted counts 1).

    Args:
        truth: ``[N]`` classes of the points of each cloud.
        predicted: the same.
        parts: the classes that each cloud may have; the classes that occur in its truth if left out, which is milder.
        num_bootstrap: resamplings of the clouds.
        seed: of the resampling.

    Returns:
        As `evaluate_classes`; ``n`` is the number of points, classes and clouds.

    Example:
        >>> found = evaluate_segments([np.array([0, 0, 1, 1])], [np.array([0, 0, 0, 1])])
        >>> round(found["miou"]["value"], 4)
        0.5833
    """
    known = [segment >= 0 for segment in _checked(truth, predicted)]
    y = [segment[mask] for segment, mask in zip(truth, known, strict=True)]
    p = [segment[mask] for segment, mask in zip(predicted, known, strict=True)]
    names = ("accuracy", "miou", "shape_miou")
    if not sum(map(len, y)):
        return {name: _undefined("no point has a class") for name in names}
    size = 1 + max(int(values.max()) for values in (*y, *p, *map(np.array, parts or ())) if len(values))
    tables = np.stack([_overlap(a, b, size) for a, b in zip(y, p, strict=True)])  # [M, 3, S]: both, true, predicted
    weights = _weights(np.random.default_rng(seed), num_bootstrap, len(y))
    both, true, said = np.einsum("rm,mks->krs", weights, tables)
    there = tables[:, 1].sum(axis=0) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        present = (true + said - both > 0)[:, there]  # a resampling may have no point of a class
        iou = np.where(present, (both / (true + said - both))[:, there], 0.0).sum(axis=1) / present.sum(axis=1)
        accuracy = both.sum(axis=1) / true.sum(axis=1)
        per_shape = np.where((union := tables[:, 1] + tables[:, 2] - tables[:, 0]) > 0, tables[:, 0] / union, 1.0)
    chosen = [table[1] > 0 for table in tables] if parts is None else [np.isin(np.arange(size), part) for part in parts]
    some = np.array([mask.any() for mask in chosen])
    shape = np.array([row[mask].mean() if mask.any() else 0.0 for row, mask in zip(per_shape, chosen, strict=True)])
    return {
        "accuracy": _entry(accuracy, sum(map(len, y))),
        "miou": _entry(iou, int(there.sum())),
        "shape_miou": _ratio(weights, shape * some, some.astype(np.float64)),
    }


def evaluate_partitions(
    truth: Sequence[np.ndarray], predicted: Sequence[np.ndarray], *, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Entry]:
    """``rand_index`` of partitions whose numbers mean nothing: the share of pairs of points that both put together or
    both put apart, averaged over clouds; and ``rand_error``, 1 minus that. Points of class -1 count for nothing.

    Args and returns: as `evaluate_segments`.
    """
    from sklearn.metrics import rand_score

    known = [segment >= 0 for segment in _checked(truth, predicted)]
    scores = np.array([rand_score(y[m], p[m]) for y, p, m in zip(truth, predicted, known, strict=True) if m.sum() > 1])
    if not len(scores):
        return {name: _undefined("no cloud has two points with a class") for name in ("rand_index", "rand_error")}
    weights = _weights(np.random.default_rng(seed), num_bootstrap, len(scores))
    means = weights @ scores / len(scores)
    return {"rand_index": _entry(means, len(scores)), "rand_error": _entry(1 - means, len(scores))}


def evaluate_normals(
    truth: Sequence[np.ndarray], predicted: Sequence[np.ndarray], *, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Entry]:
    """Angles between normals in degrees: of lines (a normal and its opposite are the same), then of arrows.

    Args:
        truth: ``[N, 3]`` normals of length 1 of each cloud.
        predicted: the same, of any length but 0.
        num_bootstrap: resamplings of the clouds.
        seed: of the resampling.

    Returns:
        As `evaluate_classes`, means over all points: ``angle``, ``below_10`` and ``below_30`` (shares of points) of
        lines, ``oriented_angle`` and ``oriented_below_30`` of arrows. ``n`` is the number of points.

    Example:
        >>> up = np.array([[0.0, 0.0, 1.0]])
        >>> found = evaluate_normals([up], [-up])
        >>> found["angle"]["value"], found["oriented_angle"]["value"]
        (0.0, 180.0)
    """
    _checked(truth, predicted)
    names = ("angle", "below_10", "below_30", "oriented_angle", "oriented_below_30")
    if not sum(map(len, truth)):
        return {name: _undefined("there is no point") for name in names}
    angle = [angles(y, p) for y, p in zip(truth, predicted, strict=True)]
    line = [np.minimum(a, 180 - a) for a in angle]
    weights = _weights(np.random.default_rng(seed), num_bootstrap, len(truth))
    counts = np.array([len(a) for a in angle], dtype=np.float64)
    functions: tuple[tuple[list[np.ndarray], Callable[[np.ndarray], np.ndarray]], ...] = (
        (line, lambda a: a),
        (line, lambda a: a < 10),
        (line, lambda a: a < 30),
        (angle, lambda a: a),
        (angle, lambda a: a < 30),
    )
    return {
        name: _ratio(weights, np.array([function(a).sum() for a in values], dtype=np.float64), counts)
        for name, (values, function) in zip(names, functions, strict=True)
    }


def angles(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """``[N]`` degrees from 0 to 180 between vectors ``[N, 3]``; exact also for tiny angles, unlike the arc cosine."""
    y, p = truth.astype(np.float64), predicted.astype(np.float64)
    sine, cosine = np.linalg.norm(np.cross(y, p), axis=1), (y * p).sum(axis=1)
    return np.degrees(np.arctan2(sine, cosine))


def _classes(label: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, p = np.asarray(label), np.asarray(predicted)
    p = p.argmax(axis=1) if p.ndim == 2 else p
    if y.ndim != 1 or y.shape != p.shape:
        raise ShapeError("predicted", f"shape {np.shape(predicted)}", f"[M] or [M, K] as label {y.shape}")
    return y, p


def _checked(truth: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    if len(truth) != len(predicted):
        raise ShapeError("predicted", f"{len(predicted)} clouds", f"{len(truth)}, as truth")
    for k, (y, p) in enumerate(zip(truth, predicted, strict=True)):
        if y.shape != p.shape:
            raise ShapeError("predicted", f"shape {p.shape} of cloud {k}", f"{y.shape}, as truth")
    return truth


def _overlap(y: np.ndarray, p: np.ndarray, size: int) -> np.ndarray:
    """``[3, S]``: points that are of a class and said to be, that are, that are said to be."""
    said = p[p >= 0]
    return np.stack([np.bincount(values, minlength=size) for values in (y[y == p], y, said)])


def _ratio(weights: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> Entry:
    """The mean of what clouds add up to ``sums [M]`` over ``counts [M]``."""
    if not counts.sum():
        return _undefined("there is nothing to average")
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (weights @ sums) / (weights @ counts)
    return _entry(values, int(counts.sum()))


def _weights(rng: np.random.Generator, num_bootstrap: int, num_rows: int) -> np.ndarray:
    """``[1 + R, n]``: ones, which are the data themselves, and how often each row was drawn."""
    return np.vstack([np.ones((1, num_rows)), resampled(rng, num_bootstrap, num_rows)])


def _entry(values: np.ndarray, count: int) -> Entry:
    """Of the value and its replicates."""
    again = values[1:][np.isfinite(values[1:])]
    interval = [float(bound) for bound in np.quantile(again, [0.025, 0.975])] if len(again) else None
    return {"value": float(values[0]), "ci95": interval, "n": count}


def _wilson(share: float, count: int) -> list[float]:
    """The 95 % interval of Wilson (1927) for a share of 0 or 1."""
    reach = 1.959964**2 / (count + 1.959964**2)
    return [max(0.0, share - reach), min(1.0, share + reach)]


def _undefined(reason: str) -> Entry:
    return {"value": None, "ci95": None, "n": 0, "reason": reason}
