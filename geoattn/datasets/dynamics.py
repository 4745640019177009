"""Files of moving bodies as a Lightning data module: read, split, batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning
import pandas as pd
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from geoattn.datasets.dynamics_files import Reading, read_systems, refuse_frames
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.sampler import EpochShuffle
from geoattn.datasets.splits import Split, split_column, split_rows
from geoattn.domains.dynamics.baselines import fitted_time
from geoattn.domains.dynamics.batch import SystemTensors
from geoattn.domains.dynamics.systems import Systems
from geoattn.domains.dynamics.units import Units
from geoattn.errors import InputError

EVALUATION_BATCH = 500
"""Systems per batch where no gradients are needed."""


class DynamicsData(lightning.LightningDataModule):
    """Systems of bodies of a file, split into train, valid and test.

    Args:
        file: .npz with loc0, vel0, loc1 (or whole runs, loc) and, if there are any, charge, mass, edges; or a CSV, TSV
            or Parquet table with one row per system, frame and body.
        velocities: learn the velocities at the later moment too.
        frame_in: the frame that is known; the first one if left out (the second where the file has no velocities).
        frame_out: the frame to predict; the last one if left out.
        frame_time: time between frames whose numbers differ by one, in the unit of time of the velocities.
        horizon: .npz with loc0 and loc1: the time between the two.
        id_column: tables: the column that names the system; found by its usual names if left out.
        frame_column: tables: the column that numbers the moments.
        entity_column: tables: the column that names the body.
        position_columns: tables: one column per coordinate; x, y and z if left out.
        velocity_columns: tables: one per coordinate; vx, vy and vz if left out. Without them velocities are differences
            of positions.
        charge_column: tables: pairs of bodies interact by the product of this; charge if left out.
        scalar_columns: tables: other properties of the bodies, such as radii; mass is always taken if it is there.
        split: given (the file's own parts), random, column:NAME, column:NAME=VALUE, file:PATH (ids) or kfold:K:I; given
            if the file has parts, else random.
        split_seed: seed of everything drawn for the split.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        batch_size: systems per batch.
        seed: seed of the order of training batches.
        on_error: raise stops at the first system that cannot be used, skip lists such systems in rejected.csv.

    Attributes (after ``setup``):
        systems: all usable systems, in the user's units.
        tensors: the same, in the model's units; ``tensors[rows]`` is a batch.
        table: one row per system: id, number of bodies and what the split reads.
        split: row numbers under train, valid and test.
        rejected: file, line, column, value and reason of each system that cannot be used; in .npz the line is the
            number of the system, from 0 as in its id.
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
        frame_in: float | None = None,
        frame_out: float | None = None,
        frame_time: float = 1.0,
        horizon: float = 1.0,
        id_column: str | None = None,
        frame_column: str | None = None,
        entity_column: str | None = None,
        position_columns: list[str] | None = None,
        velocity_columns: list[str] | None = None,
        charge_column: str | None = None,
        scalar_columns: list[str] | None = None,
        split: str | None = None,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 100,
        seed: int = 0,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        for name, value in (("frame_time", frame_time), ("horizon", horizon)):
            if value <= 0:
                raise InputError(f"data.{name}: got {value}, expected a number above 0.")
        if batch_size < 1:
            raise InputError(f"data.batch_size: got {batch_size}, expected at least 1.")
        self.file, self.velocities = file, velocities
        self.reading = Reading(
            frame_in=frame_in,
            frame_out=frame_out,
            frame_time=frame_time,
            horizon=horizon,
            id=id_column,
            frame=frame_column,
            entity=entity_column,
            position=position_columns,
            velocity=velocity_columns,
            charge=charge_column,
            scalars=scalar_columns or [],
            kept=[name for name in [split_column(split or "")] if name],
        )
        self.split_spec, self.split_seed = split, split_seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.batch_size, self.seed, self.on_error = batch_size, seed, on_error

    def setup(self, stage: str | None = None) -> None:
        """Read and split the file; does nothing the second time."""
        if hasattr(self, "systems"):
            return
        rejections = Rejections(self.on_error, "systems")
        found = read_systems(self.file, self.reading, rejections)
        refuse_frames(self.file, found, self.reading.frame_in, self.reading.frame_out)
        systems, self.table, self.rejected, self.notes = found.systems, found.table, rejections.table(), found.notes
        if self.velocities and systems.target_vel is None:
            raise InputError(
                f"{self.file}: the velocities at the later moment are not known, and data.velocities wants to learn "
                "them. Give them in the file (vel1, or velocity columns), or leave the option out."
            )
        self.split_spec = spec = self.split_spec or ("given" if "split" in self.table else "random")
        if spec == "given" and "split" not in self.table:
            raise InputError(f"split: 'given' needs a file with parts (train_loc0 ...), and {self.file} has none.")
        self.split = split_rows(
            "column:split" if spec == "given" else spec,
            self.table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            what="system",
        )
        train = systems.take(self.split["train"])
        self.units = Units.fit(train)
        self.systems, self.tensors = systems, SystemTensors(systems, self.units)
        begin, end = found.frames
        columns = ("id", "frame", "entity", "position", "velocity", "charge", "scalars", "frame_time")
        self.preprocess = {
            "velocities": self.velocities,
            "horizon": systems.horizon,
            "frame_in": begin,
            "frame_out": end,
            "columns": {name: getattr(self.reading, name) for name in columns},
            "quantities": quantities(systems),
            "units": self.units.to_dict(),
            "linear_time": fitted_time(train),
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
        sampler = PartSampler(self.split[part], order, EVALUATION_BATCH if order is None else self.batch_size)
        return DataLoader(self.tensors, sampler=sampler, batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]


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


def quantities(systems: Systems) -> dict[str, Any]:
    """What is known of bodies and pairs; a model takes systems with the same alone."""
    return {
        "dim": systems.dim,
        "charge": systems.charge is not None,
        "scalars": systems.scalar_names,
        "edges": 0 if systems.edge_attr is None else systems.edge_attr.shape[1],
    }


def _as_it_is(batch: Any) -> Any:
    return batch
