"""``geoattn pointclouds test``: a trained model measured on clouds, as given and turned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.pointcloud_chunks import read_chunks
from geoattn.datasets.pointcloud_sets import CloudColumns
from geoattn.datasets.rejections import OnError, none_left
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError
from geoattn.tasks._model import checked_device, metrics_text, overlap_text
from geoattn.tasks._pointclouds_evaluate import (
    POSES,
    PROTOCOLS,
    TASK,
    Protocol,
    cloud_keys,
    fitted_baselines,
    measure_protocols,
    predict_clouds,
    prediction_table,
)
from geoattn.tasks._pointclouds_predict import check_clouds, load, unit_notes
from geoattn.tasks._pointclouds_report import Findings, page_of, robustness
from geoattn.tasks._pointclouds_symmetry import measure_batch, measure_rotation
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._test import Rows, chosen_rows, training_rows, write_test


@dataclass
class Measured:
    """The usable clouds of a file with what is to be predicted, their table, keys, and what was rejected or noted."""

    clouds: list[Cloud]
    table: pd.DataFrame
    keys: list[str]
    rejected: pd.DataFrame
    notes: list[str]


def test_file(
    model: str,
    data: str,
    out: str | None = None,
    protocol: Protocol | None = None,
    rows: Rows = "all",
    on_error: OnError = "raise",
    file_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained model on clouds whose classes, parts or normals are known.

    Prints the metrics with their 95 % intervals, for clouds as given, turned about the up axis, and turned at random;
    and says how many clouds of the file the model was trained on.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: a folder per class, a table of files, an .npz with many clouds.
        out: folder for metrics.json, predictions.csv, rejected.csv and report.html; nothing is written if left out.
        protocol: given, z (turned about the up axis) or SO3 (turned at random); all three if left out.
        rows: all, or test for the clouds of the model's own test part; with these, baselines are shown if the file has
            the training part too.
        on_error: raise stops at the first bad file; skip leaves bad files out.
        file_column: the column of files of a table, if it is not found by its usual names.
        label_column: the column of classes.
        id_column: the column that names clouds.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    device = checked_device(device)
    loaded = load(model)
    columns = CloudColumns(file=file_column, label=label_column, id=id_column)
    file = _read(data, loaded.preprocess, columns, on_error)
    known = loaded.split.get("keys", {})
    chosen = chosen_rows(rows, file.keys, known, data, "cloud")
    clouds, featurizer = [file.clouds[row] for row in chosen], Featurizer(loaded.preprocess)
    notes = [overlap_text(file.keys, known, "clouds", rows=rows), *file.notes, *unit_notes(clouds, loaded.preprocess)]
    for note in notes:
        say(note, quiet=quiet)
    predict = partial(predict_clouds, loaded.model, featurizer=featurizer, device=device)
    train = [file.clouds[row] for row in training_rows(file.keys, known)] if rows == "test" else []
    baselines = fitted_baselines(train, loaded.preprocess) if train else {}
    protocols = list(PROTOCOLS) if protocol is None else [protocol]
    given = {"": predict(clouds)} if folder is not None or "given" in protocols else {}
    found = measure_protocols({"": predict} | baselines, clouds, loaded.preprocess, protocols, given)
    metrics: dict[str, Any] = {split: measures.pop("") for split, measures in found.items()}
    if baselines:
        metrics["baselines"] = found
    for name in protocols:
        split = PROTOCOLS[name][0]
        shown = {"test": metrics[split], "baselines": {"test": metrics.get("baselines", {}).get(split, {})}}
        print(f"{POSES[name]}\n{metrics_text(shown, Path(model).name)}\n")
    if folder is not None:
        findings = Findings(
            clouds=clouds,
            answers=given[""],
            metrics=metrics,
            preprocess=loaded.preprocess,
            curve=robustness({"this model": predict} | baselines, clouds, loaded.preprocess),
            rotation=measure_rotation(loaded.model.cpu(), clouds, featurizer),
            batch=measure_batch(loaded.model.cpu(), clouds, featurizer),
            model=loaded.model,
            featurizer=featurizer,
        )
        table = prediction_table(file.table.drop(columns="file").iloc[chosen], clouds, given[""], loaded.preprocess)
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "out": str(folder.path), "rows": rows, "protocol": protocol},
            page_of(findings, " ".join(["of the file.", *notes])),
            title=loaded.config["summary"],
            metrics=metrics,
            tables={"predictions.csv": table},
            rejected=file.rejected,
            notes=notes,
            quiet=quiet,
        )
    return metrics


def _read(data: str, preprocess: dict[str, Any], columns: CloudColumns, on_error: OnError) -> Measured:
    chunks = list(read_chunks(data, preprocess, need_labels=True, columns=columns, on_error=on_error))
    clouds = [cloud for chunk in chunks for cloud in chunk.clouds]
    if not chunks:
        raise InputError(f"{data}: no row of the table names a cloud that can be used.")
    rejected = pd.concat([chunk.rejected for chunk in chunks], ignore_index=True)
    if not clouds:
        raise none_left(data, "cloud", rejected)
    check_clouds(clouds, preprocess)
    table = pd.concat([chunk.table for chunk in chunks], ignore_index=True)
    notes = list(dict.fromkeys(note for chunk in chunks for note in chunk.notes))
    return Measured(clouds, table, cloud_keys(clouds), rejected, notes)
