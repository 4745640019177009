"""`neighbor_attention` for the CPU: compiled loops over targets, and over sources for the gradients of k and v.

The time goes into fetching the rows of k and v (backward also q and the output's gradient) from the cache, so rows are
asked for a few edges ahead, four of them are added at a time, and nothing of size ``[E, H, D]`` is written. A target's
edges pass in blocks with an online softmax; the logits of a block stay in the first-level cache.
"""

import functools
import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from geoattn.kernels._lanes import checksum, prefetch_row
from geoattn.kernels._threads import run_rows
from geoattn.kernels.neighbor_attention import _simd
from geoattn.kernels.neighbor_attention._simd import (
    LANES,
    add_scaled,
    add_scaled4,
    dot_heads,
    dot_heads_minus,
    fill_row,
    scale_span,
    softmax_backward_block,
    softmax_block,
)

EDGES = 64
"""Edges in a block of logits."""

AHEAD = 16
"""How many edges before their use rows are asked for."""

LITERAL_DIMS = (8, 16, 32, 64)
"""Head dimensions compiled as constants, which is up to twice as fast; other sizes share one general version."""

_SIMD_CHECKSUM = checksum(_simd.__file__)

# no nnan and ninf: a bias of -inf masks an edge
_jit = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
_inline = njit(inline="always")


@_inline
def _add_weighted(y, i, weight, stride, x, row, start, count, heads, dim):
    """``y[i, h] += sum_c weight[c*stride + h] * x[row[start + c], h]`` for every head."""
    c = 0
    while c + 4 <= count:
        j0, j1, j2, j3 = row[start + c], row[start + c + 1], row[start + c + 2], row[start + c + 3]
        w0 = c * stride
        w1, w2, w3 = w0 + stride, w0 + 2 * stride, w0 + 3 * stride
        for h in range(heads):
            add_scaled4(
                y, i, h * dim, dim, weight[w0 + h], weight[w1 + h], weight[w2 + h], weight[w3 + h], x, j0, j1, j2, j3
            )
        c += 4
    while c < count:
        for h in range(heads):
            add_scaled(y, i, h * dim, dim, weight[c * stride + h], x, row[start + c])
        c += 1


@_inline
def _add_bias(logit, at, heads, bias, edge):
    if bias.shape[1] == heads:
        add_scaled(logit, at, 0, heads, 1, bias, edge)
    else:  # one for all heads
        for h in range(heads):
            logit[at + h] += bias[edge, 0]


@_inline
def _scaled_row(y, x, i, length, factor):
    for f in range(length):
        y[f] = x[i, f] * factor


@_inline
def _padded(heads):
    padded = 1
    while padded < heads:
        padded *= 2
    return padded


