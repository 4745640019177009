"""Motion of interacting bodies: the verbs of ``geoattn dynamics``, and the same from Python.

Example:
    >>> from geoattn.tasks import dynamics
    >>> run = dynamics.fit("mine.npz")  # doctest: +SKIP
    >>> later, _ = dynamics.predict(run.folder, pos, vel, charge)  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn._files import atomic_path
from geoattn.datasets.dynamics import DynamicsData
from geoattn.domains.dynamics.audit import audit as audit_split
from geoattn.domains.dynamics.audit import audit_rows
from geoattn.domains.dynamics.protocols import nbody_arrays
from geoattn.tasks._audit import counts_file, run_audit, write_counts
from geoattn.tasks._dynamics_evaluate import TASK
from geoattn.tasks._dynamics_fit import Run, data_options, fit, run_fit
from geoattn.tasks._dynamics_module import DynamicsModule
from geoattn.tasks._dynamics_predict import predict_arrays, predict_file
from geoattn.tasks._dynamics_test import test_file
from geoattn.tasks._parser import run_function
from geoattn.tasks._run import RunFolder, say

__all__ = ["DynamicsModule", "Run", "audit", "demo", "fit", "predict", "run", "test"]

DEMO_SIZES = (1000, 200, 400)
USAGE = {
    "demo": "[--out DIR]",
    "test": "--model DIR|NAME --data FILE [--rows all|test] [--out DIR] [--on-error raise|skip]",
    "predict": "--model DIR|NAME --data FILE --out FILE.csv|.parquet [--frame-in FRAME] [--on-error raise|skip]",
}

test = test_file
predict = predict_arrays


def audit(options: dict[str, Any], out: str | None = None) -> pd.DataFrame:
    """Count what the parts of a split share, print it and, with ``out``, write it.

    Args:
        options: of `DynamicsData`: ``file``, ``split`` ...
        out: a .csv file for the counts.
    """
    target = counts_file(out)
    data = DynamicsData(**options)
    data.setup()
    report = audit_split(data.systems, data.split)
    counts = pd.DataFrame(audit_rows(report))
    sizes = ", ".join(f"{size} {part}" for part, size in report["sizes"].items())
    print(f"{sizes}; {report['duplicates']} systems repeat an earlier one; {len(data.rejected)} rejected\n")
    print(counts.to_string(index=False))
    return write_counts(target, counts)


def demo(out: str | None = None, quiet: bool = False) -> Path:
    """Fit, test and predict on charged particles that geoattn simulates itself; needs no network and about two minutes.

    Args:
        out: folder; runs/dynamics-demo-<date>-<time> if left out.
        quiet: say nothing but errors.

    Returns:
        The report.
    """
    began = time.monotonic()
    folder = RunFolder.at(f"{TASK}-demo", out, resume=None).path
    folder.mkdir(parents=True, exist_ok=True)
    say(f"Simulating {sum(DEMO_SIZES)} systems of five charged particles ...", quiet=quiet)
    arrays = nbody_arrays("egnn", DEMO_SIZES, seed=0)
    file, new = folder / "nbody.npz", folder / "new_systems.npz"
    fitted = {name: array for name, array in arrays.items() if not name.endswith("_vel1")}
    unseen = nbody_arrays("egnn", (0, 0, 100), seed=1)
    later = {name: unseen[f"test_{name}"] for name in ("loc0", "vel0", "charge", "loc1")}
    for path, part in ((file, fitted), (new, later)):
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **part)  # type: ignore[arg-type]  # names are free, which numpy cannot say
    run = fit(file, recipe="dynamics-demo", out=folder / "fit", quiet=quiet)
    say("Test on new systems:", quiet=quiet)
    test_file(str(run.folder), str(new), out=str(folder / "test"), quiet=quiet)
    predict_file(str(run.folder), str(new), str(folder / "predictions.csv"), quiet=quiet)
    report = run.folder / "report.html"
    say(f"All done in {time.monotonic() - began:.0f} seconds. Open the report: {report}", quiet=quiet)
    return report


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn dynamics VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {
        "fit": run_fit,
        "audit": _run_audit,
        "demo": partial(run_function, TASK, "demo", demo, USAGE["demo"]),
        "test": partial(run_function, TASK, "test", test_file, USAGE["test"]),
        "predict": partial(run_function, TASK, "predict", predict_file, USAGE["predict"]),
    }
    verbs[verb](arguments)


def _run_audit(arguments: list[str]) -> None:
    description = "Count what the parts of a split share: the same, or nearly the same, initial state."
    parser = data_options("audit", description, "--data FILE [--data.split ...] [--out FILE.csv]")
    run_audit(TASK, parser, audit, arguments)
