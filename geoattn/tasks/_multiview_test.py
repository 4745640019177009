"""``geoattn multiview test``: a trained model measured on scenes whose views are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.multiview_files import read_scenes
from geoattn.datasets.multiview_samples import trials_of_scene, trials_of_views
from geoattn.datasets.rejections import OnError, Rejections, none_left
from geoattn.domains.multiview.audit import image_key, scene_key
from geoattn.domains.multiview.batch import Trial
from geoattn.domains.multiview.records import Scene, in_unit
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device, load_model, metrics_text, overlap_text
from geoattn.tasks._multiview_draw import check_size, image_size
from geoattn.tasks._multiview_evaluate import (
    TASK,
    draw_baselines,
    measure,
    measure_symmetry,
    predict_trials,
    prediction_table,
)
from geoattn.tasks._multiview_report import Findings, page_of
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._test import Rows, chosen_rows, training_rows, write_test


@dataclass
class Measured:
    """The usable samples of a file: scenes, or the views of the one scene that a model was trained on in part.

    Attributes:
        scenes: in the model's unit of length if it is one for all, else in that of the file.
        keys: one per sample, the same for samples that are the same.
        by_view: samples are views.
        rejected: the scenes that cannot be used.
        notes: what was found in the file.
    """

    scenes: list[Scene]
    keys: list[str]
    by_view: bool
    rejected: pd.DataFrame
    notes: list[str]

    @property
    def what(self) -> str:
        """A sample is called."""
        return "view" if self.by_view else "scene"


def test_file(
    model: str,
    data: str,
    out: str | None = None,
    rows: Rows = "all",
    on_error: OnError = "raise",
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained model on scenes: some views are given, others are drawn and compared with the images.

    Prints the metrics with their 95 % intervals beside baselines, and says how many scenes of the file the model was
    trained on. Which views are given and asked for is drawn as in training, from the model's seed and the names of the
    scenes, so that a test of the model's own test part gives what its training gave.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: an .npz with many scenes, a folder of one (NeRF, Blender, COLMAP), or a folder with a folder per scene.
        out: folder for metrics.json, predictions.csv, rejected.csv and report.html; nothing is written if left out.
        rows: all, or test for the scenes of the model's own test part; with these, baselines that learn are shown if
            the file has the training part too.
        on_error: raise stops at the first bad scene; skip leaves bad scenes out.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    device = checked_device(device)
    loaded = load_model(model, TASK)
    known = loaded.split.get("keys", {})
    file = _read(data, loaded, known, on_error, quiet)
    notes = [overlap_text(file.keys, known, f"{file.what}s", rows=rows), *file.notes]
    for note in notes:
        say(note, quiet=quiet)
    chosen = chosen_rows(rows, file.keys, known, data, file.what)
    trials = _trials(file, chosen, loaded)
    label = "" if quiet else "Views"
    images, _ = predict_trials(loaded.model, trials, loaded.preprocess, device, label=label)
    train = _trials(file, training_rows(file.keys, known), loaded) if rows == "test" else []
    drawn = draw_baselines(train, trials)
    metrics: dict[str, Any] = {"test": measure(trials, images)}
    metrics["baselines"] = {"test": {name: measure(trials, found) for name, found in drawn.items()}}
    print(metrics_text(metrics, Path(model).name))
    if folder is not None:
        symmetry = measure_symmetry(loaded.model.cpu(), trials, loaded.preprocess)
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "out": str(folder.path), "rows": rows},
            page_of(Findings(trials, images, drawn, metrics, symmetry), " ".join(["of the file.", *notes])),
            title=loaded.config["summary"],
            metrics=metrics,
            tables={"predictions.csv": prediction_table(trials, images, "test").drop(columns="split")},
            rejected=file.rejected,
            notes=notes,
            quiet=quiet,
        )
    return metrics


def _read(
    data: str, loaded: Pretrained, known: Mapping[str, Sequence[str]], on_error: OnError, quiet: bool
) -> Measured:
    preprocess, rejections = loaded.preprocess, Rejections(on_error, "scenes")
    num, unit = preprocess["num_inputs"], preprocess["unit"]
    apart = num if unit is None else None
    found = read_scenes(data, image_size(preprocess), num + 1, rejections, not quiet, apart)
    rejected = rejections.table()
    if not found.scenes:
        raise none_left(data, "scene", rejected)
    for scene in found.scenes:
        check_size(data, scene, preprocess)
    scenes = found.scenes if unit is None else [in_unit(scene, unit) for scene in found.scenes]
    views = [image_key(image) for image in scenes[0].images]
    by_view = len(scenes) == 1 and sum(key in set(known.get("train", ())) for key in views) > preprocess["num_inputs"]
    keys = views if by_view else [scene_key(scene) for scene in scenes]
    return Measured(scenes, keys, by_view, rejected, list(found.notes))


def _trials(file: Measured, rows: Sequence[int], loaded: Pretrained) -> list[Trial]:
    """The questions of some samples, as `MultiviewData.part` asks them."""
    drawn = loaded.preprocess["num_inputs"], loaded.split.get("split_seed", 0), loaded.preprocess["unit"] is None
    if file.by_view:
        trained = set(loaded.split["keys"]["train"])
        split = {"train": [row for row, key in enumerate(file.keys) if key in trained], "asked": list(rows)}
        return trials_of_views(file.scenes[0], split, "asked", *drawn)
    return [trial for row in rows for trial in trials_of_scene(file.scenes[row], *drawn)]
