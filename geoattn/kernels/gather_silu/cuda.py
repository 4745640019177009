"""`gather_silu` in Triton: one program per target and block of channels."""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels._triton_rows import launch, program_row
from geoattn.kernels.segment_reduce.cuda import segment_sum


@triton.jit
def edge_block(
    source, at_target, at_source, at_edge, row, at, stop, channel, valid, num_channels,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """Offsets, mask and sum of the three parts of ``BLOCK_E`` edges from position ``at``."""
    edge = at + tl.arange(0, BLOCK_E)
    mask = (edge < stop)[:, None] & valid[None, :]
    offset = edge[:, None] * num_channels + channel[None, :]
    j = tl.load(source + edge, mask=edge < stop, other=0)
    a = tl.load(at_target + row * num_channels + channel, mask=valid, other=0).to(DTYPE)
    b = tl.load(at_source + j[:, None] * num_channels + channel[None, :], mask=mask, other=0).to(DTYPE)
    return offset, mask, a[None, :] + b + tl.load(at_edge + offset, mask=mask, other=0).to(DTYPE)


@triton.jit
def gather_silu_fwd_kernel(
    row_ptr, source, at_target, at_source, at_edge, out, num_channels,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    at = start
    while at < stop:
        offset, mask, x = edge_block(
            source, at_target, at_source, at_edge, row, at, stop, channel, valid, num_channels, DTYPE, BLOCK_E
        )
        tl.store(out + offset, x / (1 + tl.exp(-x)), mask=mask)
        at += BLOCK_E


@triton.jit
def gather_silu_bwd_kernel(
    row_ptr, source, at_target, at_source, at_edge, grad, grad_target, grad_edge, num_channels,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    total = tl.zeros([BLOCK_C], DTYPE)
    at = start
    while at < stop:
        offset, mask, x = edge_block(
            source, at_target, at_source, at_edge, row, at, stop, channel, valid, num_channels, DTYPE, BLOCK_E
        )
        s = 1 / (1 + tl.exp(-x))
        d = tl.load(grad + offset, mask=mask, other=0).to(DTYPE) * s * (1 + x * (1 - s))
        tl.store(grad_edge + offset, d, mask=mask)
        total += tl.sum(d, 0)
        at += BLOCK_E
    tl.store(grad_target + row * num_channels + channel, total, mask=valid)


def gather_add_silu(
    at_target: Tensor, at_source: Tensor, at_edge: Tensor, row_ptr: Tensor, source: Tensor, *others: Tensor | None
) -> Tensor:
    """See `geoattn.kernels.gather_silu.gather_add_silu`."""
    out = torch.empty_like(at_edge)
    args = (source, at_target, at_source, at_edge, out)
    launch(gather_silu_fwd_kernel, row_ptr, at_edge.shape[1], at_edge, *args)
    return out


def gather_add_silu_backward(
    grad: Tensor,
    at_target: Tensor,
    at_source: Tensor,
    at_edge: Tensor,
    row_ptr: Tensor,
    source: Tensor,
    source_ptr: Tensor,
    source_order: Tensor,
    want_source: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `geoattn.kernels.gather_silu.gather_add_silu_backward`."""
    grad_target, grad_edge = torch.empty_like(at_target), torch.empty_like(at_edge)
    args = (source, at_target, at_source, at_edge, grad, grad_target, grad_edge)
    launch(gather_silu_bwd_kernel, row_ptr, at_edge.shape[1], at_edge, *args)
    if not want_source:
        return grad_target, at_source.new_empty(0, at_source.shape[1]), grad_edge
    return grad_target, segment_sum(grad_edge, source_ptr, source_order, False), grad_edge
