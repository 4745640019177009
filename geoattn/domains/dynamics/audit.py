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
"""Two states are nearly the same if no invariant differs by more than this, in units of the spread of its kind."""


def system_keys(systems: Systems) -> list[str]:
    """A short hash of the initial state of each system, by which a copy is found in another file.

    Of its `invariants` to four significant digits of the largest: copies that were moved, rotated, reflected or whose
    bodies were renumbered have the same key, unless a rounding falls between.
    """
    rows = [np.concatenate(kinds) for kinds in invariants(systems)]
    rounded = [np.round(row / (np.abs(row).max(initial=0) or 1), 4) + 0.0 for row in rows]  # + 0.0: no negative zeros
    return [hashlib.sha256(row.tobytes()).hexdigest()[:12] for row in rounded]


def invariants(systems: Systems) -> list[list[np.ndarray]]:
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
        rows.append([np.sort(kind) for kind in kinds])
    return rows


def audit(systems: Systems, split: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Count the systems of one part that have a copy, or nearly one, in another.

    Returns:
        ``sizes`` of the parts; ``duplicates``, systems that repeat an earlier one; ``pairs``: "train/test" and so on ->
        ``identical_states`` and ``near_states``, counted in the second part.
    """
    keys, rows = system_keys(systems), _in_units_of_spread(invariants(systems))
    pairs = {}
    for first, second in combinations(split, 2):
        known = {keys[row] for row in split[first]}
        identical = sum(keys[row] in known for row in split[second])
        near = _count_near(rows, split[first], split[second])
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


def _in_units_of_spread(rows: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """``invariants`` of each system as one vector, each kind divided by its standard deviation over all systems."""
    together = [np.concatenate(kind) for kind in zip(*rows, strict=True)]
    # numbers that differ by rounding alone, such as equal speeds, must not count as spread
    spread = [max(float(kind.std()), 1e-6 * float(np.abs(kind).max(initial=0))) or 1.0 for kind in together]
    return [np.concatenate([kind / unit for kind, unit in zip(row, spread, strict=True)]) for row in rows]


def _count_near(rows: Sequence[np.ndarray], first: Sequence[int], second: Sequence[int]) -> int:
    """How many of the ``second`` rows have one as long, and nearly the same, among the ``first``."""
    count = 0
    for length in {len(rows[row]) for row in second}:
        known = [rows[row] for row in first if len(rows[row]) == length]
        asked = [rows[row] for row in second if len(rows[row]) == length]
        if known:
            distance, _ = cKDTree(np.stack(known)).query(np.stack(asked), p=np.inf, distance_upper_bound=NEAR)
            count += int(np.isfinite(distance).sum())
    return count