@functools.cache
def _kernels(literal_dim: int):
    """The three loops for one head dimension known at compile time, or, with 0, for any."""
    constants = (literal_dim, _SIMD_CHECKSUM)

    @_jit
    def forward(first, last, row_ptr, row, edge_id, q, k, v, bias, scale, heads, dim_k, dim_v, out, lse):
        dim_k, dim_v = constants[0] or dim_k, constants[0] or dim_v
        padded = _padded(heads)
        logit = np.zeros(EDGES * padded, q.dtype)
        query = np.empty(heads * dim_k, q.dtype)
        peak = np.empty(max(padded, LANES), q.dtype)
        total, fade = np.empty_like(peak), np.empty_like(peak)
        for i in range(first, last):
            _scaled_row(query, q, i, heads * dim_k, scale)
            fill_row(out, i, heads * dim_v, 0)
            for lane in range(peak.shape[0]):
                peak[lane], total[lane] = -np.inf, 0
            for start in range(row_ptr[i], row_ptr[i + 1], EDGES):
                count = min(EDGES, row_ptr[i + 1] - start)
                for e in range(start, start + count):
                    at = (e - start) * padded
                    if e + AHEAD < row.shape[0]:
                        prefetch_row(k, row[e + AHEAD], heads * dim_k)
                        prefetch_row(v, row[e + AHEAD], heads * dim_v)
                    dot_heads(query, 0, k, row[e], heads, dim_k, logit, at)
                    if bias.shape[0] > 0:
                        _add_bias(logit, at, heads, bias, edge_id[e])
                for lane in range(count * padded, (count * padded + LANES - 1) // LANES * LANES):
                    logit[lane] = -np.inf
                softmax_block(logit, count, padded, peak, total, fade)
                if start > row_ptr[i]:
                    for h in range(heads):
                        scale_span(out, i, h * dim_v, dim_v, fade[h])
                _add_weighted(out, i, logit, padded, v, row, start, count, heads, dim_v)
            for h in range(heads):
                some = total[h] != 0  # else no edge, or every edge masked
                lse[i, h] = peak[h] + np.log(total[h]) if some else 0
                scale_span(out, i, h * dim_v, dim_v, 1 / total[h] if some else 0)

    @_jit
    def backward_by_target(
        first, last, row_ptr, row, edge_id, q, k, v, bias, scale, heads, dim_k, dim_v, grad, lse_mean,
        grad_q, grad_bias, edge_grad_k, edge_grad_v, want_q, want_bias, want_edge_k, want_edge_v,
    ):  # fmt: skip
        dim_k, dim_v = constants[0] or dim_k, constants[0] or dim_v
        padded = _padded(heads)
        p, ds = np.zeros(EDGES * padded, q.dtype), np.zeros(EDGES * padded, q.dtype)
        query = np.empty(heads * dim_k, q.dtype)
        for i in range(first, last):
            _scaled_row(query, q, i, heads * dim_k, scale)
            if want_q:
                fill_row(grad_q, i, heads * dim_k, 0)
            for start in range(row_ptr[i], row_ptr[i + 1], EDGES):
                count = min(EDGES, row_ptr[i + 1] - start)
                for e in range(start, start + count):
                    at = (e - start) * padded
                    if e + AHEAD < row.shape[0]:
                        prefetch_row(k, row[e + AHEAD], heads * dim_k)
                        prefetch_row(v, row[e + AHEAD], heads * dim_v)
                    dot_heads_minus(query, 0, k, row[e], heads, dim_k, p, at, lse_mean, i, 0)
                    dot_heads_minus(grad, i, v, row[e], heads, dim_v, ds, at, lse_mean, i, heads)
                    if bias.shape[0] > 0:
                        _add_bias(p, at, heads, bias, edge_id[e])
                softmax_backward_block(p, ds, count, padded)
                if want_q:
                    _add_weighted(grad_q, i, ds, padded, k, row, start, count, heads, dim_k)
                for e in range(start, start + count):
                    at, caller = (e - start) * padded, edge_id[e]
                    if want_bias and grad_bias.shape[1] == heads:
                        for h in range(heads):
                            grad_bias[caller, h] = ds[at + h]
                    elif want_bias:
                        grad_bias[caller, 0] = 0
                        for h in range(heads):
                            grad_bias[caller, 0] += ds[at + h]
                    if want_edge_k:
                        fill_row(edge_grad_k, caller, heads * dim_k, 0)
                        for h in range(heads):
                            add_scaled(edge_grad_k, caller, h * dim_k, dim_k, ds[at + h] * scale, q, i)
                    if want_edge_v:
                        fill_row(edge_grad_v, caller, heads * dim_v, 0)
                        for h in range(heads):
                            add_scaled(edge_grad_v, caller, h * dim_v, dim_v, p[at + h], grad, i)
            if want_q:
                scale_span(grad_q, i, 0, heads * dim_k, scale)

    @_jit
    def backward_by_source(
        first, last, source_ptr, target, edge_id, q, k, v, bias, scale, heads, dim_k, dim_v, grad, lse_mean,
        grad_k, grad_v, want_k, want_v,
    ):  # fmt: skip
        dim_k, dim_v = constants[0] or dim_k, constants[0] or dim_v
        padded = _padded(heads)
        p, ds = np.zeros(EDGES * padded, q.dtype), np.zeros(EDGES * padded, q.dtype)
        key = np.empty(heads * dim_k, q.dtype)
        for j in range(first, last):
            _scaled_row(key, k, j, heads * dim_k, scale)
            if want_k:
                fill_row(grad_k, j, heads * dim_k, 0)
            if want_v:
                fill_row(grad_v, j, heads * dim_v, 0)
            for start in range(source_ptr[j], source_ptr[j + 1], EDGES):
                count = min(EDGES, source_ptr[j + 1] - start)
                for e in range(start, start + count):
                    at, i = (e - start) * padded, target[e]
                    if e + AHEAD < target.shape[0]:
                        prefetch_row(q, target[e + AHEAD], heads * dim_k)
                        prefetch_row(grad, target[e + AHEAD], heads * dim_v)
                        prefetch_row(lse_mean, target[e + AHEAD], 2 * heads)
                    dot_heads_minus(key, 0, q, i, heads, dim_k, p, at, lse_mean, i, 0)
                    if want_k:
                        dot_heads_minus(v, j, grad, i, heads, dim_v, ds, at, lse_mean, i, heads)
                    if bias.shape[0] > 0:
                        _add_bias(p, at, heads, bias, edge_id[e])
                softmax_backward_block(p, ds, count, padded)
                if want_k:
                    _add_weighted(grad_k, j, ds, padded, q, target, start, count, heads, dim_k)
                if want_v:
                    _add_weighted(grad_v, j, p, padded, grad, target, start, count, heads, dim_v)
            if want_k:
                scale_span(grad_k, j, 0, heads * dim_k, scale)

    return forward, backward_by_target, backward_by_source


@_jit
def _lse_and_mean(first, last, heads, dim_v, grad, out, lse, lse_mean):
    """Side by side, what the backward passes subtract: log-sum-exp of the logits, mean of the gradients of p."""
    mean = np.empty(heads, out.dtype)
    for i in range(first, last):
        dot_heads(grad, i, out, i, heads, dim_v, mean, 0)
        for h in range(heads):
            lse_mean[i, h] = lse[i, h]
            lse_mean[i, heads + h] = mean[h]


def _choose_kernels(dim_k: int, dim_v: int):
    return _kernels(dim_k if dim_k == dim_v and dim_k in LITERAL_DIMS else 0)


def _empty(*shape: int, like: Tensor) -> Tensor:
    """An uninitialised tensor in numpy's memory: numpy asks for huge pages, which are ten times cheaper to touch."""
    return torch.from_numpy(np.empty(shape, like.numpy().dtype))


def _rows(x: Tensor) -> np.ndarray:
    """``[N, ...]`` as a numpy matrix whose rows begin where those of ``x`` begin, without a copy if that can be.

    Rows of the matrix may be longer than those of ``x``: if it is one of q, k, v packed in one tensor, they reach into
    the others, the last one beyond the end. The kernels read no more of a row than belongs to ``x``.
    """
    width = math.prod(x.shape[1:])
    if x.is_contiguous() or x.stride(0) < width or not x[0].is_contiguous():
        return x.contiguous().view(x.shape[0], width).numpy()
    shape, stride = (x.shape[0], x.stride(0)), (x.stride(0) * x.itemsize, x.itemsize)
    return np.lib.stride_tricks.as_strided(x.numpy(), shape, stride)


def attention_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    row_ptr: Tensor,
    source: Tensor,
    edge_id: Tensor,
    row_ptr_t: Tensor,
    source_t: Tensor,
    edge_id_t: Tensor,
    scale: float,
    kv: str,
) -> tuple[Tensor, Tensor]:
    """See `geoattn.kernels.neighbor_attention.attention_rows`."""
    (nodes, heads, dim_k), dim_v = q.shape, v.shape[2]
    out, lse = _empty(nodes, heads, dim_v, like=q), _empty(nodes, heads, like=q)
    forward, _, _ = _choose_kernels(dim_k, dim_v)
    row = source if kv == "node" else edge_id
    inputs = _inputs(q, k, v, bias, scale)
    ptr, work = row_ptr.numpy(), source.shape[0] * heads * (dim_k + dim_v)
    run_rows(forward, ptr, work, ptr, row.numpy(), edge_id.numpy(), *inputs, _rows(out), _rows(lse))
    return out, lse


