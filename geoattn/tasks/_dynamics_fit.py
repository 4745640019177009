"""``geoattn dynamics fit``: from a file and options to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.dynamics import DynamicsData
from geoattn.domains.dynamics.audit import audit, system_keys
from geoattn.domains.dynamics.baselines import baseline_predictions
from geoattn.tasks._dynamics_evaluate import (
    HEADLINE,
    TASK,
    evaluate_baselines,
    evaluate_systems,
    measure_symmetry,
    predict_systems,
    prediction_table,
)
from geoattn.tasks._dynamics_module import DynamicsModule, own_options
from geoattn.tasks._dynamics_report import Findings, data_blocks, page_of
from geoattn.tasks._fit import Run, add_fit_options
from geoattn.tasks._parser import TaskParser, data_parser
from geoattn.tasks._report import TEST_PART
from geoattn.tasks._run import say
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured, fit_files, fit_words


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    return data_parser(TASK, verb, description, usage, DynamicsData, {"seed"})


def fit_parser() -> TaskParser:
    """The options of ``geoattn dynamics fit``."""
    usage = "--data FILE [--recipe NAME|FILE] [--out DIR] [--resume] [--data.* --model.* --trainer.* ...]"
    parser = data_options("fit", "Train a model on systems of moving bodies of your own.", usage)
    add_fit_options(parser, TASK, DynamicsModule)
    return parser


def fit(
    file: str | Path,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train a model on a file of moving bodies, as ``geoattn dynamics fit`` does.

    Args:
        file: .npz, CSV, TSV or Parquet.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``model``, ``trainer``
            and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or a file that cannot be used.

    Example:
        >>> from geoattn.tasks import dynamics
        >>> run = dynamics.fit("mine.npz", trainer={"max_epochs": 200})  # doctest: +SKIP
        >>> run.metrics["test"]["mse"]["value"]  # doctest: +SKIP
    """
    return fit_files(FIT, file, recipe=recipe, out=out, resume=resume, quiet=quiet, options=options)


def _read(config: Mapping[str, Any], show: bool) -> DynamicsData:
    data = DynamicsData(**config["data"], seed=config["seed"])
    data.setup()
    return data


def _measure(fitted: Fitted[DynamicsData]) -> Measured:
    """Predictions, metrics, baselines, overlap, symmetry."""
    say("Measuring, baselines, overlap of the parts ...", quiet=fitted.quiet)
    data, trained = fitted.data, fitted.trained
    parts = {part: data.systems.take(data.split[part]) for part in MEASURED}
    predicted = {part: predict_systems(trained.model, parts[part], data.units, trained.device) for part in MEASURED}
    model = trained.model.cpu()
    tables = [prediction_table(parts[part], predicted[part], [part] * len(parts[part])) for part in MEASURED]
    linear_time = data.preprocess["linear_time"]
    metrics: dict[str, Any] = {part: evaluate_systems(parts[part], predicted[part]) for part in MEASURED}
    metrics["baselines"] = {"test": evaluate_baselines(linear_time, parts["test"], data.velocities)}
    findings = Findings(
        systems=parts["test"],
        predicted=predicted["test"],
        baselines={name: pos for name, (pos, _) in baseline_predictions(linear_time, parts["test"]).items()},
        metrics=metrics,
        symmetry=measure_symmetry(model, parts["test"], data.units),
    )
    overlap = audit(data.systems, data.split)
    return Measured(
        metrics=metrics,
        tables={"predictions.csv": pd.concat(tables, ignore_index=True)},
        overlap=overlap["pairs"]["train/test"],
        symmetry=findings.symmetry,
        about=_about(data, fitted.config["data"]["file"]),
        page=page_of(findings, TEST_PART),
        data=data_blocks(overlap),
        loss="loss",
    )


def _about(data: DynamicsData, file: str) -> About:
    horizon = f"{data.systems.horizon:g}"
    return About(
        title=f"Positions of moving bodies after a time of {horizon}",
        summary=f"Predicts where the bodies of a system are after a time of {horizon}",
        targets={"position": "unit of the training file"} | ({"velocity": "of the file"} if data.velocities else {}),
        input="systems" + "".join(Path(file).suffixes[-1:]),
    )


FIT = FitTask(
    name=TASK,
    samples="systems",
    parser=fit_parser,
    read=_read,
    module=DynamicsModule,
    keys=lambda data: system_keys(data.systems),
    shown=lambda data: f"valid_{HEADLINE}",
    measure=_measure,
    resolve=own_options,
)
run_fit = partial(fit_words, FIT)
"""The verb, from the words of the command line behind it."""
