"""Softmax over each target's edges, compiled for the CPU."""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from geoattn.kernels._math import exp
from geoattn.kernels._memory import large_pages
from geoattn.kernels._threads import run_rows

EXP_WORK = 10
"""Multiply-adds that one exponential is worth."""


def softmax_rows(x: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_softmax.softmax_rows`."""
    y = large_pages(torch.empty_like(x))
    ptr = row_ptr.numpy()
    run_rows(_softmax_rows, ptr, EXP_WORK * x.numel(), ptr, edge_id.numpy(), x.numpy(), y.numpy())
    return y


def softmax_rows_backward(grad: Tensor, y: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_softmax.softmax_rows_backward`."""
    grad_x = large_pages(torch.empty_like(y))
    ptr = row_ptr.numpy()
    arrays = (grad.numpy(), y.numpy(), grad_x.numpy())
    run_rows(_softmax_backward_rows, ptr, 2 * y.numel(), ptr, edge_id.numpy(), *arrays)
    return grad_x


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
                out[c] = exp(row[c] - peak[c])
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
