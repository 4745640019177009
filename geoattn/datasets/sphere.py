"""Fields on the sphere as a Lightning data module: read, check, split, batch."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from geoattn.datasets.rejections import OnError, Rejections, none_left
from geoattn.datasets.sampler import EpochShuffle
from geoattn.datasets.sphere_axes import turned_axes
from geoattn.datasets.sphere_coverage import check_coverage
from geoattn.datasets.sphere_files import FieldFile, chosen, read_fields
from geoattn.datasets.sphere_samples import FieldSamples, SampleSpec, windows
from geoattn.datasets.sphere_splits import split_fields
from geoattn.datasets.sphere_statistics import statistics
from geoattn.datasets.sphere_times import in_order, in_series
from geoattn.datasets.splits import Split
from geoattn.domains.records import RecordError
from geoattn.domains.sphere.batch import FieldBatch, collate_fields
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError, nearest_hint

Task = Literal["forecast", "regression", "segmentation"]
TASKS = ("forecast", "regression", "segmentation")
FORMAT = 1


class SphereData(lightning.LightningDataModule):
    """Fields on the globe, split into train, valid and test.

    Args:
        file: .npz, NetCDF, Zarr, GRIB or HEALPix FITS; a folder or a pattern of several on the same points.
        task: forecast (a later state from earlier ones), regression (variables from others at the same moment) or
            segmentation (a class per point).
        inputs: variables that are known; all but the targets if left out.
        targets: variables that are wanted; for a forecast all inputs that change if left out.
        steps: forecast: how many samples later the target is.
        history: forecast: how many states are known.
        split: time, random, kfold:K:I, column:NAME, column:NAME=VALUE, file:PATH (ids) or region:SEED (parts of the
            globe). If left out: one series time, several trajectories or samples random, a single map region:0.
        split_seed: seed of everything drawn for the split.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        gap_degrees: region: around validation and test blocks, where nothing is learned.
        batch_size: samples per batch.
        seed: seed of the order of training batches.
        on_error: raise stops at the first sample without any value, skip lists such samples in rejected.csv.

    Attributes (after ``setup``):
        grid: the points.
        source: all that was read.
        samples: all usable samples.
        table: one row per sample: id, file, line, label, group and the columns of the file.
        split: row numbers under train, valid and test.
        rejected: file, line, column, value and reason of each sample that cannot be used.
        preprocess: JSON values, what new files are read with and fields are standardised by.
        notes: sentences about what was done to the data that a report should repeat.
    """

    grid: SphereGrid
    source: FieldFile
    samples: FieldSamples
    table: pd.DataFrame
    split: Split
    rejected: pd.DataFrame
    preprocess: dict[str, Any]
    notes: list[str]

    def __init__(
        self,
        file: str,
        task: Task = "forecast",
        inputs: list[str] | None = None,
        targets: list[str] | None = None,
        steps: int = 1,
        history: int = 1,
        split: str | None = None,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        gap_degrees: float = 0.0,
        batch_size: int = 4,
        seed: int = 0,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        if task not in TASKS:
            raise InputError(f"--data.task: got {task!r}. {nearest_hint(str(task), TASKS)}")
        for name, value in (("steps", steps), ("history", history), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"--data.{name.replace('_', '-')}: got {value}, expected at least 1.")
        if gap_degrees < 0:
            raise InputError(f"--data.gap-degrees: got {gap_degrees}, expected at least 0.")
        if task != "forecast" and (history > 1 or steps > 1):
            raise InputError(f"--data.task {task}: --data.history and --data.steps are of forecasts alone.")
        if task != "forecast" and not targets:
            raise InputError(f"--data.targets: {task} needs the variable that is wanted.")
        self.file, self.task, self.inputs, self.targets = file, task, inputs, targets
        self.steps, self.history = steps, history
        self.split_spec, self.split_seed = split, split_seed
        self.val_fraction, self.test_fraction, self.gap_degrees = val_fraction, test_fraction, gap_degrees
        self.batch_size, self.seed, self.on_error = batch_size, seed, on_error

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the file; does nothing the second time."""
        if hasattr(self, "samples"):
            return
        names = None if self.inputs is None else [*self.inputs, *(self.targets or [])]
        source = read_fields(self.file, names)
        self.grid = source.grid
        check_coverage(self.file, self.grid)
        inputs, static, targets = self._roles(source)
        step = None
        if self.task == "forecast":
            source, step = in_series(source)
        else:
            source = in_order(source)
        self.source = source
        class_names = self._class_names(source, targets[0]) if self.task == "segmentation" else []
        specs = windows(source, self.task, self.history, self.steps, targets=True)
        classes = self.task == "segmentation"
        specs = self._usable(FieldSamples(source, specs, inputs, static, targets, classes))
        table = self._table(specs)
        self.split_spec = self.split_spec or self._usual_split(table)
        if self.gap_degrees and not self.split_spec.startswith("region"):
            raise InputError(
                f"--data.gap-degrees: got {self.gap_degrees:g} with split {self.split_spec!r}; it is of --data.split "
                "region:SEED alone. Choose that, or leave the gap out."
            )
        made, rows, self.split, said = split_fields(
            self.split_spec,
            source,
            specs,
            table,
            seed=self.split_seed,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            gap=self.gap_degrees,
        )
        self.samples = FieldSamples(source, made, inputs, static, targets, classes)
        self.table = table.iloc[rows].reset_index(drop=True).assign(id=[each.id for each in made])
        self.notes = [*source.notes, *said]
        self.preprocess = {
            "format": FORMAT,
            "task": self.task,
            "grid": self.grid.to_dict(),
            "axes": turned_axes(source.layout),
            "inputs": inputs,
            "static": static,
            "targets": targets,
            "history": self.history,
            "steps": self.steps,
            "step_seconds": step,
            "class_names": class_names,
            "units": source.units,
            "statistics": statistics(self.samples.take(self.split["train"])),
        }
        if self.split_spec.startswith("region"):
            shares = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
            self.preprocess["regions"] = {"split": self.split_spec, **shares, "gap": self.gap_degrees}

    def train_dataloader(self) -> DataLoader[FieldBatch]:
        """Batches of the training part in an order drawn from ``(seed, epoch)``."""
        return self._loader("train", EpochShuffle(len(self.split["train"]), self.seed))

    def val_dataloader(self) -> DataLoader[FieldBatch]:
        """Batches of the validation part, in the order of the file."""
        return self._loader("valid")

    def test_dataloader(self) -> DataLoader[FieldBatch]:
        """Batches of the test part, in the order of the file."""
        return self._loader("test")

    def part(self, name: str) -> FieldSamples:
        """The samples of one part of the split: train, valid or test; made when they are asked for."""
        return self.samples.take(self.split[name])

    def check_labels(self) -> None:
        """Refuse a training part from which nothing can be learned.

        Raises:
            InputError: no known target, or fewer than two classes.
        """
        seen: set[float] = set()
        for sample in self.part("train"):
            assert sample.targets is not None
            seen |= set(np.unique(sample.targets[sample.known]).tolist())
        if len(seen) < 2:
            what = "classes" if self.task == "segmentation" else "different values"
            raise InputError(
                f"{self.file}: the training part of split {self.split_spec!r} has {len(seen)} {what} of "
                f"{', '.join(self.preprocess['targets'])}, expected at least 2. Choose another split."
            )

    def _loader(self, part: str, order: EpochShuffle | None = None) -> DataLoader[FieldBatch]:
        collate = partial(collate_fields, preprocess=self.preprocess)
        return DataLoader(self.part(part), batch_size=self.batch_size, sampler=order, collate_fn=collate)  # type: ignore[arg-type]

    def _roles(self, source: FieldFile) -> tuple[list[str], list[str], list[str]]:
        """Variables of the states, those that do not change, and those that are wanted."""
        known = list(source.variables)
        targets = chosen(self.file, known, self.targets or [])
        inputs = chosen(self.file, known, self.inputs)
        if self.inputs is None and self.task != "forecast":
            inputs = [name for name in inputs if name not in targets]
        static = [name for name in inputs if name in source.static]
        inputs = [name for name in inputs if name not in static]
        targets = targets or inputs
        if self.task == "forecast" and not set(targets) <= set(inputs):
            odd = next(name for name in targets if name not in inputs)
            raise InputError(
                f"--data.targets: {odd!r} is not among the inputs that change; a forecast goes on from them."
            )
        if self.task != "forecast" and set(targets) & {*inputs, *static}:
            raise InputError(f"--data.targets: {targets[0]!r} is an input too.")
        if not inputs and not static:
            raise InputError(f"{self.file}: no variable is left as input besides {', '.join(targets)}.")
        if self.task == "segmentation" and len(targets) > 1:
            raise InputError(f"--data.targets: got {len(targets)} variables, expected one with classes.")
        return inputs, static, targets

    def _class_names(self, source: FieldFile, name: str) -> list[str]:
        values = source.variables[name]
        known = values[np.isfinite(values)]
        odd = known[(known != np.round(known)) | (known < -1)]
        if len(odd):
            raise InputError(
                f"{self.file}: {name}: got values such as {odd[0]:g}, expected classes: whole numbers from 0, and "
                "-1 or missing where not known."
            )
        count = int(known.max(initial=-1)) + 1
        names = source.class_names.get(name, [])
        return [names[k] if k < len(names) else str(k) for k in range(max(count, len(names)))]

    def _usable(self, samples: FieldSamples) -> list[SampleSpec]:
        """Those that have inputs and targets at some point."""
        rejections, kept = Rejections(self.on_error, "samples"), []
        for number, (spec, sample) in enumerate(zip(samples.specs, samples, strict=True)):
            what = "" if np.isfinite(sample.inputs).any() else "inputs"
            what = what or ("" if sample.known.any() else "targets")
            if what:
                error = RecordError(what, sample.label, "every value is missing")
                rejections.add(sample.file, number, error, f"sample {sample.id}")
            else:
                kept.append(spec)
        self.rejected = rejections.table()
        if not kept:
            if not len(self.rejected):
                raise InputError(
                    f"{self.file}: {self.source.num_samples} samples are too few for --data.history {self.history} and "
                    f"--data.steps {self.steps}."
                )
            raise none_left(self.file, "sample", self.rejected)
        return kept

    def _table(self, specs: list[SampleSpec]) -> pd.DataFrame:
        source, moments = self.source, [each.times[-1] for each in specs]
        table = pd.DataFrame(
            {
                "id": [each.id for each in specs],
                "file": [source.paths[k] for k in moments],
                "line": None,
                "label": [source.labels[k] for k in moments],
                "group": source.group[moments],
            }
        )
        more = {name: texts for name, texts in source.columns.items() if name not in table}
        return table.assign(**{name: [texts[k] for k in moments] for name, texts in more.items()})

    def _usual_split(self, table: pd.DataFrame) -> str:
        if len(table) < 3:
            return "region:0"
        return "time" if self.task == "forecast" and table["group"].nunique() == 1 else "random"
