"""``geoattn synergy fit``: from tables of pairs, drugs and expression to a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from geoattn.datasets.synergy import SynergyData
from geoattn.domains.synergy.audit import audit
from geoattn.domains.synergy.batch import PairCollator
from geoattn.domains.synergy.featurize import DrugFeaturizer
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
from geoattn.tasks._synergy_evaluate import (
    HEADLINES,
    TASK,
    measure,
    measure_symmetry,
    pair_keys,
    predict_baselines,
    predict_pairs,
    prediction_table,
)
from geoattn.tasks._synergy_module import SynergyModule
from geoattn.tasks._synergy_report import Findings, known_text, write_fit_report
from geoattn.tasks._training import make_trainer

FILES = ("file", "expression", "drugs")
LIMITS = (
    "Scores of different screens, doses and synergy models are not on one scale; use ranks within one screen.",
    "For pairs with a drug, and for cell lines, that were not in the training part, errors are larger than for others.",
)


def data_options(verb: str, description: str, usage: str) -> TaskParser:
    """A parser with the options of the data."""
    return data_parser(TASK, verb, description, usage, SynergyData, {"seed", "drug_features"})


def fit_parser() -> TaskParser:
    """The options of ``geoattn synergy fit``."""
    usage = (
        "--data FILE --expression FILE [--drugs FILE] [--recipe NAME|FILE] [--data.task regression|classification] "
        "[--score column|hsa|bliss] [--split ...] [--out DIR] [--resume] [--data.* --model.* --trainer.* ...]"
    )
    parser = data_options("fit", "Train a model that tells which drugs act together in which cell lines.", usage)
    add_fit_options(parser, TASK, SynergyModule)
    return parser


def run_fit(arguments: list[str]) -> Run:
    """The verb, from the words of the command line behind it."""
    return fit_config(parse_words(fit_parser(), TASK, arguments), command_line([TASK, "fit", *arguments]))


def fit(
    file: str | Path,
    expression: str | Path,
    drugs: str | Path | None = None,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train a model on a table of drug pairs, as ``geoattn synergy fit`` does.

    Args:
        file: table of pairs: drug_a, drug_b, cell_line, score or label.
        expression: table of gene expression, a row per cell line.
        drugs: table of drugs with name and SMILES, unless the table of pairs has smiles_a and smiles_b.
        recipe: a recipe that comes with geoattn by its name, or a YAML file.
        out: the run folder; a fresh one below ``runs`` if left out.
        resume: go on with the run in ``out``.
        quiet: say nothing on standard error.
        options: the options of the command line: ``seed``, ``ensemble``, and mappings ``data``, ``model``, ``trainer``
            and ``card``.

    Raises:
        InputError: for an unknown option (with the nearest one), a wrong value, or a file that cannot be used.

    Example:
        >>> from geoattn.tasks import synergy
        >>> run = synergy.fit("pairs.csv", "tpm.csv", "drugs.csv", data={"split": "drug"})  # doctest: +SKIP
        >>> run.metrics["test"]["pearson"]["value"]  # doctest: +SKIP
    """
    command = f"geoattn.tasks.synergy.fit({str(file)!r}, {str(expression)!r}, recipe={recipe!r}, ...)"
    files = {"expression": str(expression)} | ({} if drugs is None else {"drugs": str(drugs)})
    options = merged(options, {"data": files})
    return fit_config(parse_mapping(fit_parser(), TASK, file, recipe, out, resume, quiet, options), command)


