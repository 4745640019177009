"""``geoattn molecules fit``: from a file and options to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from geoattn.datasets.molecules import MoleculesData
from geoattn.domains.metrics import evaluate, evaluate_targets
from geoattn.domains.molecules.audit import audit
from geoattn.errors import InputError
from geoattn.hub import Card, from_pretrained, save_pretrained
from geoattn.tasks._fit import (
    ABOUT_THE_CALL,
    MEASURED,
    Run,
    Trained,
    add_fit_options,
    announce,
    calm_lightning,
    check_members,
    parse_mapping,
    parse_words,
    refuse_other_data,
    refuse_other_options,
    train_members,
)
from geoattn.tasks._forces_fit import fit_forces, forces_parser, wants_forces, words_want_forces
from geoattn.tasks._model import Symmetry, split_record
from geoattn.tasks._molecules_evaluate import (
    baseline_predictions,
    headline_metric,
    measure_symmetry,
    molecule_keys,
    predict_samples,
    prediction_table,
)
from geoattn.tasks._molecules_module import MoleculesModule
from geoattn.tasks._molecules_report import Findings, write_fit_report
from geoattn.tasks._parser import TaskParser, data_parser, merged
from geoattn.tasks._run import RunFolder, command_line, say
from geoattn.tasks._training import make_trainer

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
    command = command_line([TASK, "fit", *arguments])
    if words_want_forces(arguments):
        return fit_forces(parse_words(forces_parser(), TASK, arguments), command)
    return fit_config(parse_words(fit_parser(), TASK, arguments), command)


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
    command = f"geoattn.tasks.molecules.fit({str(file)!r}, recipe={recipe!r}, ...)"
    task = options.get("data", {}).get("task")
    if wants_forces(task, recipe, out if resume else None):
        return fit_forces(parse_mapping(forces_parser(), TASK, file, recipe, out, resume, quiet, options), command)
    return fit_config(parse_mapping(fit_parser(), TASK, file, recipe, out, resume, quiet, options), command)


def fit_config(options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config = _resolved({name: value for name, value in options.items() if name not in ABOUT_THE_CALL})
    folder = RunFolder.at(TASK, options["out"], resume=options["resume"])
    quiet = options["quiet"]
    if options["resume"]:
        refuse_other_options(folder.path, config)
        if (folder.path / "report.html").is_file():
            say(f"The run in {folder.path} is finished: nothing to resume.", quiet=quiet)
            finished = from_pretrained(folder.path / "model")
            return Run(folder.path, finished.model, finished.metrics)
    with calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = MoleculesData(**config["data"], graph=_graph(config), seed=config["seed"], progress=not quiet)
        data.setup()
        MoleculesModule(data, **config["model"])  # and these before anything is written
    smiles = data.table["smiles"].tolist()
    keys = molecule_keys(data.samples, smiles)
    split = split_record(data.split, data.table["id"].tolist(), keys, data.split_spec, data.split_seed)
    if options["resume"]:
        refuse_other_data(folder, split, "molecules")
    folder.make()
    folder.write_config(config)
    folder.write_json("split.json", split)
    folder.write_table("rejected.csv", data.rejected)
    folder.write_environment(command)
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    say(
        f"{len(data.samples)} molecules: {sizes}; {len(data.rejected)} rejected. Run folder: {folder.path}", quiet=quiet
    )
    trained = train_members(
        folder,
        config,
        data,
        lambda: MoleculesModule(data, **config["model"]),
        shown=f"valid_{headline_metric(data.task)}",
        quiet=quiet,
    )
    run = _finish(folder, config, data, trained, command, split, quiet)
    announce(run, quiet)
    return run


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The options with the choices made that they leave open."""
    check_members(config)
    file = Path(config["data"]["file"])
    name = config["model"]["name"] or ("egnn" if is_structure_file(file) else "graph-attention")
    if name == "egnn" and config["data"]["cutoff"] is None:
        raise InputError("data.cutoff: egnn needs a cutoff in angstrom, e.g. --data.cutoff 6.")
    if name == "egnn" and config["data"]["descriptors"]:
        raise InputError("data.descriptors: egnn takes no descriptors. Leave them out, or use graph-attention.")
    return merged(config, {"data": {"file": str(file.absolute())}, "model": {"name": name}})


