"""Large results in large pages."""

import ctypes
import mmap
import sys

from torch import Tensor

LARGE = 4 * 2**20
"""Bytes from which large pages are asked for; they hold two mebibytes each."""

_madvise = None
if sys.platform == "linux":
    _madvise = ctypes.CDLL(None).madvise
    _madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def large_pages(fresh: Tensor) -> Tensor:
    """``fresh`` itself, a contiguous CPU tensor not yet written to, in large pages if it is large.

    The system hands out fresh memory page by page, when each is first written to. With its usual pages of four
    kibibytes that can take several times as long as writing the numbers. Advice only: nothing is lost if it is refused.
    """
    size = fresh.numel() * fresh.element_size()
    if _madvise is not None and size >= LARGE:
        start = -(-fresh.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (fresh.data_ptr() + size) // mmap.PAGESIZE * mmap.PAGESIZE
        _madvise(start, end - start, mmap.MADV_HUGEPAGE)
    return fresh