def fit_config(options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config, folder, finished = opened(TASK, options, FILES)
    if finished is not None:
        return finished
    quiet = options["quiet"]
    with calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = SynergyData(**config["data"], seed=config["seed"])
        data.setup()
        SynergyModule(data, **config["model"])  # and these before anything is written
    split = split_record(
        data.split, data.table["id"].tolist(), pair_keys(data.samples), data.split_spec, data.split_seed
    )
    if options["resume"]:
        refuse_other_data(folder, split, "pairs")
    write_beginning(folder, config, split, data.rejected, command)
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    say(
        f"{len(data.samples)} pairs in {len(data.cells)} cell lines: {sizes}; {len(data.rejected)} rejected.",
        quiet=quiet,
    )
    say(f"Run folder: {folder.path}", quiet=quiet)
    _embed(data, quiet)
    trained = train_members(
        folder,
        config,
        data,
        lambda: SynergyModule(data, **config["model"]),
        shown=f"valid_{HEADLINES[data.task][0]}",
        quiet=quiet,
    )
    run = _finish(folder, config, data, trained, command, split, quiet)
    known = known_text(data.part("test"), data.preprocess)
    say(f"\nTest part of the split {data.split_spec}: {known}.", quiet=quiet)
    announce(run, quiet)
    return run


def _embed(data: SynergyData, quiet: bool) -> None:
    """Conformers of all drugs, once and for all members."""
    assert isinstance(data.drug_features, DrugFeaturizer)
    drugs = list(dict.fromkeys(drug for sample in data.samples for drug in (sample.drug_a, sample.drug_b)))
    if data.preprocess["drug_features"]["positions"]:
        say(f"Conformers of {len(drugs)} drugs ...", quiet=quiet)
    data.drug_features.prepare(drugs)


def _finish(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: SynergyData,
    trained: Trained,
    command: str,
    split: Mapping[str, Any],
    quiet: bool,
) -> Run:
    """Predictions, metrics, baselines, overlap, model folder and report; the report is the last file."""
    say("Measuring, baselines, overlap of the parts ...", quiet=quiet)
    collate = PairCollator(data.drug_features, data.cells)
    samples = {part: data.part(part) for part in ("train", *MEASURED)}
    predicted = {
        part: predict_pairs(trained.model, samples[part], collate, data.preprocess, trained.device) for part in MEASURED
    }
    metrics: dict[str, Any] = {part: measure(samples[part], predicted[part][0], data.task) for part in MEASURED}
    others = {part: samples[part] for part in MEASURED}
    baselines = predict_baselines(samples["train"], others, data.cells, data.task, show=not quiet)
    metrics["baselines"] = {
        part: {name: measure(samples[part], values, data.task) for name, values in baselines[part].items()}
        for part in MEASURED
    }
    model = trained.model.cpu()
    folder.write_table("predictions.csv", _predictions(data, predicted))
    folder.write_table("metrics.csv", trained.history)
    folder.write_json("metrics.json", metrics)
    findings = Findings.of(
        samples["test"],
        *predicted["test"],
        baselines=baselines["test"],
        metrics=metrics,
        symmetry=measure_symmetry(model, samples["test"], collate),
        model=model,
        collate=collate,
        preprocess=data.preprocess,
    )
    findings.write_tables(folder)
    overlap = audit(data.samples, data.split) | {"duplicates": data.repeats["rows"]}
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


def _predictions(data: SynergyData, predicted: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> pd.DataFrame:
    """The table of the measured parts, one behind the other."""
    tables = [
        prediction_table(data.table.iloc[data.split[part]], data.part(part), *predicted[part], data.preprocess).assign(
            split=part
        )
        for part in MEASURED
    ]
    return pd.concat(tables, ignore_index=True)


def _card(
    config: Mapping[str, Any], data: SynergyData, symmetry: Symmetry, overlap: Mapping[str, Any], command: str
) -> Card:
    """The model card: what the user said about the data, and what was measured."""
    said = config["card"]
    name = Path(config["data"]["file"]).name
    what = "score" if data.task == "regression" else "class"
    targets = {
        "regression": {"predicted_score": "synergy score, higher for more synergy, on the scale of the data"},
        "classification": {
            "probability": "that the pair is synergistic, where as many pairs are as in the training part"
        },
    }
    return Card(
        title=said["title"] or "Synergy of drug pairs",
        summary=said["summary"]
        or f"Predicts the synergy {what} of two drugs in a cell line from their molecules and its gene expression",
        targets=said["targets"] or targets[data.task],
        data=said["data"] or name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={what.replace("_", " "): count for what, count in overlap["pairs"]["train/test"].items()},
        symmetry=symmetry.text.rstrip("."),
        equivariance_error=symmetry.errors,
        command=command,
        seeds=[config["seed"] + k for k in range(config["ensemble"])],
        limits=[*(said["limits"] or []), *LIMITS],
        input="pairs" + "".join(Path(name).suffixes[-1:]) + " --drugs drugs.csv --expression expression.csv",
    )
