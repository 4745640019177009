"""Compiled CPU loops on a small thread pool of our own.

Numba's ``parallel=True`` breaks forked DataLoader workers and changes torch's thread count, so the kernels here are
``njit(nogil=True)`` functions over a range of rows, run on plain Python threads. The pool belongs to one process: a
forked child makes its own. Small work stays on the calling thread, because waking the pool costs about 50 microseconds.
A row is computed by one thread from first edge to last, so results do not depend on the number of threads.
"""

import bisect
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

MIN_WORK_PER_THREAD = 200_000
"""Multiply-adds below which another thread costs more than it saves."""

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def num_threads(work: int) -> int:
    """Threads worth using for ``work`` multiply-adds; at most torch's own setting, which is never changed."""
    return max(1, min(torch.get_num_threads(), work // MIN_WORK_PER_THREAD))


def run_rows(kernel: Callable[..., None], ptr: np.ndarray, work: int, *args: object) -> None:
    """Call ``kernel(first_row, last_row, *args)`` over all rows of a CSR pointer, cut into ranges of equal edge count.

    Args:
        kernel: a ``njit(nogil=True)`` function that writes only to the rows it is given.
        ptr: ``[N+1]`` int64, the row pointer whose edges are shared out.
        work: estimate of the multiply-adds in total, decides how many threads are used.
    """
    first, *others = itertools.pairwise(_cuts(ptr, num_threads(work)))
    futures = [_submit(kernel, *rows, *args) for rows in others]
    try:
        kernel(*first, *args)
    finally:  # whatever happened, the others write to arrays of the caller
        for rows, future in zip(others, futures, strict=True):
            if future.cancel():  # not begun, because the pool is busy with others' work
                kernel(*rows, *args)
            else:
                future.result()


def _cuts(ptr: np.ndarray, parts: int) -> list[int]:
    """Rows 0 = c_0 <= ... <= c_parts = N between which the edges are shared out equally.

    A row costs its edges and one more, so that empty rows are shared out too.
    """
    rows = len(ptr) - 1
    total = int(ptr[rows]) + rows
    inner = (
        bisect.bisect_left(range(rows), total * part // parts, key=lambda row: int(ptr[row]) + row)
        for part in range(1, parts)
    )
    return [0, *inner, rows]


def _submit(kernel: Callable[..., None], *args: object) -> Future[None]:
    """The call as a task of the pool; one that never begins when the interpreter is shutting down."""
    global _pool
    with _lock:
        if _pool is None:  # starts its threads one by one, when all others are busy
            _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="geoattn")
        pool = _pool
    try:
        return pool.submit(kernel, *args)
    except RuntimeError:
        return Future()


def _forget_pool() -> None:
    """In a forked child, which has none of its parent's threads."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_pool)
