"""The report of a pointclouds run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from geoattn._numbers import counted, lower_is_better, metric_name
from geoattn.domains.pointclouds.audit import audit_rows
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.metrics import confusion
from geoattn.domains.pointclouds.records import Cloud
from geoattn.report import (
    Block,
    KeyValues,
    Plot,
    Section,
    Table,
    Text,
    WarningBox,
    metrics_table,
)
from geoattn.report.lines import line_figure
from geoattn.report.matrices import confusion_figure
from geoattn.tasks._model import Symmetry
from geoattn.tasks._pointclouds_evaluate import (
    HEADLINE,
    PARTITIONS,
    POSES,
    PROTOCOLS,
    Answers,
    Predictor,
    labels_of,
    measure,
    turned_by,
)
from geoattn.tasks._pointclouds_pictures import picture_sections
from geoattn.tasks._report import Page, beaten_by, overlap_table, symmetry_sections

ANGLES = (0, 30, 60, 90, 135, 180)
CURVE_CLOUDS = 150
Curve = dict[str, list[float]]


@dataclass
class Findings:
    """What there is to report about the test part.

    Attributes:
        clouds: as given, with what was to be predicted.
        answers: of the model.
        metrics: what stands in ``metrics.json``.
        preprocess: of the model.
        curve: of `robustness`.
        rotation, batch: measured on the trained model; no rotation for one that knows how clouds stand.
        model, featurizer: to draw what the model looks at.
    """

    clouds: Sequence[Cloud]
    answers: Answers
    metrics: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    curve: Curve
    rotation: Symmetry | None
    batch: Symmetry
    model: nn.Module
    featurizer: Featurizer


def robustness(predictors: Mapping[str, Predictor], clouds: Sequence[Cloud], preprocess: Mapping[str, Any]) -> Curve:
    """Name -> the headline metric of clouds turned by `ANGLES`; of at most 150 clouds, taken evenly."""
    headline = HEADLINE[preprocess["task"]]
    places = np.linspace(0, len(clouds) - 1, min(len(clouds), CURVE_CLOUDS)).round().astype(int)
    chosen = [clouds[k] for k in places]
    curve: Curve = {name: [] for name in predictors if name not in PARTITIONS}
    for angle in ANGLES:
        posed = turned_by(chosen, angle)
        for name, values in curve.items():
            value = measure(posed, predictors[name](posed), preprocess)[headline]["value"]
            values.append(float("nan") if value is None else value)
    return curve


def overlap_warnings(overlap: Mapping[str, Any], task: str) -> list[str]:
    """Sentences about what makes the numbers of the test part look better, or the labels doubtful.

    Args:
        overlap: of `geoattn.domains.pointclouds.audit.audit`.
        task: of the data; labels of clouds count where they are what is learned.
    """
    pair, found = overlap["pairs"]["train/test"], []
    same, near = pair["identical"], pair.get("near_copy", 0) - pair["identical"]
    if same:
        have = "has" if same == 1 else "have"
        found.append(f"{counted(same, 'cloud')} of the test part {have} the same points as one of the training part.")
    if near > 0:
        is_copy = "is a near copy" if near == 1 else "are near copies"
        found.append(
            f"{counted(near, 'cloud')} of the test part {is_copy} of one of the training part: turned, moved, scaled "
            "or a little noisy. On such clouds the model looks better than it is."
        )
    other = pair.get("other_class", 0) if task == "classification" else 0
    if other:
        have = "has" if other == 1 else "have"
        found.append(f"{counted(other, 'cloud')} of the test part {have} a copy of another class in the training part.")
    if overlap["contradictory"] and task == "classification":
        stand = "stands" if overlap["contradictory"] == 1 else "stand"
        found.append(f"{counted(overlap['contradictory'], 'cloud')} {stand} in the data with several classes.")
    return found


def page_of(findings: Findings, which: str) -> Page:
    """The page of a report; ``which`` clouds were measured stands in its summary."""
    name = HEADLINE[findings.preprocess["task"]]
    shown = {split: POSES[protocol] for protocol, (split, _) in PROTOCOLS.items() if split in findings.metrics}
    return Page(
        summary=f"Measured on {counted(len(findings.clouds), 'cloud')} {which}",
        headline={f"{metric_name(name)}, {pose}": findings.metrics[split][name] for split, pose in shown.items()},
        results=[_result(findings), _robustness(findings), *_confusion(findings), *picture_sections(findings)],
        symmetry=_symmetry(findings),
    )


def _result(findings: Findings) -> Section:
    headline = HEADLINE[findings.preprocess["task"]]
    blocks: list[Block] = [protocol_table(findings.metrics, headline)]
    if findings.metrics.get("baselines", {}).get("test") and "test" in findings.metrics:
        beaten = beaten_by(_comparable(findings.metrics, headline), headline)
        if beaten:
            do = "do" if ", " in beaten else "does"
            blocks.append(WarningBox(f"By {metric_name(headline)}, {beaten} {do} at least as well as this model."))
    for split in ("test", "valid"):
        if split in findings.metrics:
            blocks.append(metrics_table(findings.metrics, split, model="this model"))
    return Section("Result", blocks)


def _comparable(metrics: Mapping[str, Any], headline: str) -> dict[str, Any]:
    """Without baselines that have no such metric."""
    rows = {name: row for name, row in metrics["baselines"]["test"].items() if headline in row}
    return {"test": metrics["test"], "baselines": {"test": rows}}


def protocol_table(metrics: Mapping[str, Any], headline: str) -> Table:
    """The model and its baselines on clouds as given, turned about the up axis, and turned at random."""
    splits = [split for split, _ in PROTOCOLS.values() if split in metrics]
    heads = {PROTOCOLS[protocol][0]: pose for protocol, pose in POSES.items()}
    baselines = metrics.get("baselines", {})
    names = [name for name, row in baselines.get(splits[0], {}).items() if headline in row]
    rows: list[list[Any]] = [["this model", *(metrics[split][headline] for split in splits)]]
    rows += [[name.replace("_", " "), *(baselines[split][name][headline] for split in splits)] for name in names]
    return Table(
        ["", *(heads[split] for split in splits)],
        rows,
        caption=(
            f"{metric_name(headline).capitalize()} of the test part in three poses; in brackets the 95 % interval. The "
            "same clouds and one random pose for each, the same for all rows. What the literature calls z/SO3 is the "
            "last column of a model whose training clouds were turned about the up axis at most, SO3/SO3 that of one "
            "whose were turned at random; for an invariant model all are the same."
        ),
        best={heads[split]: "min" if lower_is_better(headline) else "max" for split in splits},
    )


def _robustness(findings: Findings) -> Section:
    headline = HEADLINE[findings.preprocess["task"]]
    lines = {name.replace("_", " "): values for name, values in findings.curve.items()}
    top = None if lower_is_better(headline) else 1.0
    figure = line_figure(lines, ANGLES, xlabel="turned by (degrees)", ylabel=metric_name(headline), top=top)
    number = counted(min(len(findings.clouds), CURVE_CLOUDS), "test cloud")
    text = f"{number}, each turned by so much about a random axis of its own."
    return Section("Turned clouds", [Plot(figure, text)])


def _confusion(findings: Findings) -> list[Section]:
    if findings.preprocess["task"] != "classification":
        return []
    names = findings.preprocess["class_names"]
    counts = confusion(labels_of(findings.clouds), findings.answers.classes(), names)
    return [Section("Confusion", [Plot(confusion_figure(counts), "Clouds of the test part, as given.")])]


def data_blocks(overlap: Mapping[str, Any], task: str) -> list[Block]:
    """What the parts of the split share."""
    repeats = {"clouds that repeat an earlier cloud": overlap["duplicates"], "in no part": overlap["left_out"]}
    blocks: list[Block] = [KeyValues({**overlap["sizes"], **repeats}), overlap_table(audit_rows(overlap), "clouds")]
    return [*blocks, *(WarningBox(text) for text in overlap_warnings(overlap, task))]


def _symmetry(findings: Findings) -> list[Section]:
    found = [("Symmetry", findings.rotation), ("Batches", findings.batch)]
    sections = []
    for title, symmetry in found:
        if symmetry is not None:
            sections += [Section(title, section.blocks) for section in symmetry_sections(symmetry)]
    if findings.rotation is None:
        text = "This model knows how a cloud stands; the table of poses shows what that costs."
        sections.insert(0, Section("Symmetry", [Text(text)]))
    return sections
