"""The report of a multiview run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoattn._numbers import metric_name
from geoattn.domains.multiview.batch import Trial
from geoattn.domains.multiview.metrics import psnr
from geoattn.domains.multiview.pictures import draw_trial
from geoattn.report import Block, ImageGrid, KeyValues, Section, Text, WarningBox, metrics_table
from geoattn.tasks._model import Symmetry
from geoattn.tasks._multiview_evaluate import HEADLINE
from geoattn.tasks._report import Page, beaten_by, overlap_table, symmetry_sections

TRIALS_SHOWN = 8
WORST_SHOWN = 6


@dataclass
class Findings:
    """What there is to report about the trials of the test part.

    Attributes:
        trials: that were measured.
        images: ``[N, H, W, 3]`` predicted.
        baselines: name -> images; empty if there are none.
        metrics: what stands in ``metrics.json``.
        symmetry: measured on the trained model.
    """

    trials: Sequence[Trial]
    images: np.ndarray
    baselines: Mapping[str, np.ndarray]
    metrics: Mapping[str, Any]
    symmetry: Symmetry


def page_of(findings: Findings, which: str) -> Page:
    """The page of a report; ``which`` views were measured stands in its summary."""
    scenes, given = len({trial.scene.id for trial in findings.trials}), len(findings.trials[0].inputs)
    views = f"{len(findings.trials):,} views of {scenes:,} scene{'s' * (scenes > 1)}, {given} given"
    test = findings.metrics["test"]
    return Page(
        summary=f"Images from new cameras: measured on {views} for each, {which}",
        headline={f"test {metric_name(name)}": test[name] for name in (HEADLINE, "ssim") if name in test},
        results=[_result(findings), _views(findings)],
        worst=[_worst(findings)],
        symmetry=symmetry_sections(findings.symmetry),
    )


def _result(findings: Findings) -> Section:
    blocks: list[Block] = [metrics_table(findings.metrics, "test", model="this model")]
    if not findings.baselines:
        blocks.append(Text("No baselines: they need the scenes that the model was trained on."))
    elif beaten := beaten_by(findings.metrics, HEADLINE):
        blocks.append(WarningBox(f"By {metric_name(HEADLINE)}, {beaten} does at least as well as this model."))
    if "valid" in findings.metrics:
        blocks.append(metrics_table(findings.metrics, "valid", model="this model"))
    return Section("Result", blocks)


def _views(findings: Findings) -> Section:
    """Trials of different scenes, evenly over the part, in no other order than that of the file."""
    step = max(1, len(findings.trials) // TRIALS_SHOWN)
    caption = "Given views, the view asked for, what was drawn, and its error; beside them the best simple answer."
    return Section("Views", [_grid(findings, range(0, len(findings.trials), step)[:TRIALS_SHOWN], caption)])


def _worst(findings: Findings) -> Section:
    scores = psnr(np.array([trial.truth for trial in findings.trials]), findings.images)
    rows = np.argsort(scores, kind="stable")[:WORST_SHOWN]
    return Section("Worst cases", [_grid(findings, rows.tolist(), "The views of the test part with the lowest PSNR.")])


def _grid(findings: Findings, rows: Sequence[int], caption: str) -> ImageGrid:
    shown = _best_baseline(findings)
    pictures = []
    for row in rows:
        trial = findings.trials[row]
        others = {shown.replace("_", " "): findings.baselines[shown][row]} if shown else {}
        drawn = draw_trial(trial, findings.images[row], others)
        pictures.append((drawn, f"{trial.scene.id}, {trial.scene.views[trial.target]}"))
    return ImageGrid(pictures, caption)


def _best_baseline(findings: Findings) -> str:
    """The one whose PSNR is highest; an empty name if there are none."""
    rows = (findings.metrics.get("baselines") or {}).get("test", {})
    return max(findings.baselines, key=lambda name: rows[name][HEADLINE]["value"] or 0.0, default="")


def data_blocks(overlap: Mapping[str, Any]) -> list[Block]:
    """What the parts of the split share."""
    blocks: list[Block] = [KeyValues(overlap["sizes"]), overlap_table(overlap["rows"], overlap["what"])]
    shared = overlap["pairs"]["train/test"]
    if shared["identical"]:
        blocks.append(WarningBox(f"{shared['identical']} test {overlap['what']} also stand in the training part."))
    return blocks
