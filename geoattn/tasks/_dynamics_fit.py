"""``geoattn dynamics fit``: from a file and options to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from geoattn.datasets.dynamics import DynamicsData
from geoattn.domains.dynamics.audit import audit, system_keys
from geoattn.domains.dynamics.baselines import baseline_predictions
from geoattn.hub import Card, from_pretrained, save_pretrained
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
from geoattn.tasks._dynamics_report import Findings, write_fit_report
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
from geoattn.tasks._model import Symmetry, split_record
from geoattn.tasks._parser import TaskParser, data_parser, merged
from geoattn.tasks._run import RunFolder, command_line, say
from geoattn.tasks._training import make_trainer


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    return data_parser(TASK, verb, description, usage, DynamicsData, {"seed"})


def fit_parser() -> TaskParser:
    """The options of ``geoattn dynamics fit``."""
    usage = "--data FILE [--recipe NAME|FILE] [--out DIR] [--resume] [--data.* --model.* --trainer.* ...]"
    parser = data_options("fit", "Train a model on systems of moving bodies of your own.", usage)
    add_fit_options(parser, TASK, DynamicsModule)
    return parser


def run_fit(arguments: list[str]) -> Run:
    """The verb, from the words of the command line behind it."""
    return fit_config(parse_words(fit_parser(), TASK, arguments), command_line([TASK, "fit", *arguments]))


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
    parsed = parse_mapping(fit_parser(), TASK, file, recipe, out, resume, quiet, options)
    return fit_config(parsed, f"geoattn.tasks.dynamics.fit({str(file)!r}, recipe={recipe!r}, ...)")


def fit_config(options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config = {name: value for name, value in options.items() if name not in ABOUT_THE_CALL}
    check_members(config)
    config = own_options(merged(config, {"data": {"file": str(Path(config["data"]["file"]).absolute())}}))
    folder = RunFolder.at(TASK, options["out"], resume=options["resume"])
    quiet = options["quiet"]
    if options["resume"]:
        refuse_other_options(folder.path, config, own_options)
        if (folder.path / "report.html").is_file():
            say(f"The run in {folder.path} is finished: nothing to resume.", quiet=quiet)
            finished = from_pretrained(folder.path / "model")
            return Run(folder.path, finished.model, finished.metrics)
    with calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = DynamicsData(**config["data"], seed=config["seed"])
        data.setup()
        DynamicsModule(data, **config["model"])  # and these before anything is written
    split = split_record(data.split, data.systems.ids, system_keys(data.systems), str(data.split_spec), data.split_seed)
    if options["resume"]:
        refuse_other_data(folder, split, "systems")
    folder.make()
    folder.write_config(config)
    folder.write_json("split.json", split)
    folder.write_table("rejected.csv", data.rejected)
    folder.write_environment(command)
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    say(f"{len(data.systems)} systems: {sizes}; {len(data.rejected)} rejected. Run folder: {folder.path}", quiet=quiet)
    trained = train_members(
        folder,
        config,
        data,
        lambda: DynamicsModule(data, **config["model"]),
        shown=f"valid_{HEADLINE}",
        quiet=quiet,
    )
    run = _finish(folder, config, data, trained, command, split, quiet)
    announce(run, quiet)
    return run


def _finish(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: DynamicsData,
    trained: Trained,
    command: str,
    split: Mapping[str, Any],
    quiet: bool,
) -> Run:
    """Predictions, metrics, baselines, overlap, model folder and report; the report is the last file."""
    say("Measuring, baselines, overlap of the parts ...", quiet=quiet)
    parts = {part: data.systems.take(data.split[part]) for part in MEASURED}
    predicted = {part: predict_systems(trained.model, parts[part], data.units, trained.device) for part in MEASURED}
    model = trained.model.cpu()
    tables = [prediction_table(parts[part], predicted[part], [part] * len(parts[part])) for part in MEASURED]
    folder.write_table("predictions.csv", pd.concat(tables, ignore_index=True))
    folder.write_table("metrics.csv", trained.history)
    linear_time = data.preprocess["linear_time"]
    metrics: dict[str, Any] = {part: evaluate_systems(parts[part], predicted[part]) for part in MEASURED}
    metrics["baselines"] = {"test": evaluate_baselines(linear_time, parts["test"], data.velocities)}
    folder.write_json("metrics.json", metrics)
    findings = Findings(
        systems=parts["test"],
        predicted=predicted["test"],
        baselines={name: pos for name, (pos, _) in baseline_predictions(linear_time, parts["test"]).items()},
        metrics=metrics,
        symmetry=measure_symmetry(model, parts["test"], data.units),
    )
    overlap = audit(data.systems, data.split)
    card = make_card(config, data, findings.symmetry, overlap, command)
    save_pretrained(
        folder.path / "model", model, task=TASK, preprocess=data.preprocess, metrics=metrics, split=split, card=card
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


def make_card(
    config: Mapping[str, Any], data: DynamicsData, symmetry: Symmetry, overlap: Mapping[str, Any], command: str
) -> Card:
    """The model card: what the user said about the data, and what was measured."""
    said, name = config["card"], Path(config["data"]["file"]).name
    horizon = f"{data.systems.horizon:g}"
    targets = {"position": "unit of the training file"} | ({"velocity": "of the file"} if data.velocities else {})
    return Card(
        title=said["title"] or f"Positions of moving bodies after a time of {horizon}",
        summary=said["summary"] or f"Predicts where the bodies of a system are after a time of {horizon}",
        targets={target: (said["targets"] or {}).get(target, meaning) for target, meaning in targets.items()},
        data=said["data"] or name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={what.replace("_", " "): count for what, count in overlap["pairs"]["train/test"].items()},
        symmetry=symmetry.text.rstrip("."),
        equivariance_error=symmetry.errors,
        command=command,
        seeds=[config["seed"] + k for k in range(config["ensemble"])],
        limits=said["limits"] or [],
        input="systems" + "".join(Path(name).suffixes[-1:]),
    )
