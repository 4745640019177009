"""`voxel_grid`: which cell of a regular grid each point lies in, batched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._operation import uncompiled
from geoattn.kernels._search import check_cloud, check_finite, check_integers, checked_pointer
from geoattn.kernels.neighborhood import Neighborhood

LARGEST_KEY = 2**62
LARGEST_CELL = 2.0**60
"""Cells are counted in int64; the difference of two stays within it."""


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """The cells that hold points, sorted by graph and then by their places, first dimension first.

    Attributes:
        cell_of_point: ``[N]`` int64, the row of ``cells`` of each point.
        cells: ``[V, D]`` int64, ``floor((x - origin) / size)`` of each cell.
        ptr: ``[B+1]`` int64, where each graph begins in ``cells``, and V.
        first: ``[V]`` int64, the point of lowest index in each cell.

    Example:
        >>> grid = voxel_grid(torch.tensor([[0.1], [2.5], [0.9]]), 1.0)
        >>> grid.cells.flatten().tolist(), grid.cell_of_point.tolist(), grid.first.tolist()
        ([0, 2], [0, 1, 0], [0, 1])
    """

    cell_of_point: Tensor
    cells: Tensor
    ptr: Tensor
    first: Tensor

    @cached_property
    def neighborhood(self) -> Neighborhood:
        """The points (sources) of each cell (target): ``segment_reduce(x, grid.neighborhood, "mean")``."""
        points = torch.arange(len(self.cell_of_point), device=self.cells.device)
        edges = torch.stack([points, self.cell_of_point])
        return Neighborhood.from_edge_index(edges, len(self.cells), len(points))


@uncompiled  # the number of cells depends on the values
def voxel_grid(x: Tensor, size: float, *, ptr: Tensor | None = None, origin: Tensor | None = None) -> VoxelGrid:
    """The cells ``floor((x - origin) / size)`` that hold points, for thinning clouds and for pooling.

    Computed in float64, each step rounded, so all devices agree. A point on a face belongs to the cell above it. Cells
    of different graphs are different, and no two cells share a key however wide the cloud is.

    Args:
        x: ``[N, D]`` coordinates.
        size: length of the cells' sides, in the unit of the coordinates.
        ptr: ``[B+1]`` integers, where each graph begins in ``x``, and N; None: all points are one graph. Graphs may be
            empty.
        origin: ``[D]`` a corner of the grid; None: 0.

    Returns:
        a :class:`VoxelGrid`. ``x[grid.first]`` thins a cloud to one point per cell; ``segment_reduce(features,
        grid.neighborhood, "mean")`` pools features.

    Raises:
        ShapeError: for shapes, dtypes, graphs, sizes or origins that do not fit, for nan or inf among the coordinates,
            and where a cell's number would exceed 2^60.

    Symmetry: equivariant to permutation (``first`` apart) and to shifts by whole cells; no other.

    Cost: O(N log N) time, O(N D) memory. Under ``torch.compile`` the graph breaks here.

    Example:
        >>> import torch
        >>> grid = voxel_grid(torch.tensor([[0.5], [-0.5], [1.0], [0.1]]), 1.0)
        >>> grid.cells.flatten().tolist(), grid.cell_of_point.tolist(), grid.first.tolist()
        ([-1, 0, 1], [1, 0, 2, 1], [1, 0, 2])
    """
    check_cloud("x", x)
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
        raise ShapeError("size", repr(size), "a positive length")
    check_integers("ptr", ptr, "[B+1]")
    check_finite("x", x)
    ptr = checked_pointer("ptr", ptr, x)
    cell = _cells(x.detach().double(), size, origin)
    graph = torch.repeat_interleave(torch.arange(len(ptr) - 1, device=x.device), ptr.diff())
    keys, cell_of_point = torch.unique(_ordered_keys([graph, *cell.unbind(1)]), return_inverse=True)
    points = torch.arange(len(x), device=x.device)
    first = points.new_empty(len(keys)).scatter_reduce(0, cell_of_point, points, "amin", include_self=False)
    starts = torch.searchsorted(graph[first], torch.arange(len(ptr), device=x.device))
    return VoxelGrid(cell_of_point, cell[first], starts, first)


def _cells(x: Tensor, size: float, origin: Tensor | None) -> Tensor:
    """``[N, D]`` int64."""
    if origin is not None:
        if not isinstance(origin, Tensor) or origin.shape != x.shape[1:] or not origin.isfinite().all():
            got = f"{tuple(origin.shape)} {origin.tolist()}" if isinstance(origin, Tensor) else repr(origin)
            raise ShapeError("origin", got, f"a tensor of {x.shape[1]} finite coordinates")
        x = x - origin.detach().to(x)
    cell = (x / size).floor()
    if len(cell) and not cell.abs().max() < LARGEST_CELL:
        raise ShapeError("size", repr(size), f"a length of at least {float(x.abs().max()) / LARGEST_CELL:.3g} here")
    return cell.long()


def _ordered_keys(columns: list[Tensor]) -> Tensor:
    """``[N]`` int64 that compare as the rows of ``columns`` do, the first column first; equal for equal rows alone."""
    key, span = _from_zero(columns[0])
    for column in columns[1:]:
        column, width = _from_zero(column)
        if span * width > LARGEST_KEY:
            key, span = _ranked(key)
        if span * width > LARGEST_KEY:
            column, width = _ranked(column)
        key, span = key * width + column, span * width
    return key


def _from_zero(column: Tensor) -> tuple[Tensor, int]:
    """Shifted to begin at 0, and one more than its largest then is."""
    if len(column) == 0:
        return column, 1
    column = column - column.min()
    return column, int(column.max()) + 1


def _ranked(column: Tensor) -> tuple[Tensor, int]:
    """Each number replaced by its place among the different ones, and how many those are."""
    values, rank = torch.unique(column, return_inverse=True)
    return rank, len(values)
