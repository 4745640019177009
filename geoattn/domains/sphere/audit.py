"""What the parts of a split of fields share: the same fields, moments near in time, places near each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from geoattn.geometry.sphere import SpherePoints

PAIRS = (("train", "test"), ("train", "valid"), ("valid", "test"))
DEGREES = (2.0, 5.0, 10.0)
"""Distances to the training area of which the share of test area is told, for parts of a globe."""


def audit(
    keys: Sequence[str],
    times: Sequence[Sequence[int]],
    targets: Sequence[int | None],
    group: np.ndarray,
    split: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Count what the parts of a split of samples share.

    Every count is of samples of the second part. ``identical``: one of the first part has the same inputs.
    ``same_moment``: a state that it reads or predicts is one that the first part reads or predicts.
    ``near_in_time``: one of its states is fewer states away from one of the first part, in the same series or
    trajectory, than its own target is from its last state (these count ``same_moment`` too): of such samples much is
    known from training.

    Args:
        keys: one per sample, the same for the same inputs.
        times: the states that each sample reads, as rows of the file.
        targets: the state that each predicts.
        group: ``[S]`` the trajectory of each state of the file; within one, rows follow each other in time.
        split: sample numbers under train, valid and test.

    Returns:
        ``{"sizes": {part: n}, "duplicates": n, "pairs": {"train/test": {"identical": n, "same_moment": n,
        "near_in_time": n}, ...}, "rows": [{"parts", "what", "count", "of", "percent"}, ...]}``, JSON values;
        ``duplicates`` are samples with the inputs of an earlier one.

    Example:
        >>> series = [[0], [1], [2], [5]], [1, 2, 3, 6]
        >>> found = audit("abcd", *series, np.zeros(7, int), {"train": [0, 1], "valid": [], "test": [2, 3]})
        >>> found["pairs"]["train/test"]
        {'identical': 0, 'same_moment': 1, 'near_in_time': 1}
    """
    place = _places(group)
    states = [
        np.array(sorted({*seen, *([] if target is None else [target])}), dtype=np.int64)
        for seen, target in zip(times, targets, strict=True)
    ]
    lead = [
        0 if target is None else abs(int(place[target]) - int(place[seen[-1]]))
        for seen, target in zip(times, targets, strict=True)
    ]
    sizes = {part: len(rows) for part, rows in split.items()}
    pairs = {}
    for a, b in PAIRS:
        known = {keys[row] for row in split[a]}
        of_group = _by_group([states[row] for row in split[a]], group, place)
        distances = [_distance(states[row], of_group, group, place) for row in split[b]]
        pairs[f"{a}/{b}"] = {
            "identical": sum(keys[row] in known for row in split[b]),
            "same_moment": sum(distance == 0 for distance in distances),
            "near_in_time": sum(
                distance < max(lead[row], 1) for row, distance in zip(split[b], distances, strict=True)
            ),
        }
    return {"sizes": sizes, "duplicates": len(keys) - len(set(keys)), "pairs": pairs, "rows": _rows(pairs, sizes)}


def audit_regions(points: SpherePoints, used: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How near the parts of a globe are to each other.

    Args:
        points: of the grid.
        used: part -> ``[N]`` bool, the points whose targets it has.

    Returns:
        ``{"sizes": {part: points}, "pairs": {"train/test": {"within_2_degrees": points, ...}, ...}, "rows": [{"parts",
        "what", "count", "of", "percent"}, ...]}``, JSON values. Counts are points of the second part so near to one of
        the first; percents are of its area.
    """
    weight = points.weight.numpy()
    sizes = {part: int(chosen.sum()) for part, chosen in used.items()}
    pairs: dict[str, dict[str, int]] = {}
    rows = []
    for a, b in PAIRS:
        angle = np.full(sizes[b], np.inf)
        if sizes[a] and sizes[b]:
            xyz = points.xyz.numpy()
            chord, _ = cKDTree(xyz[used[a]]).query(xyz[used[b]])
            angle = np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))
        area, pair = weight[used[b]], {}
        for degrees in DEGREES:
            near, what = angle <= degrees, f"within_{degrees:g}_degrees"
            pair[what] = int(near.sum())
            percent = round(100 * float(area[near].sum() / max(area.sum(), 1e-300)), 1)
            rows.append({"parts": f"{a}/{b}", "what": what, "count": pair[what], "of": sizes[b], "percent": percent})
        pairs[f"{a}/{b}"] = pair
    return {"sizes": sizes, "pairs": pairs, "rows": rows}


def _places(group: np.ndarray) -> np.ndarray:
    """``[S]``: the how-manieth state of its trajectory each is."""
    place = np.zeros(len(group), dtype=np.int64)
    for number in np.unique(group):
        rows = np.flatnonzero(group == number)
        place[rows] = np.arange(len(rows))
    return place


def _by_group(states: Sequence[np.ndarray], group: np.ndarray, place: np.ndarray) -> dict[int, np.ndarray]:
    rows = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *states]))
    return {int(number): np.sort(place[rows[group[rows] == number]]) for number in np.unique(group[rows])}


def _distance(states: np.ndarray, known: Mapping[int, np.ndarray], group: np.ndarray, place: np.ndarray) -> float:
    """States between the nearest two of a sample and of the other part; infinite if they share no trajectory."""
    there = known.get(int(group[states[0]]))
    if there is None:
        return float("inf")
    here = place[states]
    after = np.searchsorted(there, here).clip(0, len(there) - 1)
    apart = np.minimum(np.abs(there[after] - here), np.abs(there[np.maximum(after - 1, 0)] - here))
    return float(apart.min())


def _rows(pairs: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"parts": pair, "what": what, "count": count, "of": size, "percent": round(100 * count / max(1, size), 1)}
        for pair, counts in pairs.items()
        for what, count in counts.items()
        for size in [sizes[pair.split("/")[1]]]
    ]
