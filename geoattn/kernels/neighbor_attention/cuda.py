"""`neighbor_attention` in Triton: one program per row of edges and block of heads, no atomics.

A program holds a tile ``[edges, heads, channels]`` of k and of v, read in whole rows; the bytes of these rows are what
the kernels wait for. q, k and v may be parts of one packed tensor. As on the CPU, the gradients of k and v per node
come from a second pass, over the transposed graph, which computes the probabilities anew from the rows it reads anyway.
"""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048
"""Numbers of k, and as many of v, that a program looks at together."""

NUMBERS_PER_WARP = 1024


@triton.jit
def _row_of_edges(row_ptr, HEADS: tl.constexpr, BLOCK_H: tl.constexpr):
    """This program's row, its edges' first and last position, its heads, and which of them exist."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    return row, tl.load(row_ptr + row), tl.load(row_ptr + row + 1), head, head < HEADS


@triton.jit
def _of_node(node, stride, head, HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """Offsets ``[BLOCK_H, BLOCK]`` of one node's row, of ``HEADS`` times ``DIM`` numbers, and which of them exist."""
    channel = tl.arange(0, BLOCK)
    offset = node * stride + head[:, None] * DIM + channel[None, :]
    return offset, (head < HEADS)[:, None] & (channel < DIM)[None, :]


