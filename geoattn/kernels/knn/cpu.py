"""`knn` on the CPU: compiled scan of small graphs; in large ones scipy's k-d tree proposes, compiled code ranks.

The tree measures in float64 and leaves ties in any order. So it is asked for a few candidates more than k, these are
ranked by the exact rule, and the answer stands only if the farthest candidate is farther than the k-th neighbour by
more than rounding. Otherwise (ties at the k-th place: lattices, duplicates) more candidates are asked for, and in the
end all sources are looked at.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geoattn.kernels._search import graph_pointers
from geoattn.kernels._search_cpu import Search, plan, rounding
from geoattn.kernels._search_loops import knn_rank, knn_scan
from geoattn.kernels._threads import num_threads, run_rows

WIDEST = 512
"""Most candidates per query that a tree is asked for because of ties; for larger k, 4 k."""
CHUNK = 2**22
"""Most candidates held at once."""


def knn_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, k: int, exclude_self: bool
) -> tuple[Tensor, Tensor]:
    """See :func:`geoattn.kernels.knn`."""
    ptr_x, ptr_y = graph_pointers(x, y, ptr_x, ptr_y)
    search = plan(x, y, ptr_x, ptr_y)
    idx = np.full((len(y), k), -1, dtype=np.int64)
    dist2 = np.full((len(y), k), np.inf, dtype=search.y.dtype)
    rows = [search.scan_rows]
    rows += [_by_tree(search, sources, queries, exclude_self, idx, dist2) for sources, queries in search.tree_graphs]
    _scan(search, np.concatenate(rows), exclude_self, idx, dist2)
    return torch.from_numpy(idx), torch.from_numpy(dist2)


def _scan(search: Search, rows: np.ndarray, exclude_self: bool, idx: np.ndarray, dist2: np.ndarray) -> None:
    if len(rows) == 0:
        return
    ptr = search.scan_ptr(rows)
    run_rows(
        knn_scan,
        ptr,
        int(ptr[-1]) * search.x.shape[1],
        rows,
        search.first,
        search.last,
        search.y,
        search.columns,
        exclude_self,
        idx,
        dist2,
    )


def _by_tree(
    search: Search, sources: slice, queries: slice, exclude_self: bool, idx: np.ndarray, dist2: np.ndarray
) -> np.ndarray:
    """Fill the rows of one graph in ``idx`` and ``dist2``; the rows that it could not settle are returned."""
    num_sources, k = sources.stop - sources.start, idx.shape[1]
    # a balanced tree degenerates when many points coincide
    tree = cKDTree(search.x[sources], balanced_tree=False)
    pending = np.arange(queries.start, queries.stop)
    width = k + 1 + exclude_self
    while len(pending) and width < min(num_sources, max(WIDEST, 4 * k)):
        step = max(1, CHUNK // width)
        parts = [pending[begin : begin + step] for begin in range(0, len(pending), step)]
        complete = [_rank(search, tree, sources.start, rows, width, exclude_self, idx, dist2) for rows in parts]
        pending = pending[~np.concatenate(complete)]
        width *= 8
    return pending


def _rank(
    search: Search,
    tree: cKDTree,
    offset: int,
    rows: np.ndarray,
    width: int,
    exclude_self: bool,
    idx: np.ndarray,
    dist2: np.ndarray,
) -> np.ndarray:
    """Rank ``width`` candidates of each of ``rows``; ``[len(rows)]`` bool, whether they settle the row."""
    work = len(rows) * width * search.x.shape[1]
    distance, candidates = tree.query(search.y[rows], width, workers=num_threads(work))
    relative, absolute = rounding(search.x)
    farthest = distance[:, -1]
    # infinite where the tree's distances overflow, and it left sources out
    reach2 = np.where(np.isfinite(farthest), farthest**2 * (1 - relative) - absolute, -1)
    complete = np.empty(len(rows), dtype=np.bool_)
    run_rows(
        knn_rank,
        np.arange(len(rows) + 1) * width,
        work,
        rows,
        candidates,
        tree.n,
        offset,
        reach2,
        search.y,
        search.x,
        exclude_self,
        idx,
        dist2,
        complete,
    )
    return complete
