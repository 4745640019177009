"""Structures joined to a batch: what a potential takes, with the energies and forces that it shall reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from geoattn.domains.molecules.geometry import neighbor_list
from geoattn.kernels import Neighborhood


@dataclass
class StructureBatch:
    """B structures with N atoms and E directed edges in all.

    Attributes:
        z: ``[N]`` int64 atomic numbers.
        pos: ``[N, 3]`` angstrom.
        nbr: the edges, with CSR order as the caller's order; every pair within the cutoff, both ways.
        structure: ``[N]`` int64, the structure of each atom, ascending.
        num_structures: B.
        cell: ``[B, 3, 3]``, rows are the lattice vectors in angstrom; zeros where nothing repeats. None if no structure
            of the batch is periodic.
        cell_shift: ``[E, 3]``, whole numbers: the cell that the source of an edge lies in, counted from its target's.
            None together with ``cell``.
        volume: ``[B]`` cubic angstrom; NaN unless the structure repeats along all three lattice vectors.
        energy: ``[B]`` float64, eV, or None.
        forces: ``[N, 3]`` eV/angstrom, or None.
        stress: ``[B, 3, 3]`` eV/cubic angstrom, positive under tension as in ASE; NaN where it is not known. Or None.
    """

    z: Tensor
    pos: Tensor
    nbr: Neighborhood
    structure: Tensor
    num_structures: int
    cell: Tensor | None = None
    cell_shift: Tensor | None = None
    volume: Tensor | None = None
    energy: Tensor | None = None
    forces: Tensor | None = None
    stress: Tensor | None = None

    @property
    def num_atoms(self) -> Tensor:
        """``[B]`` int64, atoms of each structure."""
        return torch.bincount(self.structure, minlength=self.num_structures)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StructureBatch:
        """A copy on ``device``; the batch itself if it is there."""
        if self.z.device == torch.device(device):
            return self
        moved = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=non_blocking)
            elif isinstance(value, Neighborhood):
                moved[name] = value.to(device)
        return StructureBatch(**moved)


@dataclass
class Structure:
    """One structure with its neighbour list.

    Attributes:
        z: ``[N]`` int64 atomic numbers.
        pos: ``[N, 3]`` float64, angstrom.
        edge_index: ``[2, E]`` int64, row 0 the source; sorted by target.
        cell_shift: ``[E, 3]`` float64, whole numbers.
        cell: ``[3, 3]`` float64; zeros where nothing repeats.
        pbc: along which lattice vectors it repeats.
    """

    z: np.ndarray
    pos: np.ndarray
    edge_index: np.ndarray
    cell_shift: np.ndarray
    cell: np.ndarray
    pbc: tuple[bool, bool, bool]

    @classmethod
    def with_neighbors(
        cls, z: np.ndarray, pos: np.ndarray, cell: np.ndarray, pbc: tuple[bool, bool, bool], cutoff: float
    ) -> Structure:
        """Find the neighbours within ``cutoff`` angstrom; see `geometry.neighbor_list`."""
        index, shift = neighbor_list(pos, cell, pbc, cutoff)
        return cls(np.asarray(z, dtype=np.int64), np.asarray(pos, dtype=np.float64), index, shift, cell, pbc)

    @property
    def volume(self) -> float:
        """Cubic angstrom; NaN unless it repeats along all three lattice vectors."""
        return abs(float(np.linalg.det(self.cell))) if all(self.pbc) else float("nan")


class PackedStructures:
    """Structures in a few large arrays, from which any batch is cut without a loop over structures.

    Positions are kept relative to the middle of their structure, so that float32 spends its digits on distances.

    Args:
        structures: what to pack.
        energy: ``[S]`` eV, or None.
        forces: S arrays ``[N_s, 3]`` in eV/angstrom, or None.
        stress: ``[S, 3, 3]`` eV/cubic angstrom, NaN where it is not known, or None.

    Example:
        >>> pos, no_cell = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), np.zeros((3, 3))
        >>> water = Structure.with_neighbors(np.array([8, 1, 1]), pos, no_cell, (False,) * 3, cutoff=5.0)
        >>> batch = PackedStructures([water, water])[[1, 0, 1]]
        >>> batch.num_structures, batch.pos.shape, batch.nbr.num_edges
        (3, torch.Size([9, 3]), 18)
    """

    def __init__(
        self,
        structures: list[Structure],
        energy: np.ndarray | None = None,
        forces: list[np.ndarray] | None = None,
        stress: np.ndarray | None = None,
    ) -> None:
        self._atoms = np.array([len(s.z) for s in structures], dtype=np.int64)
        self._edges = np.array([s.edge_index.shape[1] for s in structures], dtype=np.int64)
        self._first_atom = np.cumsum(self._atoms) - self._atoms
        self._first_edge = np.cumsum(self._edges) - self._edges
        self.z = _joined([s.z for s in structures], np.int64, (0,))
        self.pos = _joined([s.pos - s.pos.mean(axis=0) if len(s.z) else s.pos for s in structures], np.float64, (0, 3))
        self._source = _joined([s.edge_index[0] for s in structures], np.int64, (0,))
        self._target = _joined([s.edge_index[1] for s in structures], np.int64, (0,))
        self._degree = _joined([np.bincount(s.edge_index[1], minlength=len(s.z)) for s in structures], np.int64, (0,))
        self.periodic = any(any(s.pbc) for s in structures)
        self._shift = _joined([s.cell_shift for s in structures], np.float64, (0, 3)) if self.periodic else None
        self.cell = np.stack([s.cell for s in structures]) if self.periodic else None
        self.volume = np.array([s.volume for s in structures])
        self.energy, self.stress = energy, stress
        self.forces = None if forces is None else _joined(forces, np.float64, (0, 3))

    def __len__(self) -> int:
        return len(self._atoms)

    @property
    def num_atoms(self) -> np.ndarray:
        """``[S]`` atoms of each structure."""
        return self._atoms

    def atom_rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The rows of ``z``, ``pos`` and ``forces`` that belong to some structures, in their order."""
        rows = np.asarray(rows, dtype=np.int64)
        return _ranges(self._first_atom[rows], self._atoms[rows])

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> StructureBatch:
        """Those structures as a batch in torch's default dtype."""
        return self.batch(rows, torch.get_default_dtype())

    def batch(self, rows: Sequence[int] | np.ndarray, dtype: torch.dtype) -> StructureBatch:
        """Those structures as a batch; floating-point values, but energies, in ``dtype``."""
        rows = np.asarray(rows, dtype=np.int64)
        counts, edge_counts = self._atoms[rows], self._edges[rows]
        atoms, edges = self.atom_rows(rows), _ranges(self._first_edge[rows], edge_counts)
        offset = np.repeat(np.cumsum(counts) - counts, edge_counts)
        row_ptr = np.zeros(len(atoms) + 1, dtype=np.int64)
        np.cumsum(self._degree[atoms], out=row_ptr[1:])
        ends = (torch.from_numpy(self._source[edges] + offset), torch.from_numpy(self._target[edges] + offset))
        batch = StructureBatch(
            z=torch.from_numpy(self.z[atoms]),
            pos=torch.from_numpy(self.pos[atoms]).to(dtype),
            nbr=Neighborhood.from_csr(torch.from_numpy(row_ptr), *ends, len(atoms), len(atoms)),
            structure=torch.from_numpy(np.repeat(np.arange(len(rows)), counts)),
            num_structures=len(rows),
        )
        if self.cell is not None and self._shift is not None:
            batch.cell, batch.cell_shift = (
                torch.from_numpy(self.cell[rows]).to(dtype),
                torch.from_numpy(self._shift[edges]).to(dtype),
            )
            batch.volume = torch.from_numpy(self.volume[rows]).to(dtype)
        if self.energy is not None:
            batch.energy = torch.from_numpy(self.energy[rows])
        if self.forces is not None:
            batch.forces = torch.from_numpy(self.forces[atoms]).to(dtype)
        if self.stress is not None:
            batch.stress = torch.from_numpy(self.stress[rows]).to(dtype)
        return batch


def _joined(parts: list[np.ndarray], dtype: type, empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(empty, dtype)


def _ranges(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """``first[0] .. first[0] + count[0] - 1, first[1] ..``, one after the other."""
    ends = np.cumsum(count)
    return np.repeat(first - ends + count, count) + np.arange(ends[-1] if len(ends) else 0)
