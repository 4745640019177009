"""``geoattn tcr fit``: from a table of receptors and epitopes to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geoattn.datasets.tcr import TCRData
from geoattn.domains.tcr.audit import audit
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.metrics import per_epitope
from geoattn.hub import Card, save_pretrained
from geoattn.tasks._fit import (
    MEASURED,
    Run,
    Trained,
    add_fit_options,
    announce,
    calm_lightning,
    opened,
    parse_mapping,
    parse_words,
    refuse_other_data,
    train_members,
    write_beginning,
)
from geoattn.tasks._model import Symmetry, split_record
from geoattn.tasks._parser import TaskParser, data_parser, merged
from geoattn.tasks._run import RunFolder, command_line, say
from geoattn.tasks._tcr_evaluate import (
    TASK,
    baselines_for,
    labels_of,
    measure,
    measure_symmetry,
    pair_keys,
    predict_pairs,
    prediction_table,
)
from geoattn.tasks._tcr_module import TCRModule
from geoattn.tasks._tcr_report import Findings, write_fit_report
from geoattn.tasks._training import make_trainer

EPITOPE_ONLY = "epitope_only_network"
LIMITS = (
    "Nothing shows that ranks are better than chance for epitopes that were not in the training part (docs/tcr.md).",
    "Probabilities hold where as many pairs bind as in the test part; among all receptors of a sample far fewer do.",
)


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    return data_parser(TASK, verb, description, usage, TCRData, {"seed"})


def fit_parser() -> TaskParser:
    """The options of ``geoattn tcr fit``."""
    usage = (
        "--data FILE [--recipe NAME|FILE] [--tcr cdr3|full] [--epitope aa|smiles|graph] [--split ...] [--out DIR] "
        "[--resume] [--data.* --model.* --trainer.* ...]"
    )
    parser = data_options("fit", "Train a model that tells which receptors bind which epitopes.", usage)
    add_fit_options(parser, TASK, TCRModule)
    return parser


def run_fit(arguments: list[str]) -> Run:
    """The verb, from the words of the command line behind it."""
    return fit_config(parse_words(fit_parser(), TASK, arguments), command_line([TASK, "fit", *arguments]))


def fit(
    file: str | Path,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train a model on a table of receptors and epitopes, as ``geoattn tcr fit`` does.

    Args:
        file: AIRR, VDJdb, IEDB or McPAS export, or a table with columns named by options.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``model``, ``trainer``
            and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or a file that cannot be used.

    Example:
        >>> from geoattn.tasks import tcr
        >>> run = tcr.fit("pairs.csv", data={"anchors": "yes", "split": "epitope"})  # doctest: +SKIP
        >>> run.metrics["test"]["macro_roc_auc"]["value"]  # doctest: +SKIP
    """
    command = f"geoattn.tasks.tcr.fit({str(file)!r}, recipe={recipe!r}, ...)"
    return fit_config(parse_mapping(fit_parser(), TASK, file, recipe, out, resume, quiet, options), command)