def attention_rows_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    row_ptr: Tensor,
    source: Tensor,
    edge_id: Tensor,
    row_ptr_t: Tensor,
    source_t: Tensor,
    edge_id_t: Tensor,
    scale: float,
    kv: str,
    out: Tensor,
    lse: Tensor,
    want: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `geoattn.kernels.neighbor_attention.attention_rows_backward`.

    The first pass runs over targets and makes the gradients of q, of the bias, and of k and v per edge. The second runs
    over sources and makes the gradients of k and v per node; it computes the probabilities anew from the rows it
    fetches anyway, which is as fast as to fetch them from where the first pass would have left them.
    """
    (nodes, heads, dim_k), dim_v = q.shape, v.shape[2]
    inputs = zip((q, k, v, bias), want, strict=True)
    grads = [q.new_empty(0, 1) if x is None or not wanted else _empty(*x.shape, like=q) for x, wanted in inputs]
    grad_q, grad_k, grad_v, grad_bias = (_rows(x) for x in grads)
    lse_mean = _empty(nodes, 2 * heads, like=q)
    ends = (_rows(grad), _rows(out), _rows(lse), _rows(lse_mean))
    run_rows(_lse_and_mean, row_ptr.numpy(), nodes * heads * dim_v, heads, dim_v, *ends)

    _, by_target, by_source = _choose_kernels(dim_k, dim_v)
    common = (*_inputs(q, k, v, bias, scale), _rows(grad), _rows(lse_mean))
    want_q, want_k, want_v, want_bias = want
    per_edge, work = kv == "edge", 2 * source.shape[0] * heads * (dim_k + dim_v)
    if want_q or want_bias or per_edge:
        ptr, row, edge = row_ptr.numpy(), (edge_id if per_edge else source).numpy(), edge_id.numpy()
        wanted = (want_q, want_bias, per_edge and want_k, per_edge and want_v)
        run_rows(by_target, ptr, work, ptr, row, edge, *common, grad_q, grad_bias, grad_k, grad_v, *wanted)
    if not per_edge and (want_k or want_v):
        ptr, row, edge = row_ptr_t.numpy(), source_t.numpy(), edge_id_t.numpy()
        run_rows(by_source, ptr, work, ptr, row, edge, *common, grad_k, grad_v, want_k, want_v)
    return grads[0], grads[1], grads[2], grads[3]


def _inputs(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[object, ...]:
    """What the three loops have in common."""
    rows = _rows(q)
    bias = q.new_empty(0, 1) if bias is None else bias.contiguous()  # the loops index a shared one without strides
    return rows, _rows(k), _rows(v), _rows(bias), rows.dtype.type(scale), q.shape[1], q.shape[2], v.shape[2]
