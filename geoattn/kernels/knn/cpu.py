"""`knn` on the CPU: compiled scan of small graphs; larger ones are searched by a k-d tree.

The tree is ours, because the known ones measure in float64 and leave ties in any order. Its leaves hold `LEAF` points
side by side, one dimension after the other. The squared distance to the box of a node is computed by the same steps as
that to a point, and rounding never turns an order round, so it is at most that to any point inside, and leaving out a
node by it is exact. Where both are equal, the lowest index in the node decides.

A node of n leaves is followed by the nodes of its first half, ceil(n / 2) leaves, and then by those of the second, so
that they need no pointers: 2 n - 1 nodes in all.

All loops stand in this one file, because Numba's on-disk cache notices a change in the caller's file alone.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from geoattn.kernels._search import graph_pointers
from geoattn.kernels._search_cpu import Search, leaf_order, plan
from geoattn.kernels._search_loops import knn_scan
from geoattn.kernels._threads import run_rows

TREE_POINTS = 32
"""The tree is faster than looking at all pairs from about this times 2^D sources in D dimensions (measured)."""
LEAF = 32
QUERY_COST = 1000
"""Multiply-adds that a query of the tree is worth, for sharing out; and this many more per 32 neighbours."""
NOTHING = np.iinfo(np.int64).max
"""Index of a neighbour that is not there, above all others."""


def knn_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, k: int, exclude_self: bool
) -> tuple[Tensor, Tensor]:
    """See :func:`geoattn.kernels.knn`."""
    ptr_x, ptr_y = graph_pointers(x, y, ptr_x, ptr_y)
    search = plan(x, y, ptr_x, ptr_y, TREE_POINTS)
    idx = np.full((len(y), k), -1, dtype=np.int64)
    dist2 = np.full((len(y), k), np.inf, dtype=search.y.dtype)
    _scan(search, exclude_self, idx, dist2)
    if search.tree_graphs:
        _by_tree(search, exclude_self, idx, dist2)
    return torch.from_numpy(idx), torch.from_numpy(dist2)


def _scan(search: Search, exclude_self: bool, idx: np.ndarray, dist2: np.ndarray) -> None:
    rows = search.scan_rows
    if len(rows) == 0:
        return
    ptr = search.scan_ptr(rows)
    work = int(ptr[-1]) * search.x.shape[1]
    ends = search.first, search.last
    run_rows(knn_scan, ptr, work, rows, *ends, search.y, search.columns, exclude_self, idx, dist2)


def _by_tree(search: Search, exclude_self: bool, idx: np.ndarray, dist2: np.ndarray) -> None:
    """Fill the rows of the large graphs in ``idx`` and ``dist2``."""
    x, y, dim = search.x, search.y, search.x.shape[1]
    ptr = np.array([[sources.start, sources.stop] for sources, _ in search.tree_graphs])
    sizes = ptr[:, 1] - ptr[:, 0]
    leaf_ptr = np.concatenate([[0], np.cumsum(-(-sizes // LEAF))])
    leaves = int(leaf_ptr[-1])
    order = leaf_order(x, ptr, LEAF)
    tree = (
        leaf_ptr,
        np.full((leaves, LEAF), NOTHING),
        np.empty((leaves, dim, LEAF), x.dtype),
        np.empty((2 * leaves, dim), x.dtype),
        np.empty((2 * leaves, dim), x.dtype),
        np.empty(2 * leaves, np.int64),
    )
    run_rows(plant, leaf_ptr, 10 * len(order) * dim, ptr, x, order, *tree)
    # points that ask for their own neighbours do so leaf by leaf, each finding in the cache what the last one read
    queries = [
        order[rows] if rows == sources else np.arange(rows.start, rows.stop) for sources, rows in search.tree_graphs
    ]
    rows, graph = np.concatenate(queries), np.repeat(np.arange(len(queries)), [len(q) for q in queries])
    cost = QUERY_COST * (1 + idx.shape[1] // 32) * len(rows)
    run_rows(knn_tree, np.arange(len(rows) + 1), cost, rows, graph, *tree, y, exclude_self, idx, dist2)


@njit(nogil=True, cache=True)
def plant(begin, end, ptr, x, order, leaf_ptr, slots, columns, low, high, lowest):
    """Fill the trees of the graphs ``begin:end``: points and boxes of their leaves, then the boxes around those."""
    dim = x.shape[1]
    for graph in range(begin, end):
        leaves, root = leaf_ptr[graph + 1] - leaf_ptr[graph], 2 * leaf_ptr[graph]
        num_leaves, first_leaf = np.empty(2 * leaves, np.int64), np.empty(2 * leaves, np.int64)  # of each node
        num_leaves[0], first_leaf[0] = leaves, leaf_ptr[graph]
        for node in range(2 * leaves - 1):
            half = (num_leaves[node] + 1) // 2
            if num_leaves[node] > 1:
                num_leaves[node + 1], first_leaf[node + 1] = half, first_leaf[node]
                other = node + 2 * half
                num_leaves[other], first_leaf[other] = num_leaves[node] - half, first_leaf[node] + half
        for node in range(2 * leaves - 2, -1, -1):
            here = root + node
            if num_leaves[node] > 1:
                a, b = here + 1, here + (num_leaves[node] + 1) // 2 * 2
                lowest[here] = min(lowest[a], lowest[b])
                for d in range(dim):
                    low[here, d], high[here, d] = min(low[a, d], low[b, d]), max(high[a, d], high[b, d])
                continue
            leaf = first_leaf[node]
            start = ptr[graph, 0] + (leaf - leaf_ptr[graph]) * LEAF
            stop = min(start + LEAF, ptr[graph, 1])
            lowest[here] = NOTHING
            for b in range(LEAF):
                j = order[min(start + b, stop - 1)]
                if start + b < stop:
                    slots[leaf, b] = j
                    lowest[here] = min(lowest[here], j)
                for d in range(dim):
                    value = x[j, d]
                    columns[leaf, d, b] = value if start + b < stop else np.inf  # at no distance that counts
                    low[here, d] = value if b == 0 else min(low[here, d], value)
                    high[here, d] = value if b == 0 else max(high[here, d], value)


@njit(nogil=True, cache=True)
def _box_distance(point, low, high, node):
    zero = point.dtype.type(0)
    total = zero
    for d in range(len(point)):
        difference = max(max(low[node, d] - point[d], point[d] - high[node, d]), zero)
        total += difference * difference
    return total


@njit(nogil=True, cache=True)
def knn_tree(
    begin, end, rows, graph, leaf_ptr, slots, columns, low, high, lowest, y, exclude_self, idx, dist2
):  # fmt: skip
    """Nearest neighbours of the queries ``rows[begin:end]`` in the trees ``graph[begin:end]``."""
    k, dim = idx.shape[1], y.shape[1]
    best, who = np.empty(k, y.dtype), np.empty(k, np.int64)
    point, near = np.empty(dim, y.dtype), np.empty(LEAF, y.dtype)
    # nodes put off, the farther ones of two halves: at most one per level
    nodes, leaves, first, apart = (
        np.empty(64, np.int64),
        np.empty(64, np.int64),
        np.empty(64, np.int64),
        np.empty(64, y.dtype),
    )
    for p in range(begin, end):
        i = rows[p]
        best[:] = np.inf
        who[:] = NOTHING
        for d in range(dim):
            point[d] = y[i, d]
        first[0], leaves[0] = leaf_ptr[graph[p]], leaf_ptr[graph[p] + 1] - leaf_ptr[graph[p]]
        nodes[0], apart[0], pending = 2 * first[0], 0, 1
        while pending > 0:
            pending -= 1
            node, count, leaf, distance = nodes[pending], leaves[pending], first[pending], apart[pending]
            while distance < best[k - 1] or (distance == best[k - 1] and lowest[node] < who[k - 1]):
                if count == 1:
                    _take_leaf(leaf, point, columns, slots, near, i if exclude_self else -1, best, who)
                    break
                half = (count + 1) // 2
                a, b = node + 1, node + 2 * half
                to_a, to_b = _box_distance(point, low, high, a), _box_distance(point, low, high, b)
                if to_b < to_a:
                    nodes[pending], leaves[pending], first[pending], apart[pending] = a, half, leaf, to_a
                    node, count, leaf, distance = b, count - half, leaf + half, to_b
                else:
                    nodes[pending], leaves[pending], first[pending], apart[pending] = b, count - half, leaf + half, to_b
                    node, count, distance = a, half, to_a
                pending += 1
        for place in range(k):
            if who[place] == NOTHING:
                break
            idx[i, place] = who[place]
            dist2[i, place] = best[place]


@njit(nogil=True, cache=True)
def _take_leaf(leaf, point, columns, slots, near, left_out, best, who):
    """Put the points of a leaf that come before the last neighbour among the neighbours, but for one."""
    last = len(best) - 1
    size = len(near)  # is LEAF, but a number known beforehand is unrolled to scalar instructions
    here = point[0]
    for b in range(size):
        difference = here - columns[leaf, 0, b]
        near[b] = difference * difference
    for d in range(1, len(point)):
        here = point[d]
        for b in range(size):
            difference = here - columns[leaf, d, b]
            near[b] += difference * difference
    worst, nearer = best[last], 0
    for b in range(size):
        nearer += near[b] <= worst
    if nearer == 0:
        return
    for b in range(size):
        distance = near[b]
        if distance <= best[last]:
            j = slots[leaf, b]
            if j != left_out and (distance < best[last] or j < who[last]):
                place = last
                while place > 0 and (
                    best[place - 1] > distance or (best[place - 1] == distance and who[place - 1] > j)
                ):
                    best[place], who[place] = best[place - 1], who[place - 1]
                    place -= 1
                best[place], who[place] = distance, j
