"""``geoattn molecules test``: a trained model measured on a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch_geometric.data import Data

from geoattn.datasets.molecule_files import Columns
from geoattn.datasets.molecules import read_chunks
from geoattn.datasets.rejections import OnError
from geoattn.domains.metrics import evaluate, evaluate_targets
from geoattn.domains.molecules.targets import Kind, TargetTransform
from geoattn.errors import InputError
from geoattn.tasks._model import default_device, metrics_text, overlap_text
from geoattn.tasks._molecules_evaluate import (
    baseline_predictions,
    measure_symmetry,
    molecule_keys,
    predict_samples,
    prediction_table,
)
from geoattn.tasks._molecules_predict import TASK, load
from geoattn.tasks._molecules_report import Findings, page_of
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._test import Rows, chosen_rows, training_rows, write_test


@dataclass
class Measured:
    """The usable rows of a file with their targets.

    Attributes:
        samples, table, keys: one per row; see ``molecule_keys``.
        rejected: the rows that cannot be used.
    """

    samples: list[Data]
    table: pd.DataFrame
    keys: list[str]
    rejected: pd.DataFrame


def test_file(
    model: str,
    data: str,
    out: str | None = None,
    rows: Rows = "all",
    on_error: OnError = "raise",
    smiles_column: str | None = None,
    id_column: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained model on a file that has the targets.

    Prints the metrics with their 95 % intervals, and says how many molecules of the file the model was trained on.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: a file with the targets of the model.
        out: folder for metrics.json, predictions.csv, rejected.csv and report.html; nothing is written if left out.
        rows: all, or test for the molecules of the model's own test part; with these, baselines are shown if the file
            has the training part too.
        on_error: raise stops at the first bad row; skip leaves bad rows out.
        smiles_column: the column with SMILES, if it is called otherwise than in the training file.
        id_column: the column that names molecules, if it is called otherwise.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    loaded = load(model)
    preprocess, targets = loaded.preprocess, loaded.preprocess["targets"]
    columns = Columns(smiles_column or preprocess["smiles_column"], id_column or preprocess["id_column"])
    file = _read(data, preprocess, columns, on_error)
    known = loaded.split.get("keys", {})
    overlap = overlap_text(file.keys, known, "molecules")
    say(overlap, quiet=quiet)
    chosen = chosen_rows(rows, file.keys, known, data, "molecule")
    y = file.table[targets].to_numpy(np.float64)
    samples = [file.samples[row] for row in chosen]
    transform = TargetTransform.from_dict(preprocess["target_transform"])
    mean, std = predict_samples(loaded.model, samples, transform, device or default_device())
    task = preprocess["task"]
    metrics: dict[str, Any] = {"test": evaluate(y[chosen], mean, task)}
    if rows == "test":
        metrics["baselines"] = _baselines(file, y, task, known, chosen)
    if len(targets) > 1:
        metrics["targets"] = {"test": evaluate_targets(y[chosen], mean, task, targets)}
    print(metrics_text(metrics, Path(model).name))
    if folder is not None:
        findings = Findings(
            task=task,
            targets=targets,
            units=preprocess["units"],
            y=y[chosen],
            prediction=mean,
            std=std,
            table=file.table.iloc[chosen],
            samples=samples,
            metrics=metrics,
            symmetry=measure_symmetry(loaded.model.cpu(), samples),
        )
        table = prediction_table(findings.table.drop(columns="file"), targets, mean, std)
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "out": str(folder.path), "rows": rows},
            page_of(findings, f"of the file. {overlap}"),
            title=loaded.config["summary"],
            metrics=metrics,
            tables={"predictions.csv": table},
            rejected=file.rejected,
            notes=[overlap],
            quiet=quiet,
        )
    return metrics


def _read(data: str, preprocess: Mapping[str, Any], columns: Columns, on_error: OnError) -> Measured:
    chunks = list(
        read_chunks(data, dict(preprocess), need_targets=True, columns=columns, on_error=on_error, processes=None)
    )
    samples = [sample for chunk in chunks for sample in chunk.samples]
    rejected = pd.concat([chunk.rejected for chunk in chunks], ignore_index=True)
    if not samples:
        raise InputError(f"{data}: no usable molecule; {len(rejected)} rows were rejected.")
    table = pd.concat([chunk.table for chunk in chunks], ignore_index=True)
    return Measured(samples, table, molecule_keys(samples, table["smiles"].tolist()), rejected)


def _baselines(
    file: Measured, y: np.ndarray, task: Kind, known: Mapping[str, Sequence[str]], chosen: Sequence[int]
) -> dict[str, Any]:
    """Baselines fitted to the training part; nothing if the file does not have all of it."""
    train = training_rows(file.keys, known)
    if not train:
        return {}
    smiles = file.table["smiles"].tolist()
    predictions = baseline_predictions(file.samples, smiles, y, task, train, chosen)
    return {"test": {name: evaluate(y[list(chosen)], values, task) for name, values in predictions.items()}}
