"""From atoms in space to the edges of a 3-D graph: checks, all pairs, a cutoff, a periodic cell."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from geoattn._optional import require
from geoattn.domains.molecules.elements import symbol
from geoattn.domains.molecules.records import RecordError
from geoattn.kernels import radius

COINCIDENT = 0.05
"""Two atoms nearer than this (in angstrom) are taken for an error of the file: no bond is shorter than 0.7."""


def check_geometry(numbers: np.ndarray, positions: np.ndarray) -> None:
    """Refuse a structure without atoms, with a coordinate that is not finite, or with two atoms in one place.

    Raises:
        RecordError: naming the atom (counted from 1, as in the file).
    """
    if len(numbers) == 0:
        raise RecordError("atoms", 0, "a structure without atoms")
    if numbers.min() < 1:
        raise RecordError("species", "X", f"atom {int(numbers.argmin()) + 1} is of no element")
    bad = ~np.isfinite(positions).all(axis=1)
    if bad.any():
        atom = int(bad.argmax())
        raise RecordError("pos", _xyz(positions[atom]), f"atom {atom + 1} has a coordinate that is not finite")
    pairs = cKDTree(positions).query_pairs(COINCIDENT, output_type="ndarray")
    if len(pairs):
        first, second = sorted(int(i) + 1 for i in pairs[0])
        name = symbol(int(numbers[second - 1]))
        raise RecordError(
            "pos", _xyz(positions[second - 1]), f"atoms {first} and {second} ({name}) lie within {COINCIDENT} angstrom"
        )


def edges(positions: np.ndarray, cutoff: float | None) -> np.ndarray:
    """``[2, E]`` int64: every ordered pair of atoms at most ``cutoff`` angstrom apart (all pairs if None).

    Row 0 is the source and row 1 the target; sorted by target.
    """
    n = len(positions)
    if cutoff is None:
        target, source = np.nonzero(~np.eye(n, dtype=bool))
        return np.stack([source, target])
    return radius(torch.from_numpy(positions), r=cutoff).edge_index.numpy()


def periodic_edges(
    positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, bool, bool], cutoff: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of a periodic structure, images included, by vesin.

    Args:
        positions: ``[N, 3]`` in angstrom; atoms may lie outside the cell.
        cell: ``[3, 3]``, rows are lattice vectors.
        pbc: along which lattice vectors the structure repeats.
        cutoff: in angstrom; must be given, since all pairs of a periodic structure are infinitely many.

    Returns:
        ``edge_index [2, E]`` and ``edge_shift [E, 3]`` (angstrom), such that the edge vector is
        ``positions[source] + edge_shift - positions[target]``. An atom may be its own neighbour in another cell.

    Raises:
        RecordError: without a cutoff, for a flat cell, or for two atoms that coincide across the boundary.
    """
    if cutoff is None:
        raise RecordError("pbc", pbc, "a periodic structure needs a cutoff", "Set --data.cutoff, e.g. 5.0 (angstrom).")
    index, shift = neighbor_list(positions, cell, pbc, cutoff)
    return index, shift @ cell


def neighbor_list(
    positions: np.ndarray, cell: np.ndarray | None, pbc: tuple[bool, bool, bool], cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs within a cutoff, by vesin, with the cells that the sources lie in.

    Args:
        positions: ``[N, 3]`` in angstrom; atoms may lie outside the cell.
        cell: ``[3, 3]``, rows are lattice vectors; may be None where nothing repeats.
        pbc: along which lattice vectors the structure repeats.
        cutoff: in angstrom.

    Returns:
        ``edge_index [2, E]`` int64, sorted by target, then source, and ``cell_shift [E, 3]``, float64 of whole
        numbers, such that the edge vector is ``positions[source] + cell_shift @ cell - positions[target]``. An atom
        may be its own neighbour in another cell.

    Raises:
        RecordError: for a flat cell, or for two atoms that coincide across the boundary.
    """
    vesin = require("vesin", "molecules")
    periodic = any(pbc)
    if periodic:
        if cell is None or not np.isfinite(cell).all() or abs(np.linalg.det(_complete(cell, pbc))) < 1e-6:
            lattice = "none" if cell is None else np.round(cell, 3).tolist()
            raise RecordError("Lattice", lattice, "the lattice vectors span no volume")
        box = _complete(cell, pbc)
    else:
        box = np.zeros((3, 3))
    target, source, shift, distance = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        points=np.asarray(positions, dtype=np.float64),
        box=np.asarray(box, dtype=np.float64),
        periodic=list(pbc) if periodic else False,
        quantities="ijSd",
    )
    if periodic and len(distance) and distance.min() < COINCIDENT:
        edge = int(distance.argmin())
        atoms = f"atoms {int(source[edge]) + 1} and {int(target[edge]) + 1}"
        raise RecordError("pos", _xyz(positions[source[edge]]), f"{atoms} coincide across the cell boundary")
    order = np.lexsort((*shift.T, source, target))
    return np.stack([source, target]).astype(np.int64)[:, order], shift[order].astype(np.float64)


def _complete(cell: np.ndarray, pbc: tuple[bool, bool, bool]) -> np.ndarray:
    """``cell`` with unit vectors put in for missing directions that do not repeat."""
    cell = cell.copy()
    missing = [axis for axis in range(3) if not pbc[axis] and not cell[axis].any()]
    if missing:
        _, _, orthogonal = np.linalg.svd(np.delete(cell, missing, axis=0))
        cell[missing] = orthogonal[3 - len(missing) :]
    return cell


def _xyz(position: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in position)
