"""Forecasts that go on from themselves: the predicted state is the next one's input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from geoattn.datasets.sphere_samples import FieldSamples
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.metrics import Entry
from geoattn.domains.sphere.baselines import FieldBaseline, LinearExtrapolation
from geoattn.domains.sphere.batch import FieldBatch, collate_fields
from geoattn.domains.sphere.records import FieldSample
from geoattn.errors import InputError
from geoattn.geometry.sphere import SpherePoints
from geoattn.tasks._sphere_evaluate import in_units, measure, measure_variables, samples_at_once

LEADS = (1, 5, 10)
"""Steps that stand in ``metrics.json``."""
LONGEST = 10
"""Steps up to which the error is measured."""
STARTS = 200
"""States from which roll-outs that are measured begin at most; of more, so many taken evenly."""


def no_rollout(preprocess: Mapping[str, Any]) -> str:
    """Why a model's forecasts cannot go on from themselves; empty if they can."""
    if preprocess["task"] != "forecast":
        return "only forecasts go on in time"
    missing = [name for name in preprocess["inputs"] if name not in preprocess["targets"]]
    if missing:
        return f"{missing[0]} is read and not predicted"
    if preprocess["history"] > 1 and preprocess["steps"] > 1:
        return "states between the known ones and the predicted one are needed, and not predicted"
    return ""


def roll_out(
    model: nn.Module, batch: FieldBatch, preprocess: Mapping[str, Any], steps: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Forecast after forecast.

    Args:
        model: on the device of the batch, set to evaluation.
        batch: the known states of B samples.
        preprocess: of the model.
        steps: how many.

    Yields:
        ``[B, Ct, N]`` in the units of the training data, and ``[B, Ct, N]`` bool: where some known state had a value.

    Raises:
        InputError: the model cannot go on from its own states.
    """
    if reason := no_rollout(preprocess):
        raise InputError(f"steps: this model cannot go on from its forecasts: {reason}.")
    inputs, targets, history = preprocess["inputs"], preprocess["targets"], preprocess["history"]
    order, width = [targets.index(name) for name in inputs], len(inputs)
    for _ in range(steps):
        with torch.inference_mode():
            output = model(batch)
        states = batch.present[:, : history * width].unflatten(1, (history, width)).any(1)
        new = torch.where(states, output[:, order], torch.zeros_like(output))
        batch = replace(
            batch,
            inputs=torch.cat([batch.inputs[:, width : history * width], new, batch.inputs[:, history * width :]], 1),
            present=torch.cat(
                [batch.present[:, width : history * width], states, batch.present[:, history * width :]], 1
            ),
        )
        back = [inputs.index(name) for name in targets]
        yield in_units(output.double(), preprocess), states[:, back]


def roll_members(model: nn.Module, batch: FieldBatch, preprocess: Mapping[str, Any], steps: int) -> torch.Tensor:
    """``[members, steps, B, Ct, N]``: each member of an ensemble goes on from its own states, a single model alone."""
    members = list(model.models) if isinstance(model, Ensemble) else [model]
    return torch.stack(
        [torch.stack([state for state, _ in roll_out(member, batch, preprocess, steps)]) for member in members]
    )


def chains(samples: FieldSamples, longest: int = LONGEST) -> list[list[int]]:
    """For each sample the rows of those that continue it, itself first: each begins where the one before it ends."""
    begins = {spec.times[-1]: row for row, spec in enumerate(samples.specs)}
    found = []
    for row in range(len(samples)):
        chain = [row]
        while len(chain) < longest:
            target = samples.specs[chain[-1]].target
            after = begins.get(target) if target is not None else None
            if after is None:
                break
            chain.append(after)
        found.append(chain)
    return found


@dataclass
class RollOut:
    """What was measured of forecasts that go on from themselves.

    Attributes:
        metrics: lead -> metrics of the model, for the leads of `LEADS`.
        baselines: name -> lead -> metrics.
        table: a row per lead and predictor: lead, name, number of states, nrmse, and rmse of each variable.
        shown: lead -> (true, predicted) ``[Ct, N]`` of the longest chain, for pictures.
        example: the sample that `shown` begins with.
    """

    metrics: dict[str, dict[str, Entry]]
    baselines: dict[str, dict[str, dict[str, Entry]]]
    table: pd.DataFrame
    shown: dict[int, tuple[np.ndarray, np.ndarray]]
    example: FieldSample


def measure_rollout(
    model: nn.Module,
    samples: FieldSamples,
    preprocess: Mapping[str, Any],
    points: SpherePoints,
    baselines: Sequence[FieldBaseline],
    climatology: np.ndarray | None,
    device: str | torch.device = "cpu",
) -> RollOut | None:
    """The error over lead time, on states that follow each other in one part.

    Every lead is measured from the same states, those after which the most steps are known (up to `LONGEST`), so that
    the errors of two leads can be compared.

    Args:
        model: moved to ``device`` and set to evaluation.
        samples: of the part.
        preprocess: of the model.
        points: with weights.
        baselines: fitted; persistence, the straight line and climatology are measured too.
        climatology: for anomalies.
        device: where to compute.

    Returns:
        None if the model cannot go on from its states, or none follow each other.
    """
    if no_rollout(preprocess) or not len(samples):
        return None
    every = chains(samples)
    longest = max(map(len, every))
    starts = [chain for chain in every if len(chain) == longest]
    starts = [
        starts[k] for k in np.unique(np.linspace(0, len(starts) - 1, min(STARTS, len(starts))).round().astype(int))
    ]
    if longest < 2:
        return None
    model = model.eval().to(device)
    said: list[list[np.ndarray]] = [[] for _ in range(longest)]
    size = samples_at_once(points.num_points)
    for first in range(0, len(starts), size):
        some = [samples[chain[0]] for chain in starts[first : first + size]]
        batch = collate_fields(some, preprocess).to(device)
        for lead, answer in enumerate(roll_members(model, batch, preprocess, longest).mean(0)):
            said[lead] += list(answer.float().cpu().numpy())
    simple = [one for one in baselines if one.name in ("persistence", "linear", "climatology")]
    begins = [samples[chain[0]] for chain in starts]
    found: dict[str, dict[str, Any]] = {"": {}, **{one.name: {} for one in simple}}
    rows = []
    for lead in range(1, longest + 1):
        truth = [samples[chain[lead - 1]] for chain in starts]
        answers = {"": said[lead - 1], **{one.name: _at_lead(one, begins, lead, preprocess) for one in simple}}
        for name, fields in answers.items():
            entry = measure(truth, fields, preprocess, points, climatology)
            each = measure_variables(truth, fields, preprocess, points)
            row = {"lead": lead, "name": name or "this model", "states": len(starts), "nrmse": entry["nrmse"]["value"]}
            rows.append(row | {f"rmse_{one}": found_one["rmse"]["value"] for one, found_one in each.items()})
            if lead in LEADS:
                found[name][str(lead)] = entry
    leads = [lead for lead in LEADS if lead <= longest]
    shown = {}
    for lead in sorted({*leads, longest}):
        targets = samples[starts[0][lead - 1]].targets
        assert targets is not None
        shown[lead] = targets, said[lead - 1][0]
    return RollOut(found.pop(""), found, pd.DataFrame(rows), shown, begins[0])


def _at_lead(
    baseline: FieldBaseline, begins: Sequence[FieldSample], lead: int, preprocess: Mapping[str, Any]
) -> list[np.ndarray]:
    if isinstance(baseline, LinearExtrapolation):
        baseline = LinearExtrapolation(baseline.last, baseline.before, lead * preprocess["steps"])
    return baseline.predict(begins)
