"""A scene seen by several cameras, after its reader checked it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from geoattn.domains.records import RecordError
from geoattn.errors import ShapeError
from geoattn.geometry.cameras import check_poses

NO_UNIT = "Give more views, or train with --data.unit data, where scenes share a unit."
STILL = 1e-9
"""Cameras that are nearer to each other stand in one place."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Images of one scene and the cameras that took them.

    Images stay uint8: a quarter of the memory of float32, and files hold no more.

    Attributes:
        id: its name.
        images: ``[V, H, W, 3]`` uint8 RGB.
        extrinsics: ``[V, 4, 4]`` float64, world -> camera; camera axes as OpenCV has them (x right, y down, z forward).
        intrinsics: ``[V, 3, 3]`` float64 in pixels of ``images``; the centre of the first pixel is (0.5, 0.5).
        views: V names, one per image.
        file: where it stands.
        scale: lengths of the file are ``scale`` times the lengths here.
    """

    id: str
    images: np.ndarray
    extrinsics: np.ndarray
    intrinsics: np.ndarray
    views: list[str]
    file: str
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[1], self.images.shape[2]

    def take(self, rows: Sequence[int]) -> Scene:
        """The scene with these views alone, in this order."""
        return replace(
            self,
            images=self.images[list(rows)],
            extrinsics=self.extrinsics[list(rows)],
            intrinsics=self.intrinsics[list(rows)],
            views=[self.views[row] for row in rows],
        )


def camera_distance(scene: Scene) -> float:
    """Mean distance of the cameras from the middle between them, in the unit of the scene.

    Example:
        >>> poses = np.tile(np.eye(4), (2, 1, 1))
        >>> poses[:, 0, 3] = [-3.0, 3.0]
        >>> camera_distance(Scene("a", np.zeros((2, 4, 4, 3), np.uint8), poses, np.tile(np.eye(3), (2, 1, 1)), [], ""))
        3.0
    """
    places = -(scene.extrinsics[:, :3, :3].swapaxes(1, 2) @ scene.extrinsics[:, :3, 3:])[..., 0]
    return float(np.linalg.norm(places - places.mean(axis=0), axis=1).mean())


def in_unit(scene: Scene, unit: float) -> Scene:
    """The same scene with lengths in a new unit, which is ``unit`` of the old ones; images do not change."""
    extrinsics = scene.extrinsics.copy()
    extrinsics[:, :3, 3] /= unit
    return replace(scene, extrinsics=extrinsics, scale=scene.scale * unit)


def in_unit_of(scene: Scene, given: Sequence[int]) -> Scene:
    """The same scene in the unit of length that the given views alone know: `camera_distance` of their cameras.

    Raises:
        RecordError: one view is given, or the cameras of all stand in one place.
    """
    if len(given) < 2:
        reason = "one given view knows no unit of length, the mean distance of cameras from their middle"
        raise RecordError("given views", " ".join(scene.views[row] for row in given), reason, NO_UNIT)
    unit = camera_distance(scene.take(given))
    if unit < STILL:
        reason = "their cameras stand in one place, which gives no unit of length"
        raise RecordError("given views", " ".join(scene.views[row] for row in given), reason, NO_UNIT)
    return in_unit(scene, unit)


def check_apart(scene: Scene, num: int) -> None:
    """Refuse a scene of which ``num`` views may stand in one place, so that they know no unit of length.

    Raises:
        RecordError: there are such views; as `in_unit_of`.
    """
    rotation, shift = scene.extrinsics[:, :3, :3], scene.extrinsics[:, :3, 3:]
    places = -(rotation.swapaxes(1, 2) @ shift)[..., 0]
    for place in places:
        here = np.flatnonzero(np.linalg.norm(places - place, axis=1) < 2 * STILL).tolist()
        if len(here) >= num:
            in_unit_of(scene, here[:num])


def check_scene(scene: Scene) -> None:
    """Refuse a scene whose cameras cannot have taken its images; see `check_cameras`.

    Raises:
        RecordError: for images of another shape, and as `check_cameras`.
    """
    if scene.images.ndim != 4 or scene.images.shape[3] != 3 or scene.images.dtype != np.uint8:
        raise RecordError("images", f"{scene.images.dtype} {scene.images.shape}", "expected uint8 [V, H, W, 3]")
    check_cameras(scene.views, scene.extrinsics, scene.intrinsics, [scene.size] * len(scene))


def check_cameras(
    views: Sequence[str], extrinsics: np.ndarray, intrinsics: np.ndarray, sizes: Sequence[tuple[int, int]]
) -> None:
    """Refuse cameras that cannot have taken images of these sizes.

    Args:
        views: V names.
        extrinsics: ``[V, 4, 4]`` world -> camera.
        intrinsics: ``[V, 3, 3]`` in pixels.
        sizes: V heights and widths in pixels, one per image.

    Raises:
        RecordError: images and cameras differ in number, two views have one name, values are not numbers, a rotation is
            not orthogonal or mirrors, a focal length is not positive, a principal point lies outside its image. The
            message names the view.
    """
    num = len(sizes)
    if num == 0:
        raise RecordError("images", 0, "the scene has no view")
    for name, values, shape in (("extrinsics", extrinsics, (4, 4)), ("intrinsics", intrinsics, (3, 3))):
        if values.shape != (num, *shape):
            expected = f"{num} images need shape {(num, *shape)}"
            raise RecordError(name, f"shape {values.shape}", expected, "Give one per image.")
    if len(views) != num:
        raise RecordError("views", len(views), f"expected {num} names, one for each image")
    if len(set(views)) < num:
        repeated = next(view for k, view in enumerate(views) if view in views[:k])
        raise RecordError("views", repeated, "two images of the scene have this name")
    for view, pose, camera, size in zip(views, extrinsics, intrinsics, sizes, strict=True):
        _check_pose(view, pose)
        _check_intrinsics(view, camera, *size)


def _check_pose(view: str, pose: np.ndarray) -> None:
    try:
        check_poses("pose", torch.from_numpy(np.asarray(pose, dtype=np.float64)))
    except ShapeError as error:
        raise RecordError(f"pose of {view}", error.got, f"expected {error.expected}", error.hint) from error


def _check_intrinsics(view: str, camera: np.ndarray, height: int, width: int) -> None:
    name = f"intrinsics of {view}"
    if not np.isfinite(camera).all():
        raise RecordError(name, camera.tolist(), "they hold values that are not numbers")
    if not (camera[0, 0] > 0 and camera[1, 1] > 0):
        raise RecordError(name, f"focal lengths {camera[0, 0]:g}, {camera[1, 1]:g}", "they must be above 0")
    if not (0 <= camera[0, 2] <= width and 0 <= camera[1, 2] <= height):
        where = f"principal point ({camera[0, 2]:g}, {camera[1, 2]:g})"
        hint = "Do the intrinsics belong to images of another size?"
        raise RecordError(name, where, f"it lies outside the image of {width} x {height} pixels", hint)
    if np.abs(np.delete(camera.ravel(), [0, 2, 4, 5]) - [0, 0, 0, 0, 1]).max() > 1e-6:
        raise RecordError(name, camera.tolist(), "expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
