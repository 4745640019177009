"""Files of moving bodies as a Lightning data module: read, split, batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from geoattn.datasets.dynamics_files import read_npz
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.sampler import EpochShuffle
from geoattn.datasets.splits import Split, split_rows
from geoattn.domains.dynamics.batch import SystemTensors
from geoattn.domains.dynamics.systems import Systems
from geoattn.domains.dynamics.units import Units
from geoattn.errors import InputError


class DynamicsData(lightning.LightningDataModule):
    """Systems of bodies of a file, split into train, valid and test.

    Args:
        file: .npz with loc0, vel0, loc1 and, if there are any, charge, mass, edges, vel1.
        velocities: learn the velocities at the later moment too.
        horizon: time between the two moments, in the unit of time of the velocities.
        split: given (the file's own parts), random, column:NAME, file:PATH (ids) or kfold:K:I; given if the file has
            parts, else random.
        split_seed: seed of everything drawn for the split.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        batch_size: systems per batch.
        seed: seed of the order of training batches.
        on_error: raise stops at the first system that cannot be used, skip lists such systems in rejected.csv.

    Attributes (after ``setup``):
        systems: all usable systems, in the user's units.
        tensors: the same, in the model's units; ``tensors[rows]`` is a batch.
        table: one row per system: id, number of bodies and, if the file has parts, split.
        split: row numbers under train, valid and test.
        rejected: file, line, column, value and reason of each system that cannot be used.
        units: of the model.
        preprocess: JSON values, all that is needed to read new systems in the same way.
        notes: sentences about what was done to the data that a report should repeat.
    """

    systems: Systems
    tensors: SystemTensors
    table: pd.DataFrame
    split: Split
    rejected: pd.DataFrame
    units: Units
    preprocess: dict[str, Any]
    notes: list[str]

    def __init__(
        self,
        file: str,
        velocities: bool = False,
        horizon: float = 1.0,
        split: str | None = None,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 100,
        seed: int = 0,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        self.file, self.velocities, self.horizon = file, velocities, horizon
        self.split_spec, self.split_seed = split, split_seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.batch_size, self.seed, self.on_error = batch_size, seed, on_error

    def setup(self, stage: str | None = None) -> None:
        """Read and split the file; does nothing the second time."""
        if hasattr(self, "systems"):
            return
        rejections = Rejections(self.on_error)
        systems, parts = read_npz(Path(self.file), rejections)
        self.rejected = rejections.table()
        if systems.target_pos is None:
            raise InputError(f"{self.file}: there is no 'loc1', the positions to learn.")
        if self.velocities and systems.target_vel is None:
            raise InputError(f"{self.file}: there is no 'vel1', the velocities that --data.velocities wants to learn.")
        systems.horizon = self.horizon
        self.table = pd.DataFrame({"id": systems.ids, "bodies": systems.sizes})
        if parts is not None:
            self.table["split"] = parts
        spec = self.split_spec or ("given" if parts is not None else "random")
        self.split_spec = spec
        self.split = split_rows(
            "column:split" if spec == "given" else spec,
            self.table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )
        self.units = Units.fit(systems.take(self.split["train"]))
        self.systems, self.tensors = systems, SystemTensors(systems, self.units)
        self.notes = []
        self.preprocess = {
            "length_unit": None,
            "velocities": self.velocities,
            "horizon": self.horizon,
            "dim": systems.dim,
            "charge": systems.charge is not None,
            "scalars": systems.scalar_names,
            "edges": 0 if systems.edge_attr is None else systems.edge_attr.shape[1],
            "units": self.units.to_dict(),
        }

    def train_dataloader(self) -> DataLoader:
        """Batches of the training part in an order drawn from ``(seed, epoch)``."""
        return self._loader("train", EpochShuffle(len(self.split["train"]), self.seed))

    def val_dataloader(self) -> DataLoader:
        """Batches of the validation part, in the order of the file."""
        return self._loader("valid")

    def test_dataloader(self) -> DataLoader:
        """Batches of the test part, in the order of the file."""
        return self._loader("test")

    def _loader(self, part: str, order: EpochShuffle | None = None) -> DataLoader:
        rows = self.split[part]
        sampler = PartSampler(rows, order, self.batch_size if order is not None else EVALUATION_BATCH)
        return DataLoader(self.tensors, sampler=sampler, batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]


EVALUATION_BATCH = 500


class PartSampler(BatchSampler):
    """Batches of row numbers of one part; the loader slices a whole batch at once.

    Args:
        rows: of the part.
        order: positions within the part, of each epoch; None for the order of the file.
        batch_size: rows per batch; the last batch may be smaller.
    """

    def __init__(self, rows: list[int], order: EpochShuffle | None, batch_size: int) -> None:
        super().__init__(order or SequentialSampler(rows), batch_size, drop_last=False)
        self.rows, self.order = rows, order

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        if self.order is not None:
            self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for positions in super().__iter__():
            yield [self.rows[k] for k in positions]


def _as_it_is(batch: Any) -> Any:
    return batch
