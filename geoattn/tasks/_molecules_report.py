"""The report of a molecules run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch_geometric.data import Data

from geoattn._numbers import format_number, metric_name
from geoattn.domains.molecules.audit import audit_rows
from geoattn.domains.molecules.pictures import draw_sample
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
from geoattn.report.figures import calibration, coverage, parity, precision_recall, residuals, roc
from geoattn.tasks._model import Symmetry
from geoattn.tasks._molecules_evaluate import headline_metric
from geoattn.tasks._report import Page, beaten_by, overlap_table, symmetry_sections

TARGETS_SHOWN = 6
WORST_SHOWN = 12


@dataclass
class Findings:
    """What there is to report about the test part.

    Attributes:
        task: regression, energy or classification.
        targets: their names.
        units: of the targets, if known.
        y, prediction: ``[n, T]``; NaN in ``y`` is a gap.
        std: ``[n, T]`` of an ensemble, or None.
        table: the same rows: id, smiles.
        samples: the same rows, to draw.
        metrics: what stands in ``metrics.json``.
        symmetry: measured on the trained model.
    """

    task: str
    targets: Sequence[str]
    units: str | None
    y: np.ndarray
    prediction: np.ndarray
    std: np.ndarray | None
    table: pd.DataFrame
    samples: Sequence[Data]
    metrics: Mapping[str, Any]
    symmetry: Symmetry

    @property
    def headline(self) -> str:
        """The metric that stands first."""
        return headline_metric(self.task)


def page_of(findings: Findings, which: str) -> Page:
    """The page of a report; ``which`` molecules were measured stands in its summary."""
    names = [findings.headline, *(name for name in findings.metrics["test"] if name != findings.headline)]
    unit = f" ({findings.units})" if findings.units else ""
    return Page(
        summary=f"{', '.join(findings.targets)}{unit}: measured on {len(findings.y):,} molecules {which}",
        headline={f"test {metric_name(name)}": findings.metrics["test"][name] for name in names[:3]},
        results=[_result(findings), *_predictions(findings)],
        worst=[_worst(findings)],
        symmetry=symmetry_sections(findings.symmetry),
    )


def _result(findings: Findings) -> Section:
    blocks: list[Block] = [metrics_table(findings.metrics, "test", model="this model")]
    if not findings.metrics.get("baselines"):
        blocks.append(Text("No baselines: they need the molecules that the model was trained on, with their targets."))
    elif beaten := beaten_by(findings.metrics, findings.headline):
        blocks.append(WarningBox(f"By {metric_name(findings.headline)}, {beaten} does at least as well as this model."))
    if "valid" in findings.metrics:
        blocks.append(metrics_table(findings.metrics, "valid", model="this model"))
    if "targets" in findings.metrics:
        blocks.append(_each_target(findings))
    return Section("Result", blocks)


def _each_target(findings: Findings) -> Table:
    rows = findings.metrics["targets"]["test"]
    columns = list(findings.metrics["test"])
    return Table(
        ["target", *(metric_name(name) for name in columns)],
        [[target, *(row[name] for name in columns)] for target, row in rows.items()],
        caption="Test split, each target by itself; in brackets the 95 % interval.",
    )


def _predictions(findings: Findings) -> list[Section]:
    blocks: list[Block] = []
    for t, target in enumerate(findings.targets[:TARGETS_SHOWN]):
        blocks += _figures(findings, t, target)
    hidden = len(findings.targets) - TARGETS_SHOWN
    if hidden > 0:
        blocks.append(Text(f"{hidden} more targets are in predictions.csv."))
    return [Section("Predictions", blocks)]


def _figures(findings: Findings, t: int, target: str) -> list[Block]:
    y, p, unit = findings.y[:, t], findings.prediction[:, t], findings.units or ""
    if findings.task == "classification":
        return [
            Plot(roc(y, p, label=target), f"{target}: receiver operating characteristic, test split."),
            Plot(precision_recall(y, p, label=target), f"{target}: precision and recall, test split."),
            Plot(calibration(y, p, label=target), f"{target}: how often class 1 came true, by predicted probability."),
        ]
    std = None if findings.std is None else findings.std[:, t]
    blocks: list[Block] = [
        Plot(parity(y, p, label=target, unit=unit, std=std), f"{target}: predicted against true, test split."),
        Plot(residuals(y, p, label=target, unit=unit), f"{target}: errors against the prediction, test split."),
    ]
    if std is not None:
        caption = f"{target}: is the spread of the ensemble an honest uncertainty? Below the diagonal it is too small."
        blocks.append(Plot(coverage(y, p, std, label=target), caption))
    return blocks


def _worst(findings: Findings) -> Section:
    error = np.abs(findings.y - findings.prediction)
    scale = 1.0 if findings.task == "classification" else np.nanstd(findings.y, axis=0)
    score = np.nan_to_num(error / np.where(np.asarray(scale) > 0, scale, 1.0), nan=-1.0)
    order = np.argsort(-score.max(axis=1), kind="stable")[:WORST_SHOWN]
    images = []
    for row in order:
        t = int(score[row].argmax())
        smiles = findings.table["smiles"].iloc[row]
        picture = _drawn(findings.samples[row], smiles)
        if picture:
            images.append((picture, _caption(findings, int(row), t)))
    what = "predicted probability furthest from the class" if findings.task == "classification" else "largest error"
    if not images:
        return Section("Worst cases", [Text("None can be drawn.")])
    return Section("Worst cases", [ImageGrid(images, f"The molecules of the test part with the {what}.")])


def _drawn(sample: Data, smiles: str) -> str:
    try:
        return draw_sample(sample, smiles)
    except ValueError:
        return ""


def _caption(findings: Findings, row: int, t: int) -> str:
    target = f"{findings.targets[t]}: " if len(findings.targets) > 1 else ""
    true, predicted = (format_number(values[row, t]) for values in (findings.y, findings.prediction))
    return f"{findings.table['id'].iloc[row]}\n{target}true {true}, predicted {predicted}"


def data_blocks(overlap: Mapping[str, Any]) -> list[Block]:
    """What the parts of the split share."""
    blocks: list[Block] = [
        KeyValues({**overlap["sizes"], "rows that repeat an earlier row": overlap["duplicates"]}),
        overlap_table(audit_rows(overlap), "molecules"),
    ]
    identical = overlap["pairs"]["train/test"]["identical"]
    if identical:
        blocks.append(
            WarningBox(
                f"{identical} molecules of the test part are also in the training part: its metrics are too good."
            )
        )
    if overlap["elements_only_in_test"]:
        blocks.append(WarningBox(f"Elements only in the test part: {', '.join(overlap['elements_only_in_test'])}."))
    return blocks
