"""Point sets on the sphere: latitude-longitude grids, HEALPix, cubed spheres and scattered stations."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import SphericalVoronoi
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry.sphere_neighbors import geodesic_neighborhood, window_neighborhood
from geoattn.geometry.sphere_points import SpherePoints, geodesic_distance, unit_vectors
from geoattn.geometry.sphere_quadrature import (
    arcs_between_midpoints,
    areas_between_midpoints,
    latitudes,
    recognize,
)

__all__ = [
    "SpherePoints",
    "cubed_sphere",
    "geodesic_distance",
    "geodesic_neighborhood",
    "healpix",
    "lat_lon_grid",
    "lat_lon_points",
    "latitudes",
    "scattered",
    "window_neighborhood",
]

COINCIDENT = 1e-9
"""Distance on the unit sphere below which scattered points are taken for one, six millimetres on the Earth."""


def lat_lon_grid(nlat: int, nlon: int, kind: str = "equiangular") -> SpherePoints:
    """A grid of ``nlat`` rows from north to south and ``nlon`` columns eastwards from longitude 0.

    Args:
        nlat: rows.
        nlon: columns, equally spaced; the last is one step short of 360 degrees.
        kind: of the rows, see `latitudes`. A rule for polynomials of degree L needs ``nlon > L`` too.

    Returns:
        ``nlat * nlon`` points, row by row. Rows at a pole are ``nlon`` points in one place, which share its weight.

    Example:
        >>> grid = lat_lon_grid(5, 8)
        >>> grid.shape, round(float(grid.weight.sum()) / math.pi, 6)
        ((5, 8), 4.0)
    """
    _check_at_least_one(nlon, "nlon")
    colatitude, weight = latitudes(nlat, kind)
    longitude = torch.arange(nlon, dtype=torch.float64) * (2 * math.pi / nlon)
    return _product(colatitude, weight, longitude, torch.full_like(longitude, 2 * math.pi / nlon), kind)


def lat_lon_points(latitude: Tensor, longitude: Tensor) -> SpherePoints:
    """Any rectilinear grid, as files give it: rows north to south or south to north, columns starting anywhere.

    The rows of a kind that `latitudes` knows are recognised, up to the rounding of files, and get its exact angles and
    weights. Others get the area between the midpoints to the neighbouring rows, out to the poles, and columns the arc
    between midpoints. Rows or columns given twice, such as 0 and 360 degrees, share their weight.

    Args:
        latitude: ``[nlat]`` degrees, 90 at the north pole, in any order.
        longitude: ``[nlon]`` degrees eastwards, in any order; -180 .. 180 and 0 .. 360 are the same to it.

    Returns:
        ``nlat * nlon`` points in the order given, of kind "rectilinear" if the rows are of no known kind. A grid that
        covers a part of the sphere stands for all of it: its outer points have the weight of what lies beyond.

    Raises:
        ShapeError: for empty or not finite coordinates, or latitudes beyond 90.

    Example:
        >>> points = lat_lon_points(torch.tensor([-90.0, 0.0, 90.0]), torch.tensor([-180.0, -90.0, 0.0, 90.0]))
        >>> points.kind, points.shape, points.longitude[:4].rad2deg().round().tolist()
        ('equiangular', (3, 4), [180.0, 270.0, 0.0, 90.0])
    """
    _check_degrees(latitude, longitude)
    colatitude = _colatitude(latitude)
    known = recognize(colatitude)
    kind, colatitude, weight = known or ("rectilinear", colatitude, areas_between_midpoints(colatitude))
    radians = longitude.double().deg2rad()
    return _product(colatitude, weight, radians, arcs_between_midpoints(radians), kind)


def healpix(nside: int, order: str = "ring") -> SpherePoints:
    """The pixel centres of HEALPix: ``12 nside^2`` pixels of equal area.

    Args:
        nside: pixels along a side of each of the twelve faces; a power of two for "nested".
        order: "ring", ring by ring from the north, or "nested".

    Raises:
        ShapeError: if one of them does not fit.

    Source: Gorski et al., "HEALPix: a framework for high-resolution discretization and fast analysis of data
    distributed on the sphere", 2005, equations 4 to 9 for the rings; the faces as in its figure 4.

    Example:
        >>> points = healpix(2)
        >>> points.num_points, points.colatitude[0].cos().item()
        (48, 0.9166666666666666)
    """
    if order not in ("ring", "nested"):
        raise ShapeError("order", repr(order), "'ring' or 'nested'")
    if nside < 1 or (order == "nested" and nside & (nside - 1)):
        raise ShapeError("nside", f"{nside}", "at least 1, and a power of two for order='nested'")
    ring, place = _rings(nside) if order == "ring" else _nested(nside)
    cap = torch.minimum(ring, 4 * nside - ring).clamp_max(nside)  # ring counted from the nearer pole
    polar = 1 - cap.double() ** 2 / (3 * nside**2)
    z = torch.where(
        cap < nside, torch.where(ring < nside, polar, -polar), (2 * nside - ring).double() * 2 / (3 * nside)
    )
    half_step = torch.where(cap < nside, 1, (ring - nside + 1) % 2)  # rings of the belt are staggered
    longitude = (place.double() + half_step.double() / 2) * (math.pi / 2) / cap
    weight = torch.full_like(z, 4 * math.pi / len(z))
    return SpherePoints(unit_vectors(z.acos(), longitude), weight, None, f"healpix-{order}")


def _rings(nside: int) -> tuple[Tensor, Tensor]:
    """``[12 nside^2]`` ring 1 .. 4 nside - 1 and place in the ring, of pixels in ring order."""
    ring = torch.arange(1, 4 * nside)
    length = 4 * torch.minimum(ring, 4 * nside - ring).clamp_max(nside)
    start = length.cumsum(0) - length
    return ring.repeat_interleave(length), torch.arange(12 * nside**2) - start.repeat_interleave(length)


def _nested(nside: int) -> tuple[Tensor, Tensor]:
    """The same of pixels in nested order: the bits of a pixel's number in its face alternate between x and y."""
    pixel = torch.arange(12 * nside**2)
    face, rest = pixel // nside**2, pixel % nside**2
    x, y = torch.zeros_like(rest), torch.zeros_like(rest)
    for bit in range(nside.bit_length() - 1):
        x |= ((rest >> (2 * bit)) & 1) << bit
        y |= ((rest >> (2 * bit + 1)) & 1) << bit
    ring = (face // 4 + 2) * nside - x - y - 1
    cap = torch.minimum(ring, 4 * nside - ring).clamp_max(nside)
    column = torch.where(face // 4 == 1, 2 * (face % 4), 2 * (face % 4) + 1)
    half_step = torch.where(cap < nside, 1, (ring - nside + 1) % 2)
    place = (column * cap + x - y - half_step) // 2  # in steps of the ring from its first pixel
    return ring, place % (4 * cap)


def cubed_sphere(n: int) -> SpherePoints:
    """The cell centres of an equiangular cubed sphere: ``6 n^2`` cells, weighted with their exact areas.

    The faces look towards +x, +y, -x, -y, +z, -z; in each, cells go row by row, and cells of equal angle.

    Source: Ronchi, Iacono, Paolucci, "The cubed sphere", 1996.

    Example:
        >>> cubed_sphere(4).num_points
        96
    """
    _check_at_least_one(n, "n")
    edge = (torch.arange(n + 1, dtype=torch.float64) / n - 0.5).mul(math.pi / 2).tan()
    middle = ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5).mul(math.pi / 2).tan()
    # the solid angle of a rectangle of the cube's face, from the centre to a corner
    corner = torch.atan(edge[:, None] * edge / (1 + edge[:, None] ** 2 + edge**2).sqrt())
    area = corner.diff(dim=0).diff(dim=1)
    up, right = torch.meshgrid(middle, middle, indexing="ij")
    one = torch.ones_like(up)
    faces = [
        (one, right, up),
        (-right, one, up),
        (-one, -right, up),
        (right, -one, up),
        (-up, right, one),
        (up, right, -one),
    ]
    xyz = torch.stack([torch.stack(face, -1).flatten(0, 1) for face in faces]).flatten(0, 1)
    return SpherePoints(xyz / xyz.norm(dim=1, keepdim=True), area.flatten().repeat(6), None, "cubed-sphere")


def scattered(latitude: Tensor, longitude: Tensor) -> SpherePoints:
    """Points anywhere, such as stations; each stands for its spherical Voronoi cell.

    Args:
        latitude: ``[N]`` degrees.
        longitude: ``[N]`` degrees eastwards.

    Returns:
        the points in the order given. Points in one place, a pole under several longitudes too, share its cell.

    Raises:
        ShapeError: for shapes that differ, no points, coordinates not finite, or latitudes beyond 90.

    Cost: O(N log N), that of a convex hull.

    Example:
        >>> scattered(torch.tensor([90.0, -90.0, -90.0]), torch.tensor([0.0, 0.0, 120.0])).weight / math.pi
        tensor([2., 1., 1.], dtype=torch.float64)
    """
    _check_degrees(latitude, longitude)
    if latitude.shape != longitude.shape:
        raise ShapeError("longitude", f"shape {tuple(longitude.shape)}", f"as latitude, {tuple(latitude.shape)}")
    xyz = unit_vectors(_colatitude(latitude), longitude.double().deg2rad())
    _, inverse, count = (xyz / COINCIDENT).round().unique(dim=0, return_inverse=True, return_counts=True)
    first = torch.zeros_like(count).scatter_reduce(0, inverse, torch.arange(len(xyz)), "amin", include_self=False)
    area = torch.from_numpy(_voronoi_areas(xyz[first].numpy()))
    area = area * (4 * math.pi / area.sum())
    return SpherePoints(xyz, (area / count)[inverse], None, "scattered")


def _voronoi_areas(xyz: np.ndarray) -> np.ndarray:
    """``[N]`` areas of the cells of distinct points."""
    _, spread, axes = np.linalg.svd(xyz - xyz.mean(0), full_matrices=True)
    if len(xyz) > 3 and spread[2] > COINCIDENT * spread[0]:
        return np.asarray(SphericalVoronoi(xyz).calculate_areas())
    # points of one plane lie on a circle: their cells are wedges between half planes through its axis
    around = np.arctan2(xyz @ axes[1], xyz @ axes[0])
    return arcs_between_midpoints(torch.from_numpy(around)).numpy() * 2


def _product(colatitude: Tensor, row: Tensor, longitude: Tensor, column: Tensor, kind: str) -> SpherePoints:
    xyz = unit_vectors(colatitude[:, None], longitude).flatten(0, 1)
    return SpherePoints(xyz, (row[:, None] * column).flatten(), (len(row), len(column)), kind)


def _colatitude(latitude: Tensor) -> Tensor:
    return (90 - latitude.double()).clamp(0, 180).deg2rad()


def _check_degrees(latitude: Tensor, longitude: Tensor) -> None:
    for name, value in (("latitude", latitude), ("longitude", longitude)):
        if value.ndim != 1 or len(value) == 0:
            raise ShapeError(name, f"shape {tuple(value.shape)}", "one dimension, not empty")
        if not bool(value.isfinite().all()):
            raise ShapeError(name, "nan or inf", "degrees", "Leave out the points without coordinates.")
    if float(latitude.abs().max()) > 90.001:  # files round
        hint = "Are latitude and longitude exchanged?"
        raise ShapeError("latitude", f"up to {float(latitude.abs().max()):g}", "-90 .. 90 degrees", hint)


def _check_at_least_one(number: int, name: str) -> None:
    if number < 1:
        raise ShapeError(name, f"{number}", "at least 1")
