"""`segment_outer` and its gradients in Triton: one program per target and block of its matrix or result."""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 16
"""Edges looked at together, and the smallest side of a block of a matrix: what tensor cores multiply."""


@triton.jit
def rows_block(index, at, stop, rows, column, width, BLOCK_E: tl.constexpr):
    """The given columns of the rows of edges from position ``at``, ``[BLOCK_E, .]``; their offsets and mask."""
    position = at + tl.arange(0, BLOCK_E)
    inside = position < stop
    edge = tl.load(index + position, mask=inside, other=0)
    offset = edge[:, None] * width + column[None, :]
    mask = inside[:, None] & (column < width)[None, :]
    return tl.load(rows + offset, mask=mask, other=0), edge, inside


@triton.jit
def segment_outer_fwd_kernel(
    row_ptr, edge_id, u, t, z, height, width,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_U: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at, stop = tl.load(row_ptr + row), tl.load(row_ptr + row + 1)
    a = tl.program_id(1).to(tl.int64) * BLOCK_U + tl.arange(0, BLOCK_U)
    b = tl.program_id(2).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    total = tl.zeros([BLOCK_U, BLOCK_T], DTYPE)
    while at < stop:
        left, _, _ = rows_block(edge_id, at, stop, u, a, height, BLOCK_E)
        right, _, _ = rows_block(edge_id, at, stop, t, b, width, BLOCK_E)
        total += tl.dot(tl.trans(left), right, input_precision="ieee", out_dtype=DTYPE)
        at += BLOCK_E
    place = (row * height + a)[:, None] * width + b[None, :]
    tl.store(z + place, total, mask=(a < height)[:, None] & (b < width)[None, :])


@triton.jit
def segment_outer_bwd_kernel(
    row_ptr, edge_id, z, v, out, size_in, size_out, stride_in, stride_out,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at, stop = tl.load(row_ptr + row), tl.load(row_ptr + row + 1)
    b = tl.program_id(1).to(tl.int64) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    matrix = z + row * size_in * size_out
    while at < stop:
        total = tl.zeros([BLOCK_E, BLOCK_OUT], DTYPE)
        edge = tl.zeros([BLOCK_E], tl.int64)
        inside = edge > 0
        first = tl.zeros([], tl.int64)
        while first < size_in:
            a = first + tl.arange(0, BLOCK_IN)
            left, edge, inside = rows_block(edge_id, at, stop, v, a, size_in, BLOCK_E)
            mask = (a < size_in)[:, None] & (b < size_out)[None, :]
            right = tl.load(matrix + a[:, None] * stride_in + b[None, :] * stride_out, mask=mask, other=0)
            total += tl.dot(left, right, input_precision="ieee", out_dtype=DTYPE)
            first += BLOCK_IN
        mask = inside[:, None] & (b < size_out)[None, :]
        tl.store(out + edge[:, None] * size_out + b[None, :], total, mask=mask)
        at += BLOCK_E


def outer_rows(u: Tensor, t: Tensor, ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_outer.outer_rows`."""
    z = u.new_empty(ptr.shape[0] - 1, u.shape[1], t.shape[1])
    block_u, block_t = _block(u.shape[1]), _block(t.shape[1])
    grid = (z.shape[0], triton.cdiv(u.shape[1], block_u), triton.cdiv(t.shape[1], block_t))
    if z.numel():
        sizes = {"BLOCK_E": BLOCK, "BLOCK_U": block_u, "BLOCK_T": block_t, "DTYPE": _accumulator(u)}
        with torch.cuda.device_of(u):
            segment_outer_fwd_kernel[grid](ptr, edge_id, u, t, z, u.shape[1], t.shape[1], **sizes)
    return z


def matrix_rows(z: Tensor, v: Tensor, transposed: bool, ptr: Tensor, edge_id: Tensor) -> Tensor:
    """See `geoattn.kernels.segment_outer.matrix_rows`."""
    height, width = z.shape[1:]
    size_in, size_out = (height, width) if transposed else (width, height)
    strides = (width, 1) if transposed else (1, width)
    out = v.new_empty(v.shape[0], size_out)
    block_in, block_out = _block(size_in), _block(size_out)
    if out.numel():
        sizes = {"BLOCK_E": BLOCK, "BLOCK_IN": block_in, "BLOCK_OUT": block_out, "DTYPE": _accumulator(v)}
        with torch.cuda.device_of(v):
            segment_outer_bwd_kernel[(z.shape[0], triton.cdiv(size_out, block_out))](
                ptr, edge_id, z, v, out, size_in, size_out, *strides, **sizes
            )
    return out


def _block(size: int) -> int:
    return max(BLOCK, min(64, triton.next_power_of_2(max(1, size))))


def _accumulator(like: Tensor) -> tl.dtype:
    return tl.float64 if like.dtype == torch.float64 else tl.float32
