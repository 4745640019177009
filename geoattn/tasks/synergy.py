"""Synergy of drug pairs in cell lines: the verbs of ``geoattn synergy``, and the same from Python.

Example:
    >>> from geoattn.tasks import synergy
    >>> run = synergy.fit("pairs.csv", "tpm.csv", "drugs.csv", recipe="synergy-egat")  # doctest: +SKIP
    >>> synergy.screen(run.folder, {"A": "CCO", "B": "CCN"}, tpm, cells=["A375"])  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.synergy import SynergyData
from geoattn.domains.synergy.audit import audit as audit_split
from geoattn.domains.synergy.audit import audit_rows
from geoattn.domains.synergy.demo import Screen, demo_screen, write_demo
from geoattn.tasks._audit import counts_file, run_audit, write_counts
from geoattn.tasks._parser import run_function
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._synergy_evaluate import TASK
from geoattn.tasks._synergy_fit import Run, data_options, fit, run_fit
from geoattn.tasks._synergy_module import SynergyModule
from geoattn.tasks._synergy_predict import predict_arrays, predict_file
from geoattn.tasks._synergy_screen import screen_arrays, screen_files
from geoattn.tasks._synergy_test import test_file

__all__ = ["Run", "SynergyModule", "audit", "demo", "fit", "predict", "run", "screen", "test"]

DEMO_CELLS = 8
DEMO_TOP = 200
USAGE = {
    "demo": "[--out DIR]",
    "test": (
        "--model DIR|NAME --data FILE --expression FILE [--drugs FILE] [--rows all|test] [--out DIR] "
        "[--on-error raise|skip]"
    ),
    "predict": (
        "--model DIR|NAME --data FILE --expression FILE [--drugs FILE] --out FILE.csv|.parquet [--on-error raise|skip]"
    ),
    "screen": (
        "--model DIR|NAME --drugs FILE --expression FILE [--cells A,B] [--against DRUG] [--top N] "
        "--out FILE.csv|.parquet"
    ),
}

test = test_file
predict = predict_arrays
screen = screen_arrays


def audit(options: dict[str, Any], out: str | None = None) -> pd.DataFrame:
    """Count what the parts of a split share, print it and, with ``out``, write it.

    Args:
        options: of `SynergyData`: ``file``, ``expression``, ``drugs``, ``split`` ...
        out: a .csv file for the counts; ``.examples.csv`` is put behind its name for repeats.
    """
    target = counts_file(out)
    data = SynergyData(**options)
    data.setup()
    report = audit_split(data.samples, data.split)
    counts, examples = pd.DataFrame(audit_rows(report)), pd.DataFrame(report["examples"])
    parts = pd.DataFrame({"pairs": report["sizes"], **{what: report[what] for what in ("drugs", "cells", "tissues")}})
    left = f"{data.repeats['rows']} rows merged, {len(data.rejected)} rejected, {report['left_out']} pairs in no part"
    print(f"{parts.to_string()}\n{left}\n")
    print(counts.to_string(index=False))
    if report["same_molecule"]:
        print(f"\nnames of one molecule: {'; '.join(' = '.join(names) for names in report['same_molecule'])}")
    for note in data.notes:
        print(f"\n{note}")
    if len(examples):
        print(f"\npairs in train and test\n{examples.to_string(index=False)}")
    return write_counts(target, counts, examples)


def demo(out: str | None = None, quiet: bool = False) -> Path:
    """Fit, test and screen on dose-response surfaces that geoattn makes; needs no network, two minutes.

    Two drugs of different kind are synergistic, the more so the more a cell line expresses eight genes. Whoever knows
    drugs by name alone cannot say of which kind a new one is.

    Args:
        out: folder; runs/synergy-demo-<date>-<time> if left out.
        quiet: say nothing but errors.

    Returns:
        The report.
    """
    began = time.monotonic()
    folder = RunFolder.at(f"{TASK}-demo", out, resume=None).path
    made = demo_screen(DEMO_CELLS)
    old, new = _demo_parts(made)
    write_demo(folder, old)
    write_demo(folder / "new", new)
    wells = f"{len(old.responses):,} wells of {len(old.drugs)} drugs and {len(old.cells)} cell lines"
    say(f"Made {wells} to train on, and wells of new drugs to test on, in {folder}.", quiet=quiet)
    drugs, expression = str(folder / "new" / "drugs.csv"), str(folder / "expression.csv")
    run = fit(
        folder / "responses.csv",
        expression,
        folder / "drugs.csv",
        recipe="synergy-demo",
        out=folder / "fit",
        quiet=quiet,
    )
    say("Test on pairs with drugs that the model has never seen:", quiet=quiet)
    test_file(
        str(run.folder), str(folder / "new" / "responses.csv"), expression, drugs, out=str(folder / "test"), quiet=quiet
    )
    say(f"Screen all pairs of {len(made.drugs)} drugs in all cell lines:", quiet=quiet)
    ranked = folder / "ranked.csv"
    screen_files(str(run.folder), drugs, expression, str(ranked), top=DEMO_TOP, quiet=quiet)
    say(_demo_answer(made, ranked), quiet=quiet)
    report = run.folder / "report.html"
    say(f"All done in {time.monotonic() - began:.0f} seconds. Open the report: {report}", quiet=quiet)
    return report


def _demo_parts(made: Screen) -> tuple[Screen, Screen]:
    """The screen without every eighth drug, and the wells of pairs with one of those, with all single agents."""
    held = set(list(made.drugs)[4::8])
    old = [well for well in made.responses if not {well.drug_a, well.drug_b} & held]
    new = [well for well in made.responses if not well.drug_b or {well.drug_a, well.drug_b} & held]
    known = {name: smiles for name, smiles in made.drugs.items() if name not in held}
    return replace(made, drugs=known, responses=old), replace(made, responses=new)


def _demo_answer(made: Screen, ranked: Path) -> str:
    """How many of the first pairs are synergistic by construction."""
    table = pd.read_csv(ranked)
    kind = table["drug_a"].map(made.kind) != table["drug_b"].map(made.kind)
    new = table[table["measured_in"].isna()]
    drugs = len(made.drugs)
    chance = sum(made.kind.values()) * (drugs - sum(made.kind.values())) / (drugs * (drugs - 1) / 2)
    return (
        f"{kind.sum()} of the {len(table)} pairs ranked first are of the synergistic kind (of all pairs "
        f"{100 * chance:.0f} %); {len(new)} of them were not in the data of the fit."
    )


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn synergy VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {
        "fit": run_fit,
        "audit": _run_audit,
        "demo": partial(run_function, TASK, "demo", demo, USAGE["demo"]),
        "test": partial(run_function, TASK, "test", test_file, USAGE["test"]),
        "predict": partial(run_function, TASK, "predict", predict_file, USAGE["predict"]),
        "screen": partial(run_function, TASK, "screen", screen_files, USAGE["screen"]),
    }
    verbs[verb](arguments)


def _run_audit(arguments: list[str]) -> None:
    description = "Count what the parts of a split share."
    usage = "--data FILE --expression FILE [--drugs FILE] [--split ...] [--out FILE.csv]"
    parser = data_options("audit", description, usage)
    run_audit(TASK, parser, audit, arguments)
