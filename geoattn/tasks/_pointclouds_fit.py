"""``geoattn pointclouds fit``: from clouds in files to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn._numbers import counted, format_measure, metric_name
from geoattn.datasets.pointclouds import PointCloudData
from geoattn.domains.pointclouds.audit import audit
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.tasks._fit import Run, add_fit_options
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
from geoattn.tasks._pointclouds_report import Findings, data_blocks, overlap_warnings, page_of, robustness
from geoattn.tasks._pointclouds_symmetry import measure_batch, measure_rotation
from geoattn.tasks._report import TEST_PART
from geoattn.tasks._run import say
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured, fit_files, fit_words

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
    return fit_files(FIT, file, recipe=recipe, out=out, resume=resume, quiet=quiet, options=options)


def _read(config: Mapping[str, Any], show: bool) -> PointCloudData:
    check_options(config["model"])
    data = PointCloudData(**config["data"], seed=config["seed"], progress=show)
    data.setup()
    data.check_labels()
    read_clouds(data, config["model"]["name"], config["features"])
    return data


def _measure(fitted: Fitted[PointCloudData]) -> Measured:
    """Predictions, metrics, baselines, overlap, symmetry."""
    say("Measuring as given and turned, baselines, overlap of the parts ...", quiet=fitted.quiet)
    data, trained = fitted.data, fitted.trained
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
    overlap = audit(data.clouds, data.split)
    for text in overlap_warnings(overlap, data.task):
        say(f"Warning: {text}", quiet=fitted.quiet)
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
    return Measured(
        metrics=metrics,
        tables={"predictions.csv": pd.concat(tables)},
        overlap=overlap["pairs"]["train/test"],
        symmetry=findings.rotation or findings.batch,
        about=_about(data, fitted.config, findings),
        page=page_of(findings, TEST_PART),
        data=data_blocks(overlap, data.task),
        loss="loss",
    )


def _about(data: PointCloudData, config: Mapping[str, Any], findings: Findings) -> About:
    names = ", ".join(data.class_names if data.task == "classification" else data.segment_names)
    headline = HEADLINE[data.task]
    scores = {split: format_measure(findings.metrics[split][headline]) for split in ("test", "test_so3")}
    turned = f"{metric_name(headline)} {scores['test']} as given, {scores['test_so3']} turned at random"
    pose = [] if findings.rotation else [f"Knows how a cloud stands: {turned}."]
    normals = ["Needs the normals of every cloud."] if data.preprocess["normals"] == "given" else []
    return About(
        title=TITLES[data.task],
        summary=SUMMARIES[data.task].format(names=names),
        targets=config["card"]["targets"] or MEANINGS[data.task],
        input="clouds/",
        limits=[*pose, *normals, *(text.format(**data.preprocess) for text in LIMITS)],
    )


FIT = FitTask(
    name=TASK,
    samples="clouds",
    parser=fit_parser,
    read=_read,
    module=PointCloudModule,
    keys=lambda data: cloud_keys(data.clouds),
    shown=lambda data: f"valid_{HEADLINE[data.task]}",
    measure=_measure,
    count=lambda data: counted(len(data.clouds), "cloud"),
)
run_fit = partial(fit_words, FIT)
"""The verb, from the words of the command line behind it."""
