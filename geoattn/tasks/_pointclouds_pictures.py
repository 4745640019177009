"""The pictures in the report of a pointclouds run: clouds by attention, by part, by error, and the worst cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geoattn._numbers import format_number
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.pointclouds.metrics import angles
from geoattn.domains.pointclouds.pictures import attention_of_points, class_colours, draw_cloud, legend, shaded
from geoattn.report import Block, ImageGrid, Plot, Section, Text
from geoattn.tasks._pointclouds_evaluate import labels_of

if TYPE_CHECKING:
    from geoattn.tasks._pointclouds_report import Findings

CLOUDS_DRAWN = 10
WORST_DRAWN = 8
ATTENTION = 2.0
"""What a point gives in all from which it has the darkest colour; the mean over a cloud is 1."""
ERROR = 45.0
"""Degrees from which a wrong normal has the darkest colour."""


def picture_sections(findings: Findings) -> list[Section]:
    """Clouds of the test part as pictures."""
    draw = {"classification": _classes, "segmentation": _segments, "normals": _normals}
    return draw[findings.preprocess["task"]](findings)


def _classes(findings: Findings) -> list[Section]:
    answers, names = findings.answers, findings.preprocess["class_names"]
    label, said = labels_of(findings.clouds), findings.answers.classes()
    sure = np.array([p.max() for p in answers.probability])
    order = np.argsort(-sure, kind="stable")
    right: list[int] = []
    for row in order:
        if label[row] == said[row] and label[row] not in label[right]:
            right.append(int(row))
    wrong = [int(row) for row in order if label[row] != said[row]][:WORST_DRAWN]

    def caption(row: int) -> str:
        taken = "" if label[row] == said[row] else f"taken for {names[said[row]]}\n"
        return f"{names[label[row]]}\n{taken}{findings.clouds[row].id}: {format_number(sure[row])}"

    shown, about = _attention(findings, right[:CLOUDS_DRAWN])
    grid = [(picture, caption(row)) for picture, row in zip(shown, right, strict=False)]
    worst, _ = _attention(findings, wrong)
    missed = [(picture, caption(row)) for picture, row in zip(worst, wrong, strict=True)]
    blocks: list[Block] = [ImageGrid(missed, "True class, and what it was taken for, with the probability.")]
    if not missed:
        blocks = [Text("Every cloud of the test part was recognised.")]
    return [
        *([Section("Clouds", [Text(about), ImageGrid(grid, "The surest of each class.")])] if grid else []),
        Section("Worst cases", blocks),
    ]


def _attention(findings: Findings, rows: Sequence[int]) -> tuple[list[str], str]:
    """Pictures of clouds coloured by attention, where the model has such, and what the colours mean."""
    model: Any = findings.model.models[0] if isinstance(findings.model, Ensemble) else findings.model
    pictures, up, drawn = [], findings.preprocess["up"], False
    for row in rows:
        batch = findings.featurizer.batch([findings.clouds[row]])
        weights = attention_of_points(model, batch)
        drawn = weights is not None
        colours = ["#0072B2"] * len(batch.pyramid.pos) if weights is None else shaded(weights.numpy(), high=ATTENTION)
        pictures.append(draw_cloud(batch.pyramid.pos.numpy(), colours, up=up))
    member = " of the first member" if isinstance(findings.model, Ensemble) else ""
    text = (
        "The points that the model reads. The darker, the more of the surroundings of a point enters the others in the "
        f"attention among the centres of the last level{member}: the palest colour is 0, the darkest {ATTENTION:g} "
        "and more, and the one in the middle is 1, the mean of every cloud. Where all points have the same colour, all "
        "enter alike. It shows what the network compares, and not why it "
        "decides."
    )
    return pictures, text if drawn else "The points that the model reads."


def _segments(findings: Findings) -> list[Section]:
    names, up = findings.preprocess["segment_names"], findings.preprocess["up"]
    hits = np.array([_hit(c.segment, p) for c, p in zip(findings.clouds, findings.answers.points, strict=True)])
    order = np.argsort(hits, kind="stable")
    middle = _one_per_class(findings, order[len(order) // 2 :])[: CLOUDS_DRAWN // 2]

    def pair(row: int) -> list[tuple[str, str]]:
        cloud, predicted = findings.clouds[row], findings.answers.points[row]
        truth = cloud.segment if cloud.segment is not None else predicted
        hit = f"{cloud.id}\n{100 * hits[row]:.0f} % of the points"
        return [
            (draw_cloud(cloud.points, class_colours(predicted), up=up), f"predicted\n{hit}"),
            (draw_cloud(cloud.points, class_colours(truth), up=up), f"true\n{cloud.id}"),
        ]

    key = Plot(legend(names), "Classes of points.")
    good = [picture for row in middle for picture in pair(row)]
    worst = [picture for row in order[: WORST_DRAWN // 2].tolist() for picture in pair(row)]
    return [
        Section("Clouds", [key, ImageGrid(good, "One cloud per class, not among the worse half.")]),
        Section("Worst cases", [key, ImageGrid(worst, "The clouds with the most wrong points.")]),
    ]


def _one_per_class(findings: Findings, rows: np.ndarray) -> list[int]:
    found: dict[int | None, int] = {}
    for row in rows.tolist():
        found.setdefault(findings.clouds[row].label, row)
    return list(found.values()) if len(found) > 1 else rows.tolist()


def _normals(findings: Findings) -> list[Section]:
    up, errors = findings.preprocess["up"], []
    for cloud, predicted in zip(findings.clouds, findings.answers.points, strict=True):
        assert cloud.normals is not None
        apart = angles(cloud.normals, predicted)
        errors.append(np.minimum(apart, 180 - apart))
    order = np.argsort([-error.mean() for error in errors], kind="stable")
    grids = []
    for rows in (order[len(order) // 2 :][:CLOUDS_DRAWN], order[:WORST_DRAWN]):
        grids.append(
            [
                (
                    draw_cloud(findings.clouds[row].points, shaded(errors[row], high=ERROR), up=up),
                    f"{findings.clouds[row].id}\n{format_number(errors[row].mean())} degrees",
                )
                for row in rows.tolist()
            ]
        )
    text = f"The darker a point, the further its normal is off, up to {ERROR:.0f} degrees."
    return [
        Section("Clouds", [Text(text), ImageGrid(grids[0], "Of the better half, with the mean angle.")]),
        Section("Worst cases", [ImageGrid(grids[1], "The clouds with the largest mean angle.")]),
    ]


def _hit(truth: np.ndarray | None, predicted: np.ndarray) -> float:
    known = np.zeros(len(predicted), dtype=bool) if truth is None else truth >= 0
    return float(np.mean(predicted[known] == truth[known])) if truth is not None and known.any() else 0.0
