"""Frames of extended XYZ files with energies, forces and stress, each checked and with its neighbour list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from geoattn.datasets.molecule_files import ID_NAMES, read_frames, usual_name
from geoattn.datasets.rejections import Rejections
from geoattn.domains.molecules.elements import symbol
from geoattn.domains.molecules.geometry import check_geometry
from geoattn.domains.molecules.records import RecordError
from geoattn.domains.molecules.structures import Structure


@dataclass(frozen=True)
class Keys:
    """Under which names a file holds what; the defaults are ASE's.

    Attributes:
        energy: info key, eV.
        forces: column of the atoms, eV/angstrom.
        stress: info key, eV/cubic angstrom: 9 numbers or 6 in Voigt's order (xx yy zz yz xz xy), positive under
            tension. None reads no stress.
    """

    energy: str = "energy"
    forces: str = "forces"
    stress: str | None = None


@dataclass
class Frame:
    """One structure of a file.

    Attributes:
        file, line: where it stands; the line of the atom count.
        id: the info key that names it, else ``"<line>"``.
        structure: atoms and edges.
        energy: eV; NaN if it was not asked for.
        forces: ``[N, 3]`` eV/angstrom.
        stress: ``[3, 3]`` eV/cubic angstrom; NaN where there is none.
        fields: the info keys.
        atoms: the ``ase.Atoms`` that was read.
    """

    file: str
    line: int
    id: str
    structure: Structure
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    fields: Mapping[str, Any] = field(default_factory=dict)
    atoms: Any = None


def read_structures(
    path: str | Path, cutoff: float, rejections: Rejections, keys: Keys | None = None, elements: list[int] | None = None
) -> Iterator[Frame]:
    """The usable frames of a file.

    Args:
        path: extended XYZ, may be gzipped.
        cutoff: of the neighbour lists, angstrom.
        rejections: what becomes of the others.
        keys: where energy and forces stand; None for structures alone.
        elements: atomic numbers that may occur; any if None.

    Raises:
        InputError: no such file, a file that is no extended XYZ, or a bad frame where ``rejections`` raises.
    """
    yield from _usable(path, read_frames(path, rejections), cutoff, rejections, keys, elements)


def read_structure_chunks(
    path: str | Path, cutoff: float, rejections: Rejections, chunk_size: int, elements: list[int], skip: int = 0
) -> Iterator[tuple[int, list[Frame]]]:
    """(number, usable frames) of each chunk of ``chunk_size`` frames, with constant memory and without labels.

    ``rejections`` holds those of the chunk alone. Of the first ``skip`` chunks nothing is computed or given.
    """
    stream = read_frames(path, rejections)
    for number in count():
        chunk = list(islice(stream, chunk_size))
        if not chunk and not len(rejections):
            return
        if number >= skip:
            yield number, list(_usable(path, chunk, cutoff, rejections, None, elements))
        rejections.clear()


def _usable(
    path: str | Path,
    frames: Iterable[tuple[int, Any]],
    cutoff: float,
    rejections: Rejections,
    keys: Keys | None,
    elements: list[int] | None,
) -> Iterator[Frame]:
    for line, atoms in frames:
        try:
            yield _frame(str(path), line, atoms, cutoff, keys, elements)
        except RecordError as error:
            rejections.add(str(path), line, error)


def _frame(file: str, line: int, atoms: Any, cutoff: float, keys: Keys | None, elements: list[int] | None) -> Frame:
    check_geometry(atoms.numbers, atoms.positions)
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    cell = np.asarray(atoms.cell, dtype=np.float64)
    for axis, vector in enumerate("abc"):
        if pbc[axis] and not cell[axis].any():
            reason = f"the structure repeats along {vector}, and the frame has no lattice vector for it"
            raise RecordError("pbc", atoms.pbc.tolist(), reason, "Write Lattice=..., or pbc=F.")
    unknown = sorted(set(atoms.numbers.tolist()) - set(elements)) if elements is not None else []
    if unknown:
        known = ", ".join(symbol(z) for z in elements or [])
        raise RecordError("species", symbol(unknown[0]), f"the model was trained on {known} alone")
    structure = Structure.with_neighbors(atoms.numbers, atoms.positions, cell * np.array(pbc)[:, None], pbc, cutoff)
    name = usual_name([key for key in atoms.info if isinstance(key, str)], ID_NAMES)
    frame = Frame(
        file=file,
        line=line,
        id=str(atoms.info[name]) if name else str(line),
        structure=structure,
        energy=np.nan,
        forces=np.full((len(atoms), 3), np.nan),
        stress=np.full((3, 3), np.nan),
        fields=atoms.info,
        atoms=atoms,
    )
    if keys is not None:
        values = labels_of(atoms)
        frame.energy = _energy(values, keys.energy)
        frame.forces = _forces(values, keys.forces, len(atoms))
        if keys.stress is not None:
            frame.stress = _stress(values, keys.stress)
    return frame


def labels_of(atoms: Any) -> dict[str, Any]:
    """Everything a frame holds by name; ASE moves ``energy``, ``forces`` and ``stress`` to a calculator."""
    arrays = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    return {**atoms.info, **arrays, **(atoms.calc.results if atoms.calc else {})}


def _energy(values: Mapping[str, Any], key: str) -> float:
    if key not in values:
        raise _missing(values, key, "energy", "energy-key")
    try:
        energy = float(values[key])
    except (TypeError, ValueError):
        raise RecordError(key, values[key], "not a number") from None
    if not np.isfinite(energy):
        raise RecordError(key, values[key], "an energy that is not finite")
    return energy


def _forces(values: Mapping[str, Any], key: str, num_atoms: int) -> np.ndarray:
    if key not in values:
        raise _missing(values, key, "force", "forces-key")
    forces = np.asarray(values[key])
    if forces.shape != (num_atoms, 3) or not np.issubdtype(forces.dtype, np.number):
        got = f"shape {list(forces.shape)}, expected three numbers for each of the {num_atoms} atoms"
        raise RecordError(key, forces.ravel()[:3].tolist(), got)
    bad = ~np.isfinite(forces).all(axis=1)
    if bad.any():
        atom = int(bad.argmax())
        raise RecordError(key, forces[atom].tolist(), f"the force on atom {atom + 1} is not finite")
    return forces.astype(np.float64)


def _stress(values: Mapping[str, Any], key: str) -> np.ndarray:
    """``[3, 3]``; NaN if the frame has none."""
    if key not in values:
        return np.full((3, 3), np.nan)
    stress = np.asarray(values[key], dtype=np.float64).ravel()
    if stress.size not in (6, 9) or not np.isfinite(stress).all():
        raise RecordError(key, values[key], "a stress has 6 (Voigt) or 9 finite numbers")
    if stress.size == 6:
        stress = stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]]
    full = stress.reshape(3, 3)
    if np.abs(full - full.T).max() > 1e-3 * np.abs(full).max():
        raise RecordError(key, values[key], "the stress is not symmetric")
    return (full + full.T) / 2


def _missing(values: Mapping[str, Any], key: str, what: str, option: str) -> RecordError:
    alike = [name for name in values if isinstance(name, str) and what in name.lower()]
    hint = f"It has {', '.join(map(repr, alike))}: choose with --data.{option}." if alike else ""
    return RecordError(key, "", f"the frame has no {key!r}", hint)
