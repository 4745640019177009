"""Cameras: checks of poses and conversions between conventions.

A camera is ``extrinsics`` ``[4, 4]``, which takes world to camera coordinates, ``x_camera = E x_world``, with the axes
of OpenCV (x right, y down, z forward), and ``intrinsics``, see `geoattn.geometry.rays`. Everything else is converted at
the boundary, by the functions here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from geoattn.errors import ShapeError, nearest_hint

TOLERANCE = 1e-3  # of R^T R - 1; files keep four to seven digits of a rotation


def check_poses(name: str, poses: Tensor, *, tolerance: float = TOLERANCE) -> Tensor:
    """The poses ``[..., 4, 4]`` as they came, after the check that each is a rigid motion.

    Args:
        name: what the caller calls them, for the message.
        poses: ``[..., 4, 4]`` floating-point.
        tolerance: largest entry of ``R^T R - 1`` and of the last row minus (0, 0, 0, 1).

    Raises:
        ShapeError: if a pose is not finite, its rotation is not orthogonal with determinant +1, or its last row is not
            (0, 0, 0, 1). The message says which pose and what to do. Values are not checked inside ``torch.compile``.

    Example:
        >>> import torch
        >>> check_poses("extrinsics", torch.eye(4).expand(3, 4, 4)).shape
        torch.Size([3, 4, 4])
    """
    if poses.ndim < 2 or poses.shape[-2:] != (4, 4) or not poses.is_floating_point():
        hint = "Append the row (0, 0, 0, 1)." if poses.shape[-2:] == (3, 4) else ""
        raise ShapeError(name, f"{poses.dtype} of shape {tuple(poses.shape)}", "floating-point [..., 4, 4]", hint)
    if torch.compiler.is_compiling() or poses.numel() == 0:
        return poses
    wide = poses.detach().double()
    rotation = wide[..., :3, :3]
    identity = torch.eye(4, dtype=wide.dtype, device=wide.device)
    gram = (rotation.mT @ rotation - identity[:3, :3]).abs().amax((-2, -1))
    last = (wide[..., 3, :] - identity[3]).abs().amax(-1)
    determinant = torch.linalg.det(torch.nan_to_num(rotation))
    _first_bad(name, ~wide.isfinite().all(-1).all(-1), gram, "a pose that is not finite", "finite numbers", "")
    hint = "Transpose it? The pose of a view that is not there must be the identity."
    _first_bad(name, last > tolerance, last, "a last row off (0, 0, 0, 1) by {:.3g}", "0, 0, 0, 1", hint)
    hint = "Divide the rotation by its scale, or project it onto rotations by an SVD."
    _first_bad(name, gram > tolerance, gram, "R^T R off the identity by {:.3g}", f"at most {tolerance:g}", hint)
    hint = "The axes are left-handed: flip one of them (x, y or z) of the camera or of the world."
    _first_bad(name, determinant < 0, determinant, "determinant {:.3g}", "a rotation, determinant +1", hint)
    return poses


def _first_bad(name: str, bad: Tensor, value: Tensor, got: str, expected: str, hint: str) -> None:
    if bool(bad.any()):
        place = bad.nonzero()[0].tolist()
        where = f"{name}{place}" if place else name
        raise ShapeError(where, got.format(float(value[tuple(place)])), expected, hint)


def invert_pose(pose: Tensor) -> Tensor:
    """The inverse ``[..., 4, 4]`` of rigid motions, exact: world -> camera becomes camera -> world and back.

    Example:
        >>> import torch
        >>> shift = torch.eye(4)
        >>> shift[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
        >>> invert_pose(shift)[:3, 3].tolist()
        [-1.0, -2.0, -3.0]
    """
    rotation = pose[..., :3, :3].mT
    return _pose(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def _pose(rotation: Tensor, translation: Tensor) -> Tensor:
    upper = torch.cat([rotation, translation[..., None]], -1)
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], -2)


def from_opengl(camera_to_world: Tensor) -> Tensor:
    """Extrinsics of poses camera -> world with OpenGL's camera axes (x right, y up, z backward).

    These are the ``transform_matrix`` of NeRF's files, and ``matrix_world`` of a camera in Blender. The world stays as
    it is (Blender's z points up).

    Raises:
        ShapeError: as `check_poses`.

    Example:
        >>> import torch
        >>> from_opengl(torch.eye(4)).diagonal().tolist()
        [1.0, -1.0, -1.0, 1.0]
    """
    check_poses("camera_to_world", camera_to_world)
    return invert_pose(camera_to_world * camera_to_world.new_tensor([1.0, -1.0, -1.0, 1.0]))


def to_opengl(extrinsics: Tensor) -> Tensor:
    """Poses camera -> world with OpenGL's, NeRF's and Blender's camera axes; the inverse of `from_opengl`."""
    check_poses("extrinsics", extrinsics)
    return invert_pose(extrinsics) * extrinsics.new_tensor([1.0, -1.0, -1.0, 1.0])


def from_colmap(quaternion: Tensor, translation: Tensor) -> Tensor:
    """Extrinsics of COLMAP's ``images.txt``: a quaternion (w, x, y, z) and a translation, world -> camera.

    Args:
        quaternion: ``[..., 4]``, real part first; normalised here. q and -q are the same rotation.
        translation: ``[..., 3]``, the world's origin in camera coordinates (not the camera's place).

    Returns:
        ``[..., 4, 4]``.

    Raises:
        ShapeError: if a shape does not fit or a quaternion is zero.

    Example:
        >>> import torch
        >>> from_colmap(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.0]))[2].tolist()
        [0.0, 0.0, 1.0, 2.0]
    """
    if quaternion.shape[-1:] != (4,) or translation.shape != (*quaternion.shape[:-1], 3):
        got = f"shapes {tuple(quaternion.shape)} and {tuple(translation.shape)}"
        raise ShapeError("quaternion, translation", got, "[..., 4] (w, x, y, z) and [..., 3]")
    norm = quaternion.norm(dim=-1, keepdim=True)
    if not torch.compiler.is_compiling() and bool((norm == 0).any()):
        raise ShapeError("quaternion", "a zero quaternion", "a rotation (w, x, y, z)")
    w, x, y, z = (quaternion / norm).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return _pose(torch.stack(entries, -1).unflatten(-1, (3, 3)), translation)


def to_colmap(extrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Quaternions ``[..., 4]`` (w, x, y, z; w not negative) and translations ``[..., 3]`` of extrinsics."""
    check_poses("extrinsics", extrinsics)
    r = extrinsics[..., :3, :3]
    # 4 q q^T, whose largest column is q times a number that is not small, at every rotation
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    trace = diagonal.sum(-1, keepdim=True)
    squares = torch.cat([1 + trace, 1 + 2 * diagonal - trace], -1)
    a = torch.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1)
    symmetric = r + r.mT - torch.diag_embed(2 * diagonal)
    outer = torch.cat(
        [torch.cat([squares[..., :1], a], -1)[..., None, :], torch.cat([a[..., None], symmetric], -1)], -2
    )
    outer = outer + torch.diag_embed(torch.cat([torch.zeros_like(trace), squares[..., 1:]], -1))
    column = squares.argmax(-1, keepdim=True)[..., None].expand(*squares.shape[:-1], 4, 1)
    quaternion = outer.gather(-1, column)[..., 0]
    quaternion = quaternion * torch.where(quaternion[..., :1] < 0, -1.0, 1.0)
    return quaternion / quaternion.norm(dim=-1, keepdim=True), extrinsics[..., :3, 3]


def relative_poses(
    extrinsics: Tensor, reference: Literal["first", "mean"] = "first", *, mask: Tensor | None = None
) -> Tensor:
    """The same cameras in a world that goes along with them: ``E_i E_ref^-1``, computed in float64.

    What depends on relative poses alone does not change, and numbers no longer grow with the world's coordinates: a
    scene 10 km off the origin has the rounding of one at the origin.

    Args:
        extrinsics: ``[..., V, 4, 4]`` world -> camera; give them in float64 if the world is large.
        reference: "first": the new world is the first camera. "mean": its axes are the first camera's and its origin
            is the mean of the cameras' places. (A mean of rotations is not defined for cameras on a ring.)
        mask: ``[..., V]`` bool, True for views that are there; the others become the identity. The first must be.

    Returns:
        ``[..., V, 4, 4]`` in the dtype of ``extrinsics``.

    Raises:
        ShapeError: as `check_poses`, of a view that is there; for an unknown reference or a mask that does not fit.

    Symmetry: invariant to the world's frame.

    Example:
        >>> import torch
        >>> bool((relative_poses(torch.eye(4).expand(2, 4, 4)) == torch.eye(4)).all())
        True
    """
    if reference not in ("first", "mean"):
        raise ShapeError("reference", f"{reference!r}", '"first" or "mean"', nearest_hint(reference, ["first", "mean"]))
    wide = extrinsics.double()
    if mask is not None:
        if mask.shape != extrinsics.shape[:-2] or mask.dtype != torch.bool or not bool(mask[..., 0].all()):
            expected = f"bool {tuple(extrinsics.shape[:-2])}, the first view of each scene True"
            raise ShapeError("mask", f"{mask.dtype} of shape {tuple(mask.shape)}", expected)
        identity = torch.eye(4, dtype=wide.dtype, device=wide.device)
        wide = torch.where(mask[..., None, None], wide, identity)
    check_poses("extrinsics", wide)
    camera_to_world = invert_pose(wide)
    origin = camera_to_world[..., :1, :, :]
    if reference == "mean":
        places = camera_to_world[..., :3, 3]
        there = torch.ones_like(places[..., :1]) if mask is None else mask[..., None].to(places.dtype)
        mean = (places * there).sum(-2, keepdim=True) / there.sum(-2, keepdim=True)
        origin = _pose(origin[..., :3, :3], mean)
    relative = wide @ origin
    if mask is not None:
        relative = torch.where(mask[..., None, None], relative, identity)
    return relative.to(extrinsics.dtype)
