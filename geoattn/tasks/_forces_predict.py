"""``geoattn molecules predict`` with a potential: energies and forces of a file of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn._files import atomic_path
from geoattn._optional import require
from geoattn.datasets.molecule_frames import Frame, read_structure_chunks
from geoattn.datasets.molecule_trajectories import frame_table, pack
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.domains.molecules.force_metrics import Labels
from geoattn.errors import InputError
from geoattn.tasks._forces_evaluate import energy_columns, force_table, predict_structures
from geoattn.tasks._model import default_device, load_model
from geoattn.tasks._parts import FORMATS, Parts, checked_out, identity_of
from geoattn.tasks._run import say

TASK = "molecules"
XYZ = (".xyz", ".extxyz")
REFERENCE = "REF_"


def predict_forces(
    model: str,
    data: str,
    out: str,
    on_error: OnError = "raise",
    chunk_size: int = 200,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict energies and forces of a file of any length with a trained potential.

    The file is read and predicted in chunks, with constant memory. Each finished chunk is kept beside ``out``; the same
    command goes on after an interruption. The chunks are joined at the end.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: extended XYZ; energies and forces in it are not needed.
        out: the file to write. .xyz or .extxyz: the same structures with energy, forces and, where all three directions
            repeat, stress; what the file had under these names is kept as REF_energy and so on. .csv or .parquet: id,
            line, formula, num_atoms, energy_pred and, if the model was trained on periodic structures, stress_pred_*;
            and the forces, a row per atom, in a second file of the same name with .forces before the suffix.
        on_error: raise stops at the first bad frame; skip leaves bad frames out and lists them in <out>.rejected.csv.
        chunk_size: structures per chunk.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    target = checked_out(out, [*XYZ, *FORMATS])
    if chunk_size < 1:
        raise InputError(f"--chunk-size: got {chunk_size}, expected at least 1.")
    loaded = load_model(model, TASK)
    identity = identity_of(loaded, data, {"on_error": on_error, "chunk_size": chunk_size})
    parts = FrameParts(target, identity) if target.suffix in XYZ else TableParts(target, identity)
    done = parts.begin()
    if done:
        say(f"Going on after {done} chunks of {chunk_size} that are done.", quiet=quiet)
    preprocess, rejections = loaded.preprocess, Rejections(on_error)
    chunks = read_structure_chunks(data, preprocess["cutoff"], rejections, chunk_size, preprocess["elements"], done)
    predicted = rejected = 0
    for number, frames in track(chunks, None, f"Predict, chunks of {chunk_size}", show=not quiet):
        stress = preprocess["periodic"] or (target.suffix in XYZ and any(all(f.structure.pbc) for f in frames))
        labels = predict_structures(loaded.model, pack(frames), device=device or default_device(), stress=stress)
        parts.write_chunk(number, frames, labels, rejections.table())
        predicted, rejected = predicted + len(frames), rejected + len(rejections)
    parts.join()
    note = f", {rejected} rejected" if rejected else ""
    say(f"{predicted} structures predicted{note}{f', {done} chunks before' if done else ''}: {target}", quiet=quiet)


class FrameParts(Parts):
    """The finished chunks of a prediction that becomes an extended XYZ file."""

    def write_chunk(self, number: int, frames: list[Frame], labels: Labels, rejected: pd.DataFrame) -> None:
        """Keep a chunk."""
        self.write_rejected(number, rejected)
        with atomic_path(self.folder / f"{number:08d}.xyz") as temporary, temporary.open("w") as file:
            for atoms in _labelled(frames, labels):
                require("ase.io", "molecules").write(file, atoms, format="extxyz")

    def _join_parts(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for part in self._files():
                file.write(part.read_text(encoding="utf-8"))

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.xyz"))


class TableParts:
    """The finished chunks of a prediction that becomes a table of energies and one of forces."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.energies = Parts(out, identity)
        self.forces = Parts(checked_out(str(out.with_suffix(f".forces{out.suffix}"))), identity)

    def begin(self) -> int:
        """Make the folders, or find them; the number of chunks that are done in both."""
        return min(self.energies.begin(), self.forces.begin())

    def write_chunk(self, number: int, frames: list[Frame], labels: Labels, rejected: pd.DataFrame) -> None:
        """Keep a chunk."""
        table, packed = frame_table(frames).drop(columns=["file", "smiles", "energy"]), pack(frames)
        forces = force_table(table["id"].tolist(), packed, range(len(frames)), labels)
        self.forces.write(number, forces, rejected.iloc[:0])
        self.energies.write(number, energy_columns(table, labels), rejected)

    def join(self) -> None:
        """Write both tables and the list of rejected rows, and remove the chunks."""
        self.forces.join()
        self.energies.join()


def _labelled(frames: list[Frame], labels: Labels) -> list[Any]:
    """The frames' ``ase.Atoms`` with the predictions in the place of their own labels, which are kept as REF_..."""
    single_point = require("ase.calculators.singlepoint", "molecules").SinglePointCalculator
    first = np.cumsum(labels.num_atoms) - labels.num_atoms
    result = []
    for k, frame in enumerate(frames):
        atoms = frame.atoms
        for name, value in (atoms.calc.results if atoms.calc else {}).items():
            store = atoms.arrays if np.ndim(value) and len(value) == len(atoms) and name != "stress" else atoms.info
            store.setdefault(REFERENCE + name, value)
        results = {"energy": labels.energy[k], "forces": labels.forces[first[k] : first[k] + labels.num_atoms[k]]}
        if labels.stress is not None and np.isfinite(labels.stress[k]).all():
            results["stress"] = labels.stress[k].ravel()[[0, 4, 8, 5, 2, 1]]
        atoms.calc = single_point(atoms, **results)
        result.append(atoms)
    return result
