"""Reductions over each target's edges, compiled for the CPU; one pass, rows of channels vectorised."""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from geoattn.kernels._memory import large_pages
from geoattn.kernels._threads import run_rows


def segment_sum(x: Tensor, row_ptr: Tensor, index: Tensor, mean: bool) -> Tensor:
    """``y_i = sum_p x[index_p]`` over the positions p of row i; ``index`` may name rows of ``x`` more than once."""
    y = large_pages(x.new_empty(row_ptr.shape[0] - 1, x.shape[1]))
    _run(_sum_rows, row_ptr, index, x.shape[1], mean, x.numpy(), y.numpy())
    return y


def segment_spread(y: Tensor, row_ptr: Tensor, edge_id: Tensor, mean: bool) -> Tensor:
    """See `geoattn.kernels.segment_reduce.segment_spread`."""
    x = large_pages(y.new_empty(edge_id.shape[0], y.shape[1]))
    _run(_spread_rows, row_ptr, edge_id, y.shape[1], mean, y.numpy(), x.numpy())
    return x


def segment_extremum(x: Tensor, row_ptr: Tensor, edge_id: Tensor, largest: bool) -> Tensor:
    """See `geoattn.kernels.segment_reduce.segment_extremum`."""
    y = large_pages(x.new_empty(row_ptr.shape[0] - 1, x.shape[1]))
    sign = x.numpy().dtype.type(1 if largest else -1)
    _run(_extremum_rows, row_ptr, edge_id, x.shape[1], sign, x.numpy(), y.numpy())
    return y


def segment_extremum_backward(grad: Tensor, x: Tensor, y: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_reduce.segment_extremum_backward`."""
    grad_x = large_pages(torch.empty_like(x))
    arrays = (grad.numpy(), x.numpy(), y.numpy(), grad_x.numpy())
    _run(_share_rows, row_ptr, edge_id, x.shape[1], *arrays)
    return grad_x


def _run(kernel, row_ptr: Tensor, index: Tensor, channels: int, *args: object) -> None:
    ptr = row_ptr.numpy()
    run_rows(kernel, ptr, index.shape[0] * channels, ptr, index.numpy(), *args)


@njit(nogil=True, cache=True)
def _sum_rows(first, last, ptr, index, mean, x, y):
    channels = x.shape[1]
    for i in range(first, last):
        total = y[i]
        total[:] = 0
        for p in range(ptr[i], ptr[i + 1]):
            row = x[index[p]]
            for c in range(channels):
                total[c] += row[c]
        if mean and ptr[i + 1] > ptr[i]:
            degree = x.dtype.type(ptr[i + 1] - ptr[i])
            for c in range(channels):
                total[c] /= degree


@njit(nogil=True, cache=True, error_model="numpy")
def _spread_rows(first, last, ptr, edge_id, mean, y, x):
    channels = y.shape[1]
    for i in range(first, last):
        value = y[i]
        degree = y.dtype.type(ptr[i + 1] - ptr[i] if mean else 1)
        for p in range(ptr[i], ptr[i + 1]):
            row = x[edge_id[p]]
            for c in range(channels):
                row[c] = value[c] / degree


@njit(nogil=True, cache=True)
def _extremum_rows(first, last, ptr, edge_id, sign, x, y):
    """The largest of ``sign * x``, times ``sign``. A comparison with NaN is false, so NaN is taken and then kept."""
    channels = x.shape[1]
    for i in range(first, last):
        best = y[i]
        best[:] = 0 if ptr[i] == ptr[i + 1] else -np.inf
        for p in range(ptr[i], ptr[i + 1]):
            row = x[edge_id[p]]
            for c in range(channels):
                value = sign * row[c]
                keep = (best[c] >= value) | (best[c] != best[c])
                best[c] = best[c] if keep else value
        for c in range(channels):
            best[c] *= sign


@njit(nogil=True, cache=True)
def _share_rows(first, last, ptr, edge_id, grad, x, y, grad_x):
    channels = x.shape[1]
    count = np.empty(channels, x.dtype)
    for i in range(first, last):
        best, whole = y[i], grad[i]
        count[:] = 0
        for p in range(ptr[i], ptr[i + 1]):
            row = x[edge_id[p]]
            for c in range(channels):
                count[c] += (row[c] == best[c]) | (row[c] != row[c])
        for p in range(ptr[i], ptr[i + 1]):
            row, share = x[edge_id[p]], grad_x[edge_id[p]]
            for c in range(channels):
                attains = (row[c] == best[c]) | (row[c] != row[c])
                share[c] = whole[c] / count[c] if attains else 0
