"""Rays through pixels and projection of points: intrinsics of cameras together with their poses.

Intrinsics are ``[3, 3]`` in pixels; pixel (row 0, column 0) has its centre at (u, v) = (0.5, 0.5). Poses are those of
`geoattn.geometry.cameras`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry.cameras import invert_pose


def scale_intrinsics(intrinsics: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Intrinsics ``[..., 3, 3]`` of images resized from ``size`` to ``new_size``, both (height, width).

    With centres of pixels at +0.5 the image's corner is (0, 0) at every size, and all entries scale alike.

    Example:
        >>> import torch
        >>> K = torch.tensor([[100.0, 0.0, 64.0], [0.0, 100.0, 32.0], [0.0, 0.0, 1.0]])
        >>> scale_intrinsics(K, (64, 128), (32, 64))[0].tolist()
        [50.0, 0.0, 32.0]
    """
    _check_intrinsics(intrinsics)
    factor = intrinsics.new_tensor([new_size[1] / size[1], new_size[0] / size[0], 1.0])
    return intrinsics * factor[:, None]


def pixel_rays(
    intrinsics: Tensor,
    extrinsics: Tensor,
    height: int | None = None,
    width: int | None = None,
    *,
    uv: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The rays through pixels, in world coordinates: where the camera stands, and unit directions.

    Args:
        intrinsics: ``[..., 3, 3]``.
        extrinsics: ``[..., 4, 4]`` world -> camera.
        height: H, rows of the image, for the centres of all its pixels;
        width: W, its columns;
        uv: or ``[..., P, 2]`` places (u to the right, v down) in pixels, instead of ``height`` and ``width``.

    Returns:
        ``(origin, direction)``, each ``[..., H, W, 3]``, or ``[..., P, 3]`` for ``uv``.

    Raises:
        ShapeError: if a shape does not fit, or neither or both of ``uv`` and the size are given.

    Example:
        >>> import torch
        >>> K = torch.tensor([[10.0, 0.0, 0.5], [0.0, 10.0, 0.5], [0.0, 0.0, 1.0]])
        >>> origin, direction = pixel_rays(K, torch.eye(4), height=1, width=1)
        >>> direction.tolist()
        [[[0.0, 0.0, 1.0]]]
    """
    _check_intrinsics(intrinsics)
    if extrinsics.shape[-2:] != (4, 4):
        raise ShapeError("extrinsics", f"shape {tuple(extrinsics.shape)}", "[..., 4, 4]")
    if (uv is None) == (height is None or width is None):
        raise ShapeError("uv", "both or neither of uv and (height, width)", "one of them")
    if uv is None:
        assert height is not None and width is not None
        origin, direction = pixel_rays(
            intrinsics, extrinsics, uv=pixel_centres(height, width, intrinsics).flatten(0, 1)
        )
        return origin.unflatten(-2, (height, width)), direction.unflatten(-2, (height, width))
    if uv.ndim < 2 or uv.shape[-1] != 2:
        raise ShapeError("uv", f"shape {tuple(uv.shape)}", "[..., P, 2]")
    homogeneous = torch.cat([uv, torch.ones_like(uv[..., :1])], -1)
    camera = homogeneous @ torch.linalg.inv(intrinsics).mT
    direction = torch.nn.functional.normalize(camera @ extrinsics[..., :3, :3], dim=-1)  # rows: R^T d
    origin = invert_pose(extrinsics)[..., None, :3, 3]
    return origin.expand(direction.shape), direction


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """``[H, W, 2]`` places (u, v) of the centres of an image's pixels, in pixels; dtype and device of ``like``."""
    v, u = (torch.arange(n, dtype=like.dtype, device=like.device) + 0.5 for n in (height, width))
    return torch.stack([u.expand(height, width), v[:, None].expand(height, width)], -1)


def pluecker(origin: Tensor, direction: Tensor) -> Tensor:
    """Plücker coordinates ``[..., 6]`` of rays: the direction and the moment ``origin x direction``.

    They do not depend on which point of the ray the origin is.

    Example:
        >>> import torch
        >>> pluecker(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([0.0, 0.0, 1.0])).tolist()
        [0.0, 0.0, 1.0, 0.0, -1.0, 0.0]
    """
    return torch.cat([direction, torch.linalg.cross(origin, direction)], -1)


def project(points: Tensor, intrinsics: Tensor, extrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Where points of the world fall in an image: ``(uv [..., P, 2] in pixels, depth [..., P])``.

    Args:
        points: ``[..., P, 3]`` in world coordinates.
        intrinsics: ``[..., 3, 3]``.
        extrinsics: ``[..., 4, 4]`` world -> camera.

    A point with a depth of 0 or less is not in front of the camera, and its uv means nothing.

    Example:
        >>> import torch
        >>> uv, depth = project(torch.tensor([[0.0, 0.0, 2.0]]), torch.eye(3), torch.eye(4))
        >>> uv.tolist(), depth.tolist()
        ([[0.0, 0.0]], [2.0])
    """
    camera = points @ extrinsics[..., :3, :3].mT + extrinsics[..., None, :3, 3]
    image = camera @ intrinsics.mT
    return image[..., :2] / image[..., 2:], camera[..., 2]


def _check_intrinsics(intrinsics: Tensor) -> None:
    if intrinsics.shape[-2:] != (3, 3):
        raise ShapeError("intrinsics", f"shape {tuple(intrinsics.shape)}", "[..., 3, 3]")
