"""Weighted sums over neighbours, compiled for the CPU: one pass over the edges, rows of channels vectorised."""

import numpy as np
from numba import njit
from torch import Tensor

from geoattn.kernels._memory import large_pages
from geoattn.kernels._threads import run_rows
from geoattn.kernels.segment_reduce.cpu import segment_sum

REASSOCIATE = {"reassoc", "nsz", "contract"}


def weighted_sum(
    x: Tensor, weight: Tensor | None, ptr: Tensor, other: Tensor, edge_id: Tensor, *transposed: Tensor | None
) -> Tensor:
    """See `geoattn.kernels.gather_scatter.weighted_sum`."""
    if weight is None:
        return segment_sum(x.flatten(1), ptr, other, False).view(ptr.shape[0] - 1, *x.shape[1:])
    y = large_pages(x.new_empty(ptr.shape[0] - 1, *x.shape[1:]))
    if y.numel() == 0:  # perhaps no heads, by which the channels could not be divided
        return y
    kernel = _weighted_rows_per_head
    if weight.shape[1] == 1:
        kernel = _weighted_rows_per_edge
    elif x.shape[2] == 1:
        kernel = _weighted_rows_per_channel
    rows = ptr.numpy()
    arrays = (x.flatten(1).numpy(), weight.numpy(), y.flatten(1).numpy())
    run_rows(kernel, rows, other.shape[0] * x[0:1].numel(), rows, other.numpy(), edge_id.numpy(), *arrays)
    return y


def edge_dot(x: Tensor, y: Tensor, ptr: Tensor, other: Tensor, edge_id: Tensor, *transposed: Tensor | None) -> Tensor:
    """See `geoattn.kernels.gather_scatter.edge_dot`."""
    out = large_pages(x.new_empty(edge_id.shape[0], x.shape[1]))
    rows = ptr.numpy()
    arrays = (x.numpy(), y.numpy(), out.numpy())
    kernel = _dot_rows
    if x.shape[2] == 1:
        kernel, arrays = _multiply_rows, (x[:, :, 0].numpy(), y[:, :, 0].numpy(), out.numpy())
    run_rows(kernel, rows, other.shape[0] * x.shape[1] * x.shape[2], rows, other.numpy(), edge_id.numpy(), *arrays)
    return out


@njit(nogil=True, cache=True, fastmath={"contract"})
def _weighted_rows_per_edge(first, last, ptr, other, edge_id, x, weight, y):
    channels = x.shape[1]
    for i in range(first, last):
        total = y[i]
        total[:] = 0
        for p in range(ptr[i], ptr[i + 1]):
            row, factor = x[other[p]], weight[edge_id[p], 0]
            for c in range(channels):
                total[c] += factor * row[c]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _weighted_rows_per_channel(first, last, ptr, other, edge_id, x, weight, y):
    channels = x.shape[1]
    for i in range(first, last):
        total = y[i]
        total[:] = 0
        for p in range(ptr[i], ptr[i + 1]):
            row, factors = x[other[p]], weight[edge_id[p]]
            for c in range(channels):
                total[c] += factors[c] * row[c]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _weighted_rows_per_head(first, last, ptr, other, edge_id, x, weight, y):
    """The weights are repeated for the channels of each head first, so that the loop over channels is one long one."""
    channels, heads = x.shape[1], weight.shape[1]
    repeated = np.empty((heads, channels // heads), x.dtype)
    factors = repeated.reshape(channels)
    for i in range(first, last):
        total = y[i]
        total[:] = 0
        for p in range(ptr[i], ptr[i + 1]):
            row, weights = x[other[p]], weight[edge_id[p]]
            for h in range(heads):
                factor, places = weights[h], repeated[h]
                for c in range(places.shape[0]):
                    places[c] = factor
            for c in range(channels):
                total[c] += factors[c] * row[c]


@njit(nogil=True, cache=True, fastmath=REASSOCIATE)
def _dot_rows(first, last, ptr, other, edge_id, x, y, out):
    heads, channels = x.shape[1], x.shape[2]
    for i in range(first, last):
        for p in range(ptr[i], ptr[i + 1]):
            products = out[edge_id[p]]
            for h in range(heads):
                a, b, product = x[other[p], h], y[i, h], x.dtype.type(0)
                for c in range(channels):
                    product += a[c] * b[c]
                products[h] = product


@njit(nogil=True, cache=True)
def _multiply_rows(first, last, ptr, other, edge_id, x, y, out):
    for i in range(first, last):
        b = y[i]
        for p in range(ptr[i], ptr[i + 1]):
            a, product = x[other[p]], out[edge_id[p]]
            for c in range(out.shape[1]):
                product[c] = a[c] * b[c]
