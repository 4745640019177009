"""Softmax over each target's edges in Triton: one program per target and block of channels."""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels._triton_rows import launch, program_row, tile


@triton.jit
def segment_softmax_fwd_kernel(
    row_ptr, index, x, y, num_channels, DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr
):
    _, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    peak = tl.full([BLOCK_C], float("-inf"), DTYPE)
    total = tl.zeros([BLOCK_C], DTYPE)
    shift = tl.zeros([BLOCK_C], DTYPE)
    at = start
    while at < stop:  # the sum is kept relative to the largest logit so far
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        value = tl.load(x + offset, mask=mask, other=float("-inf")).to(DTYPE)
        larger = tl.maximum(peak, tl.max(value, 0))
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        total = total * tl.exp(peak - shift) + tl.sum(tl.exp(value - shift[None, :]), 0)
        peak = larger
        at += BLOCK_E
    total = tl.where(total == 0, 1.0, total)
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        value = tl.load(x + offset, mask=mask, other=0).to(DTYPE)
        tl.store(y + offset, tl.exp(value - shift[None, :]) / total[None, :], mask=mask)
        at += BLOCK_E


@triton.jit
def segment_softmax_bwd_kernel(
    row_ptr, index, grad, y, grad_x, num_channels, DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr
):
    _, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    mean = tl.zeros([BLOCK_C], DTYPE)
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        weight = tl.load(y + offset, mask=mask, other=0).to(DTYPE)
        mean += tl.sum(weight * tl.load(grad + offset, mask=mask, other=0).to(DTYPE), 0)
        at += BLOCK_E
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        weight = tl.load(y + offset, mask=mask, other=0).to(DTYPE)
        slope = tl.load(grad + offset, mask=mask, other=0).to(DTYPE)
        tl.store(grad_x + offset, weight * (slope - mean[None, :]), mask=mask)
        at += BLOCK_E


def softmax_rows(x: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_softmax.softmax_rows`."""
    y = torch.empty_like(x)
    launch(segment_softmax_fwd_kernel, row_ptr, x.shape[1], x, edge_id, x, y)
    return y


def softmax_rows_backward(grad: Tensor, y: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_softmax.softmax_rows_backward`."""
    grad_x = torch.empty_like(y)
    launch(segment_softmax_bwd_kernel, row_ptr, y.shape[1], y, edge_id, grad, y, grad_x)
    return grad_x
