"""``geoattn tcr fit``: from a table of receptors and epitopes to a run folder with a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from geoattn.datasets.tcr import TCRData
from geoattn.domains.tcr.audit import audit
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.metrics import per_epitope
from geoattn.tasks._fit import Run, add_fit_options
from geoattn.tasks._members import train_members
from geoattn.tasks._parser import TaskParser, data_parser, merged
from geoattn.tasks._report import TEST_PART
from geoattn.tasks._run import say
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured, fit_files, fit_words
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
from geoattn.tasks._tcr_report import Findings, data_blocks, page_of

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
    return fit_files(FIT, file, recipe=recipe, out=out, resume=resume, quiet=quiet, options=options)


def _read(config: Mapping[str, Any], show: bool) -> TCRData:
    data = TCRData(**config["data"], seed=config["seed"])
    data.setup()
    data.check_labels()
    return data


def _epitope_only(fitted: Fitted[TCRData]) -> nn.Module | None:
    """The same network without the receptor: what of the score is not binding. It has little to learn: a third of the
    epochs is enough."""
    config, data = fitted.config, fitted.data
    if not config["model"]["receptor"]:
        return None
    epochs = -(-config["trainer"]["max_epochs"] // 3)
    alone = merged(config, {"model": {"receptor": False}, "ensemble": 1, "trainer": {"max_epochs": epochs}})
    return train_members(
        fitted.folder,
        alone,
        data,
        lambda: TCRModule(data, **alone["model"]),
        shown="valid_roc_auc",
        quiet=fitted.quiet,
        baseline="epitope-only",
    ).model


def _measure(fitted: Fitted[TCRData]) -> Measured:
    """Predictions, metrics, baselines, overlap, symmetry."""
    data, trained, epitope_only = fitted.data, fitted.trained, _epitope_only(fitted)
    say("Measuring, baselines, overlap of the parts ...", quiet=fitted.quiet)
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
    by_epitope = per_epitope(
        labels_of(pairs["test"]),
        predicted["test"][0],
        [pair.epitope.sequence for pair in pairs["test"]],
        labels_of(pairs["train"]),
        [pair.epitope.sequence for pair in pairs["train"]],
    )
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
    return Measured(
        metrics=metrics,
        tables={"predictions.csv": prediction_table(table, mean, std), "epitopes.csv": by_epitope},
        overlap=overlap["pairs"]["train/test"],
        symmetry=findings.symmetry,
        about=_about(data, fitted.config),
        page=page_of(findings, TEST_PART),
        data=data_blocks(overlap),
        loss="cross entropy",
    )


def _about(data: TCRData, config: Mapping[str, Any]) -> About:
    chain = "the CDR3" if data.preprocess["tcr"] == "cdr3" else "the variable domain"
    meaning = "that the receptor binds the epitope, where as many pairs bind as in the test part"
    return About(
        title="Binding of T-cell receptors and epitopes",
        summary=f"Tells which epitope a receptor binds, from {chain} of its beta chain",
        targets=config["card"]["targets"] or {"probability": meaning},
        input="pairs" + "".join(Path(config["data"]["file"]).suffixes[-1:]),
        limits=[*_about_negatives(data), *LIMITS],
    )


def _about_negatives(data: TCRData) -> list[str]:
    """How the negatives were made, which decides what the metrics mean."""
    if data.negatives == "given":
        return [
            "Negatives are the rows of label 0 of the file.",
            *(n for n in data.notes if n.startswith("In training")),
        ]
    return [note for note in data.notes if note.startswith(("Negatives", "In training"))]


FIT = FitTask(
    name=TASK,
    samples="pairs",
    parser=fit_parser,
    read=_read,
    module=TCRModule,
    keys=lambda data: pair_keys(data.pairs, data.preprocess),
    shown=lambda data: "valid_macro_roc_auc",
    measure=_measure,
)
run_fit = partial(fit_words, FIT)
"""The verb, from the words of the command line behind it."""
