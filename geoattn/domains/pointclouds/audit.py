"""What the parts of a split share: the same points, as they are or turned, moved, scaled and a little noisy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geoattn.domains.pointclouds.records import Cloud

NUM_EXAMPLES = 10
PAIRS = (("train", "test"), ("train", "valid"), ("valid", "test"))
CANDIDATES = 3
"""Clouds of the other part that are compared point by point."""
NEAR_FORM = 0.01
"""Clouds whose distances from their middles, or extents along principal axes, differ more, are others."""
NEAR_CHAMFER = 0.5
"""Copies whose points moved by less than about half of what lies between neighbours are found."""
NUM_POINTS = 1024
_QUANTILES = 64
_STEPS = 3  # of aligning
_HOPELESS = 1.5  # times the distance of neighbours, along principal axes: aligning would not help
_DIGITS = 4
_HALF_TURNS = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def audit(clouds: Sequence[Cloud], split: Mapping[str, Sequence[int]], *, near: bool = True) -> dict[str, Any]:
    """Count what the parts of a split share.

    Every count is of clouds of the second part. ``identical``: one of the first part has the same points, in any order,
    to four digits of its size. ``near_copy``: one of the first part has the same points after moving, scaling and
    turning, but for noise below half of the distance of neighbours (identical ones count too). ``other_class``: the
    copy has another label.

    Copies are looked for among the three clouds whose distances from their middles are distributed most alike. The
    two are aligned by their principal axes, then step by step (iterative closest points), and compared by the mean
    distance of nearest points. A surface that was sampled twice is not found: whether two samples are of one surface,
    or of two that are alike, cannot be told from about a thousand points.

    Args:
        clouds: with or without labels.
        split: row numbers under train, valid and test.
        near: whether to look for near copies.

    Returns:
        ``{"sizes": {part: n}, "duplicates": n, "contradictory": n, "left_out": n, "pairs": {"train/test":
        {"identical": n, ...}, ...}, "examples": [{"pair", "id", "other_id", "what", "ratio"}, ...]}``, JSON values.
        ``duplicates`` are clouds with the points of an earlier one, ``contradictory`` those whose points stand with
        two labels, ``left_out`` clouds in no part. ``examples`` are copies between train and test.

    Cost: 0.5 ms per cloud and 3 to 10 ms for each candidate; 12 s for 4,400 clouds.
    """
    prints = [fingerprint(cloud) for cloud in clouds]
    labels: dict[str, set[int | None]] = {}
    for key, cloud in zip(prints, clouds, strict=True):
        labels.setdefault(key, set()).add(cloud.label)
    forms = np.stack([_form(cloud) for cloud in clouds]) if near else None
    found = {pair: _copies(clouds, split[pair[0]], split[pair[1]], prints, forms) for pair in PAIRS}
    return {
        "sizes": {part: len(rows) for part, rows in split.items()},
        "duplicates": len(clouds) - len(set(prints)),
        "contradictory": sum(len(labels[key]) > 1 for key in prints),
        "left_out": len(clouds) - sum(len(rows) for rows in split.values()),
        "pairs": {"/".join(pair): _counts(clouds, copies, near) for pair, copies in found.items()},
        "examples": [
            {
                "pair": "train/test",
                "id": clouds[row].id,
                "other_id": clouds[other].id,
                "what": "identical" if ratio == 0 else "near_copy",
                "ratio": round(ratio, 3),
            }
            for row, (other, ratio) in list(found["train", "test"].items())[:NUM_EXAMPLES]
        ],
    }


def audit_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The counts of `audit` as rows of a table: parts, what, count, of (size of the second part), percent."""
    rows = []
    for pair, counts in report["pairs"].items():
        size = report["sizes"][pair.split("/")[1]]
        for what, count in counts.items():
            percent = round(100 * count / size, 1) if size else 0.0
            rows.append({"parts": pair, "what": what, "count": count, "of": size, "percent": percent})
    return rows


def fingerprint(cloud: Cloud) -> str:
    """The same for the same points in any order: a hash of the sorted coordinates, to four digits of the size."""
    points = cloud.points.astype(np.float64)
    size = np.ptp(points, axis=0).max() or 1.0
    cells = np.round(points * (10**_DIGITS / size)).astype(np.int64)
    return hashlib.blake2b(cells[np.lexsort(cells.T)].tobytes(), digest_size=16).hexdigest()


