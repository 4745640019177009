"""``geoattn molecules test`` for a potential: measured on a file with energies and forces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn._numbers import format_measure, metric_name, rows_of
from geoattn.datasets.molecule_frames import Keys, read_structures
from geoattn.datasets.molecule_trajectories import frame_table, pack
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.domains.molecules.force_metrics import constant_baseline, evaluate_forces, in_milli
from geoattn.errors import InputError
from geoattn.tasks._forces_evaluate import (
    BASELINE,
    energy_columns,
    force_table,
    measure_symmetry,
    predict_structures,
    structure_keys,
    true_labels,
)
from geoattn.tasks._forces_report import UNITS, ForceFindings, page_of
from geoattn.tasks._model import default_device, load_model, overlap_text
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._test import Rows, chosen_rows, write_test

TASK = "molecules"


def test_forces(
    model: str,
    data: str,
    out: str | None = None,
    rows: Rows = "all",
    on_error: OnError = "raise",
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained potential on a file that has energies and forces.

    Prints the metrics with their 95 % intervals beside reference energies without forces, and says how many structures
    of the file the model was trained on.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: extended XYZ with energies (eV) and forces (eV/angstrom).
        out: folder for metrics.json, predictions.csv, predictions.forces.csv, rejected.csv and report.html; nothing is
            written if left out.
        rows: all, or test for the structures of the model's own test part.
        on_error: raise stops at the first bad frame; skip leaves bad frames out.
        energy_key: the info key with the energy, if it is called otherwise than in the training file.
        forces_key: the column with the forces, if it is called otherwise.
        stress_key: the info key with the stress; that of the training file if left out.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    loaded = load_model(model, TASK)
    preprocess = loaded.preprocess
    names = (energy_key or preprocess["energy_key"], forces_key or preprocess["forces_key"])
    keys = Keys(*names, stress_key or preprocess["stress_key"])
    rejections = Rejections(on_error)
    frames = list(read_structures(data, preprocess["cutoff"], rejections, keys, preprocess["elements"]))
    rejected = rejections.table()
    if not frames:
        raise InputError(f"{data}: no usable structure; {len(rejected)} frames were rejected.")
    stress = keys.stress is not None
    packed = pack(frames, stress)
    copies = structure_keys(packed)
    known = loaded.split.get("keys", {})
    overlap = overlap_text(copies, known, "structures")
    say(overlap, quiet=quiet)
    chosen = chosen_rows(rows, copies, known, data, "structure")
    predicted = predict_structures(loaded.model, packed, chosen, device or default_device(), stress)
    true, elements = true_labels(packed, chosen), packed.z[packed.atom_rows(chosen)]
    references = {int(z): energy for z, energy in preprocess["baseline_references"].items()}
    constant = constant_baseline(true.num_atoms, elements, references, stress)
    metrics: dict[str, Any] = {
        "test": evaluate_forces(true, predicted),
        "baselines": {"test": {BASELINE: evaluate_forces(true, constant)}},
    }
    print(_as_text(metrics, Path(model).name))
    if folder is not None:
        table = frame_table(frames).iloc[chosen]
        findings = ForceFindings(
            true=true,
            predicted=predicted,
            elements=elements,
            table=table,
            metrics=metrics,
            symmetry=measure_symmetry(loaded.model, packed, chosen),
        )
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "out": str(folder.path), "rows": rows},
            page_of(findings, f"of the file. {overlap}"),
            title=loaded.config["summary"],
            metrics=metrics,
            tables={
                "predictions.csv": energy_columns(table.drop(columns=["file", "smiles"]), predicted),
                "predictions.forces.csv": force_table(table["id"].tolist(), packed, chosen, predicted, true),
            },
            rejected=rejected,
            notes=[overlap],
            quiet=quiet,
        )
    return metrics


def _as_text(metrics: Mapping[str, Any], name: str) -> str:
    """The metrics as a table for the terminal: a row per metric, the model beside the baseline."""
    columns = {
        row: {metric_name(metric): format_measure(entry) for metric, entry in in_milli(entries).items()}
        for row, entries in rows_of(metrics, "test", name)
    }
    count = metrics["test"]["energy_mae"]["n"]
    return f"{pd.DataFrame(columns).to_string()}\nn = {count} structures; in brackets the 95 % interval. {UNITS}"
