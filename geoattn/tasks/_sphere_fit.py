"""``geoattn sphere fit``: from fields on the globe to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.sphere import SphereData
from geoattn.domains.sphere.audit import audit, audit_regions
from geoattn.tasks._fit import Run, add_fit_options
from geoattn.tasks._parser import TaskParser, data_parser
from geoattn.tasks._report import TEST_PART
from geoattn.tasks._run import say
from geoattn.tasks._sphere_evaluate import (
    HEADLINE,
    TASK,
    by_region,
    climatology_of,
    data_keys,
    fitted_baselines,
    measure,
    measure_symmetry,
    measure_variables,
    predict_samples,
    prediction_table,
)
from geoattn.tasks._sphere_module import SphereModule
from geoattn.tasks._sphere_report import Findings, data_blocks, page_of
from geoattn.tasks._sphere_rollout import measure_rollout
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured, fit_files, fit_words

WHAT = {
    "forecast": "The next state of {targets} on the globe, from the last {states}",
    "regression": "{targets} at every point of the globe, from {inputs}",
    "segmentation": "The class of every point of the globe ({targets}), from {inputs}",
}
LIMITS = (
    "Learned on {grid}; on other points the same weights are used, and were not measured.",
    "Knows no physics: nothing is conserved, and outside of what its training part showed it guesses.",
)


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    return data_parser(TASK, verb, description, usage, SphereData, {"seed"})


def fit_parser() -> TaskParser:
    """The options of ``geoattn sphere fit``."""
    usage = (
        "--data FILE [--data.task forecast|regression|segmentation] [--data.inputs A,B] [--data.targets C] "
        "[--recipe NAME|FILE] [--out DIR] [--resume] [--data.* --model.* --trainer.* ...]"
    )
    parser = data_options("fit", "Train a model of fields on the globe.", usage)
    add_fit_options(parser, TASK, SphereModule)
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
    """Train a model on fields on the globe, as ``geoattn sphere fit`` does.

    Args:
        file: .npz, NetCDF, Zarr, GRIB or HEALPix FITS; a folder or a pattern of several.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``model``, ``trainer``
            and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or data that cannot be used.

    Example:
        >>> from geoattn.tasks import sphere
        >>> run = sphere.fit("states.nc", data={"task": "forecast"})  # doctest: +SKIP
        >>> run.metrics["rollout"]["5"]["nrmse"]["value"]  # doctest: +SKIP
    """
    return fit_files(FIT, file, recipe=recipe, out=out, resume=resume, quiet=quiet, options=options)


def overlap_of(data: SphereData) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What the parts of a split share; and how near they are, where they are parts of one globe."""
    specs = data.samples.specs
    overlap = audit(
        data_keys(data), [each.times for each in specs], [each.target for each in specs], data.source.group, data.split
    )
    if not by_region(data.split_spec):
        return overlap, None
    return overlap, audit_regions(data.grid.points, {part: specs[rows[0]].used for part, rows in data.split.items()})


def _read(config: Mapping[str, Any], show: bool) -> SphereData:
    data = SphereData(**config["data"], seed=config["seed"])
    data.setup()
    data.check_labels()
    return data


def _measure(fitted: Fitted[SphereData]) -> Measured:
    """Predictions, metrics, baselines, roll-outs, overlap, symmetry."""
    say("Measuring, baselines, overlap of the parts ...", quiet=fitted.quiet)
    data, trained, settings = fitted.data, fitted.trained, fitted.data.preprocess
    points, parts = data.grid.points, {part: data.part(part) for part in MEASURED}
    baselines = fitted_baselines(data.part("train"), settings, points, region=by_region(data.split_spec))
    normal = climatology_of(baselines)
    predicted = {part: predict_samples(trained.model, parts[part], settings, trained.device)[0] for part in MEASURED}
    metrics: dict[str, Any] = {
        part: measure(parts[part], predicted[part], settings, points, normal) for part in MEASURED
    }
    simple = {each.name: each.predict(parts["test"]) for each in baselines}
    metrics["baselines"] = {
        "test": {name: measure(parts["test"], found, settings, points, normal) for name, found in simple.items()}
    }
    rollout = measure_rollout(trained.model, parts["test"], settings, points, baselines, normal, trained.device)
    tables = {
        "predictions.csv": pd.concat(
            [
                prediction_table(parts[part], predicted[part], settings, data.grid).assign(split=part)
                for part in MEASURED
            ]
        )
    }
    if rollout is not None:
        metrics["rollout"] = rollout.metrics
        metrics["baselines"]["rollout"] = rollout.baselines
        tables["rollout.csv"] = rollout.table
    by_name = {
        name: measure_variables(parts["test"], found, settings, points, normal)
        for name, found in {"this model": predicted["test"], **simple}.items()
    }
    variables = {
        variable: {name: found[variable] for name, found in by_name.items()} for variable in by_name["this model"]
    }
    symmetry = measure_symmetry(trained.model.cpu(), parts["test"], settings)
    overlap, regions = overlap_of(data)
    findings = Findings(parts["test"], predicted["test"], settings, data.grid, metrics, variables, symmetry, rollout)
    return Measured(
        metrics=metrics,
        tables=tables,
        overlap=(regions or overlap)["pairs"]["train/test"],
        symmetry=symmetry,
        about=_about(data),
        page=page_of(findings, TEST_PART),
        data=data_blocks(overlap, regions),
        loss="loss (cross entropy)" if data.task == "segmentation" else "mean squared error",
    )


def _about(data: SphereData) -> About:
    settings = data.preprocess
    units, targets = settings["units"], settings["targets"]
    history = settings["history"]
    words = {
        "targets": ", ".join(targets),
        "inputs": ", ".join([*settings["inputs"], *settings["static"]]),
        "states": "state" if history == 1 else f"{history} states",
        "grid": str(data.grid),
    }
    titles = {"forecast": "Forecast", "regression": "Regression", "segmentation": "Segmentation"}
    classes = f"one of {len(settings['class_names'])} classes"
    return About(
        title=f"{titles[data.task]} of fields on the globe",
        summary=WHAT[data.task].format(**words),
        targets={
            name: classes if data.task == "segmentation" else units.get(name, "no unit stated") for name in targets
        },
        input="fields.nc",
        limits=[text.format(**words) for text in LIMITS],
    )


FIT = FitTask(
    name=TASK,
    samples="samples",
    parser=fit_parser,
    read=_read,
    module=SphereModule,
    keys=data_keys,
    shown=lambda data: "valid_area_accuracy" if HEADLINE[data.task] == "area_miou" else "valid_nrmse",
    measure=_measure,
    count=lambda data: f"{data.source.num_samples} states on {data.grid}",
)
run_fit = partial(fit_words, FIT)
