"""Baselines that stand beside every result: mean images, the nearest view, and the given views laid onto the ground."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geoattn.domains.multiview.batch import Trial
from geoattn.errors import InputError
from geoattn.geometry.cameras import invert_pose
from geoattn.geometry.rays import pixel_rays, project

FITTED = 32
"""Training trials, at most, to which the height of the ground is fitted."""
OVERLAP = 0.1
"""Share of the pixels that two views must see for their agreement to say how high the ground is."""
TRIED = 1024
"""Pixels of an image, about, by which the height of the ground is found."""


class ViewBaseline(ABC):
    """Draws what a camera sees: ``fit`` it to training trials, then ``predict`` others.

    Attributes:
        name, description: of it.
        learns: it needs training trials; others may ``predict`` without ``fit``.
    """

    name: str
    description: str
    learns = False

    def fit(self, trials: Sequence[Trial]) -> Self:
        """Learn from training trials.

        Raises:
            InputError: there are none.
        """
        if not trials:
            raise InputError("trials: got none, expected at least 1.")
        return self

    @abstractmethod
    def predict(self, trials: Sequence[Trial]) -> np.ndarray:
        """``[N, H, W, 3]`` float32 in 0..1; the targets of the trials are not looked at."""


class MeanImage(ViewBaseline):
    """The mean of all images that are asked for in the training part, whatever the camera."""

    name, description, learns = "mean_image", "mean of the training targets", True

    def fit(self, trials: Sequence[Trial]) -> Self:
        """As `ViewBaseline.fit`."""
        super().fit(trials)
        self._mean = np.mean([trial.truth for trial in trials], axis=0)
        return self

    def predict(self, trials: Sequence[Trial]) -> np.ndarray:
        """As `ViewBaseline.predict`."""
        return np.repeat(self._mean[None], len(trials), axis=0)


class NearestView(ViewBaseline):
    """The given view whose camera is nearest: least sum of the angle between axes and the distance in scene units."""

    name, description = "nearest_view", "the given view with the nearest camera"

    def predict(self, trials: Sequence[Trial]) -> np.ndarray:
        """As `ViewBaseline.predict`."""
        return np.array([trial.scene.images[_nearest(trial)] for trial in trials], dtype=np.float32) / 255


class MeanView(ViewBaseline):
    """The mean of the given views, pixel by pixel."""

    name, description = "mean_view", "mean of the given views"

    def predict(self, trials: Sequence[Trial]) -> np.ndarray:
        """As `ViewBaseline.predict`."""
        return np.array([trial.scene.images[list(trial.inputs)].mean(axis=0) for trial in trials], np.float32) / 255


class GroundPlane(ViewBaseline):
    """The given views laid onto the ground and seen from there: right where the ground is seen, wrong elsewhere.

    Upward is the direction that is level in no camera: normal to the x axes of all, which holds for cameras without
    roll. The height of the ground is the one at which the given views agree best, where they overlap enough; else the
    usual one of the training part. Where no given view sees the point, and above the horizon, their mean is taken.
    Symmetry: invariant to the frame of the world.

    Args:
        num_heights: of the ground that are tried, below the lowest camera.
    """

    name, description, learns = "ground_plane", "the given views laid onto the ground", True

    def __init__(self, num_heights: int = 32) -> None:
        self.depths = torch.logspace(-1.0, 0.2, num_heights, dtype=torch.float64)  # in units of the scenes

    def fit(self, trials: Sequence[Trial]) -> Self:
        """As `ViewBaseline.fit`."""
        super().fit(trials)
        chosen = np.random.default_rng(0).permutation(len(trials))[:FITTED]
        errors = []
        for trial in (trials[k] for k in chosen):
            step = _step(trial)
            blend, _ = self._laid(trial, self.depths, step)
            truth = torch.from_numpy(trial.truth)[::step, ::step]
            errors.append((blend - truth).square().mean((1, 2, 3)))
        self._usual = int(torch.stack(errors).mean(0).argmin())
        return self

    def predict(self, trials: Sequence[Trial]) -> np.ndarray:
        """As `ViewBaseline.predict`."""
        images = []
        for trial in trials:
            step = _step(trial)
            blend, apart = self._laid(trial, self.depths, step)
            best = int(apart.argmin()) if bool(apart.isfinite().any()) else self._usual
            image = blend[best] if step == 1 else self._laid(trial, self.depths[best : best + 1], 1)[0][0]
            images.append(image.numpy())
        return np.array(images, dtype=np.float32)

    def _laid(self, trial: Trial, depths: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The view onto a ground at each height, and how far the given views differ there ``[D]``.

        The view is of every ``step``-th pixel of every ``step``-th row: ``[D, H', W', 3]``.
        """
        scene, given = trial.scene, list(trial.inputs)
        height, width = scene.size
        poses, cameras = torch.from_numpy(scene.extrinsics), torch.from_numpy(scene.intrinsics)
        views = [*given, trial.target]
        up = torch.linalg.svd(poses[views, 0, :3]).Vh[2]
        up = up * torch.sign(-(poses[views, 1, :3] @ up).sum())
        origin, rays = pixel_rays(cameras[trial.target], poses[trial.target], height, width)
        rays = rays[::step, ::step]
        lowest = (invert_pose(poses[views])[:, :3, 3] @ up).min()
        fall = -(rays @ up).flatten()  # [P], positive below the horizon
        reach = (origin[0, 0] @ up - lowest + depths)[:, None] / fall.clamp(min=1e-9)  # [D, P]
        points = origin[0, 0] + reach[..., None] * rays.flatten(0, 1)
        uv, depth = project(points.flatten(0, 1), cameras[given], poses[given])
        places = (uv / torch.tensor([width, height])).reshape(len(given), *reach.shape, 2)
        inside = ((places >= 0) & (places <= 1)).all(-1) & (depth.reshape(places.shape[:-1]) > 0)
        seen = (inside & (fall > 1e-3))[..., None]  # [V, D, P, 1]
        source = torch.from_numpy(scene.images[given]).movedim(-1, 1).float() / 255
        grid = torch.where(seen, 2 * places - 1, 0.0).float()
        colors = F.grid_sample(source, grid, padding_mode="border", align_corners=False).movedim(1, -1)
        count = seen.sum(0)  # [D, P, 1]
        blend = (colors * seen).sum(0) / count.clamp(min=1)
        # a point that a view does not see costs what two unlike points cost, else far-off grounds would win
        apart = ((colors - blend).square() * seen).sum((0, 2, 3)) + 3 * source.var() * (~seen).sum((0, 2, 3))
        enough = (count >= 2).double().mean((1, 2)) >= OVERLAP
        mean = source.mean(0).movedim(0, -1)[::step, ::step].flatten(0, 1)
        image = torch.where(count > 0, blend, mean).unflatten(1, rays.shape[:2])
        return image, apart.masked_fill(~enough, torch.inf)


BASELINES: tuple[type[ViewBaseline], ...] = (MeanImage, MeanView, NearestView, GroundPlane)


def _step(trial: Trial) -> int:
    """Between the pixels by which the height of the ground is found."""
    height, width = trial.scene.size
    return max(1, math.isqrt(height * width // TRIED))


def _nearest(trial: Trial) -> int:
    poses = trial.scene.extrinsics
    axes, places = poses[:, 2, :3], -(poses[:, :3, :3].swapaxes(1, 2) @ poses[:, :3, 3:])[..., 0]
    angle = np.arccos(np.clip(axes @ axes[trial.target], -1, 1))
    far = angle + np.linalg.norm(places - places[trial.target], axis=1)
    return min(trial.inputs, key=lambda view: far[view])
