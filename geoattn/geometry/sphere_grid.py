"""Grids on the sphere with quadrature, and the transforms between functions on them and harmonic coefficients."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry._constants import constant
from geoattn.geometry.harmonics import spherical_harmonics


def sphere_grid(num_latitudes: int, num_longitudes: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre latitudes by uniform longitudes, with y as the polar axis.

    The quadrature is exact for harmonics up to degree ``2 num_latitudes - 1`` and order ``num_longitudes - 1``.

    Args:
        num_latitudes: number of Gauss-Legendre nodes in y = cos(colatitude), from the south pole to the north.
        num_longitudes: number of longitudes, the first at z (where x = 0), towards x.

    Returns:
        points ``[num_latitudes * num_longitudes, 3]``, unit vectors, latitude by latitude, and weights of the same
        number that add up to 4 pi. Both float64. They are kept and shared: never write into them.

    Raises:
        ShapeError: unless both numbers are at least 1.

    Example:
        >>> points, weights = sphere_grid(3, 6)
        >>> points.shape, round(float(weights.sum() / math.pi), 6)  # the integral of 1
        (torch.Size([18, 3]), 4.0)
        >>> round(float((weights * points[:, 1] ** 2).sum() / math.pi), 6)  # the integral of y^2
        1.333333
    """
    if min(num_latitudes, num_longitudes) < 1:
        raise ShapeError("num_latitudes, num_longitudes", f"{num_latitudes}, {num_longitudes}", "at least 1 of each")
    size = (num_latitudes, num_longitudes)
    return _points(*size, torch.float64, "cpu"), _weights(*size, torch.float64, "cpu")


def grid_transforms(
    lmax: int, num_latitudes: int, num_longitudes: int, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Matrices from coefficients of orthonormal harmonics to values on a grid, and back.

    Values are ``to_grid @ coefficients``; coefficients are ``from_grid @ values``, the integrals with each harmonic. On
    functions of degree up to lmax the second undoes the first, if the grid has at least lmax + 1 latitudes and
    2 lmax + 1 longitudes; any other function is projected, with an error that falls as the grid is refined.

    Returns:
        to_grid ``[G, S]`` and from_grid ``[S, G]``, S = (lmax+1)^2 in l-major order, G points as in `sphere_grid`.

    Raises:
        ShapeError: if the grid is too coarse for lmax.

    Example:
        >>> to_grid, from_grid = grid_transforms(2, 3, 5, torch.float64)
        >>> bool(torch.allclose(from_grid @ to_grid, torch.eye(9, dtype=torch.float64)))
        True
    """
    if num_latitudes < lmax + 1 or num_longitudes < 2 * lmax + 1:
        raise ShapeError(
            "num_latitudes, num_longitudes",
            f"{num_latitudes}, {num_longitudes}",
            f"at least {lmax + 1}, {2 * lmax + 1} for degrees up to {lmax}",
        )
    size = (num_latitudes, num_longitudes, dtype, device)
    harmonics = _harmonics(lmax, *size)
    return harmonics, (harmonics * _weights(*size)[:, None]).mT


@constant
def _points(num_latitudes: int, num_longitudes: int) -> Tensor:
    y = torch.from_numpy(np.polynomial.legendre.leggauss(num_latitudes)[0])[:, None]
    longitude = torch.arange(num_longitudes, dtype=torch.float64) * (2 * math.pi / num_longitudes)
    radius = (1 - y * y).sqrt()
    x, z = radius * longitude.sin(), radius * longitude.cos()
    return torch.stack([x, y.expand_as(x), z], dim=-1).flatten(0, 1)


@constant
def _weights(num_latitudes: int, num_longitudes: int) -> Tensor:
    weight = torch.from_numpy(np.polynomial.legendre.leggauss(num_latitudes)[1])
    return (weight * (2 * math.pi / num_longitudes)).repeat_interleave(num_longitudes)


@constant
def _harmonics(lmax: int, num_latitudes: int, num_longitudes: int) -> Tensor:
    points, _ = sphere_grid(num_latitudes, num_longitudes)
    return spherical_harmonics(points, lmax, "integral")
