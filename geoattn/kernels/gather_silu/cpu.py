"""`gather_silu` for the CPU: one pass over the edges forward; backward one by target and one by source."""

# mypy: disable-error-code=no-untyped-def

import torch
from numba import njit
from torch import Tensor

from geoattn.kernels._math import FAST, exp
from geoattn.kernels._memory import large_pages
from geoattn.kernels._threads import run_rows
from geoattn.kernels.segment_reduce.cpu import segment_sum

WORK_PER_VALUE = 8  # multiply-adds of one SiLU


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _forward(first, last, row_ptr, source, at_target, at_source, at_edge, out):
    one = at_edge.dtype.type(1)
    for i in range(first, last):
        a = at_target[i]
        for e in range(row_ptr[i], row_ptr[i + 1]):
            b, c, y = at_source[source[e]], at_edge[e], out[e]
            for k in range(y.shape[0]):
                x = a[k] + b[k] + c[k]
                y[k] = x / (one + exp(-x))


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _backward_by_target(first, last, row_ptr, source, at_target, at_source, at_edge, grad, grad_target, grad_edge):
    one = at_edge.dtype.type(1)
    for i in range(first, last):
        a, total = at_target[i], grad_target[i]
        total[:] = 0
        for e in range(row_ptr[i], row_ptr[i + 1]):
            b, c, g, d = at_source[source[e]], at_edge[e], grad[e], grad_edge[e]
            for k in range(d.shape[0]):
                x = a[k] + b[k] + c[k]
                s = one / (one + exp(-x))
                d[k] = g[k] * s * (one + x * (one - s))
                total[k] += d[k]


def gather_add_silu(
    at_target: Tensor, at_source: Tensor, at_edge: Tensor, row_ptr: Tensor, source: Tensor, *others: Tensor | None
) -> Tensor:
    """See `geoattn.kernels.gather_silu.gather_add_silu`."""
    out = large_pages(torch.empty_like(at_edge))
    ptr = row_ptr.numpy()
    values = (at_target.numpy(), at_source.numpy(), at_edge.numpy(), out.numpy())
    run_rows(_forward, ptr, WORK_PER_VALUE * out.numel(), ptr, source.numpy(), *values)
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
    grad_target, grad_edge = torch.empty_like(at_target), large_pages(torch.empty_like(at_edge))
    ptr = row_ptr.numpy()
    values = (at_target.numpy(), at_source.numpy(), at_edge.numpy(), grad.numpy())
    work = WORK_PER_VALUE * at_edge.numel()
    run_rows(_backward_by_target, ptr, work, ptr, source.numpy(), *values, grad_target.numpy(), grad_edge.numpy())
    if not want_source:
        return grad_target, at_source.new_empty(0, at_source.shape[1]), grad_edge
    return grad_target, segment_sum(grad_edge, source_ptr, source_order, False), grad_edge
