"""``geoattn molecules fit`` for energies with forces: from extended XYZ to a run folder with a potential."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from geoattn.datasets.molecule_trajectories import TrajectoryData
from geoattn.domains.molecules.force_metrics import constant_baseline, evaluate_forces
from geoattn.errors import InputError
from geoattn.tasks._fit import add_fit_options
from geoattn.tasks._forces_evaluate import (
    BASELINE,
    energy_columns,
    force_table,
    measure_symmetry,
    predict_structures,
    structure_keys,
    true_labels,
)
from geoattn.tasks._forces_module import ForcesModule
from geoattn.tasks._forces_report import ForceFindings, data_blocks, page_of
from geoattn.tasks._parser import TaskParser, data_parser, expand_arguments, merged, recipe_path
from geoattn.tasks._report import TEST_PART
from geoattn.tasks._run import read_config, say
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured

TASK = "molecules"


def forces_parser() -> TaskParser:
    """The options of ``geoattn molecules fit --data.task forces``."""
    usage = "--data FILE.xyz [--recipe NAME|FILE] [--out DIR] [--resume] [--data.* --model.* --trainer.* ...]"
    description = "Train a potential on energies with forces."
    parser = data_parser(TASK, "fit", description, usage, TrajectoryData, {"seed", "progress"})
    add_fit_options(parser, TASK, ForcesModule)
    return parser


def words_want_forces(arguments: list[str]) -> bool:
    """Whether the words of a fit, its recipe or the run that it goes on with say ``data.task: forces``."""
    words = expand_arguments(TASK, arguments)
    said = dict(pairwise(words))
    task = said.get("--data.task")
    return wants_forces(task, said.get("--recipe"), said.get("--out") if "--resume" in words else None)


def wants_forces(task: str | None, recipe: str | None, resumed: str | Path | None) -> bool:
    """Whether a fit is one of forces: by its option ``data.task``, else its recipe, else the run that it goes on with.

    Raises:
        UsageError: there is no such recipe.
    """
    if task is None and recipe is not None:
        task = _task_of(yaml.safe_load(recipe_path(TASK, recipe).read_text(encoding="utf-8")))
    if task is None and resumed is not None:
        task = _task_of(read_config(Path(resumed)))
    return task == "forces"


def _task_of(config: Any) -> str | None:
    data = config.get("data") if isinstance(config, Mapping) else None
    return data.get("task") if isinstance(data, Mapping) else None


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The options with the choices made that they leave open."""
    if config["ensemble"] > 1:
        raise InputError(f"ensemble: got {config['ensemble']}; potentials are trained one at a time, with --seed.")
    # forces need gradients in validation, which inference mode forbids
    return merged(config, {"trainer": {"inference_mode": False}})


def _read(config: Mapping[str, Any], show: bool) -> TrajectoryData:
    data = TrajectoryData(**config["data"], seed=config["seed"], progress=show)
    data.setup()
    return data


def _measure(fitted: Fitted[TrajectoryData]) -> Measured:
    """Predictions, metrics, baseline, overlap, symmetry."""
    say("Measuring ...", quiet=fitted.quiet)
    data, trained, packed = fitted.data, fitted.trained, fitted.data.packed
    stress = data.keys.stress is not None
    true = {part: true_labels(packed, data.split[part]) for part in MEASURED}
    predicted = {
        part: predict_structures(trained.model, packed, data.split[part], trained.device, stress) for part in MEASURED
    }
    metrics: dict[str, Any] = {part: evaluate_forces(true[part], predicted[part]) for part in MEASURED}
    test = data.split["test"]
    elements = packed.z[packed.atom_rows(test)]
    references = {int(z): energy for z, energy in data.preprocess["baseline_references"].items()}
    constant = constant_baseline(true["test"].num_atoms, elements, references, stress)
    metrics["baselines"] = {"test": {BASELINE: evaluate_forces(true["test"], constant)}}
    tables: dict[str, list[pd.DataFrame]] = {"predictions.csv": [], "predictions.forces.csv": []}
    for part in MEASURED:
        rows = data.table.iloc[data.split[part]]
        energies = energy_columns(rows.drop(columns=["file", "smiles"]), predicted[part])
        forces = force_table(rows["id"].tolist(), packed, data.split[part], predicted[part], true[part])
        tables["predictions.csv"].append(energies.assign(split=part))
        tables["predictions.forces.csv"].append(forces)
    findings = ForceFindings(
        true=true["test"],
        predicted=predicted["test"],
        elements=elements,
        table=data.table.iloc[test],
        metrics=metrics,
        symmetry=measure_symmetry(trained.model.cpu(), packed, test),
    )
    copies = _copies(fitted.split)
    return Measured(
        metrics=metrics,
        tables={name: pd.concat(parts) for name, parts in tables.items()},
        overlap={"identical_structures": copies},
        symmetry=findings.symmetry,
        about=_about(data),
        page=page_of(findings, TEST_PART),
        data=data_blocks({part: len(rows) for part, rows in data.split.items()}, copies),
        loss="loss (in units of the forces' root mean square)",
    )


def _copies(split: Mapping[str, Any]) -> int:
    """Structures of the test part of which the training part has a copy."""
    train = set(split["keys"]["train"])
    return sum(key in train for key in split["keys"]["test"])


def _about(data: TrajectoryData) -> About:
    formulas = sorted(set(data.table["formula"]))
    of = formulas[0] if len(formulas) == 1 else f"{len(formulas)} compositions"
    targets = {"energy": "total energy, eV", "forces": "force on each atom, eV/angstrom: the negative gradient"}
    if data.packed.periodic:
        targets["stress"] = "eV/cubic angstrom, positive under tension"
    return About(
        title=f"Potential for {of}",
        summary=f"Predicts energy and forces of {of} from the positions of the atoms",
        targets=targets,
        input="structures.xyz",
    )


FORCES = FitTask(
    name=TASK,
    samples="structures",
    parser=forces_parser,
    read=_read,
    module=ForcesModule,
    keys=lambda data: structure_keys(data.packed),
    shown=lambda data: "valid_force_mae",
    measure=_measure,
    resolve=_resolved,
)
