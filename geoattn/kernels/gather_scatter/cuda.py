"""Weighted sums over neighbours in Triton: one program per row and block of channels, or per row and head."""

# mypy: disable-error-code=no-untyped-def

import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels._triton_rows import launch, program_row, tile
from geoattn.kernels.segment_reduce.cuda import segment_sum


@triton.jit
def gather_scatter_fwd_kernel(
    row_ptr, other, edge_id, x, weight, y, num_heads, num_channels,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    head = channel // (num_channels // num_heads)
    total = tl.zeros([BLOCK_C], DTYPE)
    at = start
    while at < stop:
        offset, mask = tile(other, at, stop, channel, valid, num_channels, BLOCK_E)
        weight_offset, _ = tile(edge_id, at, stop, head, valid, num_heads, BLOCK_E)
        factor = tl.load(weight + weight_offset, mask=mask, other=0).to(DTYPE)
        total += tl.sum(factor * tl.load(x + offset, mask=mask, other=0).to(DTYPE), 0)
        at += BLOCK_E
    tl.store(y + row * num_channels + channel, total, mask=valid)


@triton.jit
def edge_dot_fwd_kernel(
    row_ptr, other, edge_id, x, y, out, width, num_heads,
    BLOCK_W: tl.constexpr, DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # here the channels of a program are heads, each of the given width
    row, start, stop, head, valid = program_row(row_ptr, num_heads, BLOCK_C)
    at = start
    while at < stop:
        x_offset, mask = tile(other, at, stop, head, valid, num_heads, BLOCK_E)
        out_offset, _ = tile(edge_id, at, stop, head, valid, num_heads, BLOCK_E)
        total = tl.zeros([BLOCK_E, BLOCK_C], DTYPE)
        for first in range(0, width, BLOCK_W):
            column = first + tl.arange(0, BLOCK_W)
            present = column < width
            a_offset = x_offset[:, :, None] * width + column[None, None, :]
            a = tl.load(x + a_offset, mask=mask[:, :, None] & present[None, None, :], other=0).to(DTYPE)
            b_offset = (row * num_heads + head)[:, None] * width + column[None, :]
            b = tl.load(y + b_offset, mask=valid[:, None] & present[None, :], other=0).to(DTYPE)
            total += tl.sum(a * b[None, :, :], 2)
        tl.store(out + out_offset, total, mask=mask)
        at += BLOCK_E


def weighted_sum(
    x: Tensor, weight: Tensor | None, ptr: Tensor, other: Tensor, edge_id: Tensor, *transposed: Tensor | None
) -> Tensor:
    """See `geoattn.kernels.gather_scatter.weighted_sum`."""
    if weight is None:
        return segment_sum(x.flatten(1), ptr, other, False).view(ptr.shape[0] - 1, *x.shape[1:])
    y = x.new_empty(ptr.shape[0] - 1, *x.shape[1:])
    channels = x.shape[1] * x.shape[2]
    launch(gather_scatter_fwd_kernel, ptr, channels, x, other, edge_id, x, weight, y, weight.shape[1])
    return y


def edge_dot(x: Tensor, y: Tensor, ptr: Tensor, other: Tensor, edge_id: Tensor, *transposed: Tensor | None) -> Tensor:
    """See `geoattn.kernels.gather_scatter.edge_dot`."""
    out = x.new_zeros(edge_id.shape[0], x.shape[1])
    launch(edge_dot_fwd_kernel, ptr, x.shape[1], x, other, edge_id, x, y, out, width=x.shape[2])
    return out
