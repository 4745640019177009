"""`radius` on the CPU: compiled scan of small or dense graphs, scipy's k-d tree for large sparse ones.

The tree measures in float64, so it is asked for a radius that is larger by the rounding of the coordinates' dtype, and
the exact rule decides about each pair that it finds.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geoattn.kernels._search import graph_pointers, squared_radius
from geoattn.kernels._search_cpu import Search, plan, rounding
from geoattn.kernels._search_loops import radius_count, radius_fill, radius_place, radius_sort
from geoattn.kernels._threads import run_rows

TREE_POINTS = 200
"""A k-d tree is faster than looking at all pairs from about this times 2^D sources in D dimensions (measured)."""
SPARSE = 1 / 16
"""Share of the sources within the radius below which a tree, which makes 24 bytes of each pair, is used."""


def radius_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, r: float, exclude_self: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """``row_ptr [M+1]``, ``source [E]`` and ``target [E]`` of :func:`geoattn.kernels.radius`."""
    ptr_x, ptr_y = graph_pointers(x, y, ptr_x, ptr_y)
    search = plan(x, y, ptr_x, ptr_y, TREE_POINTS)
    limit = search.y.dtype.type(squared_radius(r, y.dtype))
    rows, pairs = [search.scan_rows], []
    for sources, queries in search.tree_graphs:
        tree = cKDTree(search.x[sources], balanced_tree=False)  # a balanced one degenerates when many points coincide
        reach = _reach(search, limit)
        if _is_sparse(tree, search.y[queries], reach):
            pairs.append(_tree_pairs(search, tree, sources, queries, reach, limit, exclude_self))
        else:
            rows.append(np.arange(queries.start, queries.stop))

    scanned = np.concatenate(rows)
    ptr = search.scan_ptr(scanned)
    work = int(ptr[-1]) * search.x.shape[1]
    arguments = (scanned, search.first, search.last, search.y, search.columns, limit, exclude_self)
    counts = np.zeros(len(y), dtype=np.int64)
    run_rows(radius_count, ptr, work, *arguments, counts)
    for target, _ in pairs:
        counts += np.bincount(target, minlength=len(counts))
    row_ptr = np.concatenate([[0], np.cumsum(counts)])
    source = np.empty(row_ptr[-1], dtype=np.int64)
    run_rows(radius_fill, ptr, work, *arguments, row_ptr, source)
    for target, pair_source in pairs:
        radius_place(target, pair_source, row_ptr, source)
    run_rows(radius_sort, row_ptr, 4 * len(source), row_ptr, search.y, search.x, source)
    target = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(row_ptr), torch.from_numpy(source), torch.from_numpy(target)


def _reach(search: Search, limit: np.floating) -> float:
    """Radius in exact arithmetic beyond which no pair is within ``limit`` by the rounded rule."""
    relative, absolute = rounding(search.x)
    return float(np.sqrt(float(limit) * (1 + relative) + absolute))


def _is_sparse(tree: cKDTree, y: np.ndarray, reach: float) -> bool:
    sample = y[:: max(1, len(y) // 64)]
    found = tree.query_ball_point(sample, reach, return_length=True)
    return bool(np.sum(found) <= SPARSE * tree.n * len(sample))


def _tree_pairs(
    search: Search,
    tree: cKDTree,
    sources: slice,
    queries: slice,
    reach: float,
    limit: np.floating,
    exclude_self: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Target and source of the pairs within the radius, in no order."""
    found = cKDTree(search.y[queries], balanced_tree=False).sparse_distance_matrix(tree, reach, output_type="ndarray")
    target, source = found["i"] + queries.start, found["j"] + sources.start
    dist2 = np.zeros(len(target), dtype=search.x.dtype)
    with np.errstate(over="ignore"):  # infinitely far is far enough
        for d in range(search.x.shape[1]):
            difference = search.y[target, d] - search.x[source, d]
            dist2 += difference * difference
    keep = dist2 <= limit
    if exclude_self:
        keep &= target != source
    return target[keep], source[keep]
