"""The report of a potential."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geoattn._numbers import metric_name
from geoattn.domains.molecules.elements import symbol
from geoattn.domains.molecules.force_metrics import MILLI, Labels, in_milli
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
from geoattn.report.figures import parity, residuals
from geoattn.tasks._model import Symmetry
from geoattn.tasks._report import Page, beaten_by, symmetry_sections

WORST_SHOWN = 12
UNITS = "Energies in meV (per atom where it says so), forces in meV/angstrom, stress in meV/cubic angstrom."


@dataclass
class ForceFindings:
    """What there is to report about the measured structures.

    Attributes:
        true, predicted: energies, forces and stress.
        elements: ``[N]`` atomic number of each atom.
        table: one row per structure: id, line, formula.
        metrics: what stands in ``metrics.json``, in eV.
        symmetry: measured on the trained model.
    """

    true: Labels
    predicted: Labels
    elements: np.ndarray
    table: pd.DataFrame
    metrics: Mapping[str, Any]
    symmetry: Symmetry


def page_of(findings: ForceFindings, which: str) -> Page:
    """The page of a report; ``which`` structures were measured stands in its summary."""
    shown = in_milli(findings.metrics["test"])
    units = {"energy_mae": "meV", "energy_mae_per_atom": "meV", "force_mae": "meV/Å"}
    return Page(
        summary=f"Energy and forces: measured on {len(findings.table):,} structures {which}",
        headline={f"test {metric_name(name)} ({unit})": shown[name] for name, unit in units.items()},
        results=[_result(findings), _predictions(findings)],
        worst=[_worst(findings)],
        symmetry=symmetry_sections(findings.symmetry),
    )


def data_blocks(sizes: Mapping[str, int], copies: int) -> list[Block]:
    """The parts, and how many structures of the test part have a copy in the training part."""
    blocks: list[Block] = [KeyValues({**sizes, "structures of the test part with a copy in the training part": copies})]
    if copies:
        blocks.append(WarningBox(f"{copies} structures of the test part are also in the training part."))
    return blocks


def _result(findings: ForceFindings) -> Section:
    shown = {part: in_milli(rows) for part, rows in findings.metrics.items() if part in ("valid", "test")}
    baselines = findings.metrics["baselines"]["test"]
    shown["baselines"] = {"test": {name: in_milli(row) for name, row in baselines.items()}}
    blocks: list[Block] = [Text(UNITS), metrics_table(shown, "test", model="this model")]
    if beaten := beaten_by(findings.metrics, "force_mae"):
        blocks.append(WarningBox(f"By the force MAE, {beaten} does at least as well as this model."))
    if "valid" in shown:
        blocks.append(metrics_table(shown, "valid", model="this model"))
    return Section("Result", blocks)


def _predictions(findings: ForceFindings) -> Section:
    true, predicted = findings.true, findings.predicted
    counts = true.num_atoms
    offset = float(np.median(true.energy / counts)) * counts  # the size of total energies would hide their differences
    energy, own = (MILLI * (labels.energy - offset) / counts for labels in (true, predicted))
    force, own_force = (MILLI * labels.forces.ravel() for labels in (true, predicted))
    blocks: list[Block] = [
        Plot(
            parity(energy, own, label="energy per atom", unit="meV"),
            "Energy per atom, relative to the median, test split.",
        ),
        Plot(parity(force, own_force, label="force", unit="meV/Å"), "Components of the forces, test split."),
        Plot(residuals(force, own_force, label="force", unit="meV/Å"), "Errors of the forces against the prediction."),
    ]
    error = MILLI * np.abs(predicted.forces - true.forces)
    rows = []
    for z in np.unique(findings.elements):
        own = error[findings.elements == z]
        size = MILLI * np.abs(true.forces[findings.elements == z]).mean()
        rows.append([symbol(int(z)), len(own), own.mean(), size, own.max()])
    heads = ["element", "atoms", "force MAE (meV/Å)", "mean |force component| (meV/Å)", "largest error (meV/Å)"]
    blocks.append(Table(heads, rows, caption="Forces by element, test split."))
    if true.stress is not None and predicted.stress is not None:
        figure = parity(MILLI * true.stress.ravel(), MILLI * predicted.stress.ravel(), label="stress", unit="meV/Å³")
        blocks.append(Plot(figure, "Components of the stress, test split."))
    return Section("Predictions", blocks)


def _worst(findings: ForceFindings) -> Section:
    counts = findings.true.num_atoms
    structure = np.repeat(np.arange(len(counts)), counts)
    error = MILLI * np.abs(findings.predicted.forces - findings.true.forces)
    mean = np.bincount(structure, weights=error.mean(axis=1), minlength=len(counts)) / counts
    energy = MILLI * (findings.predicted.energy - findings.true.energy)
    rows = [
        [*findings.table[["id", "line", "formula"]].iloc[k], mean[k], error[structure == k].max(), energy[k]]
        for k in np.argsort(-mean, kind="stable")[:WORST_SHOWN]
    ]
    heads = ["structure", "line", "formula", "force MAE (meV/Å)", "largest (meV/Å)", "energy error (meV)"]
    return Section("Worst cases", [Table(heads, rows, caption="The structures with the largest errors of the forces.")])
