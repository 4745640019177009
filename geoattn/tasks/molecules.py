"""Properties of molecules and structures: the verbs of ``geoattn molecules``, and the same from Python.

Example:
    >>> from geoattn.tasks import molecules
    >>> run = molecules.fit("esol.csv", recipe="molecules-esol")  # doctest: +SKIP
    >>> molecules.predict(run.folder, ["CCO", "c1ccccc1"])  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn._files import atomic_path
from geoattn.datasets.molecules import MoleculesData
from geoattn.domains.molecules.audit import audit as audit_split
from geoattn.domains.molecules.audit import audit_rows
from geoattn.domains.molecules.demo import make_demo_table
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._audit import counts_file, write_counts
from geoattn.tasks._forces_predict import predict_forces
from geoattn.tasks._forces_test import test_forces
from geoattn.tasks._model import load_model
from geoattn.tasks._molecules_fit import Run, data_options, fit, is_structure_file, run_fit
from geoattn.tasks._molecules_module import MoleculesModule
from geoattn.tasks._molecules_predict import TASK, predict_file, predict_molecules
from geoattn.tasks._molecules_test import test_file
from geoattn.tasks._parser import expand_arguments, run_function
from geoattn.tasks._run import RunFolder, say

__all__ = ["MoleculesModule", "Run", "audit", "demo", "fit", "predict", "run", "test"]

DEMO_MOLECULES = 800
DEMO_NEW_MOLECULES = 200
USAGE = {
    "demo": "[--out DIR]",
    "test": "--model DIR|NAME --data FILE [--rows all|test] [--out DIR] [--on-error raise|skip]",
    "predict": "--model DIR|NAME --data FILE --out FILE.csv|.parquet|.xyz [--on-error raise|skip] [--chunk-size N]",
}


def test(model: str, data: str, **options: Any) -> dict[str, Any]:
    """Measure a trained model on a file that has the targets, or energies and forces: ``metrics.json`` as a mapping.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: the file.
        options: of ``geoattn molecules test``; see `test_file` for properties and `test_forces` for potentials.
    """
    return (test_forces if is_potential(model) else test_file)(model, data, **options)


def predict(model: str | Path | Pretrained, molecules: Sequence[str], device: str | None = None) -> pd.DataFrame:
    """Predictions for some SMILES, in the units of the training file.

    For files, of any length, see ``geoattn molecules predict`` (`predict_file`).

    Args:
        model: model folder, run folder, name of a shipped model, or what ``from_pretrained`` returned.
        molecules: SMILES.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.

    Returns:
        One row per SMILES: ``smiles``, ``<target>_pred``, for an ensemble ``<target>_std``, and ``reason``, which is
        empty unless the molecule cannot be used; its predictions are NaN then.
    """
    loaded = model if isinstance(model, Pretrained) else load_model(model, TASK)
    if loaded.preprocess["task"] == "forces":
        raise InputError(
            "model: a potential needs positions, not SMILES. Use geoattn.domains.molecules.Calculator, or "
            "geoattn molecules predict on extended XYZ."
        )
    return predict_molecules(loaded, molecules, device)


def audit(options: dict[str, Any], out: str | None = None, quiet: bool = False) -> pd.DataFrame:
    """Count what the parts of a split share, print it and, with ``out``, write it.

    Args:
        options: of `MoleculesData`: ``file``, ``split`` ...
        out: a .csv file for the counts; ``.examples.csv`` is put behind its name for the most similar pairs.
        quiet: do not show how far the reading is.
    """
    target = counts_file(out)
    graph = "3d" if is_structure_file(options["file"]) else "2d"
    data = MoleculesData(**{**options, "graph": graph, "progress": not quiet})
    data.setup()
    report = audit_split(data.samples, data.table["smiles"].tolist(), data.table["id"].tolist(), data.split)
    counts, examples = pd.DataFrame(audit_rows(report)), pd.DataFrame(report["examples"])
    sizes = ", ".join(f"{size} {part}" for part, size in report["sizes"].items())
    print(f"{sizes}; {report['duplicates']} rows repeat an earlier row; {len(data.rejected)} rejected\n")
    print(counts.to_string(index=False))
    if len(examples):
        print(f"\nmost similar molecules of train and test\n{examples.to_string(index=False)}")
    return write_counts(target, counts, examples)


def demo(out: str | None = None, quiet: bool = False) -> Path:
    """Fit, test and predict on molecules that geoattn makes itself; needs no network and about two minutes.

    The targets are Crippen's log P and Ertl's polar surface area, both computed by RDKit.

    Args:
        out: folder; runs/molecules-demo-<date>-<time> if left out.
        quiet: say nothing but errors.

    Returns:
        The report.
    """
    began = time.monotonic()
    folder = RunFolder.at(f"{TASK}-demo", out, resume=None).path
    folder.mkdir(parents=True, exist_ok=True)
    table = make_demo_table(DEMO_MOLECULES + DEMO_NEW_MOLECULES)
    file, new = folder / "molecules.csv", folder / "new_molecules.csv"
    for path, part in ((file, table.iloc[:DEMO_MOLECULES]), (new, table.iloc[DEMO_MOLECULES:])):
        with atomic_path(path) as temporary:
            part.to_csv(temporary, index=False)
    say(f"Made {DEMO_MOLECULES} molecules to train on and {DEMO_NEW_MOLECULES} new ones in {folder}.", quiet=quiet)
    run = fit(file, recipe="molecules-demo", out=folder / "fit", quiet=quiet)
    say("Test on the new molecules:", quiet=quiet)
    test_file(str(run.folder), str(new), out=str(folder / "test"), on_error="skip", quiet=quiet)
    predict_file(str(run.folder), str(new), str(folder / "predictions.csv"), on_error="skip", quiet=quiet)
    report = run.folder / "report.html"
    say(f"All done in {time.monotonic() - began:.0f} seconds. Open the report: {report}", quiet=quiet)
    return report


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn molecules VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {
        "fit": run_fit,
        "audit": _run_audit,
        "demo": partial(run_function, TASK, "demo", demo, USAGE["demo"]),
        "test": partial(_run_trained, "test", test_file, test_forces),
        "predict": partial(_run_trained, "predict", predict_file, predict_forces),
    }
    verbs[verb](arguments)


def is_potential(model: str | Path) -> bool:
    """Whether a trained model gives energies with forces."""
    return load_model(model, TASK).preprocess["task"] == "forces"


def _run_trained(
    verb: str, of_properties: Callable[..., Any], of_forces: Callable[..., Any], arguments: list[str]
) -> None:
    """A verb that depends on what the model is."""
    words = expand_arguments(TASK, arguments, data=None)
    model = dict(pairwise(words)).get("--model")
    try:
        potential = model is not None and is_potential(model)
    except InputError:  # the verb says what is wrong with the model, once its options are complete
        potential = False
    run_function(TASK, verb, of_forces if potential else of_properties, USAGE[verb], arguments)


def _run_audit(arguments: list[str]) -> None:
    description = "Count what the parts of a split share: molecules, near copies, scaffolds."
    parser = data_options("audit", description, "--data FILE [--data.split ...] [--out FILE.csv]")
    parser.add_argument("--out", type=str | None, help="a .csv file for the counts")
    parser.add_argument("--quiet", type=bool, default=False, help="do not show how far the reading is")
    config = parser.parse_args(expand_arguments(TASK, arguments)).as_dict()
    audit(config["data"], config["out"], config["quiet"])
