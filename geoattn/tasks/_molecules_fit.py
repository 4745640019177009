"""``geoattn molecules fit``: from a file and options to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geoattn.datasets.molecules import MoleculesData
from geoattn.domains.metrics import evaluate, evaluate_targets
from geoattn.domains.molecules.audit import audit
from geoattn.errors import InputError
from geoattn.tasks._fit import Run, add_fit_options
from geoattn.tasks._forces_fit import FORCES, wants_forces, words_want_forces
from geoattn.tasks._molecules_evaluate import (
    baseline_predictions,
    headline_metric,
    measure_symmetry,
    molecule_keys,
    predict_samples,
    prediction_table,
)
from geoattn.tasks._molecules_module import MoleculesModule
from geoattn.tasks._molecules_report import Findings, data_blocks, page_of
from geoattn.tasks._parser import TaskParser, data_parser, merged
from geoattn.tasks._report import TEST_PART
from geoattn.tasks._run import say
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured, fit_files, fit_words

TASK = "molecules"
STRUCTURE_SUFFIXES = (".xyz", ".extxyz", ".sdf")
DEFAULT_CUTOFF = 6.0


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    parser = data_parser(TASK, verb, description, usage, MoleculesData, {"graph", "seed", "progress"})
    parser.set_defaults({"data.cutoff": DEFAULT_CUTOFF})
    return parser


def fit_parser() -> TaskParser:
    """The options of ``geoattn molecules fit``."""
    usage = "--data FILE [--recipe NAME|FILE] [--out DIR] [--resume] [--data.* --model.* --trainer.* ...]"
    parser = data_options("fit", "Train a model on molecules or structures of your own.", usage)
    add_fit_options(parser, TASK, MoleculesModule)
    return parser


def run_fit(arguments: list[str]) -> Run:
    """The verb, from the words of the command line behind it."""
    return fit_words(FORCES if words_want_forces(arguments) else MOLECULES, arguments)


def fit(
    file: str | Path,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train a model on a file of molecules or structures, as ``geoattn molecules fit`` does.

    Args:
        file: CSV, TSV, Parquet, SDF or extended XYZ.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``model``, ``trainer``
            and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or a file that cannot be used.

    Example:
        >>> from geoattn.tasks import molecules
        >>> run = molecules.fit("esol.csv", recipe="molecules-esol", data={"split": "scaffold"})  # doctest: +SKIP
        >>> run.metrics["test"]["rmse"]["value"]  # doctest: +SKIP
    """
    chosen = options.get("data", {}).get("task")
    task: FitTask[Any] = FORCES if wants_forces(chosen, recipe, out if resume else None) else MOLECULES
    return fit_files(task, file, recipe=recipe, out=out, resume=resume, quiet=quiet, options=options)


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The options with the choices made that they leave open."""
    name = config["model"]["name"] or ("egnn" if is_structure_file(config["data"]["file"]) else "graph-attention")
    if name == "egnn" and config["data"]["cutoff"] is None:
        raise InputError("data.cutoff: egnn needs a cutoff in angstrom, e.g. --data.cutoff 6.")
    if name == "egnn" and config["data"]["descriptors"]:
        raise InputError("data.descriptors: egnn takes no descriptors. Leave them out, or use graph-attention.")
    return merged(config, {"model": {"name": name}})


def is_structure_file(file: str | Path) -> bool:
    """Whether the file holds atoms in space, by its suffix."""
    return any(suffix.lower() in STRUCTURE_SUFFIXES for suffix in Path(file).suffixes[-2:])


def _read(config: Mapping[str, Any], show: bool) -> MoleculesData:
    graph: Literal["2d", "3d"] = "3d" if config["model"]["name"] == "egnn" else "2d"
    data = MoleculesData(**config["data"], graph=graph, seed=config["seed"], progress=show)
    data.setup()
    return data


def _measure(fitted: Fitted[MoleculesData]) -> Measured:
    """Predictions, metrics, baselines, overlap, symmetry."""
    say("Measuring, baselines, overlap of the parts ...", quiet=fitted.quiet)
    config, data, trained = fitted.config, fitted.data, fitted.trained
    preprocess, table = data.preprocess, data.table
    targets, smiles, test = preprocess["targets"], table["smiles"].tolist(), data.split["test"]
    y = table[targets].to_numpy(np.float64)
    rows = [row for part in MEASURED for row in data.split[part]]
    mean, std = predict_samples(
        trained.model, [data.samples[row] for row in rows], data.target_transform, trained.device
    )
    model = trained.model.cpu()
    measured = table.drop(columns="file").iloc[rows].assign(split=[part for part in MEASURED for _ in data.split[part]])
    of_part = {"valid": slice(0, len(data.split["valid"])), "test": slice(len(data.split["valid"]), None)}
    metrics: dict[str, Any] = {part: evaluate(y[data.split[part]], mean[of_part[part]], data.task) for part in MEASURED}
    baselines = baseline_predictions(data.samples, smiles, y, data.task, data.split["train"], test, config["seed"])
    metrics["baselines"] = {"test": {name: evaluate(y[test], values, data.task) for name, values in baselines.items()}}
    if len(targets) > 1:
        metrics["targets"] = {"test": evaluate_targets(y[test], mean[of_part["test"]], data.task, targets)}
    findings = Findings(
        task=data.task,
        targets=targets,
        units=preprocess["units"],
        y=y[test],
        prediction=mean[of_part["test"]],
        std=None if std is None else std[of_part["test"]],
        table=table.iloc[test],
        samples=data.part("test"),
        metrics=metrics,
        symmetry=measure_symmetry(model, data.part("test")),
    )
    overlap = audit(data.samples, smiles, table["id"].tolist(), data.split)
    return Measured(
        metrics=metrics,
        tables={"predictions.csv": prediction_table(measured, targets, mean, std)},
        overlap=overlap["pairs"]["train/test"],
        symmetry=findings.symmetry,
        about=_about(data, config["data"]["file"]),
        page=page_of(findings, TEST_PART),
        data=data_blocks(overlap),
        loss="loss (normalised targets)",
    )


def _about(data: MoleculesData, file: str) -> About:
    targets, units = data.preprocess["targets"], data.preprocess["units"]
    source = "geometry" if data.preprocess["graph"] == "3d" else "structural formula"
    return About(
        title=f"{', '.join(targets)} of molecules",
        summary=f"Predicts {', '.join(targets)} from the {source} of a molecule",
        targets=dict.fromkeys(targets, units or "unit not stated"),
        input="molecules" + "".join(Path(file).suffixes[-1:]),
    )


MOLECULES = FitTask(
    name=TASK,
    samples="molecules",
    parser=fit_parser,
    read=_read,
    module=MoleculesModule,
    keys=lambda data: molecule_keys(data.samples, data.table["smiles"].tolist()),
    shown=lambda data: f"valid_{headline_metric(data.task)}",
    measure=_measure,
    resolve=_resolved,
)
