"""Compiled CPU loops on a small thread pool of our own.

Numba's ``parallel=True`` breaks forked DataLoader workers and changes torch's thread count, so the kernels here are
``njit(nogil=True)`` functions over a range of rows, run on plain Python threads. The pool belongs to one process: a
forked child makes its own. Small work stays on the calling thread, because waking the pool costs about 50 microseconds.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

MIN_WORK_PER_THREAD = 200_000
"""Multiply-adds below which another thread costs more than it saves."""

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_lock = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock(), _pools={}))


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
    rows, parts = len(ptr) - 1, num_threads(work)
    if parts == 1:
        kernel(0, rows, *args)
        return
    # a row costs its edges plus a constant, so that many empty rows are shared out too
    cost = ptr + np.arange(rows + 1)
    cuts = np.searchsorted(cost, np.linspace(0, cost[-1], parts + 1)[1:-1])
    bounds = [0, *(int(c) for c in cuts), rows]
    pool = _pool(parts - 1)
    futures = [
        pool.submit(kernel, first, last, *args) for first, last in zip(bounds[1:-1], bounds[2:], strict=True)
    ]
    kernel(bounds[0], bounds[1], *args)
    for future in futures:
        future.result()


def _pool(workers: int) -> ThreadPoolExecutor:
    key = (os.getpid(), workers)
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(workers, thread_name_prefix="geoattn")
        return _pools[key]
