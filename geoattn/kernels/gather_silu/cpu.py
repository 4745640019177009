"""`gather_silu` for the CPU: one pass over the edges forward; backward one by target and one by source."""

# mypy: disable-error-code=no-untyped-def

import torch
from numba import njit
from torch import Tensor

from geoattn.kernels._math import FAST, exp
from geoattn.kernels._threads import run_rows

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


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _sum_by_source(first, last, source_ptr, source_order, grad_edge, grad_source):
    for j in range(first, last):
        total = grad_source[j]
        total[:] = 0
        for position in range(source_ptr[j], source_ptr[j + 1]):
            d = grad_edge[source_order[position]]
            for k in range(total.shape[0]):
                total[k] += d[k]


def gather_silu(at_target: Tensor, at_source: Tensor, at_edge: Tensor, row_ptr: Tensor, source: Tensor) -> Tensor:
    """``[E, C]``; all arguments contiguous, float32 or float64."""
    out = torch.empty_like(at_edge)
    ptr = row_ptr.numpy()
    values = (at_target.numpy(), at_source.numpy(), at_edge.numpy(), out.numpy())
    run_rows(_forward, ptr, WORK_PER_VALUE * out.numel(), ptr, source.numpy(), *values)
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
    ptr, by_source = row_ptr.numpy(), source_ptr.numpy()
    values = (at_target.numpy(), at_source.numpy(), at_edge.numpy(), grad.numpy())
    work = WORK_PER_VALUE * at_edge.numel()
    run_rows(_backward_by_target, ptr, work, ptr, source.numpy(), *values, grad_target.numpy(), grad_edge.numpy())
    if want_source:
        values = (source_order.numpy(), grad_edge.numpy(), grad_source.numpy())
        run_rows(_sum_by_source, by_source, at_edge.numel(), by_source, *values)
    return grad_target, grad_source, grad_edge
