"""From a trained model and fields to numbers: predictions, metrics, baselines, symmetry, keys of copies."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geoattn.datasets.progress import track
from geoattn.datasets.sphere import SphereData
from geoattn.datasets.sphere_samples import FieldSamples
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.metrics import Entry
from geoattn.domains.sphere.baselines import Climatology, FieldBaseline, usual_baselines
from geoattn.domains.sphere.batch import FieldBatch, collate_fields
from geoattn.domains.sphere.metrics import evaluate_classes, evaluate_fields, evaluate_variables
from geoattn.domains.sphere.records import FieldSample, SphereGrid
from geoattn.geometry.sphere import SpherePoints
from geoattn.tasks._model import Symmetry

TASK = "sphere"
HEADLINE = {"forecast": "nrmse", "regression": "nrmse", "segmentation": "area_miou"}
VALUES_AT_ONCE = 200_000
"""Points of all samples of a batch together; bounds the memory of a prediction."""
FITTED_VALUES = 30_000_000
"""Values that baselines are fitted to; of more training samples so many, taken evenly."""
SYMMETRY_SAMPLES = 3


def samples_at_once(num_points: int) -> int:
    """How many samples are predicted together."""
    return max(1, VALUES_AT_ONCE // num_points)


def predict_samples(
    model: nn.Module,
    samples: Sequence[FieldSample],
    preprocess: Mapping[str, Any],
    device: str | torch.device = "cpu",
    *,
    label: str = "",
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """What a model says of samples; their targets are not looked at.

    Args:
        model: moved to ``device`` and set to evaluation.
        samples: at its points.
        preprocess: of the model.
        device: where to compute.
        label: of the progress display; none without it.

    Returns:
        Of each sample ``[Ct, N]`` float32 in the units of the training data, or the probabilities ``[K, N]`` of
        classes; and, for an ensemble, the standard deviation of its members (of probabilities too).
    """
    model = model.eval().to(device)
    means: list[np.ndarray] = []
    spreads: list[np.ndarray] = []
    starts = range(0, len(samples), samples_at_once(len(samples[0].used) if len(samples) else 1))
    with torch.inference_mode():
        for start in track(starts, len(starts), label, show=bool(label)):
            rows = range(start, min(start + starts.step, len(samples)))
            batch = collate_fields([samples[row] for row in rows], preprocess).to(device)
            members = model.members(batch) if isinstance(model, Ensemble) else model(batch)[None]
            answers = in_units(members.double(), preprocess)
            means += list(answers.mean(0).float().cpu().numpy())
            spreads += list(answers.std(0, correction=0).float().cpu().numpy())
    return means, spreads if isinstance(model, Ensemble) else None


def in_units(output: Tensor, preprocess: Mapping[str, Any]) -> Tensor:
    """``[..., Ct, N]`` in the units of the training data, or probabilities, of what a network gives."""
    if preprocess["task"] == "segmentation":
        return output.softmax(-2)
    known = [preprocess["statistics"][name] for name in preprocess["targets"]]
    mean, std = (
        torch.tensor([one[key] for one in known], dtype=output.dtype, device=output.device)[:, None]
        for key in ("mean", "std")
    )
    return output * std + mean


def measure(
    samples: Sequence[FieldSample],
    predicted: Sequence[np.ndarray],
    preprocess: Mapping[str, Any],
    points: SpherePoints,
    climatology: np.ndarray | None = None,
) -> dict[str, Entry]:
    """The metrics of a task, by area; intervals over samples.

    ``nrmse`` is the rmse of each variable in units of its standard deviation in training, averaged over variables.
    """
    if preprocess["task"] == "segmentation":
        return evaluate_classes(samples, predicted, points, len(preprocess["class_names"]))
    scale = [preprocess["statistics"][name]["std"] for name in preprocess["targets"]]
    found = evaluate_fields(samples, predicted, points, scale=scale, climatology=climatology)
    return {name: found[name] for name in sorted(found, key=lambda name: name != "nrmse")}


def measure_variables(
    samples: Sequence[FieldSample],
    predicted: Sequence[np.ndarray],
    preprocess: Mapping[str, Any],
    points: SpherePoints,
    climatology: np.ndarray | None = None,
) -> dict[str, dict[str, Entry]]:
    """`measure` of each variable by itself, in its own unit; of classes nothing."""
    if preprocess["task"] == "segmentation":
        return {}
    return evaluate_variables(samples, predicted, points, preprocess["targets"], climatology=climatology)


def fitted_baselines(
    train: Sequence[FieldSample], preprocess: Mapping[str, Any], points: SpherePoints, *, region: bool
) -> list[FieldBaseline]:
    """The baselines of a task, fitted to samples of the training part, to fewer where there are very many."""
    number = len(train)
    most = max(1, FITTED_VALUES // train[0].inputs.size)
    rows = np.unique(np.linspace(0, number - 1, min(most, number)).round().astype(int))
    chosen = [train[row] for row in rows.tolist()]
    return [baseline.fit(chosen) for baseline in usual_baselines(preprocess, points, region)]


def learning_nothing(preprocess: Mapping[str, Any], points: SpherePoints) -> list[FieldBaseline]:
    """The baselines that need no training part: the last state again, and the straight line of a forecast."""
    if preprocess["task"] != "forecast":
        return []
    return [one for one in usual_baselines(preprocess, points) if one.name in ("persistence", "linear")]


def climatology_of(baselines: Sequence[FieldBaseline]) -> np.ndarray | None:
    """``[Ct, N]``, of the baseline that has it."""
    return next((baseline.mean for baseline in baselines if isinstance(baseline, Climatology)), None)


def prediction_table(
    samples: Sequence[FieldSample], predicted: Sequence[np.ndarray], preprocess: Mapping[str, Any], grid: SphereGrid
) -> pd.DataFrame:
    """One row per sample: its name, and its error: rmse of each variable, or the share of area that is right."""
    weight, rows = grid.points.weight.numpy(), []
    for sample, answer in zip(samples, predicted, strict=True):
        row: dict[str, Any] = {"id": sample.id, "label": sample.label}
        if sample.targets is not None:
            area = sample.known * weight
            total = np.maximum(area.sum(axis=1), 1e-300)
            if preprocess["task"] == "segmentation":
                row["area_accuracy"] = float(area[0] @ (answer.argmax(axis=0) == sample.targets[0])) / total[0]
            else:
                error = np.where(sample.known, answer - sample.targets, 0.0).astype(np.float64)
                roots = np.sqrt((error**2 * area).sum(axis=1) / total)
                row |= {f"rmse_{name}": value for name, value in zip(preprocess["targets"], roots, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def field_keys(samples: FieldSamples, parts: Sequence[str] | None = None) -> list[str]:
    """One key per sample: the same for the same inputs; with the part of the globe, where the parts are such."""
    keys: list[str] = []
    known: dict[tuple[int, ...], str] = {}
    for row, spec in enumerate(samples.specs):
        if spec.times not in known:
            inputs = np.ascontiguousarray(samples[row].inputs)
            known[spec.times] = hashlib.blake2b(inputs.tobytes(), digest_size=12).hexdigest()
        keys.append(known[spec.times] + (f"/{parts[row]}" if parts else ""))
    return keys


def data_keys(data: SphereData) -> list[str]:
    """`field_keys` of the rows of the data's table."""
    if not by_region(data.split_spec):
        return field_keys(data.samples)
    part = {row: name for name, rows in data.split.items() for row in rows}
    return field_keys(data.samples, [part[row] for row in range(len(data.table))])


