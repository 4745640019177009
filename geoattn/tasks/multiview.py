"""Scenes from new cameras: the verbs of ``geoattn multiview``, and the same from Python.

Example:
    >>> from geoattn.tasks import multiview
    >>> run = multiview.fit("scenes/", data={"image_size": 32})  # doctest: +SKIP
    >>> images = multiview.predict(run.folder, images, extrinsics, intrinsics, target_extrinsics)  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.multiview import MultiviewData
from geoattn.datasets.multiview_nerf import write_nerf
from geoattn.domains.multiview.audit import audit as audit_split
from geoattn.domains.multiview.scenes import make_scenes
from geoattn.tasks._audit import counts_file, run_audit, write_counts
from geoattn.tasks._multiview_draw import predict_views
from geoattn.tasks._multiview_evaluate import TASK
from geoattn.tasks._multiview_fit import Run, data_options, fit, run_fit
from geoattn.tasks._multiview_module import MultiviewModule
from geoattn.tasks._multiview_predict import predict_file
from geoattn.tasks._multiview_test import test_file
from geoattn.tasks._parser import run_function
from geoattn.tasks._run import RunFolder, say

__all__ = ["MultiviewModule", "Run", "audit", "demo", "fit", "predict", "run", "test"]

DEMO_SCENES, DEMO_NEW_SCENES, DEMO_SIZE = 300, 40, 24
ORBIT = 24
USAGE = {
    "demo": "[--out DIR]",
    "test": "--model DIR|NAME --data FOLDER|FILE [--rows all|test] [--out DIR] [--on-error raise|skip]",
    "predict": "--model DIR|NAME --data FOLDER|FILE --out DIR [--given VIEWS] [--cameras FILE | --orbit N]",
}

test = test_file
predict = predict_views


def audit(options: dict[str, Any], out: str | None = None) -> pd.DataFrame:
    """Count what the parts of a split share, print it and, with ``out``, write it.

    Args:
        options: of `MultiviewData`: ``file``, ``split`` ...
        out: a .csv file for the counts.
    """
    target = counts_file(out)
    data = MultiviewData(**options)
    data.setup()
    report = audit_split(data.scenes, data.split, by_view=data.by_view)
    counts = pd.DataFrame(report["rows"])
    sizes = ", ".join(f"{size} {part}" for part, size in report["sizes"].items())
    print(f"{report['what']}: {sizes}; {report['duplicates']} repeat an earlier one; {len(data.rejected)} rejected\n")
    print(counts.to_string(index=False))
    return write_counts(target, counts)


def demo(out: str | None = None, quiet: bool = False) -> Path:
    """Fit, test and draw new views of scenes that geoattn makes itself; needs no network and about two minutes.

    Args:
        out: folder; runs/multiview-demo-<date>-<time> if left out.
        quiet: say nothing but errors.

    Returns:
        The report.
    """
    began = time.monotonic()
    folder = RunFolder.at(f"{TASK}-demo", out, resume=None).path
    folder.mkdir(parents=True, exist_ok=True)
    say(f"Making {DEMO_SCENES + DEMO_NEW_SCENES} scenes ...", quiet=quiet)
    scenes = make_scenes(DEMO_SCENES + DEMO_NEW_SCENES, size=DEMO_SIZE)
    for name, part in (("scenes", scenes[:DEMO_SCENES]), ("new_scenes", scenes[DEMO_SCENES:])):
        for scene in part:
            write_nerf(folder / name / scene.id, scene)
    say(f"Made {DEMO_SCENES} scenes to train on and {DEMO_NEW_SCENES} new ones in {folder}.", quiet=quiet)
    run = fit(folder / "scenes", recipe="multiview-demo", out=folder / "fit", quiet=quiet)
    say("Test on the new scenes:", quiet=quiet)
    test_file(str(run.folder), str(folder / "new_scenes"), out=str(folder / "test"), quiet=quiet)
    first = folder / "new_scenes" / scenes[DEMO_SCENES].id
    predict_file(str(run.folder), str(first), str(folder / "orbit"), orbit=ORBIT, quiet=quiet)
    report = run.folder / "report.html"
    say(f"All done in {time.monotonic() - began:.0f} seconds. Open the report: {report}", quiet=quiet)
    return report


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn multiview VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {
        "fit": run_fit,
        "audit": _run_audit,
        "demo": partial(run_function, TASK, "demo", demo, USAGE["demo"]),
        "test": partial(run_function, TASK, "test", test_file, USAGE["test"]),
        "predict": partial(run_function, TASK, "predict", predict_file, USAGE["predict"]),
    }
    verbs[verb](arguments)


def _run_audit(arguments: list[str]) -> None:
    description = "Count what the parts of a split share: scenes, images, and images that are nearly the same."
    parser = data_options("audit", description, "--data FOLDER|FILE [--split ...] [--out FILE.csv]")
    run_audit(TASK, parser, audit, arguments)
