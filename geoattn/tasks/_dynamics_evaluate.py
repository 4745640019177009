"""From a trained model and systems to numbers: predictions in the user's units, metrics, baselines, symmetry."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geoattn.domains.dynamics.baselines import baseline_predictions
from geoattn.domains.dynamics.batch import Prediction, SystemTensors
from geoattn.domains.dynamics.metrics import evaluate_positions
from geoattn.domains.dynamics.systems import Systems
from geoattn.domains.dynamics.units import Units
from geoattn.domains.ensemble import Ensemble
from geoattn.tasks._model import Symmetry
from geoattn.testing import equivariance_error

TASK = "dynamics"
HEADLINE = "mse"
BODIES_AT_ONCE = 4000
SYMMETRY_SYSTEMS = 8
AXES = "xyz"


@dataclass
class Predicted:
    """Predictions in the user's units.

    Attributes:
        pos: ``[N, n]``.
        vel: ``[N, n]``, or None from a model of positions alone.
        std: ``[N]`` spread of the members' positions (root mean square distance from their mean), None for one model.
    """

    pos: np.ndarray
    vel: np.ndarray | None
    std: np.ndarray | None

    def take(self, bodies: slice) -> Predicted:
        """The predictions of some bodies."""
        vel, std = (None if values is None else values[bodies] for values in (self.vel, self.std))
        return Predicted(self.pos[bodies], vel, std)


def predict_systems(model: nn.Module, systems: Systems, units: Units, device: str | torch.device = "cpu") -> Predicted:
    """Predictions of a model or ensemble.

    Args:
        model: moved to ``device`` and set to evaluation.
        systems: in the user's units.
        units: of the model.
        device: where to compute.
    """
    ensemble = (model if isinstance(model, Ensemble) else Ensemble([model])).eval().to(device)
    tensors = SystemTensors(systems, units)
    pos: list[Tensor] = []
    vel: list[Tensor] = []
    with torch.inference_mode():
        for rows in _chunks(systems.sizes):
            batch = tensors[rows].to(device)
            found: Prediction = ensemble.members(batch)
            pos.append(found.pos.double().cpu())
            if found.vel is not None:
                vel.append(found.vel.double().cpu())
    none = torch.empty(len(ensemble), 0, systems.dim, dtype=torch.float64)
    all_pos = torch.cat([none, *pos], dim=1).numpy() * units.length
    mean = all_pos.mean(axis=0)
    spread = np.sqrt(np.square(all_pos - mean).sum(axis=2).mean(axis=0)) if len(ensemble) > 1 else None
    return Predicted(
        pos=mean + tensors.center[systems.system_of_body],
        vel=torch.cat(vel, dim=1).mean(0).numpy() * (units.length / units.time) if vel else None,
        std=spread,
    )


def _chunks(sizes: np.ndarray) -> list[list[int]]:
    """Row numbers in batches of about so many bodies."""
    number = (np.cumsum(sizes) - sizes) // BODIES_AT_ONCE
    return [np.flatnonzero(number == k).tolist() for k in np.unique(number)]


def evaluate_systems(systems: Systems, predicted: Predicted) -> dict[str, Any]:
    """The metrics of positions and, where they are predicted and known, of velocities."""
    assert systems.target_pos is not None
    metrics = evaluate_positions(systems.target_pos, predicted.pos, systems.sizes)
    if predicted.vel is not None and systems.target_vel is not None:
        metrics |= evaluate_positions(systems.target_vel, predicted.vel, systems.sizes, prefix="velocity_")
    return metrics


def evaluate_baselines(linear_time: float, systems: Systems, velocities: bool) -> dict[str, Any]:
    """Name -> metrics of each baseline."""
    predictions = baseline_predictions(linear_time, systems)
    return {
        name: evaluate_systems(systems, Predicted(pos, vel if velocities else None, None))
        for name, (pos, vel) in predictions.items()
    }


def axis_names(dim: int) -> list[str]:
    """x, y, z; numbered beyond three dimensions."""
    return list(AXES[:dim]) if dim <= len(AXES) else [f"x{k}" for k in range(dim)]


def prediction_table(systems: Systems, predicted: Predicted, parts: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per body: id and entity, the part of the split, predictions and, where it is known, the truth.

    ``error`` is the distance between the predicted and the true position.
    """
    columns: dict[str, Any] = {
        "id": np.repeat(np.array(systems.ids, dtype=object), systems.sizes),
        "entity": systems.entity_names(),
    }
    if parts is not None:
        columns["split"] = np.repeat(np.array(parts, dtype=object), systems.sizes)
    axes = axis_names(systems.dim)
    quantities = [("", systems.target_pos, predicted.pos), ("v", systems.target_vel, predicted.vel)]
    for prefix, truth, values in quantities:
        if values is None:
            continue
        if truth is not None:
            columns |= {f"{prefix}{axis}": truth[:, k] for k, axis in enumerate(axes)}
        columns |= {f"{prefix}{axis}_pred": values[:, k] for k, axis in enumerate(axes)}
    if predicted.std is not None:
        columns["std"] = predicted.std
    if systems.target_pos is not None:
        columns["error"] = np.linalg.norm(predicted.pos - systems.target_pos, axis=1)
    return pd.DataFrame(columns)


def measure_symmetry(model: nn.Module, systems: Systems, units: Units) -> Symmetry:
    """How far predictions are from following the motions of the initial state, in float32 and float64.

    Reflections are tried too unless the model's ``group`` is ``"SE"``.
    """
    few = systems.take(range(min(SYMMETRY_SYSTEMS, len(systems))))
    member = model.models[0] if isinstance(model, Ensemble) else model
    group = getattr(member, "group", "E")
    errors = {}
    for dtype in (torch.float32, torch.float64):
        batch = SystemTensors(few, units, dtype)[list(range(len(few)))]
        network = copy.deepcopy(member).to(dtype).eval()
        outputs = {"pos": "position"}
        if network(batch).vel is not None:
            outputs["vel"] = "vector"

        def predict(pos: Tensor, vel: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                found: Prediction = network(batch.replaced(pos=pos, vel=vel))  # noqa: B023  called within the loop
            return {"pos": found.pos} | ({} if found.vel is None else {"vel": found.vel})

        report = equivariance_error(
            predict,
            {"pos": batch.pos, "vel": batch.vel},
            in_specs={"pos": "position", "vel": "vector"},
            out_specs=outputs,
            group=f"{group}({systems.dim})",
        )
        errors[str(dtype).removeprefix("torch.")] = float(report)
    motions = "Rotations, reflections and translations" if group == "E" else "Rotations and translations"
    return Symmetry(errors, f"{motions} of the initial state move the prediction in the same way.")
