"""`sparse_bilinear` for the CPU: each edge's rows go straight through the table, the channels in vector registers."""

# mypy: disable-error-code=no-untyped-def

import functools

from numba import njit
from torch import Tensor

from geoattn.kernels._lanes import checksum, prefetch_row
from geoattn.kernels._memory import large_pages
from geoattn.kernels._threads import run_rows
from geoattn.kernels.sparse_bilinear import _simd
from geoattn.kernels.sparse_bilinear._simd import contract_row
from geoattn.kernels.sparse_bilinear._slots import arrange, empty_result, order_for


@njit(inline="always")
def _row(where, group, position, other, edge_id):
    if where == 0:
        return group
    return other[position] if where == 1 else edge_id[position]


@functools.cache
def _kernel():
    constants = (0, checksum(_simd.__file__))

    @njit(nogil=True, cache=True)
    def contract_groups(first, last, ptr, other, edge_id, where, a, b, factor, out, order, value):
        where_a, where_b, where_factor, where_out = where
        for i in range(first, last):
            if where_out == 0 and ptr[i] == ptr[i + 1]:
                out[i] = constants[0]
            for p in range(ptr[i], ptr[i + 1]):
                if p + 1 < ptr[last]:  # ask for the rows of the next edge, which are read out of order
                    g, q = i + (p + 1 == ptr[i + 1]), p + 1
                    if factor is not None:
                        row = _row(where_factor, g, q, other, edge_id)
                        prefetch_row(factor, row, factor.shape[1] * factor.shape[2])
                    prefetch_row(a, _row(where_a, g, q, other, edge_id), a.shape[1] * a.shape[2])
                    if b.ndim == 3:
                        prefetch_row(b, _row(where_b, g, q, other, edge_id), b.shape[1] * b.shape[2])
                row_a, row_b = _row(where_a, i, p, other, edge_id), _row(where_b, i, p, other, edge_id)
                row_factor, row_out = _row(where_factor, i, p, other, edge_id), _row(where_out, i, p, other, edge_id)
                fresh = where_out > 0 or p == ptr[i]
                contract_row(a, row_a, b, row_b, factor, row_factor, out, row_out, fresh, order, value)

    return contract_groups


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
    out = large_pages(empty_result(slot, operands, shared, layout, pointers))
    if a.shape[2] == 0:
        return out.zero_()
    order = tuple(index.numpy() for index in order_for(slot, plan, layout, value.shape[1]))
    rows = (a.numpy(), b.numpy(), None if factor is None else factor.numpy(), out.numpy())
    groups = (ptr.numpy(), other.numpy(), edge_id.numpy())
    work = edge_id.shape[0] * value.shape[1] * a.shape[2]
    run_rows(_kernel(), groups[0], work, *groups, where, *rows, order, value[slot].numpy())
    return out
