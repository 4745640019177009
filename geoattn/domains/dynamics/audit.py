"""What the parts of a split share: the same, or nearly the same, initial state on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from geoattn.domains.dynamics.systems import Systems

NEAR = 0.01
"""Two states are nearly the same if no invariant differs by more than this, in units of its spread."""


def system_keys(systems: Systems) -> list[str]:
    """A short hash of the initial state of each system, by which a copy is found in another file.

    Of its `invariants` to four significant digits of the largest: copies that were moved, rotated, reflected or whose
    bodies were renumbered have the same key, unless a rounding falls between.
    """
    return [
        hashlib.sha256(np.round(row / (np.abs(row).max(initial=0) or 1), 4).tobytes() + bytes([1])).hexdigest()[:12]
        for row in invariants(systems)
    ]


def invariants(systems: Systems) -> list[np.ndarray]:
    """Per system what no motion of it changes: distances of the bodies, speeds, charges, scalars; each kind sorted.

    Two different states can share them; that is rare enough for counting copies.
    """
    ptr, edge_ptr = systems.ptr, systems.edge_ptr
    rows = []
    for s, size in enumerate(systems.sizes):
        body = slice(ptr[s], ptr[s + 1])
        first, second = np.triu_indices(size, 1)
        pos, vel = systems.pos[body], systems.vel[body]
        kinds = [np.linalg.norm(pos[first] - pos[second], axis=1), np.linalg.norm(vel, axis=1)]
        kinds += [] if systems.charge is None else [systems.charge[body]]
        kinds += list(systems.scalars[body].T)
        kinds += [] if systems.edge_attr is None else list(systems.edge_attr[edge_ptr[s] : edge_ptr[s + 1]].T)
        rows.append(np.concatenate([np.sort(kind) for kind in kinds]) + 0.0)  # + 0.0: no negative zeros
    return rows


def audit(systems: Systems, split: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Count the systems of one part that have a copy, or nearly one, in another.

    Returns:
        ``sizes`` of the parts; ``duplicates``, systems that repeat an earlier one; ``pairs``: "train/test" and so on ->
        ``identical_states`` and ``near_states``, counted in the second part.
    """
    keys, rows = system_keys(systems), invariants(systems)
    scale = _spread(rows)
    pairs = {}
    for first, second in combinations(split, 2):
        known = {keys[row] for row in split[first]}
        identical = sum(keys[row] in known for row in split[second])
        near = _count_near(rows, scale, split[first], split[second])
        pairs[f"{first}/{second}"] = {"identical_states": identical, "near_states": near}
    return {
        "sizes": {part: len(members) for part, members in split.items()},
        "duplicates": len(keys) - len(set(keys)),
        "pairs": pairs,
    }


def audit_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The counts as rows of a table: parts, what, count, of, percent."""
    return [
        {
            "parts": parts,
            "what": what,
            "count": count,
            "of": report["sizes"][parts.split("/")[1]],
            "percent": round(100 * count / max(1, report["sizes"][parts.split("/")[1]]), 2),
        }
        for parts, counts in report["pairs"].items()
        for what, count in counts.items()
    ]


def _spread(rows: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """Number of invariants -> the standard deviation of each over the systems that have so many."""
    spread = {}
    for length in {len(row) for row in rows}:
        deviation = np.stack([row for row in rows if len(row) == length]).std(axis=0)
        spread[length] = np.where(deviation > 0, deviation, 1.0)
    return spread


def _count_near(
    rows: Sequence[np.ndarray], scale: Mapping[int, np.ndarray], first: Sequence[int], second: Sequence[int]
) -> int:
    count = 0
    for length, unit in scale.items():
        known = [rows[row] / unit for row in first if len(rows[row]) == length]
        asked = [rows[row] / unit for row in second if len(rows[row]) == length]
        if known and asked:
            distance, _ = cKDTree(np.stack(known)).query(np.stack(asked), p=np.inf, distance_upper_bound=NEAR)
            count += int(np.isfinite(distance).sum())
    return count
