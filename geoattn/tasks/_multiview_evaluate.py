"""From a trained model and scenes to numbers: images of new views, metrics, baselines, symmetry, keys of copies."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from geoattn.datasets.multiview import MultiviewData
from geoattn.datasets.progress import track
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.metrics import Entry
from geoattn.domains.multiview.audit import image_key, scene_key
from geoattn.domains.multiview.baselines import BASELINES
from geoattn.domains.multiview.batch import Frame, Trial, collate, trial_sample
from geoattn.domains.multiview.metrics import evaluate_images, psnr, scene_groups
from geoattn.domains.multiview.records import Scene
from geoattn.tasks._model import Symmetry
from geoattn.testing import random_orthogonal

TASK = "multiview"
HEADLINE = "psnr"
PIXELS_AT_ONCE = 65_536
SYMMETRY_TRIALS = 8
TINY = 1e-12
"""Colours below this are taken for it where an error is relative to the largest, as of an image that is all black."""
SHIFT = 3.0
"""Units of a scene, standard deviation, by which the world is moved when the symmetry is measured."""


def predict_trials(
    model: nn.Module,
    trials: Sequence[Trial],
    preprocess: Mapping[str, Any],
    device: str | torch.device = "cpu",
    *,
    label: str = "",
) -> tuple[np.ndarray, np.ndarray | None]:
    """What the cameras that are asked for see.

    Args:
        model: moved to ``device`` and set to evaluation.
        trials: all with images of one size; the targets' images are not looked at.
        preprocess: of the model.
        device: where to compute.
        label: of the progress display; none without it.

    Returns:
        ``[N, H, W, 3]`` float32 in 0..1 and, for an ensemble, the standard deviation of its members.
    """
    model = model.eval().to(device)
    height, width = trials[0].scene.size if trials else (0, 0)
    size = max(1, PIXELS_AT_ONCE // max(1, height * width))
    means = [np.empty((0, height, width, 3), np.float32)]
    spreads = list(means)
    starts = range(0, len(trials), size)
    with torch.inference_mode():
        for start in track(starts, len(starts), label, show=bool(label)):
            samples = [trial_sample(trial, preprocess["frame"]) for trial in trials[start : start + size]]
            batch = collate(samples).to(device)
            members = model.members(batch) if isinstance(model, Ensemble) else model(batch)[None]
            images = members[:, :, 0].unflatten(2, (height, width))
            means.append(images.mean(0).cpu().numpy())
            spreads.append(images.std(0, correction=0).cpu().numpy())
    return np.concatenate(means), np.concatenate(spreads) if isinstance(model, Ensemble) else None


def measure(trials: Sequence[Trial], images: np.ndarray) -> dict[str, Entry]:
    """All metrics of images that were drawn for trials; intervals over scenes."""
    return evaluate_images(np.array([trial.truth for trial in trials]), images, scene_groups(trials))


def draw_baselines(train: Sequence[Trial], trials: Sequence[Trial]) -> dict[str, np.ndarray]:
    """Name -> images ``[N, H, W, 3]`` of each baseline, fitted to the training trials.

    Without training trials only those that learn nothing from them are drawn.
    """
    usable = [baseline for baseline in BASELINES if train or not baseline.learns]
    return {baseline.name: (baseline().fit(train) if train else baseline()).predict(trials) for baseline in usable}


def prediction_table(trials: Sequence[Trial], images: np.ndarray, part: str) -> pd.DataFrame:
    """One row per trial: scene, the view that was asked for, those that were given, and how near the image is."""
    scores = psnr(np.array([trial.truth for trial in trials]), images) if len(trials) else np.empty(0)
    return pd.DataFrame(
        {
            "id": [trial.scene.id for trial in trials],
            "view": [trial.scene.views[trial.target] for trial in trials],
            "given": [" ".join(trial.scene.views[k] for k in trial.inputs) for trial in trials],
            "psnr": scores,
            "split": part,
        }
    )


def data_keys(data: MultiviewData) -> list[str]:
    """One key per row of the data's table: of a scene's images, or of each view's where one scene is split by view."""
    if data.by_view:
        return [image_key(image) for image in data.scenes[0].images]
    return [scene_key(scene) for scene in data.scenes]


def measure_symmetry(model: nn.Module, trials: Sequence[Trial], preprocess: Mapping[str, Any]) -> Symmetry:
    """How far colours change when each scene's world frame is turned and moved, relative to the largest.

    A network with relative poses inside gets them as they are, without the step that makes them relative to the first
    given view.
    """
    inside = (getattr(model, "config", None) or {}).get("pose") == "gta"
    frame: Frame = "file" if inside else preprocess["frame"]
    generator, errors = torch.Generator().manual_seed(0), {}
    some = trials[:: max(1, len(trials) // SYMMETRY_TRIALS)][:SYMMETRY_TRIALS]
    moved = [replace(trial, scene=_moved(trial.scene, generator)) for trial in some]
    for dtype in (torch.float32, torch.float64):
        network = copy.deepcopy(model).cpu().to(dtype).eval()
        with torch.inference_mode():
            here, there = (
                network(collate([trial_sample(trial, frame, dtype) for trial in group])) for group in (some, moved)
            )
        errors[str(dtype).removeprefix("torch.")] = float(
            (here - there).abs().max() / max(float(here.abs().max()), TINY)
        )
    text = "Turning and moving the world frame of a scene does not change what is drawn."
    if frame == "first":
        text += " Poses are made relative to the first given view before the network reads them, which is why."
    return Symmetry(errors, text)


def _moved(scene: Scene, generator: torch.Generator) -> Scene:
    motion = np.eye(4)
    motion[:3, :3] = random_orthogonal(3, generator=generator).double().numpy()
    motion[:3, 3] = SHIFT * torch.randn(3, generator=generator).double().numpy()
    return replace(scene, extrinsics=scene.extrinsics @ motion)
