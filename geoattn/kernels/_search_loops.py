"""Compiled CPU loops of neighbour search, over ranges of queries (`_threads.run_rows`).

They follow the rule of `_search`: dimensions added in ascending order, no fused multiply-add (``fastmath`` stays off).
All loops stand in this one file, because Numba's on-disk cache notices a change in the caller's file alone.
"""

import numpy as np
from numba import njit

BLOCK = 512
"""Sources whose distances are computed together, so that the compiler can use vector instructions."""
GROUP = 128
"""Sources that are compared with the k-th neighbour together, for the same reason."""
INSERTION_SORT = 64
"""Row length from which sorting by merging is faster than by insertion."""


@njit(nogil=True, cache=True)
def _block_distances(point, columns, start, stop, out):
    """Squared distances of ``point [D]`` to the sources ``start:stop`` of ``columns [D, N]``."""
    size = stop - start
    here, column = point[0], columns[0, start:stop]
    for b in range(size):
        difference = here - column[b]
        out[b] = difference * difference
    for d in range(1, len(point)):
        here, column = point[d], columns[d, start:stop]
        for b in range(size):
            difference = here - column[b]
            out[b] += difference * difference


@njit(nogil=True, cache=True)
def _distance(a, b):
    difference = a[0] - b[0]
    total = difference * difference
    for d in range(1, len(a)):
        difference = a[d] - b[d]
        total += difference * difference
    return total


@njit(nogil=True, cache=True)
def _insert(dist2, idx, count, distance, j):
    """Put a source into the first ``count`` places, ascending by (distance, index); the last one may fall out."""
    place = count
    if count == len(idx):
        place = count - 1
        if distance > dist2[place] or (distance == dist2[place] and j > idx[place]):
            return count
    while place > 0 and (dist2[place - 1] > distance or (dist2[place - 1] == distance and idx[place - 1] > j)):
        dist2[place] = dist2[place - 1]
        idx[place] = idx[place - 1]
        place -= 1
    dist2[place] = distance
    idx[place] = j
    return min(count + 1, len(idx))


@njit(nogil=True, cache=True)
def knn_scan(begin, end, rows, first, last, y, columns, exclude_self, idx, dist2):
    """Nearest neighbours of the queries ``rows[begin:end]`` among all sources of their graph."""
    k = idx.shape[1]
    near = np.empty(BLOCK, y.dtype)
    for i in rows[begin:end]:
        point, best, who = y[i], dist2[i], idx[i]
        count = 0
        for start in range(first[i], last[i], BLOCK):
            stop = min(start + BLOCK, last[i])
            _block_distances(point, columns, start, stop, near)
            b = 0
            while count < k and b < stop - start:
                if not (exclude_self and start + b == i):
                    count = _insert(best, who, count, near[b], start + b)
                b += 1
            for c in range(b, stop - start, GROUP):
                group = near[c : min(c + GROUP, stop - start)]
                # an equal distance comes with a higher index here, so it stays out
                worst = best[k - 1]
                nearer = 0
                for distance in group:
                    nearer += distance < worst
                if nearer > 0:
                    for g in range(len(group)):
                        if group[g] < best[k - 1] and not (exclude_self and start + c + g == i):
                            _insert(best, who, k, group[g], start + c + g)


@njit(nogil=True, cache=True)
def radius_count(begin, end, rows, first, last, y, columns, limit, exclude_self, counts):
    """Number of sources within the radius of the queries ``rows[begin:end]``."""
    near = np.empty(BLOCK, y.dtype)
    for i in rows[begin:end]:
        hits = 0
        for start in range(first[i], last[i], BLOCK):
            stop = min(start + BLOCK, last[i])
            _block_distances(y[i], columns, start, stop, near)
            for b in range(stop - start):
                hits += near[b] <= limit
        counts[i] = hits - exclude_self  # a point is always within the radius of itself


@njit(nogil=True, cache=True)
def radius_fill(begin, end, rows, first, last, y, columns, limit, exclude_self, row_ptr, source):
    """Write those sources, ascending, to ``source[row_ptr[i]:row_ptr[i+1]]``."""
    near = np.empty(BLOCK, y.dtype)
    for i in rows[begin:end]:
        place = row_ptr[i]
        for start in range(first[i], last[i], BLOCK):
            stop = min(start + BLOCK, last[i])
            _block_distances(y[i], columns, start, stop, near)
            for b in range(stop - start):
                if near[b] <= limit and not (exclude_self and start + b == i):
                    source[place] = start + b
                    place += 1


@njit(nogil=True, cache=True)
def radius_place(target, pair_source, row_ptr, source):
    """Write the sources of unsorted (target, source) pairs into the rows of their targets."""
    place = row_ptr[:-1].copy()
    for p in range(len(target)):
        i = target[p]
        source[place[i]] = pair_source[p]
        place[i] += 1


@njit(nogil=True, cache=True)
def radius_sort(begin, end, row_ptr, y, x, source):
    """Sort the sources of each target by (distance, index)."""
    short = np.empty(INSERTION_SORT, y.dtype)
    for i in range(begin, end):
        row = source[row_ptr[i] : row_ptr[i + 1]]
        if len(row) <= INSERTION_SORT:
            count = 0
            for j in row:  # place count is read before it is written
                count = _insert(short[: len(row)], row, count, _distance(y[i], x[j]), j)
            continue
        row.sort()
        near = np.empty(len(row), y.dtype)
        for p in range(len(row)):
            near[p] = _distance(y[i], x[row[p]])
        row[:] = row[np.argsort(near, kind="mergesort")]


@njit(nogil=True, cache=True)
def split_into_leaves(first, last, points, ptr, leaf, keys, order):
    """Reorder ``order`` so that in each of the graphs ``first:last`` every run of ``leaf`` points is close together.

    A graph is halved across the widest side of its box, at a multiple of ``leaf`` points, and so are the halves:
    of n leaves the first half gets ceil(n / 2). ``keys [N]`` is for scratch.
    """
    begins, ends = np.empty(64, np.int64), np.empty(64, np.int64)  # ranges still to be cut; each level adds one
    for graph in range(first, last):
        _split(ptr[graph, 0], ptr[graph, 1], points, leaf, keys, order, begins, ends)


@njit(nogil=True, cache=True)
def _split(first, last, points, leaf, keys, order, begins, ends):
    begins[0], ends[0], pending = first, last, 1
    while pending > 0:
        pending -= 1
        begin, end = begins[pending], ends[pending]
        if end - begin <= leaf:
            continue
        axis, widest = 0, points.dtype.type(-1)
        for d in range(points.shape[1]):
            low = high = points[order[begin], d]
            for slot in range(begin + 1, end):
                value = points[order[slot], d]
                low, high = min(low, value), max(high, value)
            if high - low > widest:
                axis, widest = d, high - low
        for slot in range(begin, end):
            keys[slot] = points[order[slot], axis]
        middle = begin + (end - begin + 2 * leaf - 1) // (2 * leaf) * leaf
        _select(keys, order, begin, end - 1, middle)
        begins[pending], ends[pending] = begin, middle
        begins[pending + 1], ends[pending + 1] = middle, end
        pending += 2


@njit(nogil=True, cache=True)
def _select(keys, order, left, right, middle):
    """Hoare's quickselect: no key of ``left:middle`` is larger than one of ``middle:right+1``."""
    while left < right:
        a, b, c = keys[left], keys[(left + right) // 2], keys[right]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = left, right
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            return