def fit_config(options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config, folder, finished = opened(TASK, options)
    if finished is not None:
        return finished
    quiet = options["quiet"]
    with calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = TCRData(**config["data"], seed=config["seed"])
        data.setup()
        data.check_labels()
        TCRModule(data, **config["model"])  # and these before anything is written
    keys = pair_keys(data.pairs, data.preprocess)
    split = split_record(data.split, data.table["id"].tolist(), keys, data.split_spec, data.split_seed)
    if options["resume"]:
        refuse_other_data(folder, split, "pairs")
    write_beginning(folder, config, split, data.rejected, command)
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    say(f"{len(data.pairs)} pairs: {sizes}; {len(data.rejected)} rejected. Run folder: {folder.path}", quiet=quiet)
    trained = train_members(
        folder, config, data, lambda: TCRModule(data, **config["model"]), shown="valid_macro_roc_auc", quiet=quiet
    )
    run = _finish(folder, config, data, trained, _epitope_only(folder, config, data, quiet), command, split, quiet)
    announce(run, quiet)
    return run


def _epitope_only(folder: RunFolder, config: Mapping[str, Any], data: TCRData, quiet: bool) -> nn.Module | None:
    """The same network without the receptor: what of the score is not binding. It has little to learn: a third of the
    epochs is enough."""
    if not config["model"]["receptor"]:
        return None
    epochs = -(-config["trainer"]["max_epochs"] // 3)
    alone = merged(config, {"model": {"receptor": False}, "ensemble": 1, "trainer": {"max_epochs": epochs}})
    return train_members(
        folder,
        alone,
        data,
        lambda: TCRModule(data, **alone["model"]),
        shown="valid_roc_auc",
        quiet=quiet,
        baseline="epitope-only",
    ).model


def _finish(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: TCRData,
    trained: Trained,
    epitope_only: nn.Module | None,
    command: str,
    split: Mapping[str, Any],
    quiet: bool,
) -> Run:
    """Predictions, metrics, baselines, overlap, model folder and report; the report is the last file."""
    say("Measuring, baselines, overlap of the parts ...", quiet=quiet)
    featurizer = Featurizer(data.preprocess)
    pairs = {part: data.part(part) for part in ("train", *MEASURED)}
    predicted = {part: predict_pairs(trained.model, pairs[part], featurizer, trained.device) for part in MEASURED}
    metrics: dict[str, Any] = {part: measure(pairs[part], predicted[part][0]) for part in MEASURED}
    probabilities = {
        name: baseline.fit(pairs["train"]).predict(pairs["test"])
        for name, baseline in baselines_for(data.preprocess["tcr"]).items()
    }
    if epitope_only is not None:
        probabilities[EPITOPE_ONLY] = predict_pairs(epitope_only, pairs["test"], featurizer, trained.device)[0]
    metrics["baselines"] = {"test": {name: measure(pairs["test"], p) for name, p in probabilities.items()}}
    model = trained.model.cpu()
    rows = [row for part in MEASURED for row in data.split[part]]
    table = data.table.drop(columns="file").iloc[rows]
    line = table["line"].astype("Int64").where(table["line"] > 0)  # drawn negatives stand on none: an empty cell
    table = table.assign(line=line, split=[part for part in MEASURED for _ in data.split[part]])
    mean = np.concatenate([predicted[part][0] for part in MEASURED])
    std = None if predicted["test"][1] is None else np.concatenate([predicted[part][1] for part in MEASURED])
    folder.write_table("predictions.csv", prediction_table(table, mean, std))
    folder.write_table("metrics.csv", trained.history)
    folder.write_json("metrics.json", metrics)
    by_epitope = per_epitope(
        labels_of(pairs["test"]),
        predicted["test"][0],
        [pair.epitope.sequence for pair in pairs["test"]],
        labels_of(pairs["train"]),
        [pair.epitope.sequence for pair in pairs["train"]],
    )
    folder.write_table("epitopes.csv", by_epitope)
    overlap = audit(data.pairs, data.split)
    findings = Findings(
        pairs=pairs["test"],
        probability=predicted["test"][0],
        baselines=probabilities,
        metrics=metrics,
        by_epitope=by_epitope,
        symmetry=measure_symmetry(model, pairs["test"], featurizer),
        model=model,
        featurizer=featurizer,
    )
    card = _card(config, data, findings.symmetry, overlap, command)
    save_pretrained(
        folder.path / "model",
        model,
        task=TASK,
        preprocess=data.preprocess,
        metrics=metrics,
        split=split,
        card=card,
    )
    write_fit_report(
        folder,
        findings,
        title=card.title,
        history=trained.history,
        best_epochs=trained.best_epochs,
        seconds=float(trained.history["seconds"].sum()),
        overlap=overlap,
        rejected=data.rejected,
        notes=data.notes,
        config=config,
        command=command,
    )
    return Run(folder.path, model, metrics)


def _card(
    config: Mapping[str, Any], data: TCRData, symmetry: Symmetry, overlap: Mapping[str, Any], command: str
) -> Card:
    """The model card: what the user said about the data, and what was measured."""
    said, features = config["card"], data.preprocess
    chain = "the CDR3" if features["tcr"] == "cdr3" else "the variable domain"
    name = Path(config["data"]["file"]).name
    return Card(
        title=said["title"] or "Binding of T-cell receptors and epitopes",
        summary=said["summary"] or f"Tells which epitope a receptor binds, from {chain} of its beta chain",
        targets=said["targets"]
        or {"probability": "that the receptor binds the epitope, where as many pairs bind as in the test part"},
        data=said["data"] or name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={what.replace("_", " "): count for what, count in overlap["pairs"]["train/test"].items()},
        symmetry=symmetry.text.rstrip("."),
        equivariance_error=symmetry.errors,
        command=command,
        seeds=[config["seed"] + k for k in range(config["ensemble"])],
        limits=[*(said["limits"] or []), *_about_negatives(data), *LIMITS],
        input="pairs" + "".join(Path(name).suffixes[-1:]),
    )


def _about_negatives(data: TCRData) -> list[str]:
    """How the negatives were made, which decides what the metrics mean."""
    if data.negatives == "given":
        return [
            "Negatives are the rows of label 0 of the file.",
            *(n for n in data.notes if n.startswith("In training")),
        ]
    return [note for note in data.notes if note.startswith(("Negatives", "In training"))]