@triton.jit
def _of_edges(line, inside, stride, head, HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """Offsets ``[BLOCK_E, BLOCK_H, BLOCK]`` of the edges' rows, and which of them exist."""
    offset, mask = _of_node(0, 0, head, HEADS, DIM, BLOCK)
    return (line * stride)[:, None, None] + offset[None, :, :], inside[:, None, None] & mask[None, :, :]


@triton.jit
def _of_bias(edge, head, BIAS_HEADS: tl.constexpr):
    """Offsets ``[BLOCK_E, BLOCK_H]`` into the bias, whose one column may serve all heads."""
    return edge[:, None] * BIAS_HEADS + (head % BIAS_HEADS)[None, :]


@triton.jit
def _probability(x):
    """From a logit less the log-sum-exp; at most 1, however large the logits and with them the rounding."""
    return tl.exp(tl.where(x > 0, 0.0, x))


@triton.jit
def attention_rows_fwd_kernel(
    row_ptr, other, edge_id, q, k, v, bias, q_stride, k_stride, v_stride, out, lse,
    SCALE: tl.constexpr, HAS_BIAS: tl.constexpr, BIAS_HEADS: tl.constexpr, DTYPE: tl.constexpr, HEADS: tl.constexpr,
    DIM_K: tl.constexpr, DIM_V: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    i, start, stop, head, valid = _row_of_edges(row_ptr, HEADS, BLOCK_H)
    place, exists = _of_node(i, q_stride, head, HEADS, DIM_K, BLOCK_K)
    query = tl.load(q + place, mask=exists, other=0).to(DTYPE) * SCALE
    peak = tl.full([BLOCK_H], float("-inf"), DTYPE)
    total = tl.zeros([BLOCK_H], DTYPE)
    shift = tl.zeros([BLOCK_H], DTYPE)
    result = tl.zeros([BLOCK_H, BLOCK_V], DTYPE)
    at = start
    while at < stop:  # sums are kept relative to the largest logit so far
        edge = at + tl.arange(0, BLOCK_E)
        inside = edge < stop
        line = tl.load(other + edge, mask=inside, other=0)
        place_k, mask_k = _of_edges(line, inside, k_stride, head, HEADS, DIM_K, BLOCK_K)
        key = tl.load(k + place_k, mask=mask_k, other=0).to(DTYPE)
        place_v, mask_v = _of_edges(line, inside, v_stride, head, HEADS, DIM_V, BLOCK_V)
        value = tl.load(v + place_v, mask=mask_v, other=0).to(DTYPE)
        logit = tl.sum(query[None, :, :] * key, 2)
        there = inside[:, None] & valid[None, :]
        if HAS_BIAS:
            caller = tl.load(edge_id + edge, mask=inside, other=0)
            logit += tl.load(bias + _of_bias(caller, head, BIAS_HEADS), mask=there, other=0).to(DTYPE)
        logit = tl.where(there, logit, float("-inf"))
        larger = tl.maximum(peak, tl.max(logit, 0))
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        fade, p = tl.exp(peak - shift), tl.exp(logit - shift[None, :])
        total = total * fade + tl.sum(p, 0)
        result = result * fade[:, None] + tl.sum(p[:, :, None] * value, 0)
        peak = larger
        at += BLOCK_E
    total = tl.where(total == 0, 1.0, total)  # no edge, or every edge masked
    place_o, exists_o = _of_node(i, HEADS * DIM_V, head, HEADS, DIM_V, BLOCK_V)
    tl.store(out + place_o, result / total[:, None], mask=exists_o)
    tl.store(lse + i * HEADS + head, shift + tl.log(total), mask=valid)


@triton.jit
def attention_by_target_bwd_kernel(
    row_ptr, other, edge_id, q, k, v, bias, q_stride, k_stride, v_stride, out, lse, grad, mean,
    grad_q, grad_bias, edge_grad_k, edge_grad_v,
    WANT_Q: tl.constexpr, WANT_BIAS: tl.constexpr, WANT_EDGE_K: tl.constexpr, WANT_EDGE_V: tl.constexpr,
    SCALE: tl.constexpr, HAS_BIAS: tl.constexpr, BIAS_HEADS: tl.constexpr, DTYPE: tl.constexpr, HEADS: tl.constexpr,
    DIM_K: tl.constexpr, DIM_V: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    i, start, stop, head, valid = _row_of_edges(row_ptr, HEADS, BLOCK_H)
    place_o, exists_o = _of_node(i, HEADS * DIM_V, head, HEADS, DIM_V, BLOCK_V)
    slope = tl.load(grad + place_o, mask=exists_o, other=0).to(DTYPE)
    average = tl.sum(slope * tl.load(out + place_o, mask=exists_o, other=0).to(DTYPE), 1)
    tl.store(mean + i * HEADS + head, average, mask=valid)
    if WANT_Q or WANT_BIAS or WANT_EDGE_K or WANT_EDGE_V:
        place, exists = _of_node(i, q_stride, head, HEADS, DIM_K, BLOCK_K)
        query = tl.load(q + place, mask=exists, other=0).to(DTYPE) * SCALE
        norm = tl.load(lse + i * HEADS + head, mask=valid, other=0)
        result = tl.zeros([BLOCK_H, BLOCK_K], DTYPE)
        at = start
        while at < stop:
            edge = at + tl.arange(0, BLOCK_E)
            inside = edge < stop
            line = tl.load(other + edge, mask=inside, other=0)
            place_k, mask_k = _of_edges(line, inside, k_stride, head, HEADS, DIM_K, BLOCK_K)
            key = tl.load(k + place_k, mask=mask_k, other=0).to(DTYPE)
            place_v, mask_v = _of_edges(line, inside, v_stride, head, HEADS, DIM_V, BLOCK_V)
            value = tl.load(v + place_v, mask=mask_v, other=0).to(DTYPE)
            logit = tl.sum(query[None, :, :] * key, 2)
            there = inside[:, None] & valid[None, :]
            caller = tl.load(edge_id + edge, mask=inside, other=0)
            if HAS_BIAS:
                logit += tl.load(bias + _of_bias(caller, head, BIAS_HEADS), mask=there, other=0).to(DTYPE)
            p = tl.where(there, _probability(logit - norm[None, :]), 0.0)
            ds = p * (tl.sum(slope[None, :, :] * value, 2) - average[None, :])
            if WANT_Q:
                result += tl.sum(ds[:, :, None] * key, 0)
            if WANT_BIAS:
                if BIAS_HEADS == HEADS:
                    tl.store(grad_bias + _of_bias(caller, head, HEADS), ds, mask=there)
                else:  # the sum over this program's heads
                    part = caller * tl.num_programs(1) + tl.program_id(1)
                    tl.store(grad_bias + part, tl.sum(ds, 1), mask=inside)
            if WANT_EDGE_K:
                place_e, mask_e = _of_edges(line, inside, HEADS * DIM_K, head, HEADS, DIM_K, BLOCK_K)
                tl.store(edge_grad_k + place_e, ds[:, :, None] * query[None, :, :], mask=mask_e)
            if WANT_EDGE_V:
                place_f, mask_f = _of_edges(line, inside, HEADS * DIM_V, head, HEADS, DIM_V, BLOCK_V)
                tl.store(edge_grad_v + place_f, p[:, :, None] * slope[None, :, :], mask=mask_f)
            at += BLOCK_E
        if WANT_Q:
            place_g, exists_g = _of_node(i, HEADS * DIM_K, head, HEADS, DIM_K, BLOCK_K)
            tl.store(grad_q + place_g, result * SCALE, mask=exists_g)


@triton.jit
def attention_by_source_bwd_kernel(
    row_ptr, other, edge_id, q, k, v, bias, q_stride, k_stride, v_stride, lse, grad, mean, grad_k, grad_v,
    WANT_K: tl.constexpr, WANT_V: tl.constexpr,
    SCALE: tl.constexpr, HAS_BIAS: tl.constexpr, BIAS_HEADS: tl.constexpr, DTYPE: tl.constexpr, HEADS: tl.constexpr,
    DIM_K: tl.constexpr, DIM_V: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    j, start, stop, head, valid = _row_of_edges(row_ptr, HEADS, BLOCK_H)
    place_k, exists_k = _of_node(j, k_stride, head, HEADS, DIM_K, BLOCK_K)
    place_v, exists_v = _of_node(j, v_stride, head, HEADS, DIM_V, BLOCK_V)
    key = tl.load(k + place_k, mask=exists_k, other=0).to(DTYPE) * SCALE
    value = tl.load(v + place_v, mask=exists_v, other=0).to(DTYPE)
    result_k = tl.zeros([BLOCK_H, BLOCK_K], DTYPE)
    result_v = tl.zeros([BLOCK_H, BLOCK_V], DTYPE)
    at = start
    while at < stop:
        edge = at + tl.arange(0, BLOCK_E)
        inside = edge < stop
        line = tl.load(other + edge, mask=inside, other=0)
        place_q, mask_q = _of_edges(line, inside, q_stride, head, HEADS, DIM_K, BLOCK_K)
        query = tl.load(q + place_q, mask=mask_q, other=0).to(DTYPE)
        place_o, mask_o = _of_edges(line, inside, HEADS * DIM_V, head, HEADS, DIM_V, BLOCK_V)
        slope = tl.load(grad + place_o, mask=mask_o, other=0).to(DTYPE)
        there = inside[:, None] & valid[None, :]
        target = line[:, None] * HEADS + head[None, :]
        logit = tl.sum(key[None, :, :] * query, 2) - tl.load(lse + target, mask=there, other=0)
        if HAS_BIAS:
            caller = tl.load(edge_id + edge, mask=inside, other=0)
            logit += tl.load(bias + _of_bias(caller, head, BIAS_HEADS), mask=there, other=0).to(DTYPE)
        p = tl.where(there, _probability(logit), 0.0)
        if WANT_K:
            average = tl.load(mean + target, mask=there, other=0)
            ds = p * (tl.sum(value[None, :, :] * slope, 2) - average)
            result_k += tl.sum(ds[:, :, None] * query, 0)
        if WANT_V:
            result_v += tl.sum(p[:, :, None] * slope, 0)
        at += BLOCK_E
    if WANT_K:
        place_g, exists_g = _of_node(j, HEADS * DIM_K, head, HEADS, DIM_K, BLOCK_K)
        tl.store(grad_k + place_g, result_k * SCALE, mask=exists_g)
    if WANT_V:
        place_h, exists_h = _of_node(j, HEADS * DIM_V, head, HEADS, DIM_V, BLOCK_V)
        tl.store(grad_v + place_h, result_v, mask=exists_h)


def attention_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    row_ptr: Tensor,
    source: Tensor,
    edge_id: Tensor,
    row_ptr_t: Tensor | None,
    source_t: Tensor | None,
    edge_id_t: Tensor | None,
    scale: float,
    kv: str,
) -> tuple[Tensor, Tensor]:
    """See `geoattn.kernels.neighbor_attention.attention_rows`."""
    out = q.new_empty(q.shape[0], q.shape[1], v.shape[2])
    lse = q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
    edges = (row_ptr, source if kv == "node" else edge_id, edge_id)
    _launch(attention_rows_fwd_kernel, edges, (q, k, v, bias), scale, out, lse)
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
    """See `geoattn.kernels.neighbor_attention.attention_rows_backward`."""
    inputs = zip((q, k, v, bias), want, strict=True)
    grad_q, grad_k, grad_v, grad_bias = (q.new_empty((0, 1) if x is None or not w else x.shape) for x, w in inputs)
    want_q, want_k, want_v, want_bias = want
    shared = bias is not None and want_bias and bias.shape[1] != q.shape[1]
    if shared and bias is not None:  # each program sums over its heads
        parts = triton.cdiv(q.shape[1], _heads_together(q.shape[1], _widest(q.shape[2], v.shape[2])))
        grad_bias = lse.new_empty(bias.shape[0], parts)
    per_edge, mean, grad = kv == "edge", torch.empty_like(lse), grad.contiguous()
    _launch(
        attention_by_target_bwd_kernel, (row_ptr, edge_id if per_edge else source, edge_id), (q, k, v, bias), scale,
        out, lse, grad, mean, grad_q, grad_bias, grad_k, grad_v,
        WANT_Q=want_q, WANT_BIAS=want_bias, WANT_EDGE_K=per_edge and want_k, WANT_EDGE_V=per_edge and want_v,
    )  # fmt: skip
    if not per_edge and (want_k or want_v):
        _launch(
            attention_by_source_bwd_kernel, (row_ptr_t, source_t, edge_id_t), (q, k, v, bias), scale,
            lse, grad, mean, grad_k, grad_v, WANT_K=want_k, WANT_V=want_v,
        )  # fmt: skip
    if shared:
        grad_bias = grad_bias.sum(1, keepdim=True).to(q.dtype)
    return grad_q, grad_k, grad_v, grad_bias


def _widest(dim_k: int, dim_v: int) -> int:
    return max(triton.next_power_of_2(dim_k), triton.next_power_of_2(max(1, dim_v)))


def _heads_together(heads: int, widest: int) -> int:
    """How many heads a program looks at."""
    return min(triton.next_power_of_2(heads), max(1, 512 // widest))


def _launch(
    kernel,
    edges: tuple[Tensor, Tensor, Tensor],
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None],
    scale: float,
    *others: Tensor,
    **wanted: bool,
) -> None:
    """Run ``kernel`` for all rows of edges; accumulates in float32, for float64 in float64."""
    q, k, v = (x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous() for x in inputs[:3])
    bias = inputs[3]
    rows, heads, dim_k, dim_v = edges[0].shape[0] - 1, q.shape[1], q.shape[2], v.shape[2]
    if rows == 0 or heads == 0:
        return
    block_k, block_v = triton.next_power_of_2(dim_k), triton.next_power_of_2(max(1, dim_v))
    widest = max(block_k, block_v)
    block_h = _heads_together(heads, widest)
    degree = triton.next_power_of_2(triton.cdiv(edges[1].shape[0], rows))
    block_e = max(1, min(degree, 32, TILE // (block_h * widest)))
    constants = {"SCALE": scale, "HAS_BIAS": bias is not None, "HEADS": heads, "DIM_K": dim_k, "DIM_V": dim_v}
    constants["BIAS_HEADS"] = heads if bias is None else bias.shape[1]
    constants |= {"BLOCK_E": block_e, "BLOCK_H": block_h, "BLOCK_K": block_k, "BLOCK_V": block_v}
    constants["DTYPE"] = tl.float64 if q.dtype == torch.float64 else tl.float32
    warps = max(1, min(8, block_e * block_h * widest // NUMBERS_PER_WARP))
    grid = (rows, triton.cdiv(heads, block_h))
    with torch.cuda.device_of(q):
        strides = (x.stride(0) for x in (q, k, v))
        arrays = (*edges, q, k, v, q if bias is None else bias.contiguous(), *strides)
        kernel[grid](*arrays, *others, **wanted, **constants, num_warps=warps, enable_fp_fusion=True)