def by_region(split: str | None) -> bool:
    """Are the parts of a split regions of the globe?"""
    return str(split).startswith("region")


def measure_symmetry(model: nn.Module, samples: Sequence[FieldSample], preprocess: Mapping[str, Any]) -> Symmetry:
    """How far the answer to a sample changes with what else is in its batch, relative to the largest."""
    number = min(SYMMETRY_SAMPLES, len(samples), samples_at_once(len(samples[0].used)))
    batch = collate_fields([samples[row] for row in range(number)], preprocess)
    if number == 1:  # beside its own mirror image
        batch = FieldBatch(*(torch.cat([one, one.flip(-1)]) for one in vars(batch).values()))
    errors = {}
    for dtype in (torch.float32, torch.float64):
        network = copy.deepcopy(model).cpu().to(dtype).eval()
        cast = FieldBatch(batch.inputs.to(dtype), batch.present, batch.targets, batch.known)
        with torch.inference_mode():
            together = network(cast)
            alone = network(FieldBatch(*(one[:1] for one in vars(cast).values())))
        errors[str(dtype).removeprefix("torch.")] = float((together[:1] - alone).abs().max() / together.abs().max())
    text = "What the model says of a field does not depend on what else is in its batch. It does depend on where on "
    text += "the globe a field is: the network is told the places, so a turned field does not get the turned answer."
    return Symmetry(errors, text)
