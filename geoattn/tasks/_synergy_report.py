"""The report of a synergy run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from geoattn._numbers import format_number, metric_name
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.synergy.audit import audit_rows
from geoattn.domains.synergy.baselines import Task
from geoattn.domains.synergy.batch import PairCollator
from geoattn.domains.synergy.metrics import per_group
from geoattn.domains.synergy.pictures import draw_atoms, draw_motifs, motif_table
from geoattn.domains.synergy.records import Combination, Drug
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
from geoattn.report.figures import bars, calibration, coverage, parity, precision_recall, residuals, roc
from geoattn.tasks._model import Symmetry
from geoattn.tasks._report import Page, beaten_by, overlap_table, symmetry_sections
from geoattn.tasks._synergy_evaluate import HEADLINES, PREDICTED, members_of, scores_of

GROUPS_SHOWN = 40
RANKED_SHOWN = 20
DRUGS_DRAWN = 6
MOTIFS_SHOWN = 15
DRUGS_LOOKED_AT = 200


@dataclass
class Findings:
    """What there is to report about the test part.

    Attributes:
        samples: with scores.
        prediction: ``[P]`` scores or probabilities of the model.
        std: ``[P]`` of an ensemble, or None.
        baselines: name -> predictions ``[P]``.
        metrics: what stands in ``metrics.json``.
        by_cell, by_drug: of ``per_group``, with ``seen``: was it in the training part?
        symmetry: measured on the trained model.
        model, collate: to see what the model looks at.
        preprocess: of the model.
    """

    samples: Sequence[Combination]
    prediction: np.ndarray
    std: np.ndarray | None
    baselines: Mapping[str, np.ndarray]
    metrics: Mapping[str, Any]
    by_cell: pd.DataFrame
    by_drug: pd.DataFrame
    symmetry: Symmetry
    model: nn.Module
    collate: PairCollator
    preprocess: Mapping[str, Any]

    @classmethod
    def of(
        cls, samples: Sequence[Combination], prediction: np.ndarray, std: np.ndarray | None, **rest: Any
    ) -> Findings:
        """With the tables by cell line and by drug."""
        preprocess = rest["preprocess"]
        score, task = scores_of(samples), preprocess["task"]
        by_cell = per_group(score, prediction, [[sample.cell.name] for sample in samples], task)
        by_cell["seen"] = by_cell["name"].isin(preprocess["train_cells"])
        names = {drug.name: drug.identity for sample in samples for drug in (sample.drug_a, sample.drug_b)}
        by_drug = per_group(score, prediction, [[s.drug_a.name, s.drug_b.name] for s in samples], task)
        by_drug["seen"] = by_drug["name"].map(names).isin(preprocess["train_drugs"])
        return cls(samples, prediction, std, by_cell=by_cell, by_drug=by_drug, **rest)

    @property
    def task(self) -> Task:
        """regression or classification."""
        return self.preprocess["task"]

    def tables(self) -> dict[str, pd.DataFrame]:
        """``cells.csv`` and ``drugs.csv``."""
        return {
            "cells.csv": self.by_cell.rename(columns={"name": "cell_line"}),
            "drugs.csv": self.by_drug.rename(columns={"name": "drug"}),
        }


def page_of(findings: Findings, which: str) -> Page:
    """The page of a report; ``which`` pairs were measured stands in its summary."""
    test = findings.metrics["test"]
    known = known_text(findings.samples, findings.preprocess)
    measured = f"measured on {len(findings.samples):,} pairs {which} I{known[1:]}."
    return Page(
        summary=f"Which drugs act together in which cell lines: {measured}",
        headline={f"test {metric_name(name)}": test[name] for name in HEADLINES[findings.task]},
        results=[
            _result(findings),
            _predictions(findings),
            _groups(findings, "Cell line by cell line", findings.by_cell, "cell lines", "cells.csv"),
            _groups(findings, "Drug by drug", findings.by_drug, "drugs", "drugs.csv"),
            _ranked(findings),
            _attention(findings),
        ],
        symmetry=symmetry_sections(findings.symmetry),
    )


def known_text(samples: Sequence[Combination], preprocess: Mapping[str, Any]) -> str:
    """How many of the pairs hold nothing but drugs and cell lines of the training part."""
    drugs, cells = set(preprocess["train_drugs"]), set(preprocess["train_cells"])
    known = sum(set(sample.pair) <= drugs and sample.cell.name in cells for sample in samples)
    return f"in {known:,} of {len(samples):,} pairs both drugs and the cell line are in the training part too"


def _result(findings: Findings) -> Section:
    blocks: list[Block] = [metrics_table(findings.metrics, "test", model="this model")]
    if not findings.metrics.get("baselines"):
        blocks.append(Text("No baselines: they need the pairs that the model was trained on, with their scores."))
    for metric in HEADLINES[findings.task][:2]:
        if findings.metrics.get("baselines") and (beaten := beaten_by(findings.metrics, metric)):
            blocks.append(WarningBox(f"By {metric_name(metric)}, {beaten} does at least as well as this model."))
    blocks.append(
        Text(
            "One-hot forest and additive ridge know names alone: no molecule, no gene. To be better than they are does "
            "not show that this model reads molecules, for it knows its training drugs by name too. The fair control "
            "is the same network trained with --model.molecule-dropout 1, which hides all molecules. The macro average "
            "is of the values of single cell lines, so that knowing which cell lines show much synergy does not raise "
            "it. Intervals draw pairs as if they were independent; pairs that share a drug are not."
        )
    )
    if "valid" in findings.metrics:
        blocks.append(metrics_table(findings.metrics, "valid", model="this model"))
    return Section("Result", blocks)


def _predictions(findings: Findings) -> Section:
    y, p = scores_of(findings.samples), findings.prediction
    if findings.task == "classification":
        curves = {"this model": p} | {name.replace("_", " "): values for name, values in findings.baselines.items()}
        curves.pop("mean", None)  # the same for all pairs
        blocks: list[Block] = [
            Plot(roc(y, curves, label="synergistic"), "Receiver operating characteristic over all pairs, test split."),
            Plot(precision_recall(y, curves, label="synergistic"), "Precision and recall over all pairs, test split."),
            Plot(
                calibration(y, p, label="synergistic"),
                "How often a pair is synergistic, by predicted probability. It holds where as many pairs are.",
            ),
        ]
    else:
        blocks = [
            Plot(parity(y, p, label="score", std=findings.std), "Predicted against measured scores, test split."),
            Plot(residuals(y, p, label="score"), "Errors against the prediction, test split."),
        ]
        if findings.std is not None:
            caption = "Is the spread of the ensemble an honest uncertainty? Below the diagonal it is too small."
            blocks.append(Plot(coverage(y, p, findings.std, label="score"), caption))
    return Section("Predictions", blocks)


def _groups(findings: Findings, title: str, table: pd.DataFrame, what: str, file: str) -> Section:
    """Bars of the errors of the largest groups, the best first."""
    regression = findings.task == "regression"
    metric = "rmse" if regression else "roc_auc"
    shown = table[table[metric].notna()][:GROUPS_SHOWN].sort_values(metric, ascending=regression, kind="stable")
    blocks: list[Block] = []
    if len(shown):
        names = [f"{row.name} ({row.n}{'' if row.seen else ', new'})" for row in shown.itertuples(index=False)]
        overall = findings.metrics["test"][metric]["value"] if regression else 0.5
        reference = "the dashed line is the value over all pairs" if regression else "0.5 is chance"
        intervals = shown[[f"{metric}_low", f"{metric}_high"]].to_numpy(float)
        figure = bars(
            names,
            shown[metric].to_numpy(float),
            intervals,
            label=metric_name(metric),
            highlight=None,
            reference=overall,
        )
        caption = f"{metric_name(metric)} of the {len(shown)} {what} with the most pairs, with its 95 % interval; in "
        blocks.append(Plot(figure, f"{caption}brackets the number of pairs; {reference}. All are in {file}."))
    unseen = table[~table["seen"]]
    if len(unseen):
        blocks.append(
            Text(f"{len(unseen)} of {len(table)} {what} are not in the training part; they are marked as new.")
        )
    return Section(title, blocks or [Text("No group has pairs of both classes.")])


def _ranked(findings: Findings) -> Section:
    """The pairs with the highest predictions, with what was measured."""
    regression = findings.task == "regression"
    name, measured = PREDICTED[findings.task].replace("_", " "), "measured score" if regression else "label"
    order, y = np.argsort(-findings.prediction, kind="stable"), scores_of(findings.samples)
    rows = []
    for rank, row in enumerate(order[:RANKED_SHOWN], start=1):
        sample = findings.samples[row]
        spread = [] if findings.std is None else [findings.std[row]]
        names = [f"{sample.drug_a.name} + {sample.drug_b.name}", sample.cell.name]
        rows.append([rank, *names, findings.prediction[row], *spread, y[row] if regression else int(y[row])])
    heads = ["rank", "pair", "cell line", name, *(["± (ensemble)"] if findings.std is not None else []), measured]
    first = order[: max(1, len(order) // 20)]
    what = "mean measured score" if regression else "share of synergistic pairs"
    text = (
        f"Among the {len(first):,} pairs (5 %) ranked highest, the {what} is {format_number(y[first].mean())}; "
        f"among all it is {format_number(y.mean())}."
    )
    caption = f"The {len(rows)} pairs of the test part with the highest predictions. All are in predictions.csv."
    return Section("Ranked pairs", [Text(text), Table(heads, rows, caption=caption)])


def _attention(findings: Findings) -> Section:
    """Drugs of the synergistic pairs that the model is surest of, and the motifs of all drugs of the part."""
    model: Any = members_of(findings.model)[0].eval()
    drugs = list(dict.fromkeys(d for row in _synergistic(findings) for d in _drugs(findings.samples[row])))
    drugs = list(dict.fromkeys([*drugs, *(d for sample in findings.samples for d in _drugs(sample))]))
    drugs = list({drug.identity: drug for drug in reversed(drugs)}.values())[::-1][:DRUGS_LOOKED_AT]
    with torch.inference_mode():
        atoms, motifs = model.drug.weights(findings.collate.drug_features(drugs))
    scheme = findings.preprocess["drug_features"]["motifs"]["scheme"]
    weights = [part.double().numpy() for part in motifs]
    by_atoms, by_motifs = [], []
    for drug, of_atoms, of_motifs in list(zip(drugs, atoms, weights, strict=True))[:DRUGS_DRAWN]:
        by_atoms.append((draw_atoms(drug, of_atoms.double().numpy()), drug.name))
        by_motifs.append((draw_motifs(drug, of_motifs, scheme), drug.name))
    table = motif_table(drugs, weights, scheme)
    rows = table[table["drugs"] >= min(2, len(drugs))][:MOTIFS_SHOWN].to_numpy().tolist()
    member = " of the first member" if isinstance(findings.model, Ensemble) else ""
    text = (
        f"The weights{member} by which atoms and motifs enter a drug's vector, for drugs of synergistic pairs with the "
        "highest predictions; the darkest has the largest. They show what the network looked at, not what makes "
        "drugs act together. They are a drug's own, whatever its partner and the cell line."
    )
    caption = (
        f"Motifs that at least two of {len(drugs)} drugs have, by their weight relative to that if all motifs of a "
        "drug were looked at alike. Lower case is aromatic."
    )
    heads = ["motif", "drugs", "mean share of a drug's attention", "times an even share"]
    blocks: list[Block] = [Text(text), ImageGrid(by_atoms, "Atoms."), ImageGrid(by_motifs, "Motifs: rings and chains.")]
    return Section("Attention", [*blocks, Table(heads, rows, caption=caption)])


def _synergistic(findings: Findings) -> list[int]:
    """Rows of class 1, or of the tenth of the highest scores, the highest predictions first."""
    y = scores_of(findings.samples)
    least = 1.0 if findings.task == "classification" else float(np.quantile(y, 0.9))
    return [row for row in np.argsort(-findings.prediction, kind="stable") if y[row] >= least][:DRUGS_DRAWN]


def _drugs(sample: Combination) -> tuple[Drug, Drug]:
    return sample.drug_a, sample.drug_b


def data_blocks(overlap: Mapping[str, Any]) -> list[Block]:
    """What the parts of the split share."""
    repeats = {"rows that repeated a pair, merged": overlap["duplicates"], "in no part": overlap["left_out"]}
    counts = {f"{what} ({part})": n for what in ("drugs", "cells", "tissues") for part, n in overlap[what].items()}
    blocks: list[Block] = [
        KeyValues({**overlap["sizes"], **counts, **repeats}),
        overlap_table(audit_rows(overlap), "pairs"),
    ]
    identical = overlap["pairs"]["train/test"]["identical"]
    if identical:
        blocks.append(
            WarningBox(f"{identical} pairs of the test part are in the training part, in the same cell line.")
        )
    if overlap["same_molecule"]:
        names = "; ".join(" = ".join(found) for found in overlap["same_molecule"])
        blocks.append(Text(f"Names of one molecule: {names}."))
    return blocks
