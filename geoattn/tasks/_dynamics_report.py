"""The report of a dynamics run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoattn._numbers import metric_name
from geoattn.domains.dynamics.audit import audit_rows
from geoattn.domains.dynamics.metrics import system_errors
from geoattn.domains.dynamics.pictures import draw_system
from geoattn.domains.dynamics.systems import Systems
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
from geoattn.report.figures import histogram, parity
from geoattn.tasks._dynamics_evaluate import HEADLINE, Predicted, axis_names
from geoattn.tasks._model import Symmetry
from geoattn.tasks._report import Page, beaten_by, symmetry_sections

SHOWN = 6
"""Systems drawn: so many typical ones and so many with the largest error."""


@dataclass
class Findings:
    """What there is to report about the test part.

    Attributes:
        systems: with their targets.
        predicted: for the same bodies.
        baselines: name -> predicted positions of the same bodies ``[N, n]``.
        metrics: what stands in ``metrics.json``.
        symmetry: measured on the trained model.
    """

    systems: Systems
    predicted: Predicted
    baselines: Mapping[str, np.ndarray]
    metrics: Mapping[str, Any]
    symmetry: Symmetry


def page_of(findings: Findings, which: str) -> Page:
    """The page of a report; ``which`` systems were measured stands in its summary."""
    names = [HEADLINE, "median_system_mse", "velocity_mse"]
    test = findings.metrics["test"]
    return Page(
        summary=f"Positions after a time of {findings.systems.horizon:g}, measured on {len(findings.systems):,} "
        f"systems with {len(findings.systems.pos):,} bodies {which}",
        headline={f"test {metric_name(name)}": test[name] for name in names if name in test},
        results=[_result(findings), _predictions(findings), _trajectories(findings)],
        symmetry=symmetry_sections(findings.symmetry),
    )


def _result(findings: Findings) -> Section:
    blocks: list[Block] = [metrics_table(findings.metrics, "test", model="this model")]
    if beaten := beaten_by(findings.metrics, HEADLINE):
        blocks.append(
            WarningBox(
                f"By {metric_name(HEADLINE)}, {beaten} does at least as well as this model: it ignores the forces."
            )
        )
    blocks.append(
        Text(
            "MSE is the mean over all bodies and coordinates. Close encounters make errors heavy-tailed: a few systems "
            "decide the mean, so the medians stand beside it. n counts systems; the intervals resample whole systems."
        )
    )
    if "valid" in findings.metrics:
        blocks.append(metrics_table(findings.metrics, "valid", model="this model"))
    return Section("Result", blocks)


def _predictions(findings: Findings) -> Section:
    systems = findings.systems
    truth = systems.target_pos
    assert truth is not None
    step, predicted = truth - systems.pos, findings.predicted.pos - systems.pos
    blocks: list[Block] = [
        Plot(
            parity(step.ravel(), predicted.ravel(), label="displacement"),
            f"Displacement of each body along {', '.join(axis_names(systems.dim))}: predicted against true, test part.",
        )
    ]
    errors = {"this model": system_errors(truth, findings.predicted.pos, systems.sizes)}
    errors |= {
        name.replace("_", " "): system_errors(truth, values, systems.sizes)
        for name, values in findings.baselines.items()
    }
    blocks.append(
        Plot(
            histogram({name: _log10(values) for name, values in errors.items()}, label="log10 MSE of a system"),
            "How the error is distributed over systems; the tail on the right decides the mean.",
        )
    )
    return Section("Predictions", blocks)


def _log10(values: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(values, np.finfo(np.float64).tiny))


def _trajectories(findings: Findings) -> Section:
    systems = findings.systems
    assert systems.target_pos is not None
    error = system_errors(systems.target_pos, findings.predicted.pos, systems.sizes)
    order = np.argsort(np.nan_to_num(error, nan=-1.0), kind="stable")[::-1]
    middle = len(order) // 2
    typical = order[max(0, middle - SHOWN // 2) : middle + (SHOWN + 1) // 2]
    text = (
        "Seen along the direction in which a system is flattest. A ring is where a body starts, the line its velocity, "
        "a disc where it truly ends, and a cross where it is predicted to end; the dotted line joins the two."
    )
    blocks: list[Block] = [Text(text)]
    for rows, what in (
        (typical, "Typical systems of the test part."),
        (order[:SHOWN], "Those with the largest error."),
    ):
        blocks.append(ImageGrid([_drawn(findings, int(row), error[row]) for row in rows], what))
    return Section("Trajectories", blocks)


def _drawn(findings: Findings, row: int, error: float) -> tuple[str, str]:
    systems, ptr = findings.systems, findings.systems.ptr
    body = slice(ptr[row], ptr[row + 1])
    assert systems.target_pos is not None
    charge = None if systems.charge is None else systems.charge[body]
    picture = draw_system(
        systems.pos[body], systems.vel[body], systems.target_pos[body], findings.predicted.pos[body], charge
    )
    return picture, f"{systems.ids[row]}\nMSE {error:.3g}"


def data_blocks(overlap: Mapping[str, Any]) -> list[Block]:
    """What the parts of the split share."""
    rows = [
        [row["parts"], row["what"].replace("_", " "), row["count"], row["of"], row["percent"]]
        for row in audit_rows(overlap)
    ]
    blocks: list[Block] = [
        KeyValues({**overlap["sizes"], "systems that repeat an earlier one": overlap["duplicates"]}),
        Table(
            ["parts", "shared", "systems", "of", "%"],
            rows,
            caption="What the parts of the split share, also after a motion of the whole system; counted in the second "
            "part of each pair.",
        ),
    ]
    shared = overlap["pairs"]["train/test"]["near_states"]
    if shared:
        blocks.append(
            WarningBox(
                f"{shared} systems of the test part begin nearly as one of the training part: its metrics are too good."
            )
        )
    return blocks