def is_structure_file(file: str | Path) -> bool:
    """Whether the file holds atoms in space, by its suffix."""
    return any(suffix.lower() in STRUCTURE_SUFFIXES for suffix in Path(file).suffixes[-2:])


def _graph(config: Mapping[str, Any]) -> Literal["2d", "3d"]:
    return "3d" if config["model"]["name"] == "egnn" else "2d"


def _finish(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: MoleculesData,
    trained: Trained,
    command: str,
    split: Mapping[str, Any],
    quiet: bool,
) -> Run:
    """Predictions, metrics, baselines, overlap, model folder and report; the report is the last file."""
    preprocess, table = data.preprocess, data.table
    targets, smiles, test = preprocess["targets"], table["smiles"].tolist(), data.split["test"]
    y = table[targets].to_numpy(np.float64)
    say("Measuring, baselines, overlap of the parts ...", quiet=quiet)
    rows = [row for part in MEASURED for row in data.split[part]]
    mean, std = predict_samples(
        trained.model, [data.samples[row] for row in rows], data.target_transform, trained.device
    )
    model = trained.model.cpu()
    measured = table.drop(columns="file").iloc[rows].assign(split=[part for part in MEASURED for _ in data.split[part]])
    folder.write_table("predictions.csv", prediction_table(measured, targets, mean, std))
    folder.write_table("metrics.csv", trained.history)
    of_part = {"valid": slice(0, len(data.split["valid"])), "test": slice(len(data.split["valid"]), None)}
    metrics: dict[str, Any] = {part: evaluate(y[data.split[part]], mean[of_part[part]], data.task) for part in MEASURED}
    baselines = baseline_predictions(data.samples, smiles, y, data.task, data.split["train"], test, config["seed"])
    metrics["baselines"] = {"test": {name: evaluate(y[test], values, data.task) for name, values in baselines.items()}}
    if len(targets) > 1:
        metrics["targets"] = {"test": evaluate_targets(y[test], mean[of_part["test"]], data.task, targets)}
    folder.write_json("metrics.json", metrics)
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
    card = _card(config, data, findings.symmetry, overlap, command)
    save_pretrained(
        folder.path / "model", model, task=TASK, preprocess=preprocess, metrics=metrics, split=split, card=card
    )
    write_fit_report(
        folder,
        findings,
        title=card.title,
        history=trained.history,
        best_epochs=trained.best_epochs,
        seconds=float(trained.history["seconds"].sum()),
        overlap=overlap,
        rejected=data.rejected,
        notes=data.notes,
        config=config,
        command=command,
    )
    return Run(folder.path, model, metrics)


def _card(
    config: Mapping[str, Any], data: MoleculesData, symmetry: Symmetry, overlap: Mapping[str, Any], command: str
) -> Card:
    """The model card: what the user said about the data, and what was measured."""
    said, targets, units = config["card"], data.preprocess["targets"], data.preprocess["units"]
    source = "geometry" if data.preprocess["graph"] == "3d" else "structural formula"
    name = Path(config["data"]["file"]).name
    return Card(
        title=said["title"] or f"{', '.join(targets)} of molecules",
        summary=said["summary"] or f"Predicts {', '.join(targets)} from the {source} of a molecule",
        targets={target: (said["targets"] or {}).get(target, units or "unit not stated") for target in targets},
        data=said["data"] or name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={what.replace("_", " "): count for what, count in overlap["pairs"]["train/test"].items()},
        symmetry=symmetry.text.rstrip("."),
        equivariance_error=symmetry.errors,
        command=command,
        seeds=[config["seed"] + k for k in range(config["ensemble"])],
        limits=said["limits"] or [],
        input="molecules" + "".join(Path(name).suffixes[-1:]),
    )
