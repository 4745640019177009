"""`SpherePoints`: points of the unit sphere with the area each stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geoattn.errors import ShapeError

AT_POLE = 1e-17
"""Distance from the axis that points of a pole get, so that they keep their longitude; rounded away in 1 + AT_POLE."""


@dataclass(frozen=True, eq=False)
class SpherePoints:
    r"""Points on the unit sphere and quadrature weights, so that :math:`\int f \approx \sum_a w_a f(x_a)`.

    Colatitude runs from 0 at the north pole to pi, longitude from 0 to 2 pi eastwards. z points to the north pole, x to
    latitude 0, longitude 0, y to latitude 0, 90 degrees east.

    Attributes:
        xyz: ``[N, 3]`` float64 unit vectors.
        weight: ``[N]`` float64, steradians, all positive; they sum to 4 pi.
        shape: (rows of latitude, columns) if the points are those of a grid, row by row, else None.
        kind: what made them, e.g. "equiangular" or "healpix-ring".
    """

    xyz: Tensor
    weight: Tensor
    shape: tuple[int, int] | None
    kind: str

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3:
            raise ShapeError("xyz", f"shape {tuple(self.xyz.shape)}", "[N, 3]")
        if self.weight.shape != self.xyz.shape[:1]:
            raise ShapeError("weight", f"shape {tuple(self.weight.shape)}", f"[N] with N = {len(self.xyz)} as in xyz")
        if self.shape is not None and math.prod(self.shape) != len(self.xyz):
            raise ShapeError("shape", f"{self.shape}", f"rows times columns = N = {len(self.xyz)}")

    @property
    def num_points(self) -> int:
        """N."""
        return len(self.xyz)

    @property
    def colatitude(self) -> Tensor:
        """``[N]`` float64 radians, 0 (north) to pi."""
        return torch.atan2(self.xyz[:, :2].norm(dim=1), self.xyz[:, 2])

    @property
    def longitude(self) -> Tensor:
        """``[N]`` float64 radians in [0, 2 pi)."""
        longitude = torch.atan2(self.xyz[:, 1], self.xyz[:, 0])
        return torch.where(longitude < 0, longitude + 2 * math.pi, longitude) % (2 * math.pi)


def unit_vectors(colatitude: Tensor, longitude: Tensor) -> Tensor:
    """``[..., 3]`` float64 from angles in radians that broadcast; a pole keeps its longitude (`AT_POLE`)."""
    colatitude, longitude = torch.broadcast_tensors(colatitude.double(), longitude.double())
    from_axis = colatitude.sin().clamp_min(AT_POLE)
    return torch.stack([from_axis * longitude.cos(), from_axis * longitude.sin(), colatitude.cos()], -1)


def geodesic_distance(a: Tensor, b: Tensor) -> Tensor:
    """``[...]`` angle in radians between unit vectors ``[..., 3]``, accurate for small and large ones."""
    a, b = torch.broadcast_tensors(a, b)
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))
