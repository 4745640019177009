"""Reductions over each target's edges in Triton: one program per target and block of channels."""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels._triton_rows import launch, program_row, tile


@triton.jit
def segment_sum_fwd_kernel(
    row_ptr, index, x, y, num_channels,
    MEAN: tl.constexpr, DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    total = tl.zeros([BLOCK_C], DTYPE)
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        total += tl.sum(tl.load(x + offset, mask=mask, other=0).to(DTYPE), 0)
        at += BLOCK_E
    if MEAN:
        total /= tl.maximum(stop - start, 1).to(DTYPE)
    tl.store(y + row * num_channels + channel, total, mask=valid)


@triton.jit
def segment_sum_bwd_kernel(
    row_ptr, index, y, x, num_channels,
    MEAN: tl.constexpr, DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    value = tl.load(y + row * num_channels + channel, mask=valid, other=0).to(DTYPE)
    if MEAN:
        value /= tl.maximum(stop - start, 1).to(DTYPE)
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        tl.store(x + offset, tl.broadcast_to(value[None, :], [BLOCK_E, BLOCK_C]), mask=mask)
        at += BLOCK_E


@triton.jit
def segment_extremum_fwd_kernel(
    row_ptr, index, x, y, num_channels,
    SIGN: tl.constexpr, DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    best = tl.full([BLOCK_C], float("-inf"), DTYPE)
    nan = tl.zeros([BLOCK_C], DTYPE)  # becomes NaN where an edge is NaN, which maxima lose
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        value = SIGN * tl.load(x + offset, mask=mask, other=SIGN * float("-inf")).to(DTYPE)
        best = tl.maximum(best, tl.max(value, 0))
        nan += tl.sum(tl.where(value == value, 0.0, value), 0)
        at += BLOCK_E
    best = tl.where(stop > start, SIGN * best, 0.0)
    tl.store(y + row * num_channels + channel, tl.where(nan == nan, best, nan), mask=valid)


@triton.jit
def segment_extremum_bwd_kernel(
    row_ptr, index, grad, x, y, grad_x, num_channels,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row, start, stop, channel, valid = program_row(row_ptr, num_channels, BLOCK_C)
    best = tl.load(y + row * num_channels + channel, mask=valid, other=0)[None, :]
    whole = tl.load(grad + row * num_channels + channel, mask=valid, other=0).to(DTYPE)
    count = tl.zeros([BLOCK_C], DTYPE)
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        value = tl.load(x + offset, mask=mask, other=0)
        count += tl.sum((mask & ((value == best) | (value != value))).to(DTYPE), 0)
        at += BLOCK_E
    share = whole / tl.where(count > 0, count, 1.0)
    at = start
    while at < stop:
        offset, mask = tile(index, at, stop, channel, valid, num_channels, BLOCK_E)
        value = tl.load(x + offset, mask=mask, other=0)
        attains = (value == best) | (value != value)
        tl.store(grad_x + offset, tl.where(attains, share[None, :], 0.0), mask=mask)
        at += BLOCK_E


def segment_sum(x: Tensor, row_ptr: Tensor, index: Tensor, mean: bool) -> Tensor:
    """``y_i = sum_p x[index_p]`` over the positions p of row i; ``index`` may name rows of ``x`` more than once."""
    y = x.new_empty(row_ptr.shape[0] - 1, x.shape[1])
    launch(segment_sum_fwd_kernel, row_ptr, x.shape[1], x, index, x, y, MEAN=mean)
    return y


def segment_spread(y: Tensor, row_ptr: Tensor, edge_id: Tensor, mean: bool) -> Tensor:
    """See `geoattn.kernels.segment_reduce.segment_spread`."""
    x = y.new_empty(edge_id.shape[0], y.shape[1])
    launch(segment_sum_bwd_kernel, row_ptr, y.shape[1], y, edge_id, y, x, MEAN=mean)
    return x


def segment_extremum(x: Tensor, row_ptr: Tensor, edge_id: Tensor, largest: bool) -> Tensor:
    """See `geoattn.kernels.segment_reduce.segment_extremum`."""
    y = x.new_empty(row_ptr.shape[0] - 1, x.shape[1])
    launch(segment_extremum_fwd_kernel, row_ptr, x.shape[1], x, edge_id, x, y, SIGN=1.0 if largest else -1.0)
    return y


def segment_extremum_backward(grad: Tensor, x: Tensor, y: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_reduce.segment_extremum_backward`."""
    grad_x = torch.empty_like(x)
    launch(segment_extremum_bwd_kernel, row_ptr, x.shape[1], x, edge_id, grad, x, y, grad_x)
    return grad_x
