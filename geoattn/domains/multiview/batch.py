"""Batches of views as models get them: images with their cameras, and rays whose colours are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geoattn.domains.multiview.records import Scene
from geoattn.geometry.cameras import relative_poses
from geoattn.geometry.rays import pixel_centres

Frame = Literal["first", "file"]


@dataclass(frozen=True, eq=False)
class Trial:
    """One question to a model: given some views of a scene, what does another camera see?

    Attributes:
        scene: with all its views.
        inputs: rows of the views that are given.
        target: row of the view that is asked for.
    """

    scene: Scene
    inputs: tuple[int, ...]
    target: int

    @property
    def truth(self) -> np.ndarray:
        """``[H, W, 3]`` float32 in 0..1: the image that is asked for."""
        return self.scene.images[self.target].astype(np.float32) / 255


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """B samples: V views that are given, and R rays through each of T target views. All of one dtype: float32.

    Poses of a sample are relative to its first input view (they were made so in float64), unless it was asked for the
    frame of the file.

    Attributes:
        images: ``[B, V, 3, H, W]`` in 0..1.
        extrinsics: ``[B, V, 4, 4]`` world -> camera, OpenCV axes.
        intrinsics: ``[B, V, 3, 3]`` in pixels of ``images``.
        target_extrinsics: ``[B, T, 4, 4]``.
        target_intrinsics: ``[B, T, 3, 3]``.
        pixels: ``[B, T, R, 2]`` places (u to the right, v down) in pixels, centres at +0.5.
        colors: ``[B, T, R, 3]`` in 0..1: what is seen there.
    """

    images: Tensor
    extrinsics: Tensor
    intrinsics: Tensor
    target_extrinsics: Tensor
    target_intrinsics: Tensor
    pixels: Tensor
    colors: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, target: torch.device | str | torch.dtype) -> ViewBatch:
        """A copy on a device, or in another floating-point dtype; Lightning calls it."""
        return ViewBatch(*(getattr(self, field.name).to(target) for field in fields(self)))


def make_sample(
    scene: Scene,
    inputs: Sequence[int],
    targets: Sequence[int],
    rays: np.ndarray | None = None,
    frame: Frame = "first",
    dtype: torch.dtype = torch.float32,
) -> ViewBatch:
    """A batch of one sample.

    Args:
        scene: of the views.
        inputs: V rows of views that are given.
        targets: T rows of views that are asked for.
        rays: ``[T, R]`` int64, which pixels (row times width plus column) of each target; None for all in that order.
        frame: of the poses: "first" input view, or of the "file".
        dtype: of all tensors.
    """
    rows = list(targets)
    sample = ask(scene, inputs, scene.extrinsics[rows], scene.intrinsics[rows], frame, dtype)
    pixels, seen = sample.pixels[0], torch.from_numpy(scene.images[rows]).flatten(1, 2)
    if rays is not None:
        places = torch.from_numpy(rays)[..., None].expand(-1, -1, 3)
        pixels, seen = pixels.gather(1, places[..., :2]), seen.gather(1, places)
    return replace(sample, pixels=pixels[None], colors=seen.to(dtype).div(255)[None])


def ask(
    scene: Scene,
    inputs: Sequence[int],
    extrinsics: np.ndarray,
    intrinsics: np.ndarray,
    frame: Frame = "first",
    dtype: torch.dtype = torch.float32,
) -> ViewBatch:
    """A batch of one sample that asks for all pixels of new cameras, row by row; their colours are 0.

    Args:
        scene: of the views that are given.
        inputs: V rows of them.
        extrinsics: ``[T, 4, 4]`` of the new cameras, in the frame and unit of the scene.
        intrinsics: ``[T, 3, 3]`` in pixels of images of the size of the scene's.
        frame, dtype: see `make_sample`.
    """
    (height, width), num = scene.size, len(inputs)
    poses = torch.from_numpy(np.concatenate([scene.extrinsics[list(inputs)], extrinsics]))
    cameras = torch.from_numpy(np.concatenate([scene.intrinsics[list(inputs)], intrinsics])).to(dtype)[None]
    poses = (relative_poses(poses) if frame == "first" else poses).to(dtype)[None]
    pixels = pixel_centres(height, width, poses).flatten(0, 1).expand(1, len(extrinsics), -1, -1)
    return ViewBatch(
        torch.from_numpy(scene.images[list(inputs)]).movedim(-1, 1).to(dtype).div(255)[None],
        poses[:, :num],
        cameras[:, :num],
        poses[:, num:],
        cameras[:, num:],
        pixels,
        torch.zeros(*pixels.shape[:3], 3, dtype=dtype),
    )


def trial_sample(trial: Trial, frame: Frame = "first", dtype: torch.dtype = torch.float32) -> ViewBatch:
    """A batch of one trial, with all pixels of its target row by row: T = 1, R = H W."""
    return make_sample(trial.scene, trial.inputs, [trial.target], frame=frame, dtype=dtype)


def collate(samples: Sequence[ViewBatch]) -> ViewBatch:
    """A batch of samples of the same sizes."""
    return ViewBatch(*(torch.cat([getattr(sample, field.name) for sample in samples]) for field in fields(ViewBatch)))
