"""Molecule files as a Lightning data module: read, featurise, split, normalise, batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Data

from geoattn.datasets.collate import collate
from geoattn.datasets.molecule_chunks import Chunk, read_chunks
from geoattn.datasets.molecule_files import Columns, read_records
from geoattn.datasets.molecule_rows import table_of, usable, with_targets
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.sampler import EpochShuffle
from geoattn.datasets.splits import Split, split_column, split_rows
from geoattn.datasets.target_values import choose_targets, stated_units
from geoattn.domains.molecules.cache import default_folder
from geoattn.domains.molecules.descriptors import descriptor_names, fit_normalization, normalize_descriptors
from geoattn.domains.molecules.features import AtomMode
from geoattn.domains.molecules.featurize import featurize_many, make_preprocess
from geoattn.domains.molecules.records import Record
from geoattn.domains.molecules.targets import TargetTransform, composition
from geoattn.errors import InputError

Task = Literal["regression", "classification", "energy"]
__all__ = ["Chunk", "MoleculesData", "read_chunks"]

RESERVED = ("id", "file", "line", "smiles", "split")


class MoleculesData(lightning.LightningDataModule):
    """Molecules of a file, split into train, valid and test.

    Args:
        file: CSV, TSV or Parquet with SMILES, SDF, or extended XYZ; text formats may be gzipped (.gz).
        targets: columns (info keys, SDF properties) to learn; may be left out if only one column holds numbers.
        task: regression, classification (0 or 1 per target) or energy (regression with per-element references).
        graph: 2d for atoms and bonds, 3d for atoms in space (SMILES are embedded with ETKDG and MMFF94).
        smiles_column: the column with SMILES; found by its usual names if left out.
        id_column: the column that names molecules; found by its usual names, else the line number is the id.
        units: label of the targets' units for reports, e.g. kcal/mol.
        split: random, scaffold, scaffold-balanced, column:NAME, column:NAME=VALUE (rows with VALUE are the test part),
            file:PATH (ids) or kfold:K:I.
        split_seed: seed of everything drawn for the split.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        batch_size: molecules per batch.
        num_workers: processes of the data loader; 0 is best for small molecules.
        seed: seed of the order of training batches.
        on_error: raise stops at the first bad row, skip lists bad rows in rejected.csv and goes on.
        cutoff: 3d: edges join atoms at most this far apart, in angstrom; all pairs if left out.
        atom_mode: 2d: chemprop's atom features V1, V2, ORGANIC or RIGR.
        hydrogens: hydrogens as atoms of the graph; default no for 2d, yes for 3d.
        stereo: keep or remove stereochemistry.
        salts: keep all parts of a salt, or the largest.
        charges: keep charges, or neutralize.
        conformer_seed: 3d from SMILES: seed of the embedding.
        force_field: 3d from SMILES: mmff (falls back to UFF where it lacks parameters), uff or none.
        descriptors: add about 210 RDKit descriptors of the whole molecule.
        processes: for embedding and descriptors; one per available core if left out.
        cache_dir: folder that remembers embeddings and descriptors; $GEOATTN_CACHE or ~/.cache/geoattn if left out,
            none for no cache.
        progress: show how far featurising is.

    Attributes (after ``setup``):
        samples: one graph per usable molecule, with ``y [1, T]`` (units of the file), ``target [1, T]`` (normalised,
            float32) and ``row``.
        table: the same rows: id, file, line, smiles, the targets (float64) and the column of the split.
        split: row numbers under train, valid and test.
        rejected: file, line, column, value and reason of each row that cannot be used.
        preprocess: JSON values, all that is needed to featurise new molecules in the same way.
        target_transform: between the units of the file and normalised values.
        elements: atomic numbers in the file; ``preprocess`` has those of the training part.
        notes: sentences about what was done to the data that a report should repeat.
    """

    samples: list[Data]
    table: pd.DataFrame
    split: Split
    rejected: pd.DataFrame
    preprocess: dict[str, Any]
    target_transform: TargetTransform
    elements: list[int]
    notes: list[str]

    def __init__(
        self,
        file: str,
        targets: list[str] | None = None,
        task: Task = "regression",
        graph: Literal["2d", "3d"] = "2d",
        smiles_column: str | None = None,
        id_column: str | None = None,
        units: str | None = None,
        split: str = "random",
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
        on_error: OnError = "raise",
        cutoff: float | None = None,
        atom_mode: AtomMode = "V2",
        hydrogens: bool | None = None,
        stereo: Literal["keep", "remove"] = "keep",
        salts: Literal["keep", "largest"] = "keep",
        charges: Literal["keep", "neutralize"] = "keep",
        conformer_seed: int = 0,
        force_field: Literal["mmff", "uff", "none"] = "mmff",
        descriptors: bool = False,
        processes: int | None = None,
        cache_dir: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.file, self.targets, self.task, self.units = file, targets, task, units
        self.columns = Columns(smiles_column, id_column, [*(targets or []), *filter(None, [split_column(split)])])
        self.split_spec, self.split_seed = split, split_seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.batch_size, self.num_workers, self.seed, self.on_error = batch_size, num_workers, seed, on_error
        self.processes, self.progress, self.cache_dir = processes, progress, cache_folder(cache_dir)
        self.graph_options = make_preprocess(
            graph=graph,
            cutoff=cutoff,
            atom_mode=atom_mode,
            hydrogens=hydrogens,
            stereo=stereo,
            salts=salts,
            charges=charges,
            conformer_seed=conformer_seed,
            force_field=force_field,
            descriptors={"names": descriptor_names()} if descriptors else None,
        )

    def setup(self, stage: str | None = None) -> None:
        """Read, featurise and split the file; does nothing the second time."""
        if hasattr(self, "samples"):
            return
        rejections = Rejections(self.on_error)
        records = list(read_records(self.file, rejections, self.columns))
        targets = self.targets or choose_targets(records, self._not_targets(records))
        if len(set(targets)) < len(targets):
            raise InputError(f"targets: got {targets}, expected each name once.")
        if clash := set(targets) & set(RESERVED):
            raise InputError(f"targets: a target cannot be named {sorted(clash)[0]!r}. Rename the column.")
        records = with_targets(records, targets, self.task, rejections)
        units = stated_units(records, targets, self.units)
        preprocess = {**self.graph_options, "periodic": any(record.is_periodic for record in records)}
        stream = featurize_many(records, preprocess, processes=self.processes, cache_dir=self.cache_dir)
        stream = track(stream, len(records), "Featurise", show=self.progress)
        records, samples = usable(stream, rejections)
        self.rejected = rejections.table()
        if not samples:
            raise InputError(f"{self.file}: no usable molecule; {len(self.rejected)} rows were rejected.")
        self.table = table_of(records, targets, split_column(self.split_spec))
        self.split = split_rows(
            self.split_spec,
            self.table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )
        self.notes = _force_field_notes(records, preprocess["force_field"])
        self._normalize(samples, targets, preprocess)
        self.samples = samples
        self.preprocess = {
            **preprocess,
            "task": self.task,
            "targets": list(targets),
            "units": units,
            "smiles_column": self.columns.smiles,
            "id_column": self.columns.id,
            "target_transform": self.target_transform.to_dict(),
        }

    @property
    def num_targets(self) -> int:
        """T, number of targets."""
        return len(self.preprocess["targets"])

    def train_dataloader(self) -> DataLoader:
        """Batches of the training part in an order drawn from ``(seed, epoch)``."""
        samples = self.part("train")
        return self._loader(samples, EpochShuffle(len(samples), self.seed))

    def val_dataloader(self) -> DataLoader:
        """Batches of the validation part, in the order of the file."""
        return self._loader(self.part("valid"))

    def test_dataloader(self) -> DataLoader:
        """Batches of the test part, in the order of the file."""
        return self._loader(self.part("test"))

    def predict_dataloader(self) -> DataLoader:
        """Batches of all molecules, in the order of the file."""
        return self._loader(self.samples)

    def part(self, name: str) -> list[Data]:
        """The samples of one part of the split: train, valid or test."""
        return [self.samples[row] for row in self.split[name]]

    def _loader(self, samples: list[Data], sampler: EpochShuffle | None = None) -> DataLoader:
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _not_targets(self, records: list[Record]) -> list[str]:
        names = [self.columns.smiles, self.columns.id, split_column(self.split_spec), *RESERVED]
        return [name for name in names if name]

    def _normalize(self, samples: list[Data], targets: list[str], preprocess: dict[str, Any]) -> None:
        """Fit everything that is fitted to the training part alone, and apply it to all samples."""
        train = self.split["train"]
        compositions = torch.cat([composition(sample["z"]) for sample in samples])
        y = torch.from_numpy(np.array(self.table[targets], dtype=np.float64))
        self.target_transform = TargetTransform.fit(y[train], compositions[train], self.task)
        normalized = self.target_transform.normalize(y, compositions)
        for row, sample in enumerate(samples):
            sample["row"] = torch.tensor([row])
            sample["target"] = normalized[row : row + 1]
        self.elements = _elements(compositions)
        preprocess["elements"] = _elements(compositions[train])  # what it was trained on: others are refused later
        if preprocess["descriptors"] is not None:
            preprocess["descriptors"] = self._normalize_descriptors(samples, preprocess["descriptors"]["names"])

    def _normalize_descriptors(self, samples: list[Data], names: list[str]) -> dict[str, Any]:
        raw = torch.cat([sample["descriptors"] for sample in samples]).numpy()
        center, factor = fit_normalization(raw[self.split["train"]])
        missing = int(np.isnan(raw).sum())
        if missing:
            self.notes.append(f"{missing} of {raw.size} descriptor values could not be computed and count as typical.")
        for sample, row in zip(samples, normalize_descriptors(raw, center, factor), strict=True):
            sample["descriptors"] = torch.from_numpy(row)[None]
        return {"names": names, "center": center, "factor": factor}


def _force_field_notes(records: list[Record], wanted: str) -> list[str]:
    """A sentence for each force field that had to stand in for the one that was asked for."""
    embedded = [record.force_field for record in records if record.force_field]
    names = {"uff": "relaxed with UFF", "none": "not relaxed"}
    return [
        f"{embedded.count(used)} of {len(embedded)} conformers were {how}: {wanted.upper()} lacks parameters for them."
        for used, how in names.items()
        if used != wanted and used in embedded
    ]


def cache_folder(cache_dir: str | None) -> Path | None:
    """The folder that the option ``cache_dir`` means: the default one for None, no folder for ``"none"``."""
    if cache_dir is None:
        return default_folder()
    return None if cache_dir.lower() == "none" else Path(cache_dir)


def _elements(compositions: torch.Tensor) -> list[int]:
    """Atomic numbers that occur in ``compositions [M, elements]``."""
    return torch.nonzero(compositions.sum(dim=0)).flatten().tolist()
