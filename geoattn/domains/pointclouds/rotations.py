"""Random rotations of point clouds: none, about the up axis, or any."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError, nearest_hint

Rotations = Literal["none", "z", "SO3"]
KINDS = ("none", "z", "SO3")
AXES = "xyz"


def random_rotation(rng: np.random.Generator, kind: Rotations = "SO3", up: Literal["x", "y", "z"] = "z") -> np.ndarray:
    """``[3, 3]`` float64, to be applied as ``points @ rotation.T``.

    Args:
        rng: what it is drawn from.
        kind: ``"SO3"`` for a rotation drawn uniformly, ``"z"`` for one about the up axis by a uniform angle,
            ``"none"`` for the identity.
        up: the axis that points up in the data, for ``kind="z"``.

    Raises:
        InputError: an unknown kind or axis.

    Example:
        >>> rotation = random_rotation(np.random.default_rng(0), "z", up="y")
        >>> bool(np.allclose(rotation @ [0, 1, 0], [0, 1, 0]))
        True
    """
    if kind not in KINDS:
        raise InputError(f"rotations: got {kind!r}. {nearest_hint(str(kind), KINDS)}")
    if up not in AXES or len(up) != 1:
        raise InputError(f"up: got {up!r}, expected 'x', 'y' or 'z'.")
    if kind == "none":
        return np.eye(3)
    if kind == "SO3":
        return from_quaternion(rng.normal(size=4))
    half = rng.uniform(0, np.pi)
    return from_quaternion(np.r_[np.cos(half), np.sin(half) * np.eye(3)[AXES.index(up)]])


def from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """The rotation of ``quaternion [..., 4]`` (w, x, y, z) of any length but 0, as ``[..., 3, 3]``.

    Drawn from a normal distribution, quaternions have all directions alike, and so give uniform rotations.
    """
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotated(cloud: Cloud, rotation: np.ndarray) -> Cloud:
    """The cloud turned about its origin by ``rotation [3, 3]``, normals too."""
    turn = rotation.T.astype(np.float32)
    normals = None if cloud.normals is None else cloud.normals @ turn
    return replace(cloud, points=cloud.points @ turn, normals=normals)
