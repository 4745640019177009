"""`farthest_points` on the CPU: the cloud in leaves of a k-d tree, of which a new point changes only those near to it.

A leaf holds `LEAF` points side by side, one dimension after the other, their squared distances to the nearest taken
point, the box around them and the largest of the distances. A new point leaves a leaf as it is if the box is at least
as far away as that. The squared distance to a box is computed by the same steps as that to a point, and rounding never
turns an order round, so it is at most that to any point inside and the skipping is exact.

All loops stand in this one file, because Numba's on-disk cache notices a change in the caller's file alone.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from geoattn.kernels._search_cpu import leaf_order
from geoattn.kernels._threads import run_rows
from geoattn.kernels.farthest_points._graphs import graphs_and_starts

LEAF = 64
"""Points of a leaf; the last one is filled up with points that are never taken."""


def farthest_search(x: Tensor, ptr: Tensor | None, num: int, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """See :func:`geoattn.kernels.farthest_points`."""
    ptr, ptr_out, first = graphs_and_starts(x, ptr, num, starts)
    idx = torch.empty(int(ptr_out[-1]), dtype=torch.int64)
    work = np.concatenate([[0], (ptr.diff() * ptr_out.diff()).cumsum(0).numpy()])
    order = leaf_order(x.numpy(), torch.stack([ptr[:-1], ptr[1:]], 1).numpy(), LEAF)
    arrays = (array.numpy() for array in (x, ptr, ptr_out, first, idx))
    run_rows(sample_graphs, work, int(work[-1]), *arrays, order)
    return idx, ptr_out


@njit(nogil=True, cache=True)
def sample_graphs(begin, end, x, ptr, ptr_out, first, idx, order):
    """Fill ``idx`` for the graphs ``begin:end``; ``order`` lists the points of each in leaves."""
    for graph in range(begin, end):
        if ptr[graph + 1] > ptr[graph]:
            points, taken = order[ptr[graph] : ptr[graph + 1]], idx[ptr_out[graph] : ptr_out[graph + 1]]
            _sample(x, points, first[graph], taken)


@njit(nogil=True, cache=True)
def _sample(points, order, row, taken):
    size, dim = len(order), points.shape[1]
    leaves = (size + LEAF - 1) // LEAF
    columns = np.empty((leaves, dim, LEAF), points.dtype)
    low, high = np.empty((dim, leaves), points.dtype), np.empty((dim, leaves), points.dtype)
    nearest = np.full((leaves, LEAF), np.inf, points.dtype)
    place = 0
    for slot in range(leaves * LEAF):
        leaf, b = slot // LEAF, slot % LEAF
        if slot >= size:
            nearest[leaf, b] = -1
        elif order[slot] == row:
            place = slot
        i = order[min(slot, size - 1)]
        for d in range(dim):
            value = points[i, d]
            columns[leaf, d, b] = value
            low[d, leaf] = value if b == 0 else min(low[d, leaf], value)
            high[d, leaf] = value if b == 0 else max(high[d, leaf], value)
    largest = np.full(leaves, np.inf, points.dtype)  # of each leaf's distances
    lowest = np.full(leaves, -1)  # slot of the lowest index among the points of that distance; -1: not yet known
    apart, new = np.empty(leaves, points.dtype), np.empty(LEAF, points.dtype)
    point = np.empty(dim, points.dtype)
    for taking in range(len(taken)):
        here = place // LEAF
        taken[taking] = order[place]
        point[:] = columns[here, :, place % LEAF]
        nearest[here, place % LEAF] = -1
        _box_distances(point, low, high, apart)
        apart[here] = -1
        for leaf in range(leaves):
            if apart[leaf] < largest[leaf]:
                largest[leaf] = _update(point, columns[leaf], nearest[leaf], new)
                lowest[leaf] = -1
        place = _farthest(largest, lowest, nearest, order)


@njit(nogil=True, cache=True)
def _box_distances(point, low, high, apart):
    zero = point.dtype.type(0)
    for d in range(len(point)):
        here, below, above = point[d], low[d], high[d]
        for leaf in range(len(apart)):
            difference = max(max(below[leaf] - here, here - above[leaf]), zero)
            square = difference * difference
            apart[leaf] = square if d == 0 else apart[leaf] + square


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})  # lets the maximum use vector instructions; there is no nan
def _update(point, columns, nearest, new):
    """Bring the distances of a leaf up to date; the largest is returned."""
    for d in range(len(point)):
        here, column = point[d], columns[d]
        for b in range(LEAF):
            difference = here - column[b]
            square = difference * difference
            new[b] = square if d == 0 else new[b] + square
    largest = nearest.dtype.type(-1)
    for b in range(LEAF):
        nearest[b] = min(nearest[b], new[b])
        largest = max(largest, nearest[b])
    return largest


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _maximum(values):
    largest = values[0]
    for value in values:
        largest = max(largest, value)
    return largest


@njit(nogil=True, cache=True)
def _farthest(largest, lowest, nearest, order):
    """The slot of the largest distance, and among equal ones of the lowest index."""
    top = _maximum(largest)
    best = -1
    for leaf in range(len(largest)):
        if largest[leaf] == top:
            if lowest[leaf] < 0:
                for b in range(LEAF):
                    slot = leaf * LEAF + b
                    # what fills up the last leaf is at -1
                    if nearest[leaf, b] == top and (lowest[leaf] < 0 or order[slot] < order[lowest[leaf]]):
                        lowest[leaf] = slot
            if best < 0 or order[lowest[leaf]] < order[best]:
                best = lowest[leaf]
    return best
