"""`gather_silu` for CUDA: one program per target or source and block of channels."""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _pre_activation(at_target, at_source, at_edge, source, row, edge, columns, mask, channels, dtype: tl.constexpr):
    j = tl.load(source + edge)
    a = tl.load(at_target + row * channels + columns, mask=mask, other=0).to(dtype)
    b = tl.load(at_source + j * channels + columns, mask=mask, other=0).to(dtype)
    c = tl.load(at_edge + edge * channels + columns, mask=mask, other=0).to(dtype)
    return a + b + c


@triton.jit
def gather_silu_fwd_kernel(
    at_target, at_source, at_edge, source, target, out, channels, dtype: tl.constexpr, block: tl.constexpr
):
    edge = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1).to(tl.int64) * block + tl.arange(0, block)
    mask = columns < channels
    row = tl.load(target + edge)
    x = _pre_activation(at_target, at_source, at_edge, source, row, edge, columns, mask, channels, dtype)
    y = x / (1 + tl.exp(-x))
    tl.store(out + edge * channels + columns, y.to(out.dtype.element_ty), mask=mask)


@triton.jit
def gather_silu_bwd_kernel(
    grad, at_target, at_source, at_edge, row_ptr, source, grad_target, grad_edge, channels,
    dtype: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1).to(tl.int64) * block + tl.arange(0, block)
    mask = columns < channels
    total = tl.zeros((block,), dtype=dtype)
    for edge in range(tl.load(row_ptr + row), tl.load(row_ptr + row + 1)):
        x = _pre_activation(at_target, at_source, at_edge, source, row, edge, columns, mask, channels, dtype)
        s = 1 / (1 + tl.exp(-x))
        d = tl.load(grad + edge * channels + columns, mask=mask, other=0).to(dtype) * s * (1 + x * (1 - s))
        tl.store(grad_edge + edge * channels + columns, d.to(grad_edge.dtype.element_ty), mask=mask)
        total += d
    tl.store(grad_target + row * channels + columns, total.to(grad_target.dtype.element_ty), mask=mask)


@triton.jit
def sum_by_source_kernel(
    grad_edge, source_ptr, source_order, grad_source, channels, dtype: tl.constexpr, block: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1).to(tl.int64) * block + tl.arange(0, block)
    mask = columns < channels
    total = tl.zeros((block,), dtype=dtype)
    for position in range(tl.load(source_ptr + row), tl.load(source_ptr + row + 1)):
        edge = tl.load(source_order + position)
        total += tl.load(grad_edge + edge * channels + columns, mask=mask, other=0).to(dtype)
    tl.store(grad_source + row * channels + columns, total.to(grad_source.dtype.element_ty), mask=mask)


def _launch(kernel, rows: int, channels: int, like: Tensor, *args) -> None:
    if rows == 0 or channels == 0:
        return
    block = min(128, triton.next_power_of_2(channels))
    dtype = tl.float64 if like.dtype == torch.float64 else tl.float32
    kernel[(rows, triton.cdiv(channels, block))](*args, channels, dtype=dtype, block=block)


def gather_silu(at_target: Tensor, at_source: Tensor, at_edge: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``[E, C]``; all arguments contiguous and of one dtype."""
    out = torch.empty_like(at_edge)
    args = (at_target, at_source, at_edge, source, target, out)
    _launch(gather_silu_fwd_kernel, at_edge.shape[0], at_edge.shape[1], at_edge, *args)
    return out


def gather_silu_backward(
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
    """Gradients of the three parts, ``[N, C]``, ``[Ns, C]`` (empty unless wanted), ``[E, C]``."""
    grad_target, grad_edge = torch.empty_like(at_target), torch.empty_like(at_edge)
    grad_source = torch.empty_like(at_source if want_source else at_source[:0])
    channels = at_edge.shape[1]
    args = (grad, at_target, at_source, at_edge, row_ptr, source, grad_target, grad_edge)
    _launch(gather_silu_bwd_kernel, len(at_target), channels, at_edge, *args)
    if want_source:
        args = (grad_edge, source_ptr, source_order, grad_source)
        _launch(sum_by_source_kernel, len(at_source), channels, at_edge, *args)
    return grad_target, grad_source, grad_edge
