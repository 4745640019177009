"""Softmax over each target's edges, compiled for the CPU."""

import math

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

from geoattn.kernels._threads import run_rows

EXP_WORK = 10
"""Multiply-adds that one exponential is worth."""


def softmax_rows(x: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_softmax.softmax_rows`."""
    y = torch.empty_like(x)
    ptr = row_ptr.numpy()
    run_rows(_softmax_rows, ptr, EXP_WORK * x.numel(), ptr, edge_id.numpy(), x.numpy(), y.numpy())
    return y


def softmax_rows_backward(grad: Tensor, y: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_softmax.softmax_rows_backward`."""
    grad_x = torch.empty_like(y)
    ptr = row_ptr.numpy()
    arrays = (grad.numpy(), y.numpy(), grad_x.numpy())
    run_rows(_softmax_backward_rows, ptr, 2 * y.numel(), ptr, edge_id.numpy(), *arrays)
    return grad_x


def _exp(x):
    """e^x for x <= 0 or NaN, to one unit in the last place; 0 where it would be below the normal numbers.

    x = n ln 2 + r with integer n and |r| <= ln 2 / 2, then the Taylor polynomial in r times 2^n. Plain arithmetic
    without a call, so that LLVM vectorises the loop around it: ten times as fast as the C library's.
    """


@overload(_exp, inline="always")
def _(x):
    if x == types.float32:
        real, integer, mantissa, bias, degree, lowest = np.float32, np.int32, 23, 127, 7, np.float32(-87)
        ln2_high, ln2_low = np.float32(0.693145751953125), np.float32(1.428606765330187e-06)
    else:
        real, integer, mantissa, bias, degree, lowest = np.float64, np.int64, 52, 1023, 13, np.float64(-708)
        ln2_high, ln2_low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
    log2_e = real(math.log2(math.e))
    leading, *rest = (real(1 / math.factorial(k)) for k in range(degree, -1, -1))
    rest = tuple(rest)

    def exp(x):
        n = np.rint(max(x, lowest) * log2_e)
        r = x - n * ln2_high - n * ln2_low
        power = leading
        for coefficient in rest:
            power = power * r + coefficient
        scale = integer((integer(n) + bias) << mantissa).view(real)
        return real(0) if x < lowest else power * scale

    return exp


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _softmax_rows(first, last, ptr, edge_id, x, y):
    channels = x.shape[1]
    peak, total = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for i in range(first, last):
        peak[:] = -np.inf
        for p in range(ptr[i], ptr[i + 1]):
            row = x[edge_id[p]]
            for c in range(channels):
                peak[c] = peak[c] if peak[c] >= row[c] else row[c]
        for c in range(channels):
            peak[c] = 0 if peak[c] == -np.inf else peak[c]
            total[c] = 0
        for p in range(ptr[i], ptr[i + 1]):
            row, out = x[edge_id[p]], y[edge_id[p]]
            for c in range(channels):
                out[c] = _exp(row[c] - peak[c])
                total[c] += out[c]
        for c in range(channels):
            total[c] = 0 if total[c] == 0 else 1 / total[c]
        for p in range(ptr[i], ptr[i + 1]):
            out = y[edge_id[p]]
            for c in range(channels):
                out[c] *= total[c]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _softmax_backward_rows(first, last, ptr, edge_id, grad, y, grad_x):
    channels = y.shape[1]
    mean = np.empty(channels, y.dtype)
    for i in range(first, last):
        mean[:] = 0
        for p in range(ptr[i], ptr[i + 1]):
            weight, slope = y[edge_id[p]], grad[edge_id[p]]
            for c in range(channels):
                mean[c] += weight[c] * slope[c]
        for p in range(ptr[i], ptr[i + 1]):
            weight, slope, out = y[edge_id[p]], grad[edge_id[p]], grad_x[edge_id[p]]
            for c in range(channels):
                out[c] = weight[c] * (slope[c] - mean[c])
