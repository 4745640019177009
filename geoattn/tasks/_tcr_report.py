"""The report of a tcr run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from geoattn._numbers import format_number, metric_name
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.tcr.audit import audit_rows
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.pictures import draw_epitope, draw_receptor, epitope_bars
from geoattn.domains.tcr.records import Pair
from geoattn.report import (
    Block,
    ImageGrid,
    KeyValues,
    Plot,
    Section,
    Table,
    Text,
    WarningBox,
    metrics_table,
)
from geoattn.report.figures import bars, calibration, precision_recall, roc
from geoattn.tasks._model import Symmetry
from geoattn.tasks._report import Page, beaten_by, overlap_table, symmetry_sections
from geoattn.tasks._tcr_evaluate import HEADLINE, MACRO, labels_of

EPITOPES_SHOWN = 40
PAIRS_DRAWN = 6


@dataclass
class Findings:
    """What there is to report about the test part.

    Attributes:
        pairs: with labels.
        probability: ``[P]`` of the model.
        baselines: name -> probabilities ``[P]``.
        metrics: what stands in ``metrics.json``.
        by_epitope: of ``per_epitope``.
        symmetry: measured on the trained model.
        model, featurizer: to draw what the model looks at.
    """

    pairs: Sequence[Pair]
    probability: np.ndarray
    baselines: Mapping[str, np.ndarray]
    metrics: Mapping[str, Any]
    by_epitope: pd.DataFrame
    symmetry: Symmetry
    model: nn.Module
    featurizer: Featurizer


def page_of(findings: Findings, which: str) -> Page:
    """The page of a report; ``which`` pairs were measured stands in its summary."""
    test = findings.metrics["test"]
    return Page(
        summary=f"Which receptors bind which epitopes: measured on {len(findings.pairs):,} pairs {which}",
        headline={f"test {metric_name(name)}": test[name] for name in (HEADLINE, MACRO, "pr_auc")},
        results=[_result(findings), _predictions(findings), _epitopes(findings), _attention(findings)],
        symmetry=symmetry_sections(findings.symmetry),
    )


def _result(findings: Findings) -> Section:
    blocks: list[Block] = [metrics_table(findings.metrics, "test", model="this model")]
    for metric in (HEADLINE, MACRO):
        if findings.metrics.get("baselines") and (beaten := beaten_by(findings.metrics, metric)):
            blocks.append(WarningBox(f"By {metric_name(metric)}, {beaten} does at least as well as this model."))
    blocks.append(
        Text(
            "ROC AUC over all pairs rewards knowing which epitopes have many binders in the file, without a look at "
            "the receptor: the epitope prior and the network without the receptor show how much. The macro average is "
            "of the areas of single epitopes, those with five pairs of each class or more; n is their number. It says "
            "what the model knows about receptors. Where negatives were drawn, they are not measured non-binders. "
            "Intervals draw pairs as if they were independent. The network without the receptor is one network, "
            "trained for a third of the epochs, which is enough for what it can learn."
        )
    )
    if "valid" in findings.metrics:
        blocks.append(metrics_table(findings.metrics, "valid", model="this model"))
    return Section("Result", blocks)


def _predictions(findings: Findings) -> Section:
    label = labels_of(findings.pairs)
    curves = {"this model": findings.probability}
    curves |= {name.replace("_", " "): values for name, values in findings.baselines.items()}
    return Section(
        "Predictions",
        [
            Plot(roc(label, curves, label="binding"), "Receiver operating characteristic over all pairs, test split."),
            Plot(precision_recall(label, curves, label="binding"), "Precision and recall over all pairs, test split."),
            Plot(
                calibration(label, findings.probability, label="binding"),
                "How often a pair is a binder, by predicted probability. It holds for files with as many binders.",
            ),
        ],
    )


def _epitopes(findings: Findings) -> Section:
    names, values, intervals = epitope_bars(findings.by_epitope, EPITOPES_SHOWN)
    blocks: list[Block] = []
    if names:
        caption = (
            f"The {len(names)} epitopes with the most pairs: ROC AUC among their own pairs with its 95 % interval; in "
            "brackets binders and others. 0.5 is chance. All are in epitopes.csv."
        )
        blocks.append(Plot(bars(names, values, intervals, label="ROC AUC", highlight=None, reference=0.5), caption))
    unseen = findings.by_epitope[~findings.by_epitope["seen"]]
    if len(unseen):
        blocks.append(
            WarningBox(
                f"{len(unseen)} of {len(findings.by_epitope)} epitopes are not in the training part. What is predicted "
                "for them rests on their likeness to others; expect hardly more than chance."
            )
        )
    return Section("Epitope by epitope", blocks or [Text("No epitope has pairs of both classes.")])


def _attention(findings: Findings) -> Section:
    """The pairs that the model is surest of, among true binders of different epitopes."""
    chosen: list[Pair] = []
    probabilities = []
    for row in np.argsort(-findings.probability, kind="stable"):
        pair = findings.pairs[row]
        if pair.label == 1 and pair.epitope.sequence not in {other.epitope.sequence for other in chosen}:
            chosen.append(pair)
            probabilities.append(findings.probability[row])
        if len(chosen) == PAIRS_DRAWN:
            break
    if not chosen:
        return Section("Attention", [Text("The file has no binders.")])
    model: Any = findings.model.models[0] if isinstance(findings.model, Ensemble) else findings.model
    receptor, epitope = model.eval().attention(findings.featurizer.collate(chosen))
    receptors, epitopes = [], []
    for pair, p, a, b in zip(chosen, probabilities, receptor, epitope, strict=True):
        caption = f"{pair.epitope.sequence}: {format_number(p)}"
        receptors.append((draw_receptor(pair.receptor, a.detach().numpy()), caption))
        epitopes.append((draw_epitope(pair.epitope, b.detach().numpy(), 320, 200), caption))
    member = " of the first member" if isinstance(findings.model, Ensemble) else ""
    text = (
        f"The weights{member} by which positions enter, for true binders of which the model is surest. They show what "
        "the network looked at, not what binds."
    )
    return Section(
        "Attention",
        [Text(text), ImageGrid(receptors, "CDR3 residues."), ImageGrid(epitopes, "The epitope.")],
    )


def data_blocks(overlap: Mapping[str, Any]) -> list[Block]:
    """What the parts of the split share, and what the negatives give away."""
    repeats = {"pairs that repeat an earlier pair": overlap["duplicates"], "in no part": overlap["left_out"]}
    blocks: list[Block] = [
        KeyValues({**overlap["sizes"], **repeats}),
        overlap_table(audit_rows(overlap), "pairs"),
        _negatives(overlap["negatives"]),
    ]
    identical = overlap["pairs"]["train/test"]["identical_receptor"]
    if identical:
        blocks.append(WarningBox(f"{identical} pairs of the test part have a receptor that was in training."))
    return blocks


def _negatives(parts: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ["positives", "negatives", "epitope_rate_auc", "trained_epitope_rate_auc", "tcr_rate_auc"]
    rows = [[part, *(counts[column] for column in columns)] for part, counts in parts.items()]
    caption = (
        "What the negatives give away: the ROC AUC of the share of binders of each epitope, within the part and as "
        "learned from training, and of each receptor within the part, which only one who sees the part can know."
    )
    return Table(["part", *(column.replace("_", " ") for column in columns)], rows, caption=caption)
