"""``geoattn synergy test``: a trained model measured on a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.synergy import read_chunks
from geoattn.datasets.synergy_columns import SynergyColumns
from geoattn.datasets.synergy_pairs import labelled, merged, table_of
from geoattn.domains.synergy.expression import Scale
from geoattn.domains.synergy.records import Combination
from geoattn.domains.synergy.responses import ResponseScale
from geoattn.errors import InputError
from geoattn.tasks._model import checked_device, metrics_text, overlap_text
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._synergy_evaluate import (
    TASK,
    collator,
    measure,
    measure_symmetry,
    pair_keys,
    predict_baselines,
    predict_pairs,
    prediction_table,
)
from geoattn.tasks._synergy_predict import Unseen, load
from geoattn.tasks._synergy_report import Findings, page_of
from geoattn.tasks._test import Rows, chosen_rows, training_rows, write_test


@dataclass
class Measured:
    """The usable pairs of a file with their scores, repeats merged.

    Attributes:
        samples, keys: one per pair and cell line; see ``pair_keys``.
        cells: name -> expression.
        rejected: the rows that cannot be used.
        notes: what was done to the rows.
    """

    samples: list[Combination]
    keys: list[str]
    cells: Mapping[str, np.ndarray]
    rejected: pd.DataFrame
    notes: list[str]


def test_file(
    model: str,
    data: str,
    expression: str,
    drugs: str | None = None,
    out: str | None = None,
    rows: Rows = "all",
    on_error: OnError = "raise",
    response_scale: ResponseScale | None = None,
    drug_a_column: str | None = None,
    drug_b_column: str | None = None,
    cell_column: str | None = None,
    score_column: str | None = None,
    tissue_column: str | None = None,
    smiles_a_column: str | None = None,
    smiles_b_column: str | None = None,
    id_column: str | None = None,
    dose_a_column: str | None = None,
    dose_b_column: str | None = None,
    response_column: str | None = None,
    block_column: str | None = None,
    drug_name_column: str | None = None,
    drug_smiles_column: str | None = None,
    expression_scale: Scale | None = None,
    expression_cell_column: str | None = None,
    expression_transposed: bool = False,
    join_names: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained model on a file that has scores or labels, or doses and responses as in training.

    Prints the metrics with their 95 % intervals, and says how many pairs of the file the model was trained on.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: a table with what the model was trained on: scores, labels, or doses and responses.
        expression: table of gene expression, a row per cell line.
        drugs: table of drugs with name and SMILES, unless the table of pairs has smiles_a and smiles_b.
        out: folder for metrics.json, cells.csv, drugs.csv, predictions.csv, rejected.csv and report.html; nothing is
            written if left out.
        rows: all, or test for the pairs of the model's own test part; with these, baselines are shown if the file has
            the training part too.
        on_error: raise stops at the first bad row; skip leaves bad rows out.
        response_scale: a model of responses: inhibition (0 to 1), inhibition_percent, viability or viability_percent.
        drug_a_column: the column with one drug, if it is not found by its usual names.
        drug_b_column: the column with the other.
        cell_column: the column with the cell line.
        score_column: the column with the score or label.
        tissue_column: the column with the tissue.
        smiles_a_column: the column with the SMILES of drug_a.
        smiles_b_column: the column with the SMILES of drug_b.
        id_column: the column that names rows.
        dose_a_column: a model of responses: the column with the dose of drug_a.
        dose_b_column: the column with the dose of drug_b.
        response_column: the column with the response.
        block_column: the column that says which single agents belong to a pair.
        drug_name_column: in the table of drugs, the column with names.
        drug_smiles_column: in the table of drugs, the column with SMILES.
        expression_scale: tpm, log2 or zscore; that of training if left out.
        expression_cell_column: in the table of expression, the column with cell lines.
        expression_transposed: the table of expression has a row per gene.
        join_names: take names that differ in punctuation and case alone for the same.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    device = checked_device(device)
    loaded = load(model)
    columns = SynergyColumns(
        drug_a=drug_a_column,
        drug_b=drug_b_column,
        cell_line=cell_column,
        score=score_column,
        tissue=tissue_column,
        smiles_a=smiles_a_column,
        smiles_b=smiles_b_column,
        id=id_column,
        dose_a=dose_a_column,
        dose_b=dose_b_column,
        response=response_column,
        block=block_column,
    )
    file = _read(
        data,
        expression,
        loaded.preprocess,
        drugs=drugs,
        columns=columns,
        drug_columns=(drug_name_column, drug_smiles_column),
        response_scale=response_scale,
        expression_scale=expression_scale,
        expression_cell_column=expression_cell_column,
        expression_transposed=expression_transposed,
        join_names=join_names,
        on_error=on_error,
    )
    task, known = loaded.preprocess["task"], loaded.split.get("keys", {})
    notes = [overlap_text(file.keys, known, "pairs"), *file.notes]
    chosen = chosen_rows(rows, file.keys, known, data, "pair")
    samples = [file.samples[row] for row in chosen]
    if len({sample.score for sample in samples}) < 2:
        raise InputError(
            f"{data}: all {len(samples)} pairs have the {'label' if task == 'classification' else 'score'} "
            f"{samples[0].score:g}; to measure, others are needed too. Add such rows, or use predict."
        )
    unseen = Unseen(loaded.preprocess)
    unseen.add(samples)
    notes += unseen.warnings()
    for note in notes:
        say(note, quiet=quiet)
    collate = collator(loaded.preprocess, file.cells)
    prediction, spread = predict_pairs(loaded.model, samples, collate, loaded.preprocess, device)
    metrics: dict[str, Any] = {"test": measure(samples, prediction, task)}
    train = [file.samples[row] for row in training_rows(file.keys, known)] if rows == "test" else []
    baselines = {}
    if train:
        baselines = predict_baselines(train, {"test": samples}, file.cells, task, show=not quiet)["test"]
        metrics["baselines"] = {"test": {name: measure(samples, values, task) for name, values in baselines.items()}}
    print(metrics_text(metrics, Path(model).name))
    if folder is not None:
        findings = Findings.of(
            samples,
            prediction,
            spread,
            baselines=baselines,
            metrics=metrics,
            symmetry=measure_symmetry(loaded.model.cpu(), samples, collate),
            model=loaded.model,
            collate=collate,
            preprocess=loaded.preprocess,
        )
        table = prediction_table(table_of(samples), samples, prediction, spread, loaded.preprocess)
        split = loaded.split.get("split")
        which = "of the file." if split is None else f"of the file; the model was trained on the split {split}."
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "expression": expression, "drugs": drugs, "rows": rows},
            page_of(findings, " ".join([which, *notes])),
            title=loaded.config["summary"],
            metrics=metrics,
            tables={"predictions.csv": table, **findings.tables()},
            rejected=file.rejected,
            notes=notes,
            quiet=quiet,
        )
    return metrics


def _read(data: str, expression: str, preprocess: dict[str, Any], **options: Any) -> Measured:
    """The pairs of a file as `geoattn.datasets.synergy.SynergyData` makes them: merged first, labelled then."""
    positive, task = preprocess["positive"], preprocess["task"]
    labels = task == "classification" and positive is None
    raw = preprocess if labels else {**preprocess, "task": "regression", "positive": None}
    if preprocess["score"] != "column" and options["response_scale"] is None:
        options["response_scale"] = preprocess["response_scale"]
    chunks = list(read_chunks(data, expression, raw, need_scores=True, source=preprocess["score"], **options))
    samples = [sample for chunk in chunks for sample in chunk.samples]
    rejected, contradictory = [chunk.rejected for chunk in chunks], Rejections("skip")
    notes = chunks[-1].notes if chunks else []
    samples = merged(samples, labels=labels, rejections=contradictory, notes=notes)
    rejected.append(contradictory.table())
    if positive is not None:
        samples, _ = labelled(samples, positive, preprocess["negative"], notes)
    table = pd.concat(rejected, ignore_index=True)
    if not samples:
        raise InputError(f"{data}: no usable pair; {len(table)} rows were rejected.")
    return Measured(samples, pair_keys(samples), chunks[-1].cells, table, notes)
