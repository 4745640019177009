"""`radius` on the GPU: all pairs of a graph by tiles, once to count and once to write; torch sorts them at the end."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels._search import graph_pointers, squared_radius
from geoattn.kernels._search_triton import BLOCK_M, BLOCK_N, LAUNCH, distance_tile, query_tile, source_range


@triton.jit
def radius_fwd_kernel(
    x,
    y,
    first,
    last,
    limit,
    row_ptr,
    counts,
    source,
    near,
    num_queries,
    num_sources,
    dim,
    EXCLUDE_SELF: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """With COUNT the number of hits of query i to ``counts[i]``, else the hits to ``row_ptr[i]`` and on."""
    row, begin, end, start, stop = query_tile(first, last, num_queries, BLOCK_M)
    largest = tl.load(limit)
    offset = tl.load(row_ptr + row, mask=row < num_queries, other=0)
    hits = tl.zeros([BLOCK_M], tl.int64)
    while start < stop:
        column = start + tl.arange(0, BLOCK_N)
        dist2, valid = distance_tile(
            x, y, row, begin, end, column, num_queries, num_sources, dim, EXCLUDE_SELF, BLOCK_M, BLOCK_N
        )
        hit = valid & (dist2 <= largest)
        found = hit.to(tl.int32)
        if not COUNT:
            place = (offset + hits)[:, None] + tl.cumsum(found, 1) - found
            tl.store(source + place, tl.zeros([BLOCK_M, BLOCK_N], tl.int64) + column[None, :], mask=hit)
            tl.store(near + place, dist2, mask=hit)
        hits += tl.sum(found, 1)
        start += BLOCK_N
    if COUNT:
        tl.store(counts + row, hits, mask=row < num_queries)


def radius_search(
    x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None, r: float, exclude_self: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """``row_ptr [M+1]``, ``source [E]`` and ``target [E]`` of :func:`geoattn.kernels.radius`; float32."""
    ptr_x, ptr_y = graph_pointers(x, y, ptr_x, ptr_y)
    first, last = source_range(ptr_x, ptr_y)
    limit = torch.tensor([squared_radius(r, x.dtype)], dtype=x.dtype, device=x.device)
    row_ptr, counts = first.new_zeros(len(y) + 1), first.new_zeros(len(y))

    def launch(source: Tensor, near: Tensor, count: bool) -> None:
        if len(y) == 0:
            return
        with torch.cuda.device_of(x):
            radius_fwd_kernel[(triton.cdiv(len(y), BLOCK_M),)](
                x, y, first, last, limit, row_ptr, counts, source, near, len(y), len(x), x.shape[1],
                exclude_self, count, BLOCK_M, BLOCK_N, **LAUNCH,
            )  # fmt: skip

    launch(counts, limit, count=True)
    row_ptr[1:] = counts.cumsum(0)
    num_edges = int(row_ptr[-1])
    source, near = first.new_empty(num_edges), x.new_empty(num_edges)
    launch(source, near, count=False)
    order = near.argsort(stable=True)  # sorted by distance, equal ones by index ..
    target = torch.repeat_interleave(counts, output_size=num_edges)
    order = order[target[order].argsort(stable=True)]  # .. and kept so within each target
    return row_ptr, source[order], target
