"""How neighbour search is cut up on the CPU: small graphs are scanned, large ones searched by a k-d tree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from geoattn.kernels._search_loops import split_into_leaves
from geoattn.kernels._threads import run_rows

LEVEL_COST = 10
"""Multiply-adds that sorting a point into the next level of a k-d tree is worth."""


@dataclass(frozen=True)
class Search:
    """The arguments of a search as numpy arrays, and which queries are answered in which way."""

    x: np.ndarray
    """``[N, D]`` sources, float32 or float64."""
    y: np.ndarray
    """``[M, D]`` queries."""
    first: np.ndarray
    """``[M]`` int64, first source of each query's graph."""
    last: np.ndarray
    """``[M]`` int64, one past its last source."""
    tree_graphs: list[tuple[slice, slice]]
    """Rows of x and of y of the graphs that are searched by a k-d tree."""
    scan_rows: np.ndarray
    """``[..]`` int64, the queries of all other graphs."""

    @cached_property
    def columns(self) -> np.ndarray:
        """``[D, N]``, the sources with one dimension after the other, for loops over many sources."""
        return np.ascontiguousarray(self.x.T)

    def scan_ptr(self, rows: np.ndarray) -> np.ndarray:
        """``[len(rows)+1]`` int64, running number of pairs, by which a scan of these rows is shared out."""
        return np.concatenate([[0], np.cumsum(self.last[rows] - self.first[rows])])


def plan(x: Tensor, y: Tensor, ptr_x: Tensor, ptr_y: Tensor, tree_points: int) -> Search:
    """Decide for each graph how it is searched: by a tree from ``tree_points`` times 2^D sources in D dimensions."""
    starts_x, starts_y = ptr_x.numpy(), ptr_y.numpy()
    queries = np.diff(starts_y)
    first, last = np.repeat(starts_x[:-1], queries), np.repeat(starts_x[1:], queries)
    least = max(1, tree_points << min(x.shape[1], 48))  # 2^48 points do not exist
    large = (np.diff(starts_x) >= least) & (queries > 0)
    trees = [
        (slice(*starts_x[graph : graph + 2]), slice(*starts_y[graph : graph + 2])) for graph in np.flatnonzero(large)
    ]
    scan_rows = np.flatnonzero(np.repeat(~large, queries))
    return Search(x.numpy(), y.numpy(), first, last, trees, scan_rows)


def leaf_order(x: np.ndarray, ptr: np.ndarray, leaf: int) -> np.ndarray:
    """``[N]`` int64, the rows of ``x`` graph by graph in the order of a k-d tree's leaves of ``leaf`` points.

    ``ptr [B, 2]`` is where each graph begins and ends; rows of none stay where they are.
    """
    order = np.arange(len(x))
    levels = np.log2(np.maximum((ptr[:, 1] - ptr[:, 0]) / leaf, 1)).max(initial=0)
    work = int(len(x) * levels * LEVEL_COST)
    share = np.concatenate([[0], np.cumsum(ptr[:, 1] - ptr[:, 0])])
    run_rows(split_into_leaves, share, work, x, ptr, leaf, np.empty(len(x), x.dtype), order)
    return order


def rounding(points: np.ndarray) -> tuple[float, float]:
    """How far a squared distance in ``points``' dtype can be from the tree's: a relative and an absolute part."""
    info, dim = np.finfo(points.dtype), points.shape[1]
    return 2 * (dim + 4) * float(info.eps) + 1e-13, dim * float(info.tiny)
