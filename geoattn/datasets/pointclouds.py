"""Point clouds of a folder, table or ``.npz`` as a Lightning data module: read, check, split, batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from geoattn.datasets.pointcloud_files import NUM_SAMPLES
from geoattn.datasets.pointcloud_rows import label_names, noted, numbered_segments, size_note, table_of, usable
from geoattn.datasets.pointcloud_samples import CloudFeaturizer, CloudSamples
from geoattn.datasets.pointcloud_sets import CloudColumns, check_folders, list_clouds
from geoattn.datasets.pointcloud_splits import column_of_split, split_clouds
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError, Rejections, none_left
from geoattn.datasets.sampler import EpochOrder
from geoattn.datasets.splits import Split
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError, nearest_hint

Task = Literal["classification", "segmentation", "normals"]
TASKS = ("classification", "segmentation", "normals")
FORMAT = 1


class PointCloudData(lightning.LightningDataModule):
    """Point clouds, split into train, valid and test.

    What a model reads of a cloud is made by a featurizer, which `use` names; without one there are samples, but no
    batches.

    Args:
        file: a folder with one sub-folder per class (train and test folders may stand above or below them), a table
            (.csv, .tsv, .parquet) with a column of files, an .npz with many clouds, or one file.
        task: classification of whole clouds, segmentation (a class per point) or normals.
        file_column: tables: the column of files; found by its usual names if left out.
        label_column: tables: the column of classes; found likewise.
        id_column: tables: the column that names clouds; found likewise, else the file is the name.
        num_samples: points that are drawn, by area, of each mesh.
        min_points: a cloud with fewer points is a bad one.
        split: given (folders named train and test, or a column split), random, group:NAME (what has one value in that
            column, such as scans of one object, stays together), column:NAME, column:NAME=VALUE, file:PATH (ids) or
            kfold:K:I; given if the data have parts, else random. Classes are spread evenly, but for groups.
        split_seed: seed of everything drawn for the split.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        batch_size: clouds per batch.
        num_workers: processes of the data loader.
        seed: seed of the order of training batches, and of all that a featurizer draws.
        on_error: raise stops at the first bad file, skip lists bad files in rejected.csv and goes on.
        processes: that read large files; one per available core if left out.
        progress: show how far reading is.

    Attributes (after ``setup``):
        clouds: the usable clouds, in the order of the file; segments are places in ``segment_names``.
        class_names: of whole clouds; empty if they have none.
        segment_names: of points; numbers as the files have them, unless the data name them.
        table: the same rows: id, file, line, label (a name), points and the column of the split.
        split: row numbers under train, valid and test.
        rejected: file, line, column, value and reason of each cloud that cannot be used.
        preprocess: JSON values, what new clouds are read with.
        notes: sentences about what was done to the data that a report should repeat.
    """

    clouds: list[Cloud]
    class_names: list[str]
    segment_names: list[str]
    table: pd.DataFrame
    split: Split
    rejected: pd.DataFrame
    preprocess: dict[str, Any]
    notes: list[str]

    def __init__(
        self,
        file: str,
        task: Task = "classification",
        file_column: str | None = None,
        label_column: str | None = None,
        id_column: str | None = None,
        num_samples: int = NUM_SAMPLES,
        min_points: int = 1,
        split: str | None = None,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        on_error: OnError = "raise",
        processes: int | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if task not in TASKS:
            raise InputError(f"--data.task: got {task!r}. {nearest_hint(str(task), TASKS)}")
        for name, value, least in (
            ("num_samples", num_samples, 1),
            ("min_points", min_points, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise InputError(f"--data.{name.replace('_', '-')}: got {value}, expected at least {least}.")
        self.file, self.task, self.on_error = file, task, on_error
        required = [*filter(None, [column_of_split(split or "")])]
        self.columns = CloudColumns(file_column, label_column, id_column, required)
        self.num_samples, self.min_points = num_samples, min_points
        self.split_spec, self.split_seed = split, split_seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.processes, self.progress = processes, progress
        self._featurizers: tuple[CloudFeaturizer, CloudFeaturizer] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the data; does nothing the second time."""
        if hasattr(self, "clouds"):
            return
        rejections = Rejections(self.on_error, "clouds")
        found = list_clouds(self.file, self.columns, rejections)
        if Path(self.file).is_dir():
            check_folders(Path(self.file), found, self.task == "classification")
        stream = found.read(range(len(found.entries)), self.num_samples, self.processes)
        stream = track(stream, len(found.entries), "Read", show=self.progress)
        kept = usable(stream, found.entries, self.task, self.min_points, rejections)
        self.rejected = rejections.table()
        if not kept.clouds:
            raise none_left(self.file, "cloud", self.rejected)
        self.class_names = found.class_names or label_names(kept.clouds)
        clouds, self.segment_names = numbered_segments(kept.clouds, found.segment_names)
        entries = [found.entries[row] for row in kept.rows]
        self.table = table_of(clouds, entries, self.class_names, ["split", *self.columns.required])
        self.split, self.split_spec, drawn = split_clouds(
            self.split_spec,
            self.table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )
        self.clouds = clouds
        self.notes = [*found.notes, *noted(kept.notes, len(clouds)), *size_note(clouds), *drawn, *self._unseen()]
        self.preprocess = self._preprocess()

    def use(self, train: CloudFeaturizer, evaluate: CloudFeaturizer | None = None) -> None:
        """Choose what makes batches of clouds: one for training (which may augment) and one for all else."""
        self._featurizers = (train, evaluate or train)

    def train_dataloader(self) -> DataLoader:
        """Batches of the training part in an order drawn from ``(seed, epoch)``, as are the featurizer's numbers."""
        samples = CloudSamples(self.part("train"), self._featurizer(0), self.seed)
        return self._loader(samples, EpochOrder(len(samples), self.seed))

    def val_dataloader(self) -> DataLoader:
        """Batches of the validation part, in the order of the file, the same in every epoch."""
        return self._loader(CloudSamples(self.part("valid"), self._featurizer(1), self.seed))

    def test_dataloader(self) -> DataLoader:
        """Batches of the test part, in the order of the file."""
        return self._loader(CloudSamples(self.part("test"), self._featurizer(1), self.seed))

    def predict_dataloader(self) -> DataLoader:
        """Batches of all clouds, in the order of the file."""
        return self._loader(CloudSamples(self.clouds, self._featurizer(1), self.seed))

    def part(self, name: str) -> list[Cloud]:
        """The clouds of one part of the split: train, valid or test."""
        return [self.clouds[row] for row in self.split[name]]

    def check_labels(self) -> None:
        """Refuse a training part from which nothing can be learned.

        Raises:
            InputError: fewer than two classes.
        """
        train = self.part("train")
        if self.task == "classification":
            known = {cloud.label for cloud in train}
        elif self.task == "segmentation":
            known = {int(k) for cloud in train if cloud.segment is not None for k in np.unique(cloud.segment) if k >= 0}
        else:
            return
        if len(known) < 2:
            raise InputError(
                f"{self.file}: the training part of split {self.split_spec!r} has {len(known)} class"
                f"{'es' * (len(known) != 1)}, expected at least 2. Choose another split, or look at the folders."
            )

    def _featurizer(self, which: int) -> CloudFeaturizer:
        if self._featurizers is None:
            raise RuntimeError("PointCloudData makes no batches before `use` has named a featurizer")
        return self._featurizers[which]

    def _loader(self, samples: CloudSamples, sampler: EpochOrder | None = None) -> DataLoader:
        return DataLoader(
            samples,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=samples.featurizer.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _unseen(self) -> list[str]:
        """A sentence about classes that are measured and cannot have been learned."""
        if self.task == "normals":
            return []
        by_part = {part: self._classes_of(self.part(part)) for part in self.split}
        unseen = sorted((by_part["valid"] | by_part["test"]) - by_part["train"])
        names = self.class_names if self.task == "classification" else self.segment_names
        if not unseen:
            return []
        return [f"The training part has no {', '.join(names[k] for k in unseen)}, which other parts have."]

    def _classes_of(self, clouds: Sequence[Cloud]) -> set[int]:
        if self.task == "classification":
            return {cloud.label for cloud in clouds if cloud.label is not None}
        return {int(k) for cloud in clouds if cloud.segment is not None for k in np.unique(cloud.segment) if k >= 0}

    def _preprocess(self) -> dict[str, Any]:
        train = self.part("train")
        points = self.task == "segmentation"
        of_class: dict[str, set[int]] = {name: set() for name in self.class_names if points}
        for cloud in train:
            if cloud.label is not None and cloud.segment is not None and points:
                of_class[self.class_names[cloud.label]] |= set(np.unique(cloud.segment).tolist()) - {-1}
        return {
            "format": FORMAT,
            "task": self.task,
            "class_names": self.class_names,
            "segment_names": self.segment_names if points else [],
            "segments_of_class": {name: [self.segment_names[k] for k in sorted(of_class[name])] for name in of_class},
            "normals": all(cloud.normals is not None for cloud in train),
            "num_samples": self.num_samples,
            "min_points": self.min_points,
            "size": float(np.median([np.ptp(cloud.points, axis=0).max() for cloud in train])),
        }
