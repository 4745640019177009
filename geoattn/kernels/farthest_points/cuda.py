"""`farthest_points` on the GPU: one program per graph, which keeps the distances of all its points in registers.

The farthest point is the maximum of keys that hold the bits of a non-negative float32 distance above the index counted
down from the end, so that among equal distances the lowest index wins.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels.farthest_points._graphs import graphs_and_starts

SMALLEST_BLOCK = 64
POINTS_PER_THREAD = 16


@triton.jit
def farthest_fwd_kernel(x, ptr, ptr_out, first, idx, dim, BLOCK: tl.constexpr):
    graph = tl.program_id(0)
    begin, end = tl.load(ptr + graph), tl.load(ptr + graph + 1)
    place, stop = tl.load(ptr_out + graph), tl.load(ptr_out + graph + 1)
    row = begin + tl.arange(0, BLOCK)
    inside = row < end
    nearest = tl.zeros([BLOCK], tl.float32) + float("inf")
    free = inside
    here = tl.load(first + graph)
    while place < stop:
        tl.store(idx + place, here)
        free = free & (row != here)
        dist2 = tl.zeros([BLOCK], tl.float32)
        for d in range(dim):
            difference = tl.load(x + here * dim + d) - tl.load(x + row * dim + d, mask=inside, other=0.0)
            dist2 += difference * difference
        nearest = tl.minimum(nearest, dist2)
        key = (nearest.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (end - row)
        # the last point leaves no key; its "next" is never looked at
        here = end - (tl.max(tl.where(free, key, 0), 0) & 0xFFFFFFFF)
        place += 1


def farthest_search(x: Tensor, ptr: Tensor | None, num: int, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """See :func:`geoattn.kernels.farthest_points`; float32."""
    ptr, ptr_out, first = graphs_and_starts(x, ptr, num, starts)
    idx = torch.empty(int(ptr_out[-1]), dtype=torch.int64, device=x.device)
    if len(idx):
        block = max(SMALLEST_BLOCK, triton.next_power_of_2(int(ptr.diff().max())))
        warps = min(32, max(1, block // (32 * POINTS_PER_THREAD)))
        with torch.cuda.device_of(x):
            farthest_fwd_kernel[(len(first),)](
                x, ptr, ptr_out, first, idx, x.shape[1], block, num_warps=warps, enable_fp_fusion=False
            )
    return idx, ptr_out
