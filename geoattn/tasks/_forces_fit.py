"""``geoattn molecules fit`` for energies with forces: from extended XYZ to a run folder with a potential."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from geoattn.datasets.molecule_trajectories import TrajectoryData
from geoattn.domains.molecules.force_metrics import constant_baseline, evaluate_forces
from geoattn.errors import InputError
from geoattn.hub import Card, from_pretrained, save_pretrained
from geoattn.tasks._fit import (
    ABOUT_THE_CALL,
    MEASURED,
    Run,
    Trained,
    add_fit_options,
    announce,
    calm_lightning,
    check_members,
    refuse_other_data,
    refuse_other_options,
    train_members,
)
from geoattn.tasks._forces_evaluate import (
    BASELINE,
    SYMMETRY,
    energy_columns,
    force_table,
    measure_symmetry,
    predict_structures,
    structure_keys,
    true_labels,
)
from geoattn.tasks._forces_module import ForcesModule
from geoattn.tasks._forces_report import ForceFindings, write_fit_report
from geoattn.tasks._model import split_record
from geoattn.tasks._parser import TaskParser, data_parser, expand_arguments, merged, recipe_path
from geoattn.tasks._run import RunFolder, read_config, say
from geoattn.tasks._training import make_trainer

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


def fit_forces(options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config = _resolved({name: value for name, value in options.items() if name not in ABOUT_THE_CALL})
    folder = RunFolder.at(TASK, options["out"], resume=options["resume"])
    quiet = options["quiet"]
    if options["resume"]:
        refuse_other_options(folder.path, config)
        if (folder.path / "report.html").is_file():
            say(f"The run in {folder.path} is finished: nothing to resume.", quiet=quiet)
            finished = from_pretrained(folder.path / "model")
            return Run(folder.path, finished.model, finished.metrics)
    with calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = TrajectoryData(**config["data"], seed=config["seed"], progress=not quiet)
        data.setup()
        ForcesModule(data, **config["model"])  # and these before anything is written
    ids = data.table["id"].tolist()
    split = split_record(data.split, ids, structure_keys(data.packed), data.split_spec, data.split_seed)
    if options["resume"]:
        refuse_other_data(folder, split, "structures")
    folder.make()
    folder.write_config(config)
    folder.write_json("split.json", split)
    folder.write_table("rejected.csv", data.rejected)
    folder.write_environment(command)
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    counts = f"{len(data.packed)} structures: {sizes}; {len(data.rejected)} rejected"
    say(f"{counts}. Run folder: {folder.path}", quiet=quiet)
    trained = train_members(
        folder,
        config,
        data,
        lambda: ForcesModule(data, **config["model"]),
        shown="valid_force_mae",
        quiet=quiet,
    )
    run = _finish(folder, config, data, trained, command, split, quiet)
    announce(run, quiet)
    return run


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The options with the choices made that they leave open."""
    check_members(config)
    if config["ensemble"] > 1:
        raise InputError(f"ensemble: got {config['ensemble']}; potentials are trained one at a time, with --seed.")
    file = str(Path(config["data"]["file"]).absolute())
    # forces need gradients in validation, which inference mode forbids
    return merged(config, {"data": {"file": file}, "trainer": {"inference_mode": False}})


def _finish(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: TrajectoryData,
    trained: Trained,
    command: str,
    split: Mapping[str, Any],
    quiet: bool,
) -> Run:
    """Predictions, metrics, baseline, model folder and report; the report is the last file."""
    say("Measuring ...", quiet=quiet)
    stress = data.keys.stress is not None
    folder.write_table("metrics.csv", trained.history)
    references = {int(z): energy for z, energy in data.preprocess["baseline_references"].items()}
    metrics: dict[str, Any] = {}
    predicted = {}
    for part in MEASURED:
        rows = data.split[part]
        predicted[part] = predict_structures(trained.model, data.packed, rows, trained.device, stress)
        metrics[part] = evaluate_forces(true_labels(data.packed, rows), predicted[part])
    test = data.split["test"]
    true = true_labels(data.packed, test)
    elements = data.packed.z[data.packed.atom_rows(test)]
    constant = constant_baseline(true.num_atoms, elements, references, stress)
    metrics["baselines"] = {"test": {BASELINE: evaluate_forces(true, constant)}}
    model = trained.model.cpu()
    for name, tables in {
        "predictions.csv": [
            energy_columns(data.table.iloc[data.split[part]].drop(columns=["file", "smiles"]), predicted[part]).assign(
                split=part
            )
            for part in MEASURED
        ],
        "predictions.forces.csv": [
            force_table(
                data.table["id"].iloc[data.split[part]].tolist(),
                data.packed,
                data.split[part],
                predicted[part],
                true_labels(data.packed, data.split[part]),
            )
            for part in MEASURED
        ],
    }.items():
        folder.write_table(name, pd.concat(tables))
    folder.write_json("metrics.json", metrics)
    errors = measure_symmetry(model, data.packed, test)
    shared = _copies(split)
    card = _card(config, data, errors, shared, command)
    save_pretrained(
        folder.path / "model", model, task=TASK, preprocess=data.preprocess, metrics=metrics, split=split, card=card
    )
    findings = ForceFindings(
        true=true,
        predicted=predicted["test"],
        elements=elements,
        table=data.table.iloc[test],
        metrics=metrics,
        symmetry=errors,
        symmetry_text=SYMMETRY,
    )
    write_fit_report(
        folder,
        findings,
        title=card.title,
        history=trained.history,
        best_epochs=trained.best_epochs,
        sizes={part: len(rows) for part, rows in data.split.items()},
        copies=shared,
        rejected=data.rejected,
        notes=data.notes,
        config=config,
        command=command,
    )
    return Run(folder.path, model, metrics)


def _copies(split: Mapping[str, Any]) -> int:
    """Structures of the test part of which the training part has a copy."""
    train = set(split["keys"]["train"])
    return sum(key in train for key in split["keys"]["test"])


def _card(
    config: Mapping[str, Any], data: TrajectoryData, errors: Mapping[str, float], copies: int, command: str
) -> Card:
    """The model card: what the user said about the data, and what was measured."""
    said, name = config["card"], Path(config["data"]["file"]).name
    formulas = sorted(set(data.table["formula"]))
    of = formulas[0] if len(formulas) == 1 else f"{len(formulas)} compositions"
    targets = {"energy": "total energy, eV", "forces": "force on each atom, eV/angstrom: the negative gradient"}
    if data.packed.periodic:
        targets["stress"] = "eV/cubic angstrom, positive under tension"
    return Card(
        title=said["title"] or f"Potential for {of}",
        summary=said["summary"] or f"Predicts energy and forces of {of} from the positions of the atoms",
        targets={target: (said["targets"] or {}).get(target, meaning) for target, meaning in targets.items()},
        data=said["data"] or name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={"identical structures": copies},
        symmetry=SYMMETRY,
        equivariance_error=errors,
        command=command,
        seeds=[config["seed"]],
        limits=said["limits"] or [],
        input="structures.xyz",
    )
