"""What was promised of a trained model, measured: the same answer in every pose, and in every batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geoattn.domains.pointclouds.batch import CloudBatch, CloudSample, collate
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.records import Cloud
from geoattn.geometry.surface_pyramid import surface_pyramid
from geoattn.tasks._model import Symmetry
from geoattn.testing import random_orthogonal

NUM_CLOUDS = 8
DTYPES = (torch.float32, torch.float64)


def measure_rotation(model: nn.Module, clouds: Sequence[Cloud], featurizer: Featurizer) -> Symmetry | None:
    """How far the outputs for a cloud change when it is turned and moved, relative to the largest.

    All is computed anew for the turned cloud: normals, sampling, neighbours and features, in float32 and in float64.
    None for a model that is meant to know how a cloud stands.
    """
    if _sees_poses(model):
        return None
    errors, swaps = {}, ""
    for dtype in DTYPES:
        network, generator = copy.deepcopy(model).cpu().to(dtype).eval(), torch.Generator().manual_seed(0)
        changes = []
        for cloud in clouds[:NUM_CLOUDS]:
            sample = featurizer(cloud)
            turn, shift = random_orthogonal(3, generator=generator), torch.randn(3, generator=generator)
            changes.append(_change(network, sample, turn, shift, featurizer.preprocess, dtype))
        alike = [change for change, same in changes if same]
        name = str(dtype).removeprefix("torch.")
        errors[name] = max(alike, default=0.0)
        if len(alike) < len(changes):
            worst = max(change for change, same in changes if not same)
            swaps += (
                f" In {name}, rounding made another choice among equally distant points in {len(changes) - len(alike)} "
                f"of {len(changes)} clouds, which are left out; it changed outputs by up to {worst:.1e}."
            )
    return Symmetry(errors, f"Turning and moving a cloud does not change what the model says of it.{swaps}")


def _change(
    network: nn.Module,
    sample: CloudSample,
    turn: Tensor,
    shift: Tensor,
    settings: Mapping[str, Any],
    dtype: torch.dtype,
) -> tuple[float, bool]:
    """The largest relative change of the outputs, and whether the same points and neighbours were chosen."""
    still = torch.eye(3, dtype=torch.float64), torch.zeros(3)
    first, second = (_posed(sample, *pose, settings, dtype) for pose in (still, (turn, shift)))
    with torch.inference_mode():
        before, after = network(first).double(), network(second).double()
    if settings["task"] == "normals":
        after = after @ turn
    if settings["task"] != "classification":
        before, after = before[first.pyramid.index.argsort()], after[second.pyramid.index.argsort()]
    pairs = zip(_choices(first), _choices(second), strict=True)
    return float((after - before).abs().max() / before.abs().max()), all(torch.equal(a, b) for a, b in pairs)


def _choices(batch: CloudBatch) -> list[Tensor]:
    return [batch.pyramid.index, *batch.pyramid.idx, *batch.pyramid.up_idx]


def measure_batch(model: nn.Module, clouds: Sequence[Cloud], featurizer: Featurizer) -> Symmetry:
    """How far the outputs for a cloud change with what else is in its batch, relative to the largest."""
    samples = [featurizer(cloud) for cloud in clouds[:NUM_CLOUDS]]
    errors = {}
    for dtype in DTYPES:
        network = copy.deepcopy(model).cpu().to(dtype).eval()
        with torch.inference_mode():
            together = network(collate(samples).to(dtype))
            alone = torch.cat([network(collate([sample]).to(dtype)) for sample in samples])
        errors[str(dtype).removeprefix("torch.")] = float((together - alone).abs().max() / together.abs().max())
    return Symmetry(errors, "What the model says of a cloud does not depend on what else is in the batch.")


def _sees_poses(model: nn.Module) -> bool:
    config: Any = getattr(model, "config", None) or {}
    return config.get("symmetry") == "none"


def _posed(
    sample: CloudSample, rotation: Tensor, shift: Tensor, settings: Mapping[str, Any], dtype: torch.dtype
) -> CloudBatch:
    """The sampled points of a cloud, turned and moved, and described again."""
    given = settings["normals"] == "given"
    normal = sample.pyramid.normal.double() @ rotation.T
    pyramid = surface_pyramid(
        (sample.pyramid.pos.double() @ rotation.T + shift).to(dtype),
        settings["levels"],
        normal=normal.to(dtype) if given else None,
        normal_neighbors=settings["normal_neighbors"],
        up_neighbors=settings["up_neighbors"],
    )
    return collate([replace(sample, pyramid=pyramid, target=None)])
