"""``geoattn dynamics test``: a trained model measured on a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoattn.datasets.rejections import OnError, Rejections
from geoattn.domains.dynamics.audit import system_keys
from geoattn.domains.dynamics.baselines import baseline_predictions
from geoattn.domains.dynamics.units import Units
from geoattn.tasks._dynamics_evaluate import (
    TASK,
    evaluate_baselines,
    evaluate_systems,
    measure_symmetry,
    predict_systems,
    prediction_table,
)
from geoattn.tasks._dynamics_predict import read_for_model
from geoattn.tasks._dynamics_report import Findings, page_of
from geoattn.tasks._model import default_device, load_model, metrics_text, overlap_text
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._test import Rows, chosen_rows, write_test


def test_file(
    model: str,
    data: str,
    out: str | None = None,
    rows: Rows = "all",
    frame_in: float | None = None,
    frame_out: float | None = None,
    on_error: OnError = "raise",
    device: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained model on a file that has the later positions.

    Prints the metrics with their 95 % intervals beside the baselines, and says how many systems of the file the model
    was trained on.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: .npz, CSV, TSV or Parquet, with the quantities and column names of the training file.
        out: folder for metrics.json, predictions.csv, rejected.csv and report.html; nothing is written if left out.
        rows: all, or test for the systems of the model's own test part.
        frame_in: the frame of runs and tables to start from; that of the training file if left out.
        frame_out: the frame to compare with.
        on_error: raise stops at the first system that cannot be used; skip leaves such systems out.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors; the metrics are printed all the same.
    """
    folder = RunFolder.at(TASK, out, resume=None) if out is not None else None
    loaded = load_model(model, TASK)
    rejections = Rejections(on_error, "systems")
    file = read_for_model(data, loaded, rejections, frames=(frame_in, frame_out), need_targets=True)
    keys, known = system_keys(file.systems), loaded.split.get("keys", {})
    overlap = overlap_text(keys, known, "systems")
    say(overlap, quiet=quiet)
    systems = file.systems.take(chosen_rows(rows, keys, known, data, "system"))
    units = Units(**loaded.preprocess["units"])
    predicted = predict_systems(loaded.model, systems, units, device or default_device())
    linear_time = loaded.preprocess["linear_time"]
    metrics: dict[str, Any] = {
        "test": evaluate_systems(systems, predicted),
        "baselines": {"test": evaluate_baselines(linear_time, systems, predicted.vel is not None)},
    }
    print(metrics_text(metrics, Path(model).name))
    if folder is not None:
        findings = Findings(
            systems=systems,
            predicted=predicted,
            baselines={name: pos for name, (pos, _) in baseline_predictions(linear_time, systems).items()},
            metrics=metrics,
            symmetry=measure_symmetry(loaded.model.cpu(), systems, units),
        )
        notes = [overlap, *file.notes]
        write_test(
            folder,
            TASK,
            {"model": model, "data": data, "out": str(folder.path), "rows": rows},
            page_of(findings, " ".join(["of the file.", *notes])),
            title=loaded.config["summary"],
            metrics=metrics,
            tables={"predictions.csv": prediction_table(systems, predicted)},
            rejected=rejections.table(),
            notes=notes,
            quiet=quiet,
        )
    return metrics
