"""``geoattn sphere test``: a trained model measured on fields whose targets are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.sphere_files import FieldFile
from geoattn.datasets.sphere_new import fields_like
from geoattn.datasets.sphere_samples import FieldSamples
from geoattn.datasets.sphere_splits import block_parts
from geoattn.domains.records import RecordError
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError, nearest_hint
from geoattn.tasks._model import checked_device, metrics_text, overlap_text
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._sphere_evaluate import (
    TASK,
    climatology_of,
    field_keys,
    fitted_baselines,
    learning_nothing,
    measure,
    measure_symmetry,
    measure_variables,
    predict_samples,
    prediction_table,
)
from geoattn.tasks._sphere_predict import load, model_on
from geoattn.tasks._sphere_report import Findings, page_of
from geoattn.tasks._sphere_rollout import measure_rollout
from geoattn.tasks._test import Rows, chosen_rows, training_rows, write_test


def test_file(
    model: str,
    data: str,
    out: str | None = None,
    rows: Rows = "all",
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained model on fields whose targets are known; forecasts also as roll-outs.

    Prints the metrics with their 95 % intervals, and says how many fields of the file the model was trained on.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: .npz, NetCDF, Zarr, GRIB or HEALPix FITS with inputs and targets; a folder or a pattern of several.
        out: folder for metrics.json, predictions.csv, rollout.csv, rejected.csv and report.html; nothing is written if
            left out.
        rows: all, or test for the samples, or the parts of the globe, of the model's own test part; with these,
            baselines are shown if the file has the training part too.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    device = checked_device(device)
    loaded = load(model)
    settings, known = loaded.preprocess, loaded.split.get("keys", {})
    source, samples, notes = fields_like(data, settings)
    samples, rejected = _with_targets(data, source, samples, settings)
    regions = settings.get("regions")
    parts = _parts(source, settings) if regions else {}
    keys = field_keys(samples, ["test"] * len(samples) if regions else None)
    notes = [
        _region_text(keys, known, parts, rows) if regions else overlap_text(keys, known, "samples", rows=rows),
        *notes,
    ]
    chosen = chosen_rows(rows, keys, known, data, "sample")
    measured, train = samples.take(chosen), samples.take([])
    if rows == "test":
        measured = _used(measured, parts.get("test"))
        training = [key.replace("/test", "/train") for key in keys]
        train = _used(samples.take(training_rows(training, known)), parts.get("train"))
    for note in notes:
        say(note, quiet=quiet)
    grid, network = source.grid, model_on(loaded, source.grid)
    if len(train):
        baselines = fitted_baselines(train, settings, grid.points, region=bool(regions))
    else:
        baselines = learning_nothing(settings, grid.points)
    normal = climatology_of(baselines)
    predicted, _ = predict_samples(network, measured, settings, device, label="" if quiet else "Predict")
    metrics: dict[str, Any] = {"test": measure(measured, predicted, settings, grid.points, normal)}
    simple = {each.name: each.predict(measured) for each in baselines}
    if simple:
        metrics["baselines"] = {
            "test": {name: measure(measured, found, settings, grid.points, normal) for name, found in simple.items()}
        }
    rollout = measure_rollout(network, measured, settings, grid.points, baselines, normal, device)
    if rollout is not None:
        metrics["rollout"] = rollout.metrics
        metrics.setdefault("baselines", {})["rollout"] = rollout.baselines
    print(metrics_text(metrics, Path(model).name))
    if rollout is not None:
        print(f"\nNRMSE over lead time\n{rollout_text(rollout.table)}")
    if folder is not None:
        by_name = {
            name: measure_variables(measured, found, settings, grid.points, normal)
            for name, found in {"this model": predicted, **simple}.items()
        }
        names = list(by_name["this model"])
        variables = {one: {name: found[one] for name, found in by_name.items()} for one in names}
        symmetry = measure_symmetry(network.cpu(), measured, settings)
        findings = Findings(measured, predicted, settings, grid, metrics, variables, symmetry, rollout)
        tables = {"predictions.csv": prediction_table(measured, predicted, settings, grid)}
        tables |= {"rollout.csv": rollout.table} if rollout is not None else {}
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "out": str(folder.path), "rows": rows},
            page_of(findings, " ".join(["of the file.", *notes])),
            title=loaded.config["summary"],
            metrics=metrics,
            tables=tables,
            rejected=rejected,
            notes=notes,
            quiet=quiet,
        )
    return metrics


def rollout_text(table: pd.DataFrame) -> str:
    """The error over lead time as a table for the terminal."""
    wide = table.pivot(index="name", columns="lead", values="nrmse").loc[list(dict.fromkeys(table["name"]))]
    return wide.rename_axis(index=None).to_string(float_format=lambda value: f"{value:.3g}")


def _with_targets(
    data: str, source: FieldFile, samples: FieldSamples, settings: Mapping[str, Any]
) -> tuple[FieldSamples, pd.DataFrame]:
    """Those whose target is known somewhere, and the list of the others."""
    for name in settings["targets"]:
        if name not in source.variables:
            hint = nearest_hint(name, list(source.variables))
            raise InputError(
                f"{data}: there is no variable {name!r} to measure on. {hint} Or use geoattn sphere predict."
            )
    if settings["task"] == "segmentation":
        _check_classes(source, settings)
    rejections, kept = Rejections("skip", "samples"), []
    for row, spec in enumerate(samples.specs):
        if spec.target is None:
            continue
        if samples[row].known.any():
            kept.append(row)
        else:
            rejections.add(source.paths[spec.target], row, RecordError("targets", spec.id, "every value is missing"))
    if not kept:
        raise InputError(f"{data}: no target is known; {source.num_samples} samples are too few, or all is missing.")
    return samples.take(kept), rejections.table()


def _check_classes(source: FieldFile, settings: Mapping[str, Any]) -> None:
    (name,), number = settings["targets"], len(settings["class_names"])
    values = source.variables[name]
    odd = np.isfinite(values) & ((values != np.round(values)) | (values < -1) | (values >= number))
    if not odd.any():
        return
    row, point = (int(index) for index in np.argwhere(odd)[0])
    file = source.paths[row] if len(values) == source.num_samples else source.file
    raise InputError(
        f"{file}: {name}: got {values[row, point]:g}, expected the classes of the training, whole numbers from 0 to "
        f"{number - 1}, and -1 or missing where not known."
    )


def _parts(source: FieldFile, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Part -> ``[N]`` bool, the regions that a model learned and was measured on."""
    grid, regions = SphereGrid.from_dict(settings["grid"]), settings["regions"]
    if not grid.same(source.grid):
        return {}
    seed = int(regions["split"].partition(":")[2] or 0)
    part = block_parts(grid.points, seed, regions["val_fraction"], regions["test_fraction"], regions["gap"])
    return {name: part == k for k, name in enumerate(("train", "valid", "test"))}


def _used(samples: FieldSamples, used: np.ndarray | None) -> FieldSamples:
    """The same samples, measured at some points alone."""
    if used is None:
        return samples
    specs = [replace(spec, used=used & spec.used) for spec in samples.specs]
    return FieldSamples(samples.source, specs, samples.inputs, samples.static, samples.targets, samples.classes)


def _region_text(
    keys: Sequence[str], known: Mapping[str, Sequence[str]], parts: Mapping[str, np.ndarray], rows: Rows
) -> str:
    seen = set(known.get("test", ()))
    count = sum(key in seen for key in keys)
    text = f"The model was trained on parts of the globe of {count} of {len(keys)} samples of the file."
    if not count:
        return text
    if not parts and rows == "test":
        raise InputError("--rows test: the points are not those that the model was trained on. Use --rows all.")
    if rows == "test":
        return f"{text} Measured on the blocks of its test part: {parts['test'].mean():.0%} of the points."
    return f"{text} On those parts it looks better than it is; see --rows test."
