"""Scenes seen by several cameras as a Lightning data module: read, check, split, batch."""

from __future__ import annotations

from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader, Dataset

from geoattn.datasets.multiview_files import SceneSet, read_scenes
from geoattn.datasets.multiview_samples import Drawing, TrainingSamples, TrialSamples, trials_of_scene, trials_of_views
from geoattn.datasets.rejections import OnError, Rejections, none_left
from geoattn.datasets.sampler import EpochOrder
from geoattn.datasets.splits import Split, split_rows
from geoattn.domains.multiview.batch import Frame, Trial, ViewBatch, collate
from geoattn.domains.multiview.records import STILL, Scene, camera_distance, in_unit
from geoattn.errors import InputError, nearest_hint

FORMAT = 1
UNITS = ("scene", "data")
FRAMES = ("first", "file")


class MultiviewData(lightning.LightningDataModule):
    """Scenes seen by several cameras, split into train, valid and test; one scene alone is split by its views.

    A sample gives a model some views of a scene and asks for the colours of rays through others.

    Args:
        file: an .npz with many scenes, a folder of one scene (transforms.json as NeRF and Blender write it, or COLMAP's
            text files), or a folder with a folder per scene.
        image_size: height and width in pixels; images are cut to a square and averaged over areas. As in the file if
            left out; then all must have one size.
        num_inputs: views of a scene that are given.
        num_targets: views that each sample of training asks for.
        rays: pixels of each of these that are drawn.
        unit: of length. scene: in each sample the mean distance of the given cameras from the middle between them
            becomes 1; data: one factor for all, by the training scenes, where scenes share a unit.
        frame: of the poses. first: relative to the first view that is given, in float64; file: as in the file.
        split: given (folders train and test, transforms_train.json and its like, or a column split), random,
            column:NAME, column:NAME=VALUE, file:PATH (ids) or kfold:K:I; given if the data have parts, else random.
        split_seed: seed of everything drawn for the split, and of the views by which a model is measured.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        batch_size: samples per batch.
        num_workers: processes of the data loader.
        seed: seed of training samples and of their order.
        on_error: raise stops at the first bad scene, skip lists bad scenes in rejected.csv and goes on.
        progress: show how far reading is.

    Attributes (after ``setup``):
        scenes: the usable scenes, in the order of the file, in the new unit of length if it is one for all, else in the
            file's.
        by_view: there is one scene, and its views are split.
        table: one row per scene: id, file, views and what the split reads; by view, one row per view: id, file, scene.
        split: row numbers of the table under train, valid and test.
        rejected: file, line (the number of the scene), column, value and reason of each scene that cannot be used.
        preprocess: JSON values, what new scenes are read with; ``unit`` is the factor of "data", None for "scene".
        notes: sentences about what was done to the data that a report should repeat.
    """

    scenes: list[Scene]
    by_view: bool
    table: pd.DataFrame
    split: Split
    rejected: pd.DataFrame
    preprocess: dict[str, Any]
    notes: list[str]

    def __init__(
        self,
        file: str,
        image_size: int | None = None,
        num_inputs: int = 2,
        num_targets: int = 3,
        rays: int = 512,
        unit: Literal["scene", "data"] = "scene",
        frame: Frame = "first",
        split: str | None = None,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        on_error: OnError = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("image_size", 1 if image_size is None else image_size, 1),
            ("num_inputs", num_inputs, 1),
            ("num_targets", num_targets, 1),
            ("rays", rays, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise InputError(f"--data.{name.replace('_', '-')}: got {value}, expected at least {least}.")
        for name, word, known in (("unit", unit, UNITS), ("frame", frame, FRAMES)):
            if word not in known:
                raise InputError(f"--data.{name}: got {word!r}. {nearest_hint(str(word), known)}")
        if unit == "scene" and num_inputs < 2:
            raise InputError(
                "--data.unit: got 'scene' with --data.num-inputs 1: one given view knows no unit of length, the mean "
                "distance of cameras from their middle. Use --data.unit data where scenes share a unit, or give more."
            )
        self.file, self.image_size, self.unit, self.on_error, self.progress = file, image_size, unit, on_error, progress
        self.drawing = Drawing(num_inputs, num_targets, rays, frame, own_unit=unit == "scene")
        self.split_spec, self.split_seed = split, split_seed
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the data; does nothing the second time."""
        if hasattr(self, "scenes"):
            return
        rejections, num_inputs = Rejections(self.on_error, "scenes"), self.drawing.num_inputs
        apart = num_inputs if self.drawing.own_unit else None
        found = read_scenes(self.file, self.image_size, num_inputs + 1, rejections, self.progress, apart)
        self.rejected = rejections.table()
        if not found.scenes:
            raise none_left(self.file, "scene", self.rejected)
        if len(sizes := {scene.size for scene in found.scenes}) > 1:
            names = " and ".join(f"{width} x {height}" for height, width in sorted(sizes)[:2])
            raise InputError(f"{self.file}: scenes have images of {names} pixels. Choose one with --data.image-size.")
        self.by_view = len(found.scenes) == 1 and not len(self.rejected)
        self.table = _table_of_views(found) if self.by_view else _table_of_scenes(found)
        self.split_spec = spec = self.split_spec or ("given" if "split" in self.table else "random")
        self.split = self._split(spec)
        self.notes = list(found.notes)
        if not self.by_view and any(found.parts):
            self.notes.append("Parts that files give to single views were not read: whole scenes are split.")
        self.scenes, factor = self._in_units(found.scenes)
        height, width = self.scenes[0].size
        self.preprocess = {
            "format": FORMAT,
            "image_size": self.image_size,
            "height": height,
            "width": width,
            "num_inputs": num_inputs,
            "frame": self.drawing.frame,
            "unit": factor,
        }

    def train_dataloader(self) -> DataLoader:
        """Batches of the training part in an order drawn from ``(seed, epoch)``, as are views and rays."""
        if self.by_view:
            views = [(self.scenes[0], self.split["train"])]
        else:
            views = [(self.scenes[row], list(range(len(self.scenes[row])))) for row in self.split["train"]]
        samples = TrainingSamples(views, self.drawing, self.seed)
        return self._loader(samples, EpochOrder(len(samples), self.seed))

    def val_dataloader(self) -> DataLoader:
        """Batches of the trials of the validation part, the same in every epoch."""
        return self._loader(TrialSamples(self.part("valid"), self.drawing.frame))

    def test_dataloader(self) -> DataLoader:
        """Batches of the trials of the test part."""
        return self._loader(TrialSamples(self.part("test"), self.drawing.frame))

    def part(self, name: str) -> list[Trial]:
        """The trials of one part of the split (train, valid or test): fixed views that are given and asked for.

        A few views of each scene; by view, each view of the part, with given ones from the training part.
        """
        drawn = self.drawing.num_inputs, self.split_seed, self.drawing.own_unit
        if self.by_view:
            return trials_of_views(self.scenes[0], self.split, name, *drawn)
        trials = (trials_of_scene(self.scenes[row], *drawn) for row in self.split[name])
        return [trial for some in trials for trial in some]

    def check_labels(self) -> None:
        """Refuse a training part from which nothing can be learned.

        Raises:
            InputError: one scene with too few training views, or training views that are all of one colour.
        """
        wanted = self.drawing.num_inputs + 1
        if self.by_view and len(self.split["train"]) < wanted:
            raise InputError(
                f"{self.file}: the training part of split {self.split_spec!r} has {len(self.split['train'])} views, "
                f"expected at least {wanted}: {wanted - 1} that are given and one to ask for. Lower --data.num-inputs."
            )
        images = [trial.scene.images[trial.target] for trial in self.part("train")]
        if all((image == images[0][0, 0]).all() for image in images):
            raise InputError(f"{self.file}: all training views have one and the same colour. Look at the images.")

    def _split(self, spec: str) -> Split:
        if spec == "given" and "split" not in self.table:
            raise InputError(
                "split: 'given' needs folders named train and test, transforms_train.json and its like, or a column "
                "'split'; the data have none."
            )
        if spec.startswith("scaffold"):
            raise InputError(
                "split: scaffolds are of molecules. Known: given, random, column:NAME, file:PATH, kfold:K:I."
            )
        return split_rows(
            "column:split" if spec == "given" else spec,
            self.table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            what="view" if self.by_view else "scene",
        )

    def _in_units(self, scenes: list[Scene]) -> tuple[list[Scene], float | None]:
        """Scenes in the new unit of length and that unit, if it is one for all; else as they are."""
        if self.drawing.own_unit:
            self.notes.append(
                "Lengths of a sample are divided by the mean distance of its given cameras from the middle."
            )
            return scenes, None
        distances = [camera_distance(scene) for scene in scenes]
        still = [scene.id for scene, distance in zip(scenes, distances, strict=True) if distance < STILL]
        if still:
            self.notes.append(f"The cameras of {still[0]} stand in one place: its unit of length is that of the file.")
        units = [1.0 if distance < STILL else distance for distance in distances]
        factor = float(np.mean([units[0 if self.by_view else row] for row in self.split["train"]]))
        self.notes.append(f"Lengths were divided by {factor:.6g}, the mean distance of cameras from their middle.")
        return [in_unit(scene, factor) for scene in scenes], factor

    def _loader(self, samples: Dataset[ViewBatch], sampler: EpochOrder | None = None) -> DataLoader:
        return DataLoader(
            samples,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


def _table_of_scenes(found: SceneSet) -> pd.DataFrame:
    rows = [
        {**columns, "id": scene.id, "file": scene.file, "views": len(scene)}
        for scene, columns in zip(found.scenes, found.columns, strict=True)
    ]
    return _ordered(rows)


def _table_of_views(found: SceneSet) -> pd.DataFrame:
    scene, parts = found.scenes[0], found.parts[0]
    rows: list[dict[str, Any]] = [{"id": view, "file": scene.file, "scene": scene.id} for view in scene.views]
    for row, part in zip(rows, parts or [], strict=bool(parts)):
        row["split"] = part
    return _ordered(rows)


def _ordered(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    first = [name for name in ("id", "file", "views", "scene") if name in table]
    return table[[*first, *(name for name in table if name not in first)]]
