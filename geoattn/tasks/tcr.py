"""Binding of T-cell receptors and epitopes: the verbs of ``geoattn tcr``, and the same from Python.

Example:
    >>> from geoattn.tasks import tcr
    >>> run = tcr.fit("pairs.csv", recipe="tcr-titan", data={"anchors": "yes"})  # doctest: +SKIP
    >>> tcr.predict(run.folder, cdr3=["CASSIRSSYEQYF"], epitope=["NLVPMVATV"])  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn._files import atomic_path
from geoattn.datasets.tcr import TCRData
from geoattn.domains.tcr.audit import audit as audit_split
from geoattn.domains.tcr.audit import audit_rows
from geoattn.domains.tcr.demo import demo_pairs, write_demo
from geoattn.tasks._audit import counts_file, run_audit, write_counts
from geoattn.tasks._parser import run_function
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._tcr_evaluate import TASK
from geoattn.tasks._tcr_fit import Run, data_options, fit, run_fit
from geoattn.tasks._tcr_module import TCRModule
from geoattn.tasks._tcr_predict import predict_arrays, predict_file
from geoattn.tasks._tcr_test import test_file

__all__ = ["Run", "TCRModule", "audit", "demo", "fit", "predict", "run", "test"]

DEMO_RECEPTORS = 1600
DEMO_NEW_RECEPTORS = 400
USAGE = {
    "demo": "[--out DIR]",
    "test": "--model DIR|NAME --data FILE [--rows all|test] [--out DIR] [--anchors yes|no] [--on-error raise|skip]",
    "predict": (
        "--model DIR|NAME --data FILE --out FILE.csv|.parquet [--epitopes A,B] [--anchors yes|no] "
        "[--on-error raise|skip]"
    ),
}

test = test_file
predict = predict_arrays


def audit(options: dict[str, Any], out: str | None = None) -> pd.DataFrame:
    """Count what the parts of a split share and what the negatives give away, print it and, with ``out``, write it.

    Args:
        options: of `TCRData`: ``file``, ``split`` ...
        out: a .csv file for the counts; ``.examples.csv`` is put behind its name for near copies.
    """
    target = counts_file(out)
    data = TCRData(**options)
    data.setup()
    report = audit_split(data.pairs, data.split)
    counts, examples = pd.DataFrame(audit_rows(report)), pd.DataFrame(report["examples"])
    sizes = ", ".join(f"{size} {part}" for part, size in report["sizes"].items())
    repeats = f"{report['duplicates']} pairs repeat an earlier pair; {report['contradictory']} have both labels"
    print(f"{sizes}; {repeats}; {report['left_out']} in no part; {len(data.rejected)} rejected\n")
    print(counts.to_string(index=False))
    print(f"\nwhat the negatives give away\n{pd.DataFrame(report['negatives']).T.to_string()}")
    for note in data.notes:
        print(f"\n{note}")
    if len(examples):
        print(f"\nnear copies in train and test\n{examples.to_string(index=False)}")
    return write_counts(target, counts, examples)


def demo(out: str | None = None, quiet: bool = False) -> Path:
    """Fit, test and predict on a repertoire with planted motifs that geoattn makes; needs no network, two minutes.

    Every epitope has as many negatives as binders, so a model that ignores the receptor cannot win.

    Args:
        out: folder; runs/tcr-demo-<date>-<time> if left out.
        quiet: say nothing but errors.

    Returns:
        The report.
    """
    began = time.monotonic()
    folder = RunFolder.at(f"{TASK}-demo", out, resume=None).path
    folder.mkdir(parents=True, exist_ok=True)
    file, new = folder / "pairs.csv", folder / "new_pairs.csv"
    pairs = demo_pairs(DEMO_RECEPTORS + DEMO_NEW_RECEPTORS)
    for path, part in ((file, pairs[: 2 * DEMO_RECEPTORS]), (new, pairs[2 * DEMO_RECEPTORS :])):
        with atomic_path(path) as temporary:
            write_demo(temporary, part)
    say(f"Made {DEMO_RECEPTORS} receptors to train on and {DEMO_NEW_RECEPTORS} new ones in {folder}.", quiet=quiet)
    run = fit(file, recipe="tcr-demo", out=folder / "fit", quiet=quiet)
    say("Test on new receptors:", quiet=quiet)
    test_file(str(run.folder), str(new), out=str(folder / "test"), anchors="yes", quiet=quiet)
    predict_file(str(run.folder), str(new), str(folder / "predictions.csv"), anchors="yes", quiet=quiet)
    report = run.folder / "report.html"
    say(f"All done in {time.monotonic() - began:.0f} seconds. Open the report: {report}", quiet=quiet)
    return report


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn tcr VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {
        "fit": run_fit,
        "audit": _run_audit,
        "demo": partial(run_function, TASK, "demo", demo, USAGE["demo"]),
        "test": partial(run_function, TASK, "test", test_file, USAGE["test"]),
        "predict": partial(run_function, TASK, "predict", predict_file, USAGE["predict"]),
    }
    verbs[verb](arguments)


def _run_audit(arguments: list[str]) -> None:
    description = "Count what the parts of a split share, and what the negatives give away."
    parser = data_options("audit", description, "--data FILE [--split ...] [--negatives ...] [--out FILE.csv]")
    run_audit(TASK, parser, audit, arguments)
