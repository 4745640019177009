"""`sparse_bilinear` in Triton: a program goes through the table with a block of edges and channels."""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoattn.kernels._triton_rows import TILE
from geoattn.kernels.sparse_bilinear._slots import GROUP, arrange, empty_result, order_for


@triton.jit
def row_of(where: tl.constexpr, group, position, inside, other, edge_id):
    """The rows ``[BLOCK_E]`` of an operand for the edges at these positions."""
    if where == 0:
        row = group
    elif where == 1:
        row = tl.load(other + position, mask=inside, other=0)
    else:
        row = tl.load(edge_id + position, mask=inside, other=0)
    return row


@triton.jit
def block_of(rows, component, size, channel, mask, num_channels, DTYPE: tl.constexpr):
    """One component of the given rows, ``[BLOCK_E, BLOCK_C]``; ``rows`` are pointer and indices."""
    offset = (rows[1][:, None] * size + component) * num_channels + channel[None, :]
    return tl.load(rows[0] + offset, mask=mask, other=0).to(DTYPE)


@triton.jit
def contract_fwd_kernel(
    ptr, group_of, other, edge_id, a, b, factor, out, out_ptr, run_factor, run_ptr, index_a, index_b, value,
    num_edges, num_channels, size_a, size_b, size_factor, size_out,
    WHERE_A: tl.constexpr, WHERE_B: tl.constexpr, WHERE_FACTOR: tl.constexpr, WHERE_OUT: tl.constexpr,
    OVER_EDGES: tl.constexpr, OVER_CHANNELS: tl.constexpr, SHARED: tl.constexpr, WEIGHTED: tl.constexpr,
    DTYPE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK_E)
    if OVER_EDGES:  # the edges of one group, which are summed
        start, stop = tl.load(ptr + program), tl.load(ptr + program + 1)
    else:  # a block of edges with a result each
        start = program * BLOCK_E
        stop = tl.minimum(start + BLOCK_E, num_edges)
    if OVER_CHANNELS:
        first_channel, last_channel = tl.zeros([], tl.int64), num_channels
    else:
        first_channel = tl.program_id(1).to(tl.int64) * BLOCK_C
        last_channel = first_channel + 1  # one block of channels
    component = 0
    while component < size_out:
        line = tl.zeros([BLOCK_E], DTYPE)
        at_channel = first_channel
        while at_channel < last_channel:
            channel = at_channel + tl.arange(0, BLOCK_C)
            total = tl.zeros([BLOCK_E, BLOCK_C], DTYPE)
            at = start
            while at < stop:
                position = at + lane
                inside = position < stop
                mask = inside[:, None] & (channel < num_channels)[None, :]
                group = program + 0 * position if OVER_EDGES else tl.load(group_of + position, mask=inside, other=0)
                row_a = row_of(WHERE_A, group, position, inside, other, edge_id)
                row_b = row_of(WHERE_B, group, position, inside, other, edge_id)
                row_factor = row_of(WHERE_FACTOR, group, position, inside, other, edge_id)
                q, last_run = tl.load(out_ptr + component), tl.load(out_ptr + component + 1)
                while q < last_run:
                    run = tl.zeros([BLOCK_E, BLOCK_C], DTYPE)
                    t, last_row = tl.load(run_ptr + q), tl.load(run_ptr + q + 1)
                    while t < last_row:
                        term = block_of((a, row_a), tl.load(index_a + t), size_a, channel, mask, num_channels, DTYPE)
                        u = tl.load(index_b + t)
                        if SHARED:
                            term *= tl.load(b + row_b * size_b + u, mask=inside, other=0).to(DTYPE)[:, None]
                        else:
                            term *= block_of((b, row_b), u, size_b, channel, mask, num_channels, DTYPE)
                        run += tl.load(value + t) * term
                        t += 1
                    if WEIGHTED:
                        which = tl.load(run_factor + q)
                        run *= block_of((factor, row_factor), which, size_factor, channel, mask, num_channels, DTYPE)
                    total += run
                    q += 1
                at += BLOCK_E
            if OVER_CHANNELS:
                line += tl.sum(total, 1)
            elif OVER_EDGES:
                place = (program * size_out + component) * num_channels + channel
                tl.store(out + place, tl.sum(total, 0), mask=channel < num_channels)
            else:
                position = start + lane
                inside = position < stop
                group = tl.load(group_of + position, mask=inside, other=0)
                row = row_of(WHERE_OUT, group, position, inside, other, edge_id)
                place = (row[:, None] * size_out + component) * num_channels + channel[None, :]
                tl.store(out + place, total, mask=inside[:, None] & (channel < num_channels)[None, :])
            at_channel += BLOCK_C
        if OVER_CHANNELS:
            position = start + lane
            inside = position < stop
            group = tl.load(group_of + position, mask=inside, other=0)
            row = row_of(WHERE_OUT, group, position, inside, other, edge_id)
            tl.store(out + row * size_out + component, line, mask=inside)
        component += 1


def contract(
    slot: int,
    x: Tensor | None,
    y: Tensor | None,
    weight: Tensor | None,
    z: Tensor | None,
    shared: bool,
    plan: Tensor,
    value: Tensor,
    layout: list[int],
    *pointers: Tensor | None,
) -> Tensor:
    """See `geoattn.kernels.sparse_bilinear.contract`."""
    operands = (x, y, weight, z)
    a, b, factor, where, ptr, other, edge_id = arrange(slot, operands, pointers)
    out = empty_result(slot, operands, shared, layout, pointers)
    channels = a.shape[2]
    if out.numel() == 0 or channels == 0:
        return out.zero_()
    over_edges = pointers[0] is not None and where[3] == GROUP
    edges = ptr.shape[0] - 1 if pointers[0] is None else edge_id.shape[0]
    group_of = other if pointers[0] is None else _groups(ptr, edges)
    block_c = min(128, triton.next_power_of_2(channels))
    block_e = max(1, min(32, TILE // block_c))
    grid = (ptr.shape[0] - 1 if over_edges else triton.cdiv(edges, block_e), triton.cdiv(channels, block_c))
    if out.ndim == 2:
        grid = (grid[0], 1)
    size_factor = 0 if factor is None else factor.shape[1]
    with torch.cuda.device_of(a):
        contract_fwd_kernel[grid](
            ptr, group_of, other, edge_id, a, b, a if factor is None else factor, out,
            *order_for(slot, plan, layout, value.shape[1]), value[slot],
            edges, channels, a.shape[1], b.shape[1], size_factor, out.shape[1],
            WHERE_A=where[0], WHERE_B=where[1], WHERE_FACTOR=where[2], WHERE_OUT=where[3],
            OVER_EDGES=over_edges, OVER_CHANNELS=out.ndim == 2, SHARED=b.ndim == 2, WEIGHTED=factor is not None,
            DTYPE=tl.float64 if a.dtype == torch.float64 else tl.float32,
            BLOCK_E=block_e, BLOCK_C=block_c, num_warps=max(1, block_e * block_c // 256),
        )  # fmt: skip
    return out


def _groups(ptr: Tensor, edges: int) -> Tensor:
    """``[E]``, the group of each position."""
    groups = torch.arange(ptr.shape[0] - 1, device=ptr.device)
    return groups.repeat_interleave(ptr[1:] - ptr[:-1], output_size=edges)