def chamfer_ratio(cloud: Cloud, other: Cloud) -> float:
    """How far apart two clouds are after moving, scaling and turning one onto the other.

    Returns:
        The mean distance of a point of one to the nearest of the other (both ways), over the same distance between
        points within each: 0 for the same points, about 1 for two samples of one surface, more for other surfaces.
    """
    from scipy.spatial import cKDTree

    a, b = _in_frame(cloud), _in_frame(other)
    tree = cKDTree(a)
    within = float(np.mean([t.query(t.data, k=2)[0][:, 1].mean() for t in (tree, cKDTree(b))]))
    starts = [tree.query(b[::4] * signs)[0].mean() for signs in _HALF_TURNS]
    moved, best = b * _HALF_TURNS[int(np.argmin(starts))], float(min(starts))
    if best > _HOPELESS * within:
        return best / within if within > 0 else float("inf")
    best = np.inf
    for _ in range(_STEPS):
        forth, nearest = tree.query(moved)
        back, _ = cKDTree(moved).query(a)
        best = min(best, float(forth.mean() + back.mean()) / 2)
        moved = moved @ _rotation_onto(moved, a[nearest]).T
    return best / within if within > 0 else (0.0 if best == 0 else float("inf"))


def _copies(
    clouds: Sequence[Cloud],
    first: Sequence[int],
    second: Sequence[int],
    prints: Sequence[str],
    forms: np.ndarray | None,
) -> dict[int, tuple[int, float]]:
    """Row of the second part -> (row of the first that it is nearest to, ratio), for copies alone."""
    holder: dict[str, int] = {}
    for row in first:
        holder.setdefault(prints[row], row)
    copies = {row: (holder[prints[row]], 0.0) for row in second if prints[row] in holder}
    if forms is None or not len(first):
        return copies
    base = forms[np.asarray(first)]
    for row in second:
        if row in copies:
            continue
        difference = np.abs(base - forms[row])
        apart = np.maximum(difference[:, :_QUANTILES].mean(axis=1), difference[:, _QUANTILES:].max(axis=1))
        places = np.argsort(apart, kind="stable")[:CANDIDATES]
        ratios = {int(first[k]): chamfer_ratio(clouds[row], clouds[first[k]]) for k in places if apart[k] <= NEAR_FORM}
        ratios = {other: ratio for other, ratio in ratios.items() if ratio <= NEAR_CHAMFER}
        if ratios:
            same = {o: r for o, r in ratios.items() if clouds[o].label == clouds[row].label} or ratios
            other = min(same, key=lambda o: same[o])
            copies[row] = (other, max(same[other], 1e-6))
    return {row: copies[row] for row in second if row in copies}


def _counts(clouds: Sequence[Cloud], copies: Mapping[int, tuple[int, float]], near: bool) -> dict[str, int]:
    counts = {"identical": sum(ratio == 0 for _, ratio in copies.values())}
    if near:
        counts["near_copy"] = len(copies)
        counts["other_class"] = sum(clouds[row].label != clouds[other].label for row, (other, _) in copies.items())
    return counts


def _centered(cloud: Cloud) -> np.ndarray:
    """About the mean, with a mean square radius of 1."""
    points = cloud.points.astype(np.float64)
    points = points - points.mean(axis=0)
    return points / (np.sqrt((points**2).sum(axis=1).mean()) or 1.0)


def _form(cloud: Cloud) -> np.ndarray:
    """``[64 + 3]`` quantiles of the distance from the mean and standard deviations along principal axes: the same
    however a cloud is turned, moved, scaled and ordered."""
    points = _centered(cloud)
    quantiles = np.quantile(np.linalg.norm(points, axis=1), (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    spread = np.linalg.eigvalsh(points.T @ points / len(points))
    return np.r_[quantiles, np.sqrt(np.maximum(spread, 0))]


def _in_frame(cloud: Cloud) -> np.ndarray:
    """Along principal axes (a right-handed frame); of large clouds the outermost points, which copies have too."""
    points = _centered(cloud)
    _, axes = np.linalg.eigh(points.T @ points)
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    if len(points) > NUM_POINTS:
        points = points[np.argpartition((points**2).sum(axis=1), -NUM_POINTS)[-NUM_POINTS:]]
    return points @ axes


def _rotation_onto(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``[3, 3]``: the rotation R for which ``points @ R.T`` is nearest to ``target``, both ``[N, 3]`` (Kabsch)."""
    left, _, right = np.linalg.svd(points.T @ target)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return (left * flip @ right).T
