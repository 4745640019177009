"""``geoattn tcr test``: a trained model measured on a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn.datasets.rejections import OnError
from geoattn.datasets.tcr import read_chunks
from geoattn.datasets.tcr_columns import Anchors, TCRColumns
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.metrics import per_epitope
from geoattn.domains.tcr.records import Pair
from geoattn.errors import InputError
from geoattn.tasks._model import checked_device, metrics_text, overlap_text
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._tcr_evaluate import (
    TASK,
    baselines_for,
    labels_of,
    measure,
    measure_symmetry,
    pair_keys,
    predict_pairs,
    prediction_table,
)
from geoattn.tasks._tcr_predict import load, unseen_text
from geoattn.tasks._tcr_report import Findings, page_of
from geoattn.tasks._test import Rows, chosen_rows, training_rows, write_test


@dataclass
class Measured:
    """The usable rows of a file with their labels.

    Attributes:
        pairs, table, keys: one per row; see ``pair_keys``.
        rejected: the rows that cannot be used.
        notes: what was done to the rows.
    """

    pairs: list[Pair]
    table: pd.DataFrame
    keys: list[str]
    rejected: pd.DataFrame
    notes: list[str]


def test_file(
    model: str,
    data: str,
    out: str | None = None,
    rows: Rows = "all",
    anchors: Anchors | None = None,
    on_error: OnError = "raise",
    tcr_column: str | None = None,
    v_column: str | None = None,
    j_column: str | None = None,
    full_column: str | None = None,
    epitope_column: str | None = None,
    smiles_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained model on a file that has labels.

    Prints the metrics with their 95 % intervals, and says how many pairs of the file the model was trained on.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: a table with labels, 1 for binders and 0 for others.
        out: folder for metrics.json, epitopes.csv, predictions.csv, rejected.csv and report.html; nothing is written if
            left out.
        rows: all, or test for the pairs of the model's own test part; with these, baselines are shown if the file has
            the training part too.
        anchors: do CDR3s stand with the conserved C and F or W (yes, no, none for unchecked); known formats imply it.
        on_error: raise stops at the first bad row; skip leaves bad rows out.
        tcr_column: the column with the CDR3, if it is not found by its usual names.
        v_column: the column with the V gene.
        j_column: the column with the J gene.
        full_column: the column with the whole variable domain.
        epitope_column: the column with the peptide.
        smiles_column: the column with the peptide's SMILES.
        label_column: the column with the labels.
        id_column: the column that names pairs.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    device = checked_device(device)
    loaded = load(model)
    columns = TCRColumns(
        tcr=tcr_column,
        v=v_column,
        j=j_column,
        full=full_column,
        epitope=epitope_column,
        smiles=smiles_column,
        label=label_column,
        id=id_column,
    )
    file = _read(data, loaded.preprocess, columns, anchors, on_error)
    known = loaded.split.get("keys", {})
    notes = [overlap_text(file.keys, known, "pairs"), *file.notes]
    chosen = chosen_rows(rows, file.keys, known, data, "pair")
    pairs, featurizer = [file.pairs[row] for row in chosen], Featurizer(loaded.preprocess)
    if len(set(labels_of(pairs).tolist())) < 2:
        raise InputError(
            f"{data}: all {len(pairs)} pairs are of label {pairs[0].label}; to measure, both are needed. "
            + _about_one_label(pairs[0].label, file.notes)
        )
    unseen = Counter(p.epitope.sequence for p in pairs if p.epitope.sequence not in loaded.preprocess["epitopes"])
    if unseen:
        notes.append(unseen_text(unseen))
    for note in notes:
        say(note, quiet=quiet)
    probability, spread = predict_pairs(loaded.model, pairs, featurizer, device)
    metrics: dict[str, Any] = {"test": measure(pairs, probability)}
    train = [file.pairs[row] for row in training_rows(file.keys, known)] if rows == "test" else []
    baselines = {
        name: baseline.fit(train).predict(pairs)
        for name, baseline in baselines_for(loaded.preprocess["tcr"]).items()
        if train
    }
    if baselines:
        metrics["baselines"] = {"test": {name: measure(pairs, p) for name, p in baselines.items()}}
    print(metrics_text(metrics, Path(model).name))
    if folder is not None:
        findings = Findings(
            pairs=pairs,
            probability=probability,
            baselines=baselines,
            metrics=metrics,
            by_epitope=_by_epitope(pairs, probability, loaded.preprocess),
            symmetry=measure_symmetry(loaded.model.cpu(), pairs, featurizer),
            model=loaded.model,
            featurizer=featurizer,
        )
        table = prediction_table(file.table.drop(columns="file").iloc[chosen], probability, spread)
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "out": str(folder.path), "rows": rows},
            page_of(findings, " ".join(["of the file.", *notes])),
            title=loaded.config["summary"],
            metrics=metrics,
            tables={"predictions.csv": table, "epitopes.csv": findings.by_epitope},
            rejected=file.rejected,
            notes=notes,
            quiet=quiet,
        )
    return metrics


def _about_one_label(label: int | None, notes: Sequence[str]) -> str:
    """What to do about a file that cannot be measured on."""
    if label == 0:
        return "Add rows of label 1, or use geoattn tcr predict, which needs no labels."
    unsaid = any(note.startswith("Every row counts as a binder: no label") for note in notes)
    return (
        ("Name the column of labels with --label-column if there is one. " if unsaid else "")
        + "This verb draws no negatives: add measured non-binders as rows of label 0; or hold these binders out in "
        "training, with geoattn tcr fit --negatives frequency --split column:NAME=VALUE, which draws some and measures "
        "on them; or use geoattn tcr predict, which needs no labels."
    )


def _read(
    data: str, preprocess: dict[str, Any], columns: TCRColumns, anchors: Anchors | None, on_error: OnError
) -> Measured:
    chunks = list(read_chunks(data, preprocess, need_labels=True, columns=columns, anchors=anchors, on_error=on_error))
    pairs = [pair for chunk in chunks for pair in chunk.pairs]
    rejected = pd.concat([chunk.rejected for chunk in chunks], ignore_index=True)
    if not pairs:
        raise InputError(f"{data}: no usable pair; {len(rejected)} rows were rejected.")
    table = pd.concat([chunk.table for chunk in chunks], ignore_index=True)
    return Measured(pairs, table, pair_keys(pairs, preprocess), rejected, chunks[-1].notes)


def _by_epitope(pairs: Sequence[Pair], probability: np.ndarray, preprocess: Mapping[str, Any]) -> pd.DataFrame:
    """The table by epitope; the training part is known by its counts."""
    names, counts = list(preprocess["epitopes"]), preprocess["epitopes"].values()
    binders = [count["positives"] for count in counts]
    others = [count["negatives"] for count in counts]
    return per_epitope(
        labels_of(pairs),
        probability,
        [pair.epitope.sequence for pair in pairs],
        np.repeat([1.0, 0.0], [sum(binders), sum(others)]),
        [*np.repeat(names, binders), *np.repeat(names, others)],
    )
