"""What the Triton kernels of neighbour search share: which sources a query has, and one tile of distances."""

import torch
import triton
import triton.language as tl
from torch import Tensor

LAUNCH = {"num_warps": 4, "enable_fp_fusion": False}
"""Without fused multiply-add, so that distances are those of the CPU to the bit."""
BLOCK_M = 16
"""Queries per program."""
BLOCK_N = 128
"""Sources looked at together."""


def source_range(ptr_x: Tensor, ptr_y: Tensor) -> tuple[Tensor, Tensor]:
    """``[M]`` int64 each: the sources of query ``i``'s graph are ``first[i] .. last[i] - 1``."""
    queries = ptr_y.diff()
    return torch.repeat_interleave(ptr_x[:-1], queries), torch.repeat_interleave(ptr_x[1:], queries)


@triton.jit
def query_tile(first, last, num_queries, BLOCK_M: tl.constexpr):
    """This program's queries, the range of sources of each, and the range of all of them together."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    present = row < num_queries
    begin = tl.load(first + row, mask=present, other=0x7FFFFFFFFFFFFFFF)
    end = tl.load(last + row, mask=present, other=0)
    return row, begin, end, tl.min(begin, 0), tl.max(end, 0)


@triton.jit
def distance_tile(
    x,
    y,
    row,
    begin,
    end,
    column,
    num_queries,
    num_sources,
    dim,
    EXCLUDE_SELF: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Squared distances ``[BLOCK_M, BLOCK_N]`` float32, and which pairs are of one graph."""
    dist2 = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for d in range(dim):
        here = tl.load(y + row * dim + d, mask=row < num_queries, other=0.0)
        there = tl.load(x + column * dim + d, mask=column < num_sources, other=0.0)
        difference = here[:, None] - there[None, :]
        dist2 += difference * difference
    valid = (column[None, :] >= begin[:, None]) & (column[None, :] < end[:, None])
    if EXCLUDE_SELF:
        valid = valid & (column[None, :] != row[:, None])
    return dist2, valid
