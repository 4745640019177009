"""New cameras on a circle round what the given cameras look at."""

from __future__ import annotations

import numpy as np

from geoattn.errors import InputError

PARALLEL = 1e-2
"""Directions in which the given cameras differ by less, relative to the largest, are left as they are."""


def orbit(extrinsics: np.ndarray, num: int) -> np.ndarray:
    """``[N, 4, 4]`` float64 extrinsics of cameras on a circle through where the given cameras are, on average.

    Its middle is the point nearest to all optical axes, its axis the direction that is level in no camera (the common
    normal of their x axes; cameras with roll make it lean). Height and radius are the means of the given cameras. The
    first camera stands on the side of the first that is given; all look at the middle, without roll. Where the axes
    meet nowhere in front of the cameras, as if all look the same way, the middle lies one mean distance between cameras
    before them.

    Symmetry: goes along with the frame of the world.

    Args:
        extrinsics: ``[V, 4, 4]`` world -> camera, axes of OpenCV.
        num: N, evenly over the whole circle.

    Raises:
        InputError: no cameras, or fewer than 1 is asked for.

    Example:
        >>> pose = np.eye(4)
        >>> pose[2, 3] = 2.0  # two units behind the origin
        >>> cameras = orbit(np.stack([pose, pose @ np.diag([-1.0, 1, -1, 1])]), 4)
        >>> np.allclose(cameras[0], pose), np.allclose(np.linalg.norm(cameras[:, :3, 3], axis=1), 2)
        (True, True)
    """
    if num < 1 or not len(extrinsics):
        raise InputError(f"orbit: got {num} new cameras from {len(extrinsics)} given ones, expected at least 1 each.")
    rotation = extrinsics[:, :3, :3]
    places = -(rotation.swapaxes(1, 2) @ extrinsics[:, :3, 3:])[..., 0]
    up = _upward(rotation)
    middle = _middle(places, rotation[:, 2])
    arms = places - middle
    height = float((arms @ up).mean())
    level = arms - (arms @ up)[:, None] * up
    radius = float(np.linalg.norm(level, axis=1).mean())
    start = level[0] if np.linalg.norm(level[0]) > 1e-6 * (radius + abs(height)) else np.cross(up, rotation[0, 0])
    start = start / np.linalg.norm(start)
    angles = 2 * np.pi * np.arange(num) / num
    around = np.outer(np.cos(angles), start) + np.outer(np.sin(angles), np.cross(up, start))
    return np.stack([_look_at(middle + radius * arm + height * up, middle, up) for arm in around])


def _upward(rotation: np.ndarray) -> np.ndarray:
    """``[3]``: normal to all x axes as nearly as can be, and against the y axes, which point down."""
    down = rotation[:, 1].mean(axis=0)
    _, sizes, axes = np.linalg.svd(rotation[:, 0])
    if len(rotation) > 1 and sizes[1] > PARALLEL:
        up = axes[2]
        return up if up @ down <= 0 else -up
    level = rotation[0, 0]
    up = -(down - (down @ level) * level)
    return up / np.linalg.norm(up)


def _middle(places: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The point nearest to the lines from ``places`` along ``axes [V, 3]``."""
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # a projection onto the plane normal to each axis
    mean = places.mean(axis=0)
    pull = (across @ (places - mean)[..., None])[..., 0].sum(axis=0)
    middle = mean + np.linalg.pinv(across.sum(axis=0), rcond=PARALLEL, hermitian=True) @ pull
    if ((middle - places) * axes).sum(axis=1).min() > 0:
        return middle
    apart = np.linalg.norm(places - mean, axis=1).mean()
    forward = axes.mean(axis=0)
    size = np.linalg.norm(forward)
    return mean + (apart or 1.0) * (forward / size if size > 1e-6 else axes[0])


def _look_at(eye: np.ndarray, aim: np.ndarray, up: np.ndarray) -> np.ndarray:
    """``[4, 4]`` extrinsics of a camera at ``eye`` that looks at ``aim``, its x axis normal to ``up``."""
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9:  # straight down: any level axis will do
        right = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose
