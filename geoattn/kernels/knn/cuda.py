"""`knn` on the GPU: all pairs of a graph by tiles, the k smallest keys kept in registers.

A key holds the bits of a non-negative float32 distance above the index, so that comparing keys as integers is the
order by (distance, index). The kernel keeps the k smallest in no order; torch sorts them at the end.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels._search import graph_pointers
from geoattn.kernels._search_triton import BLOCK_M, BLOCK_N, LAUNCH, distance_tile, query_tile, source_range


@triton.jit
def knn_fwd_kernel(
    x,
    y,
    first,
    last,
    keys,
    num_queries,
    num_sources,
    dim,
    EXCLUDE_SELF: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row, begin, end, start, stop = query_tile(first, last, num_queries, BLOCK_M)
    slot = tl.arange(0, K)
    # empty places hold distinct keys above every real one, whose high half is at most that of infinity
    best = tl.zeros([BLOCK_M, K], tl.int64) + (0x7FFFFFFFFFFFFFFF - slot.to(tl.int64))[None, :]
    worst = tl.max(best, 1)
    while start < stop:
        column = start + tl.arange(0, BLOCK_N)
        dist2, valid = distance_tile(
            x, y, row, begin, end, column, num_queries, num_sources, dim, EXCLUDE_SELF, BLOCK_M, BLOCK_N
        )
        key = (dist2.to(tl.int32, bitcast=True).to(tl.int64) << 32) | column[None, :]
        key = tl.where(valid, key, 0x7FFFFFFFFFFFFFFF)
        nearest = tl.min(key, 1)
        # while any row has a key to take, every row that has one puts it in the place of its worst
        while tl.max((nearest < worst).to(tl.int32), 0) > 0:
            replace = (nearest < worst)[:, None] & (best == worst[:, None])
            best = tl.where(replace, nearest[:, None], best)
            key = tl.where(key == nearest[:, None], 0x7FFFFFFFFFFFFFFF, key)
            worst = tl.max(best, 1)
            nearest = tl.min(key, 1)
        start += BLOCK_N
    tl.store(keys + row[:, None] * K + slot[None, :], best, mask=(row < num_queries)[:, None])


def knn_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, k: int, exclude_self: bool
) -> tuple[Tensor, Tensor]:
    """See :func:`geoattn.kernels.knn`; float32."""
    ptr_x, ptr_y = graph_pointers(x, y, ptr_x, ptr_y)
    first, last = source_range(ptr_x, ptr_y)
    width = triton.next_power_of_2(k)
    keys = torch.empty(len(y), width, dtype=torch.int64, device=x.device)
    if len(y):
        with torch.cuda.device_of(x):
            knn_fwd_kernel[(triton.cdiv(len(y), BLOCK_M),)](
                x, y, first, last, keys, len(y), len(x), x.shape[1], exclude_self, width, BLOCK_M, BLOCK_N, **LAUNCH
            )
    keys = keys.sort(dim=1).values[:, :k]
    high = keys >> 32
    missing = high == 0x7FFFFFFF
    idx = (keys & 0xFFFFFFFF).masked_fill(missing, -1)
    dist2 = high.to(torch.int32).view(torch.float32).masked_fill(missing, torch.inf)
    return idx, dist2
