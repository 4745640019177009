"""Point clouds in any pose: the verbs of ``geoattn pointclouds``, and the same from Python.

Example:
    >>> from geoattn.tasks import pointclouds
    >>> run = pointclouds.fit("scans/", features={"num_points": 1024})  # doctest: +SKIP
    >>> pointclouds.predict(run.folder, [points])  # an array [N, 3] per cloud  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.pointcloud_output import write_arrays
from geoattn.datasets.pointclouds import PointCloudData
from geoattn.domains.pointclouds.audit import audit as audit_split
from geoattn.domains.pointclouds.audit import audit_rows
from geoattn.domains.pointclouds.demo import CLASS_NAMES, SEGMENT_NAMES, demo_clouds, write_demo
from geoattn.tasks._audit import counts_file, run_audit, write_counts
from geoattn.tasks._parser import run_function
from geoattn.tasks._pointclouds_evaluate import TASK
from geoattn.tasks._pointclouds_fit import Run, data_options, fit, run_fit
from geoattn.tasks._pointclouds_module import PointCloudModule
from geoattn.tasks._pointclouds_predict import predict_arrays, predict_file
from geoattn.tasks._pointclouds_test import test_file
from geoattn.tasks._pointclouds_view import view_file
from geoattn.tasks._run import RunFolder, say

__all__ = ["PointCloudModule", "Run", "audit", "demo", "fit", "predict", "run", "test"]

DEMO_CLOUDS, DEMO_NEW_CLOUDS, DEMO_POINTS = 280, 70, 512
USAGE = {
    "demo": "[--out DIR]",
    "test": "--model DIR|NAME --data FOLDER|FILE [--protocol given|z|SO3] [--rows all|test] [--out DIR]",
    "predict": "--model DIR|NAME --data FOLDER|FILE --out FILE.csv|.parquet|FOLDER [--format ...] [--block SIZE]",
    "view": "--data FILE [--model DIR|NAME] [--cloud NAME]",
}

test = test_file
predict = predict_arrays


def audit(options: dict[str, Any], out: str | None = None) -> pd.DataFrame:
    """Count what the parts of a split share, print it and, with ``out``, write it.

    The same points are found, turned, moved, scaled or a little noisy; a surface scanned twice is not.

    Args:
        options: of `PointCloudData`: ``file``, ``split`` ...
        out: a .csv file for the counts; ``.examples.csv`` is put behind its name for copies.
    """
    target = counts_file(out)
    data = PointCloudData(**options)
    data.setup()
    report = audit_split(data.clouds, data.split)
    counts, examples = pd.DataFrame(audit_rows(report)), pd.DataFrame(report["examples"])
    sizes = ", ".join(f"{size} {part}" for part, size in report["sizes"].items())
    repeats = f"{report['duplicates']} clouds repeat an earlier cloud; {report['contradictory']} have several labels"
    print(f"{sizes}; {repeats}; {report['left_out']} in no part; {len(data.rejected)} rejected\n")
    print(counts.to_string(index=False))
    for note in data.notes:
        print(f"\n{note}")
    if len(examples):
        print(f"\ncopies in train and test\n{examples.to_string(index=False)}")
    return write_counts(target, counts, examples)


def demo(out: str | None = None, quiet: bool = False) -> Path:
    """Fit, test and predict on shapes with parts that geoattn makes, in random poses; no network, two minutes.

    First the class of each shape, then the part that each of its points belongs to.

    Args:
        out: folder; runs/pointclouds-demo-<date>-<time> if left out.
        quiet: say nothing but errors.

    Returns:
        The report of the classification; that of the parts stands beside it, in the folder parts.
    """
    began = time.monotonic()
    folder = RunFolder.at(f"{TASK}-demo", out, resume=None).path
    folder.mkdir(parents=True, exist_ok=True)
    shapes = demo_clouds(DEMO_CLOUDS + DEMO_NEW_CLOUDS, DEMO_POINTS)
    table = write_demo(folder / "shapes", shapes[:DEMO_CLOUDS])
    new = write_demo(folder / "new_shapes", shapes[DEMO_CLOUDS:])
    write_arrays(folder / "parts.npz", shapes[:DEMO_CLOUDS], CLASS_NAMES, SEGMENT_NAMES)
    say(
        f"Made {DEMO_CLOUDS} shapes of {len(CLASS_NAMES)} kinds and {DEMO_NEW_CLOUDS} new ones in {folder}.",
        quiet=quiet,
    )
    whole = fit(table, recipe="pointclouds-demo", out=folder / "fit", quiet=quiet)
    say("Test on new shapes:", quiet=quiet)
    test_file(str(whole.folder), str(new), out=str(folder / "test"), quiet=quiet)
    predict_file(str(whole.folder), str(folder / "new_shapes"), str(folder / "predictions.csv"), quiet=quiet)
    say("Now the parts of the shapes, point by point.", quiet=quiet)
    parts = fit(folder / "parts.npz", recipe="pointclouds-demo-parts", out=folder / "parts", quiet=quiet)
    predict_file(str(parts.folder), str(new), str(folder / "new_parts"), quiet=quiet)
    report = whole.folder / "report.html"
    say(f"All done in {time.monotonic() - began:.0f} seconds. Open the reports: {report}", quiet=quiet)
    say(f"and {parts.folder / 'report.html'}; shapes coloured by their parts: {folder / 'new_parts'}", quiet=quiet)
    return report


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn pointclouds VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {
        "fit": run_fit,
        "audit": _run_audit,
        "demo": partial(run_function, TASK, "demo", demo, USAGE["demo"]),
        "test": partial(run_function, TASK, "test", test_file, USAGE["test"]),
        "predict": partial(run_function, TASK, "predict", predict_file, USAGE["predict"]),
        "view": partial(run_function, TASK, "view", view_file, USAGE["view"]),
    }
    verbs[verb](arguments)


def _run_audit(arguments: list[str]) -> None:
    description = (
        "Count what the parts of a split share: the same points, turned, moved, scaled or a little noisy; "
        "a surface scanned twice is not found."
    )
    parser = data_options("audit", description, "--data FOLDER|FILE [--split ...] [--out FILE.csv]")
    run_audit(TASK, parser, audit, arguments)
