"""The report of a sphere run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoattn._numbers import counted, lower_is_better, metric_name
from geoattn.datasets.sphere_samples import FieldSamples
from geoattn.domains.metrics import Entry
from geoattn.domains.sphere.records import SphereGrid
from geoattn.report import Block, KeyValues, Plot, Section, Table, Text, WarningBox, metrics_table
from geoattn.report.lines import line_figure
from geoattn.tasks._model import Symmetry
from geoattn.tasks._report import Page, beaten_by, overlap_table, symmetry_sections
from geoattn.tasks._sphere_evaluate import HEADLINE
from geoattn.tasks._sphere_pictures import lead_sections, map_sections, worst_sections
from geoattn.tasks._sphere_rollout import RollOut


@dataclass
class Findings:
    """What there is to report about samples that were measured.

    Attributes:
        samples: with targets.
        predicted: of each, as `geoattn.tasks._sphere_evaluate.predict_samples` gives it.
        preprocess: of the model.
        grid: the points of the samples.
        metrics: what stands in ``metrics.json``.
        variables: variable -> name of the model or a baseline -> metrics; empty for classes.
        symmetry: measured on the trained model.
        rollout: of forecasts that go on from themselves, where there are such.
    """

    samples: FieldSamples
    predicted: Sequence[np.ndarray]
    preprocess: Mapping[str, Any]
    grid: SphereGrid
    metrics: Mapping[str, Any]
    variables: Mapping[str, Mapping[str, Mapping[str, Entry]]]
    symmetry: Symmetry
    rollout: RollOut | None = None


def page_of(findings: Findings, which: str) -> Page:
    """The page of a report; ``which`` fields were measured stands in its summary."""
    name = HEADLINE[findings.preprocess["task"]]
    test = findings.metrics["test"]
    others = ("rmse",) if len(findings.preprocess["targets"]) == 1 else ("anomaly_correlation",)
    shown = (name, *others, "area_accuracy")
    return Page(
        summary=f"Measured on {counted(len(findings.samples), 'field')}, {findings.grid}, {which}",
        headline={f"test {metric_name(each)}": test[each] for each in shown if each in test},
        results=[_result(findings), *_lead(findings), *map_sections(findings)],
        worst=worst_sections(findings),
        symmetry=symmetry_sections(findings.symmetry),
    )


def _result(findings: Findings) -> Section:
    headline = HEADLINE[findings.preprocess["task"]]
    blocks: list[Block] = [metrics_table(findings.metrics, "test", model="this model")]
    if not findings.metrics.get("baselines", {}).get("test"):
        blocks.append(Text("No baselines: they need the fields that the model was trained on."))
    elif beaten := beaten_by(findings.metrics, headline):
        do = "do" if ", " in beaten else "does"
        blocks.append(WarningBox(f"By {metric_name(headline)}, {beaten} {do} at least as well as this model."))
    if headline == "nrmse":
        blocks.append(
            Text(
                "NRMSE is the RMSE of each variable in units of its standard deviation in the training part, averaged "
                "over variables; RMSE, MAE and bias are averaged over variables in their own units. All are by area."
            )
        )
        blocks += _variables(findings)
    if "valid" in findings.metrics:
        blocks.append(metrics_table(findings.metrics, "valid", model="this model"))
    return Section("Result", blocks)


def _variables(findings: Findings) -> list[Block]:
    """A table of each variable in its own unit."""
    units = findings.preprocess["units"]
    blocks: list[Block] = []
    for variable, rows in findings.variables.items():
        names = list(dict.fromkeys(metric for row in rows.values() for metric in row))
        heads = {name: metric_name(name) for name in names}
        blocks.append(
            Table(
                ["", *heads.values()],
                [[name.replace("_", " "), *(row.get(metric) for metric in names)] for name, row in rows.items()],
                caption=variable + (f" in {units[variable]}" if variable in units else "") + ", test part.",
                best={heads[name]: "min" if lower_is_better(name) else "max" for name in names if name != "bias"},
            )
        )
    return blocks


def _lead(findings: Findings) -> list[Section]:
    found = findings.rollout
    if found is None:
        return []
    leads = sorted(found.table["lead"].unique())
    lines = {
        str(name).replace("_", " "): part.sort_values("lead")["nrmse"].astype(float).tolist()
        for name, part in found.table.groupby("name", sort=False)
    }
    number = int(found.table["states"].iloc[0])
    steps = findings.preprocess["steps"]
    xlabel = "steps" if steps == 1 else f"steps of {steps} states"
    figure = line_figure(lines, leads, xlabel=xlabel, ylabel="NRMSE")
    text = f"Error over lead time: the forecast goes on from its own states, from {counted(number, 'known state')}."
    rows: list[list[Any]] = []
    for name, entries in {"this model": found.metrics, **found.baselines}.items():
        rows.append([name.replace("_", " "), *(entry["nrmse"] for entry in entries.values())])
    table = Table(["", *(counted(int(lead), "step") for lead in found.metrics)], rows, caption="NRMSE by lead time.",
                  best={counted(int(lead), "step"): "min" for lead in found.metrics})  # fmt: skip
    return [Section("Roll-out", [Plot(figure, text), table, *lead_sections(findings)])]


def data_blocks(overlap: Mapping[str, Any], regions: Mapping[str, Any] | None) -> list[Block]:
    """What the parts of the split share; ``regions`` of parts of one globe, where the same fields are in all."""
    if regions is not None:
        return [KeyValues(regions["sizes"]), overlap_table(regions["rows"], "points")]
    blocks: list[Block] = [KeyValues(overlap["sizes"]), overlap_table(overlap["rows"], "samples")]
    shared = overlap["pairs"]["train/test"]
    if shared["identical"]:
        blocks.append(WarningBox(f"{shared['identical']} test samples have inputs that are in the training part too."))
    elif shared["near_in_time"]:
        blocks.append(
            WarningBox(
                f"{shared['near_in_time']} of {overlap['sizes']['test']} test samples are nearer in time to the "
                "training part than a step: they look easier than a later time would be."
            )
        )
    return blocks
