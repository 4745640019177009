"""``geoattn synergy fit``: from tables of pairs, drugs and expression to a trained, measured model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn.datasets.synergy import SynergyData
from geoattn.domains.synergy.audit import audit
from geoattn.domains.synergy.batch import PairCollator
from geoattn.domains.synergy.featurize import DrugFeaturizer
from geoattn.tasks._fit import Run, add_fit_options
from geoattn.tasks._parser import TaskParser, data_parser, merged
from geoattn.tasks._run import say
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
from geoattn.tasks._synergy_report import Findings, data_blocks, known_text, page_of
from geoattn.tasks._task import MEASURED, About, FitTask, Fitted, Measured, fit_files, fit_words

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
    tables = {"expression": str(expression)} | ({} if drugs is None else {"drugs": str(drugs)})
    options = merged(options, {"data": tables})
    return fit_files(FIT, file, expression, recipe=recipe, out=out, resume=resume, quiet=quiet, options=options)


def _read(config: Mapping[str, Any], show: bool) -> SynergyData:
    data = SynergyData(**config["data"], seed=config["seed"])
    data.setup()
    return data


def _embed(data: SynergyData, quiet: bool) -> None:
    """Conformers of all drugs, once and for all members."""
    assert isinstance(data.drug_features, DrugFeaturizer)
    drugs = list(dict.fromkeys(drug for sample in data.samples for drug in (sample.drug_a, sample.drug_b)))
    if data.preprocess["drug_features"]["positions"]:
        say(f"Conformers of {len(drugs)} drugs ...", quiet=quiet)
    data.drug_features.prepare(drugs)


def _measure(fitted: Fitted[SynergyData]) -> Measured:
    """Predictions, metrics, baselines, overlap, symmetry."""
    say("Measuring, baselines, overlap of the parts ...", quiet=fitted.quiet)
    config, data, trained = fitted.config, fitted.data, fitted.trained
    collate = PairCollator(data.drug_features, data.cells)
    samples = {part: data.part(part) for part in ("train", *MEASURED)}
    predicted = {
        part: predict_pairs(trained.model, samples[part], collate, data.preprocess, trained.device) for part in MEASURED
    }
    metrics: dict[str, Any] = {part: measure(samples[part], predicted[part][0], data.task) for part in MEASURED}
    others = {part: samples[part] for part in MEASURED}
    baselines = predict_baselines(samples["train"], others, data.cells, data.task, show=not fitted.quiet)
    metrics["baselines"] = {
        part: {name: measure(samples[part], values, data.task) for name, values in baselines[part].items()}
        for part in MEASURED
    }
    model = trained.model.cpu()
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
    overlap = audit(data.samples, data.split) | {"duplicates": data.repeats["rows"]}
    which = f"of the test part (split {config['data']['split']}), which took part in no decision."
    known = known_text(samples["test"], data.preprocess)
    say(f"\nTest part of the split {data.split_spec}: {known}.", quiet=fitted.quiet)
    return Measured(
        metrics=metrics,
        tables={"predictions.csv": _predictions(data, predicted), **findings.tables()},
        overlap=overlap["pairs"]["train/test"],
        symmetry=findings.symmetry,
        about=_about(data, config),
        page=page_of(findings, which),
        data=data_blocks(overlap),
        loss="Huber loss (standardised scores)" if data.task == "regression" else "cross entropy",
    )


def _predictions(data: SynergyData, predicted: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> pd.DataFrame:
    """The table of the measured parts, one behind the other."""
    tables = [
        prediction_table(data.table.iloc[data.split[part]], data.part(part), *predicted[part], data.preprocess).assign(
            split=part
        )
        for part in MEASURED
    ]
    return pd.concat(tables, ignore_index=True)


def _about(data: SynergyData, config: Mapping[str, Any]) -> About:
    what = "score" if data.task == "regression" else "class"
    targets = {
        "regression": {"predicted_score": "synergy score, higher for more synergy, on the scale of the data"},
        "classification": {
            "probability": "that the pair is synergistic, where as many pairs are as in the training part"
        },
    }
    suffix = "".join(Path(config["data"]["file"]).suffixes[-1:])
    return About(
        title="Synergy of drug pairs",
        summary=f"Predicts the synergy {what} of two drugs in a cell line from their molecules and its gene expression",
        targets=config["card"]["targets"] or targets[data.task],
        input=f"pairs{suffix} --drugs drugs.csv --expression expression.csv",
        limits=LIMITS,
    )


FIT = FitTask(
    name=TASK,
    samples="pairs",
    parser=fit_parser,
    read=_read,
    module=SynergyModule,
    keys=lambda data: pair_keys(data.samples),
    shown=lambda data: f"valid_{HEADLINES[data.task][0]}",
    measure=_measure,
    files=FILES,
    count=lambda data: f"{len(data.samples)} pairs in {len(data.cells)} cell lines",
    prepare=_embed,
)
run_fit = partial(fit_words, FIT)
"""The verb, from the words of the command line behind it."""
