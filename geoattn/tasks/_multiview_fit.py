"""``geoattn multiview fit``: from posed images to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.multiview import MultiviewData
from geoattn.domains.multiview.audit import audit
from geoattn.tasks._fit import Run, add_fit_options
from geoattn.tasks._multiview_evaluate import (
    HEADLINE,
    TASK,
    data_keys,
    draw_baselines,
    measure,
    measure_symmetry,
    predict_trials,
    prediction_table,
)
from geoattn.tasks._multiview_module import MultiviewModule
from geoattn.tasks._multiview_report import Findings, data_blocks, page_of
from geoattn.tasks._parser import TaskParser, data_parser
from geoattn.tasks._report import TEST_PART
from geoattn.tasks._run import say
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured, fit_files, fit_words

LIMITS = (
    "Draws what scenes like those of its training part look like; what no given view shows is guessed, and blurred.",
    "Knows images of {width} x {height} pixels; others are resized.",
)


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    return data_parser(TASK, verb, description, usage, MultiviewData, {"seed", "progress"})


def fit_parser() -> TaskParser:
    """The options of ``geoattn multiview fit``."""
    usage = (
        "--data FOLDER|FILE [--data.num-inputs 2] [--model.pose gta|absolute|rope] [--recipe NAME|FILE] [--out DIR] "
        "[--resume] [--data.* --model.* --trainer.* ...]"
    )
    parser = data_options("fit", "Train a model that draws scenes from new cameras.", usage)
    add_fit_options(parser, TASK, MultiviewModule)
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
    """Train a model on scenes of posed images, as ``geoattn multiview fit`` does.

    Args:
        file: a folder of one scene (NeRF, Blender or COLMAP), a folder with a folder per scene, or an .npz.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``model``, ``trainer``
            and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or data that cannot be used.

    Example:
        >>> from geoattn.tasks import multiview
        >>> run = multiview.fit("scenes/", data={"image_size": 32})  # doctest: +SKIP
        >>> run.metrics["test"]["psnr"]["value"]  # doctest: +SKIP
    """
    return fit_files(FIT, file, recipe=recipe, out=out, resume=resume, quiet=quiet, options=options)


def _read(config: Mapping[str, Any], show: bool) -> MultiviewData:
    data = MultiviewData(**config["data"], seed=config["seed"], progress=show)
    data.setup()
    data.check_labels()
    return data


def _measure(fitted: Fitted[MultiviewData]) -> Measured:
    """Images of the views asked for, metrics, baselines, overlap, symmetry."""
    say("Measuring, baselines, overlap of the parts ...", quiet=fitted.quiet)
    data, trained = fitted.data, fitted.trained
    trials = {part: data.part(part) for part in ("train", *MEASURED)}
    model, device = trained.model, trained.device
    images = {part: predict_trials(model, trials[part], data.preprocess, device)[0] for part in MEASURED}
    drawn = draw_baselines(trials["train"], trials["test"])
    metrics: dict[str, Any] = {part: measure(trials[part], images[part]) for part in MEASURED}
    metrics["baselines"] = {"test": {name: measure(trials["test"], found) for name, found in drawn.items()}}
    symmetry = measure_symmetry(model.cpu(), trials["test"], data.preprocess)
    overlap = audit(data.scenes, data.split, by_view=data.by_view)
    return Measured(
        metrics=metrics,
        tables={
            "predictions.csv": pd.concat([prediction_table(trials[part], images[part], part) for part in MEASURED])
        },
        overlap=overlap["pairs"]["train/test"],
        symmetry=symmetry,
        about=_about(data),
        page=page_of(Findings(trials["test"], images["test"], drawn, metrics, symmetry), TEST_PART),
        data=data_blocks(overlap),
        loss="mean squared error",
    )


def _about(data: MultiviewData) -> About:
    return About(
        title="Scenes from new cameras",
        summary=f"Draws what a new camera sees of a scene, from {data.preprocess['num_inputs']} posed images of it",
        targets={"image": "colours in 0..1, red, green, blue"},
        input="scenes/",
        limits=[text.format(**data.preprocess) for text in LIMITS],
    )


FIT = FitTask(
    name=TASK,
    samples="scenes",
    parser=fit_parser,
    read=_read,
    module=MultiviewModule,
    keys=data_keys,
    shown=lambda data: f"valid_{HEADLINE}",
    measure=_measure,
    count=lambda data: f"{len(data.table)} {'views of one scene' if data.by_view else 'scenes'}",
)
run_fit = partial(fit_words, FIT)
