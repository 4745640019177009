"""How neighbour search is cut up on the CPU: small graphs are scanned, in large ones a k-d tree proposes candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

TREE_POINTS = 200
"""A k-d tree is faster than looking at all pairs from about this times 2^D sources in D dimensions (measured)."""


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


def plan(x: Tensor, y: Tensor, ptr_x: Tensor, ptr_y: Tensor) -> Search:
    """Decide for each graph how it is searched."""
    starts_x, starts_y = ptr_x.numpy(), ptr_y.numpy()
    queries = np.diff(starts_y)
    first, last = np.repeat(starts_x[:-1], queries), np.repeat(starts_x[1:], queries)
    large = (np.diff(starts_x) >= TREE_POINTS << min(x.shape[1], 48)) & (queries > 0)  # 2^48 points do not exist
    trees = [
        (slice(*starts_x[graph : graph + 2]), slice(*starts_y[graph : graph + 2])) for graph in np.flatnonzero(large)
    ]
    scan_rows = np.flatnonzero(np.repeat(~large, queries))
    return Search(x.numpy(), y.numpy(), first, last, trees, scan_rows)


def rounding(points: np.ndarray) -> tuple[float, float]:
    """How far a squared distance in ``points``' dtype can be from the tree's: a relative and an absolute part."""
    info, dim = np.finfo(points.dtype), points.shape[1]
    return 2 * (dim + 4) * float(info.eps) + 1e-13, dim * float(info.tiny)
