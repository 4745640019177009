"""Fields on the globe: the verbs of ``geoattn sphere``, and the same from Python.

Example:
    >>> from geoattn.tasks import sphere
    >>> run = sphere.fit("states.nc", data={"history": 2})  # doctest: +SKIP
    >>> sphere.predict(run.folder, states, steps=10)  # an array [10, C, lat, lon]  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.sphere import SphereData
from geoattn.domains.sphere.demo import write_states
from geoattn.tasks._audit import counts_file, run_audit, write_counts
from geoattn.tasks._parser import run_function
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._sphere_evaluate import TASK
from geoattn.tasks._sphere_fit import Run, data_options, fit, overlap_of, run_fit
from geoattn.tasks._sphere_module import SphereModule
from geoattn.tasks._sphere_predict import predict_arrays, predict_file
from geoattn.tasks._sphere_test import test_file

__all__ = ["Run", "SphereModule", "audit", "demo", "fit", "predict", "run", "test"]

DEMO_TRAJECTORIES, DEMO_NEW_TRAJECTORIES, DEMO_STEPS, DEMO_AHEAD = 60, 12, 16, 10
DEMO_GRID = {"nlat": 16, "nlon": 32}
USAGE = {
    "demo": "[--out DIR]",
    "test": "--model DIR|NAME --data FILE [--rows all|test] [--out DIR]",
    "predict": "--model DIR|NAME --data FILE --out FILE.npz|.nc [--steps K]",
}

test = test_file
predict = predict_arrays


def audit(options: dict[str, Any], out: str | None = None) -> pd.DataFrame:
    """Count what the parts of a split share, print it and, with ``out``, write it.

    Args:
        options: of `SphereData`: ``file``, ``split`` ...
        out: a .csv file for the counts.
    """
    target = counts_file(out)
    data = SphereData(**options)
    data.setup()
    overlap, regions = overlap_of(data)
    report = regions or overlap
    counts = pd.DataFrame(report["rows"])
    sizes = ", ".join(f"{size} {part}" for part, size in report["sizes"].items())
    what = "points" if regions else "samples"
    repeats = "" if regions else f"{overlap['duplicates']} have the inputs of an earlier one; "
    print(f"{what}: {sizes}; {repeats}{len(data.rejected)} rejected\n")
    print(counts.to_string(index=False))
    for note in data.notes:
        print(f"\n{note}")
    return write_counts(target, counts)


def demo(out: str | None = None, quiet: bool = False) -> Path:
    """Fit, test, predict and roll out on shallow-water states that geoattn makes; no network, two minutes.

    Args:
        out: folder; runs/sphere-demo-<date>-<time> if left out.
        quiet: say nothing but errors.

    Returns:
        The report.
    """
    began = time.monotonic()
    folder = RunFolder.at(f"{TASK}-demo", out, resume=None).path
    folder.mkdir(parents=True, exist_ok=True)
    states = write_states(folder / "states.npz", DEMO_TRAJECTORIES, DEMO_STEPS, **DEMO_GRID)
    new = write_states(folder / "new_states.npz", DEMO_NEW_TRAJECTORIES, DEMO_STEPS, **DEMO_GRID, seed=1)
    say(
        f"Made {DEMO_TRAJECTORIES} trajectories of the shallow-water equations, {DEMO_STEPS + 1} states half an hour "
        f"apart, and {DEMO_NEW_TRAJECTORIES} new ones in {folder}.",
        quiet=quiet,
    )
    done = fit(states, recipe="sphere-demo", out=folder / "fit", quiet=quiet)
    say("Test on new trajectories:", quiet=quiet)
    test_file(str(done.folder), str(new), out=str(folder / "test"), quiet=quiet)
    predict_file(str(done.folder), str(new), str(folder / "forecasts.npz"), quiet=quiet)
    predict_file(str(done.folder), str(new), str(folder / "future.npz"), steps=DEMO_AHEAD, quiet=quiet)
    report = done.folder / "report.html"
    say(f"All done in {time.monotonic() - began:.0f} seconds. Open the report: {report}", quiet=quiet)
    return report


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn sphere VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {
        "fit": run_fit,
        "audit": _run_audit,
        "demo": partial(run_function, TASK, "demo", demo, USAGE["demo"]),
        "test": partial(run_function, TASK, "test", test_file, USAGE["test"]),
        "predict": partial(run_function, TASK, "predict", predict_file, USAGE["predict"]),
    }
    verbs[verb](arguments)


def _run_audit(arguments: list[str]) -> None:
    description = (
        "Count what the parts of a split share: the same fields, moments nearer in time than a step, or how near the "
        "parts of one globe are."
    )
    parser = data_options("audit", description, "--data FILE [--data.task ...] [--split ...] [--out FILE.csv]")
    run_audit(TASK, parser, audit, arguments)
