"""``geoattn pointclouds fit``: from clouds in files to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from geoattn._numbers import counted, format_measure, metric_name
from geoattn.datasets.pointclouds import PointCloudData
from geoattn.domains.pointclouds.audit import audit
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.hub import Card, save_pretrained
from geoattn.tasks._fit import (
    MEASURED,
    Run,
    Trained,
    add_fit_options,
    announce,
    calm_lightning,
    opened,
    parse_mapping,
    parse_words,
    refuse_other_data,
    train_members,
    write_beginning,
)
from geoattn.tasks._model import split_record
from geoattn.tasks._parser import TaskParser, data_parser
from geoattn.tasks._pointclouds_evaluate import (
    HEADLINE,
    TASK,
    cloud_keys,
    fitted_baselines,
    measure,
    measure_protocols,
    predict_clouds,
    prediction_table,
)
from geoattn.tasks._pointclouds_features import FeatureOptions, read_clouds
from geoattn.tasks._pointclouds_module import PointCloudModule, check_options
from geoattn.tasks._pointclouds_report import Findings, overlap_warnings, robustness, write_fit_report
from geoattn.tasks._pointclouds_symmetry import measure_batch, measure_rotation
from geoattn.tasks._run import RunFolder, command_line, say
from geoattn.tasks._training import make_trainer

TITLES = {
    "classification": "Classes of point clouds",
    "segmentation": "Classes of the points of clouds",
    "normals": "Normals of point clouds",
}
SUMMARIES = {
    "classification": "Tells what a point cloud is: {names}",
    "segmentation": "Tells the class of each point of a cloud: {names}",
    "normals": "Gives each point of a cloud the normal of its surface",
}
MEANINGS = {
    "classification": {"predicted": "the most probable class", "probability": "of that class"},
    "segmentation": {"segment": "the class of a point", "probability": "of that class"},
    "normals": {"normal": "of length 1, outward as in the training data"},
}
LIMITS = (
    "Knows the classes of its training part and nothing else: whatever it is shown gets one of them.",
    "Sees {num_points} points of each cloud; what lies between them it does not see.",
    "Where points are equally near, as on grids, rounding decides which are neighbours, and a turn may change that.",
)


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    return data_parser(TASK, verb, description, usage, PointCloudData, {"seed", "progress"})


def fit_parser() -> TaskParser:
    """The options of ``geoattn pointclouds fit``."""
    usage = (
        "--data FOLDER|FILE [--task classification|segmentation|normals] [--recipe NAME|FILE] [--split ...] "
        "[--out DIR] [--resume] [--data.* --features.* --model.* --trainer.* ...]"
    )
    parser = data_options("fit", "Train a model that tells what clouds, or their points, are.", usage)
    parser.add_class_arguments(FeatureOptions, "features", instantiate=False)
    add_fit_options(parser, TASK, PointCloudModule)
    parser.set_defaults({"trainer.max_epochs": 30})
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
    """Train a model on point clouds, as ``geoattn pointclouds fit`` does.

    Args:
        file: a folder per class, a table of files, an .npz with many clouds.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``features``,
            ``model``, ``trainer`` and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or data that cannot be used.

    Example:
        >>> from geoattn.tasks import pointclouds
        >>> run = pointclouds.fit("scans/", data={"task": "classification"})  # doctest: +SKIP
        >>> run.metrics["test_so3"]["accuracy"]["value"]  # doctest: +SKIP
    """
    command = f"geoattn.tasks.pointclouds.fit({str(file)!r}, recipe={recipe!r}, ...)"
    return fit_config(parse_mapping(fit_parser(), TASK, file, recipe, out, resume, quiet, options), command)


def fit_config(options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config, folder, finished = opened(TASK, options)
    if finished is not None:
        return finished
    quiet = options["quiet"]
    check_options(config["model"])
    with calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = PointCloudData(**config["data"], seed=config["seed"], progress=not quiet)
        data.setup()
        data.check_labels()
        read_clouds(data, config["model"]["name"], config["features"])
        PointCloudModule(data, **config["model"])  # and these before anything is written
    split = split_record(
        data.split, data.table["id"].tolist(), cloud_keys(data.clouds), str(data.split_spec), data.split_seed
    )
    if options["resume"]:
        refuse_other_data(folder, split, "clouds")
    write_beginning(folder, config, split, data.rejected, command)
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    sizes = f"{counted(len(data.clouds), 'cloud')}: {sizes}; {len(data.rejected)} rejected"
    say(f"{sizes}. Run folder: {folder.path}", quiet=quiet)
    trained = train_members(
        folder,
        config,
        data,
        lambda: PointCloudModule(data, **config["model"]),
        shown=f"valid_{HEADLINE[data.task]}",
        quiet=quiet,
    )
    run = _finish(folder, config, data, trained, command, split, quiet)
    announce(run, quiet)
    return run


def _finish(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: PointCloudData,
    trained: Trained,
    command: str,
    split: Mapping[str, Any],
    quiet: bool,
) -> Run:
    """Predictions, metrics, baselines, overlap, model folder and report; the report is the last file."""
    say("Measuring as given and turned, baselines, overlap of the parts ...", quiet=quiet)
    featurizer = Featurizer(data.preprocess)
    clouds = {part: data.part(part) for part in ("train", *MEASURED)}
    predict = partial(predict_clouds, trained.model, featurizer=featurizer, device=trained.device)
    answers = {part: predict(clouds[part]) for part in MEASURED}
    baselines = fitted_baselines(clouds["train"], data.preprocess)
    given = {"": answers["test"]}
    found = measure_protocols({"": predict} | baselines, clouds["test"], data.preprocess, given=given)
    metrics: dict[str, Any] = {
        "valid": measure(clouds["valid"], answers["valid"], data.preprocess),
        **{part: rows.pop("") for part, rows in found.items()},
        "baselines": found,
    }
    curve = robustness({"this model": predict} | baselines, clouds["test"], data.preprocess)
    model = trained.model.cpu()
    tables = [
        prediction_table(
            data.table.drop(columns="file").iloc[data.split[part]].assign(split=part),
            clouds[part],
            answers[part],
            data.preprocess,
        )
        for part in MEASURED
    ]
    folder.write_table("predictions.csv", pd.concat(tables))
    folder.write_table("metrics.csv", trained.history)
    folder.write_json("metrics.json", metrics)
    overlap = audit(data.clouds, data.split)
    for text in overlap_warnings(overlap, data.task):
        say(f"Warning: {text}", quiet=quiet)
    findings = Findings(
        clouds=clouds["test"],
        answers=answers["test"],
        metrics=metrics,
        preprocess=data.preprocess,
        curve=curve,
        rotation=measure_rotation(model, clouds["test"], featurizer),
        batch=measure_batch(model, clouds["test"], featurizer),
        model=model,
        featurizer=featurizer,
    )
    card = _card(config, data, findings, overlap, command)
    save_pretrained(
        folder.path / "model",
        model,
        task=TASK,
        preprocess=data.preprocess,
        metrics=metrics,
        split=split,
        card=card,
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
    config: Mapping[str, Any], data: PointCloudData, findings: Findings, overlap: Mapping[str, Any], command: str
) -> Card:
    """The model card: what the user said about the data, and what was measured."""
    said, name = config["card"], Path(config["data"]["file"]).name
    names = ", ".join(data.class_names if data.task == "classification" else data.segment_names)
    shown = findings.rotation or findings.batch
    headline = HEADLINE[data.task]
    scores = {split: format_measure(findings.metrics[split][headline]) for split in ("test", "test_so3")}
    turned = f"{metric_name(headline)} {scores['test']} as given, {scores['test_so3']} turned at random"
    pose = [] if findings.rotation else [f"Knows how a cloud stands: {turned}."]
    normals = ["Needs the normals of every cloud."] if data.preprocess["normals"] == "given" else []
    return Card(
        title=said["title"] or TITLES[data.task],
        summary=said["summary"] or SUMMARIES[data.task].format(names=names),
        targets=said["targets"] or MEANINGS[data.task],
        data=said["data"] or name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={what.replace("_", " "): count for what, count in overlap["pairs"]["train/test"].items()},
        symmetry=shown.text.rstrip("."),
        equivariance_error=shown.errors,
        command=command,
        seeds=[config["seed"] + k for k in range(config["ensemble"])],
        limits=[*(said["limits"] or []), *pose, *normals, *(t.format(**data.preprocess) for t in LIMITS)],
        input="clouds/",
    )
