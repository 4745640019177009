"""Which points of the sphere look at which: geodesic disks, and their planar twin, windows of pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry.sphere_points import SpherePoints
from geoattn.kernels import Neighborhood, radius

WIDER = 1e-3
"""The fraction by which a cutoff is enlarged: points at exactly one grid spacing are inside, whatever the rounding."""


def geodesic_neighborhood(targets: SpherePoints, sources: SpherePoints, cutoff: float) -> Neighborhood:
    """All sources within a great-circle distance of each target, the point itself among them.

    Args:
        targets: N points.
        sources: Ns points; may be the same object.
        cutoff: radians; enlarged by a thousandth, as torch-harmonics does. From pi on all pairs are joined.

    Returns:
        a Neighborhood of N targets and Ns sources, each target's sources ascending, which is the caller's order too. A
        target with no source near has no edges.

    Raises:
        ShapeError: if the cutoff is not above 0.

    Cost: O(N log N + E log E) time, O(E) memory, by the search of `geoattn.kernels.radius` on chords. Near the poles of
    a grid the disks hold many points: E is well above N times that of the equator.

    Symmetry: invariant to rotating both point sets together.

    Example:
        >>> from geoattn.geometry.sphere import lat_lon_grid
        >>> grid = lat_lon_grid(9, 16)
        >>> geodesic_neighborhood(grid, grid, 0.4).degree[:64:16].tolist()
        [32, 22, 5, 5]
    """
    if not cutoff > 0:
        raise ShapeError("cutoff", f"{cutoff}", "an angle in radians above 0")
    angle = cutoff * (1 + WIDER)
    chord = math.inf if angle >= math.pi else 2 * math.sin(angle / 2)
    found = radius(sources.xyz, targets.xyz, chord)
    order = (found.target * sources.num_points + found.source).argsort()
    return Neighborhood.from_csr(
        found.row_ptr, found.source[order], found.target, targets.num_points, sources.num_points
    )


def window_neighborhood(shape_out: tuple[int, int], shape_in: tuple[int, int], size: int) -> Neighborhood:
    """Windows of pixels on an equirectangular image: what a planar network would look at.

    A target looks at ``size`` rows and columns around its own place in the source grid; columns wrap round, rows end at
    the poles. The same at every latitude, so near the poles a window is a sliver.

    Args:
        shape_out: (rows, columns) of the targets.
        shape_in: those of the sources.
        size: pixels along each side; at most as many columns as there are are taken.

    Returns:
        a Neighborhood in the caller's order, each target's sources row by row from the north.

    Raises:
        ShapeError: if ``size`` is below 1 or a grid is empty.

    Example:
        >>> window_neighborhood((4, 8), (4, 8), 3).degree.view(4, 8)[:, 0].tolist()
        [6, 9, 9, 6]
    """
    if size < 1 or min(*shape_out, *shape_in) < 1:
        raise ShapeError("size", f"{size} on grids {shape_out} and {shape_in}", "at least 1, and grids with pixels")
    # rows are taken as bands, columns as points: longitude 0 stays longitude 0
    middle_row = (2 * torch.arange(shape_out[0]) + 1) * shape_in[0] // (2 * shape_out[0])
    middle_column = (torch.arange(shape_out[1]) * shape_in[1] + shape_out[1] // 2) // shape_out[1]
    rows = _around(middle_row, size)
    columns = _around(middle_column, min(size, shape_in[1])) % shape_in[1]
    in_grid = (rows >= 0) & (rows < shape_in[0])
    shape = (shape_out[0], shape_out[1], rows.shape[1], columns.shape[1])
    source = (rows[:, None, :, None] * shape_in[1] + columns[None, :, None, :]).expand(shape).flatten()
    kept = in_grid[:, None, :, None].expand(shape).flatten()
    num_targets, num_sources = math.prod(shape_out), math.prod(shape_in)
    target = torch.arange(num_targets).repeat_interleave(shape[2] * shape[3])[kept]
    return Neighborhood.from_edge_index(torch.stack([source[kept], target]), num_targets, num_sources)


def _around(middle: Tensor, size: int) -> Tensor:
    """``[M, size]`` the places around each middle."""
    return middle[:, None] + torch.arange(size) - size // 2
