"""The maps in the report of a sphere run: truth, prediction and error, of a few samples and lead times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoattn._numbers import counted, format_number
from geoattn.domains.sphere.pictures import draw_classes, draw_errors
from geoattn.report import Block, Plot, Section

if TYPE_CHECKING:
    from geoattn.tasks._sphere_report import Findings

SAMPLES_DRAWN = 2
VARIABLES_DRAWN = 3
WORST_DRAWN = 2


def map_sections(findings: Findings) -> list[Section]:
    """Samples evenly over the part, in no other order than that of the file."""
    number = len(findings.samples)
    rows = np.unique(np.linspace(0, number - 1, min(SAMPLES_DRAWN, number)).round().astype(int))
    return [Section("Maps", [block for row in rows.tolist() for block in _maps(findings, row, VARIABLES_DRAWN)])]


def worst_sections(findings: Findings) -> list[Section]:
    """The samples with the largest error; nothing where all are drawn already."""
    if len(findings.samples) <= SAMPLES_DRAWN:
        return []
    order = np.argsort([-_badness(findings, row) for row in range(len(findings.samples))], kind="stable")
    blocks = [block for row in order[:WORST_DRAWN].tolist() for block in _maps(findings, row, 1)]
    return [Section("Worst cases", blocks)]


def lead_sections(findings: Findings) -> list[Block]:
    """One variable of one roll-out at each lead time."""
    assert findings.rollout is not None
    names, units = findings.preprocess["targets"], findings.preprocess["units"]
    blocks: list[Block] = []
    for lead, (truth, predicted) in findings.rollout.shown.items():
        where = f"{findings.rollout.example.label}, {counted(lead, 'step')} later"
        beside, error = draw_errors(findings.grid, truth[0], predicted[0], label=_with_unit(names[0], units))
        blocks += [Plot(beside, f"{names[0]}, {where}."), Plot(error, f"Error of {names[0]}, {where}.")]
    return blocks


def _maps(findings: Findings, row: int, most: int) -> list[Block]:
    sample, answer, settings = findings.samples[row], findings.predicted[row], findings.preprocess
    assert sample.targets is not None
    where = f"{sample.label} ({sample.id})" if sample.label not in sample.id else sample.id
    if settings["task"] == "segmentation":
        truth = np.where(sample.known[0], sample.targets[0], -1)
        said = np.where(sample.known[0], answer.argmax(axis=0), -1)
        figure = draw_classes(findings.grid, [truth, said], ["true", "predicted"], settings["class_names"])
        return [Plot(figure, f"{settings['targets'][0]}, {where}; grey where nothing is measured.")]
    blocks: list[Block] = []
    for t, name in enumerate(settings["targets"][:most]):
        truth = np.where(sample.known[t], sample.targets[t], np.nan)
        said = np.where(sample.known[t], answer[t], np.nan)
        beside, error = draw_errors(findings.grid, truth, said, label=_with_unit(name, settings["units"]))
        rmse = format_number(float(_rmse(findings, row)[t]))
        blocks += [
            Plot(beside, f"{name}, {where}."),
            Plot(error, f"Error of {name}, {where}: RMSE {rmse}."),
        ]
    return blocks


def _rmse(findings: Findings, row: int) -> np.ndarray:
    """``[Ct]`` by area."""
    sample, answer = findings.samples[row], findings.predicted[row]
    assert sample.targets is not None
    area = sample.known * findings.grid.points.weight.numpy()
    error = np.where(sample.known, answer - sample.targets, 0.0).astype(np.float64)
    found: np.ndarray = np.sqrt((error**2 * area).sum(axis=1) / np.maximum(area.sum(axis=1), 1e-300))
    return found


def _badness(findings: Findings, row: int) -> float:
    settings = findings.preprocess
    if settings["task"] == "segmentation":
        sample, answer = findings.samples[row], findings.predicted[row]
        assert sample.targets is not None
        area = sample.known[0] * findings.grid.points.weight.numpy()
        return 1 - float(area @ (answer.argmax(axis=0) == sample.targets[0])) / max(float(area.sum()), 1e-300)
    scale = np.array([settings["statistics"][name]["std"] for name in settings["targets"]])
    return float((_rmse(findings, row) / scale).mean())


def _with_unit(name: str, units: dict[str, str]) -> str:
    return f"{name} ({units[name]})" if name in units else name
