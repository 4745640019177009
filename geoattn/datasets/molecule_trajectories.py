"""Structures with energies and forces as a Lightning data module: read, split, pack, batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Sampler

from geoattn.datasets.molecule_frames import Frame, Keys, read_structures
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.sampler import EpochShuffle
from geoattn.datasets.splits import Split, split_column, split_rows
from geoattn.domains.molecules.elements import SYMBOLS, atomic_number, symbol
from geoattn.domains.molecules.structures import PackedStructures
from geoattn.domains.molecules.targets import TargetTransform, composition
from geoattn.errors import InputError, nearest_hint

References = Literal["least-squares", "isolated"] | dict[str, float]
NET_FORCE = 0.01
"""Root mean square of the net force per structure (eV/angstrom) from which a note says that no potential can fit it."""


class TrajectoryData(lightning.LightningDataModule):
    """Structures of an extended XYZ file with energies and forces, split into train, valid and test.

    Units: eV, angstrom, eV/angstrom, eV/cubic angstrom.

    Args:
        file: extended XYZ, may be gzipped.
        task: forces.
        energy_key: info key with the total energy.
        forces_key: column with the forces.
        stress_key: info key with the stress, 6 (Voigt) or 9 numbers, positive under tension; no stress if left out.
        references: reference energy of each element: least-squares over the compositions of the training part,
            isolated for the energies of the frames with a single atom (which are then not trained on), or energies in
            eV by symbol.
        cutoff: atoms at most this far apart see each other, in angstrom.
        split: random, column:NAME (an info key), column:NAME=VALUE (rows with VALUE are the test part), file:PATH (ids)
            or kfold:K:I.
        split_seed: seed of everything drawn for the split.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        batch_size: structures per batch.
        seed: seed of the order of training batches.
        on_error: raise stops at the first bad frame, skip lists bad frames in rejected.csv and goes on.
        progress: show how far the reading is.

    Attributes (after ``setup``):
        packed: the usable structures, with energies, forces and stress.
        table: the same rows: id, file, line, formula, num_atoms, energy and the column of the split.
        split: row numbers under train, valid and test.
        rejected: file, line, column, value and reason of each frame that cannot be used.
        preprocess: JSON values, all that is needed to read new structures in the same way.
        references_of: element -> reference energy, eV.
        mean_energy: mean over the structures of the training part of the energy per atom above the references, eV.
        scale: root mean square of the force components of the training part, eV/angstrom.
        average_degree: mean number of neighbours of an atom in the training part, at least 1.
        elements: atomic numbers of the training part.
        notes: sentences about the data that a report should repeat.
    """

    packed: PackedStructures
    table: pd.DataFrame
    split: Split
    rejected: pd.DataFrame
    preprocess: dict[str, Any]
    references_of: dict[int, float]
    mean_energy: float
    scale: float
    average_degree: float
    elements: list[int]
    notes: list[str]

    def __init__(
        self,
        file: str,
        task: Literal["forces"] = "forces",
        energy_key: str = "energy",
        forces_key: str = "forces",
        stress_key: str | None = None,
        references: References = "least-squares",
        cutoff: float = 5.0,
        split: str = "random",
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 16,
        seed: int = 0,
        on_error: OnError = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__()
        if not cutoff > 0:
            raise InputError(f"data.cutoff: got {cutoff}, expected a length above 0, in angstrom.")
        if batch_size < 1:
            raise InputError(f"data.batch_size: got {batch_size}, expected at least 1.")
        self.file, self.task, self.references, self.cutoff = file, task, references, cutoff
        self.keys = Keys(energy_key, forces_key, stress_key)
        self.split_spec, self.split_seed = split, split_seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.batch_size, self.seed, self.on_error, self.progress = batch_size, seed, on_error, progress

    def setup(self, stage: str | None = None) -> None:
        """Read and split the file; does nothing the second time."""
        if hasattr(self, "packed"):
            return
        rejections = Rejections(self.on_error)
        stream = read_structures(self.file, self.cutoff, rejections, self.keys)
        frames = list(track(stream, None, "Read", show=self.progress))
        self.rejected = rejections.table()
        isolated: dict[int, float] = {}
        if self.references == "isolated":
            isolated = {int(f.structure.z[0]): f.energy for f in frames if len(f.structure.z) == 1}
            frames = [f for f in frames if len(f.structure.z) > 1]
        if not frames:
            raise InputError(
                f"{self.file}: no usable structure; {len(self.rejected)} frames were rejected{self._why()}"
            )
        if self.keys.stress and not any(np.isfinite(f.stress).all() for f in frames):
            raise InputError(f"data.stress_key: no frame of {self.file} has {self.keys.stress!r}.")
        self.table = frame_table(frames, split_column(self.split_spec))
        self.split = split_rows(
            self.split_spec,
            self.table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )
        self.packed = pack(frames, stress=self.keys.stress is not None)
        self._fit_constants(frames, isolated)
        self.preprocess = {
            "task": self.task,
            "energy_key": self.keys.energy,
            "forces_key": self.keys.forces,
            "stress_key": self.keys.stress,
            "cutoff": self.cutoff,
            "elements": self.elements,
            "periodic": self.packed.periodic,
            "units": {"energy": "eV", "length": "angstrom", "forces": "eV/angstrom", "stress": "eV/angstrom^3"},
            "baseline_references": {str(z): energy for z, energy in self._least_squares.items()},
        }

    def train_dataloader(self) -> DataLoader:
        """Batches of the training part in an order drawn from ``(seed, epoch)``."""
        return self._loader("train", self.seed)

    def val_dataloader(self) -> DataLoader:
        """Batches of the validation part, in the order of the file."""
        return self._loader("valid")

    def test_dataloader(self) -> DataLoader:
        """Batches of the test part, in the order of the file."""
        return self._loader("test")

    def _loader(self, part: str, seed: int | None = None) -> DataLoader:
        batches = EpochBatches(self.split[part], self.batch_size, seed)
        # batch_size=None: a batch is cut from the arrays at once
        return DataLoader(self.packed, batch_size=None, sampler=batches, collate_fn=_as_it_is)  # type: ignore[arg-type]

    def _fit_constants(self, frames: list[Frame], isolated: Mapping[int, float]) -> None:
        """Elements, reference energies and scale, from the training part alone."""
        train = self.split["train"]
        self.elements = sorted({int(z) for row in train for z in frames[row].structure.z})
        for part in ("valid", "test"):
            for row in self.split[part]:
                new = set(frames[row].structure.z.tolist()) - set(self.elements)
                if new:
                    where = f"{self.file}:{frames[row].line}"
                    raise InputError(
                        f"{where}: {symbol(min(new))} occurs in the {part} part and not in the training part. "
                        "Choose another --data.split, or leave such frames out."
                    )
        compositions = torch.cat([composition(torch.from_numpy(frames[row].structure.z)) for row in train])
        energy = torch.tensor([[frames[row].energy] for row in train], dtype=torch.float64)
        fitted = TargetTransform.fit(energy, compositions, "energy").reference or {}
        self._least_squares = {z: values[0] for z, values in fitted.items()}
        self.references_of = self._references(isolated)
        above = [
            (frames[row].energy - sum(self.references_of[int(z)] for z in frames[row].structure.z))
            / len(frames[row].structure.z)
            for row in train
        ]
        self.mean_energy = float(np.mean(above))
        forces = np.concatenate([frames[row].forces for row in train])
        self.scale = float(np.sqrt((forces**2).mean())) or 1.0
        edges = sum(frames[row].structure.edge_index.shape[1] for row in train)
        self.average_degree = max(1.0, edges / len(forces))
        net = np.array([frames[row].forces.sum(axis=0) for row in train])
        net_force = float(np.sqrt((net**2).sum(axis=1).mean()))
        self.notes = []
        if net_force > NET_FORCE:
            self.notes.append(
                f"The forces of a structure do not sum to zero (root mean square {net_force:.2g} eV/angstrom): no "
                "potential can fit that part of them."
            )

    def _references(self, isolated: Mapping[int, float]) -> dict[int, float]:
        if self.references == "least-squares":
            return self._least_squares
        given = isolated
        if isinstance(self.references, Mapping):
            for name in self.references:
                if name not in SYMBOLS[1:]:
                    raise InputError(f"data.references: got {name!r}. {nearest_hint(name, SYMBOLS[1:])}")
            given = {atomic_number(name): float(energy) for name, energy in self.references.items()}
        missing = [symbol(z) for z in self.elements if z not in given]
        if missing:
            where = f"a frame with a single {missing[0]} atom" if self.references == "isolated" else "its energy"
            raise InputError(f"data.references: {missing[0]} has none; expected {where}. Or use least-squares.")
        return {z: given[z] for z in self.elements}

    def _why(self) -> str:
        return f", the first because {self.rejected['reason'].iloc[0]}." if len(self.rejected) else "."


class EpochBatches(Sampler[list[int]]):
    """Rows in batches; with a seed in an order drawn from ``(seed, epoch)``, so that a resumed run sees the same."""

    def __init__(self, rows: list[int], batch_size: int, seed: int | None = None) -> None:
        self.rows, self.batch_size = np.asarray(rows, dtype=np.int64), batch_size
        self.order = None if seed is None else EpochShuffle(len(rows), seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        if self.order is not None:
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.rows if self.order is None else self.rows[list(self.order)]
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size].tolist()


def pack(frames: list[Frame], stress: bool = False) -> PackedStructures:
    """Frames with their energies and forces (and stress) in large arrays."""
    return PackedStructures(
        [frame.structure for frame in frames],
        energy=np.array([frame.energy for frame in frames], dtype=np.float64),
        forces=[frame.forces for frame in frames],
        stress=np.array([frame.stress for frame in frames]).reshape(-1, 3, 3) if stress else None,
    )


def frame_table(frames: list[Frame], column: str | None = None) -> pd.DataFrame:
    """One row per frame: id, file, line, smiles (empty), formula, num_atoms, energy and ``column`` of the info keys."""
    table = pd.DataFrame(
        {
            "id": [frame.id for frame in frames],
            "file": [frame.file for frame in frames],
            "line": [frame.line for frame in frames],
            "smiles": "",
            "formula": [frame.atoms.get_chemical_formula() for frame in frames],
            "num_atoms": [len(frame.structure.z) for frame in frames],
            "energy": [frame.energy for frame in frames],
        }
    )
    if column is not None and column not in table:
        if not any(column in frame.fields for frame in frames):
            known = sorted({str(name) for frame in frames for name in frame.fields})
            raise InputError(f"split: no frame has the info key {column!r}. {nearest_hint(column, known)}".rstrip())
        table[column] = [frame.fields.get(column) for frame in frames]
    return table


def _as_it_is(batch: Any) -> Any:
    return batch
