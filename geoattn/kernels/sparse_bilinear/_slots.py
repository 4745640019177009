"""The four operands of the multilinear form behind `sparse_bilinear`, and the order of the table for each of them.

The form is the sum over edges e, channels c and rows t = (i, j, p, k, v) of the table of

    v * x[source, i, c] * y[e, j(, c)] * weight[e, p, c] * z[target, k, c]

An operand is named by its slot. Contracting all operands but one gives that one's gradient, in that one's shape; the
loops for it take the table sorted by that one's index. Of the other three, one is the `factor` that a run of rows
shares, so it is multiplied once per run; the sum over a run is that of products of the other two, `a` and `b`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

X, Y, WEIGHT, Z = range(4)
Operands = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]

ROLES = {X: (Z, Y, WEIGHT), Y: (X, Z, WEIGHT), WEIGHT: (X, Y, Z), Z: (X, Y, WEIGHT)}
"""For the slot that is the result: the slots of a, b and factor."""

GROUP, OTHER, EDGE = range(3)
"""Where an operand has its row for an edge: with the group (target) it is summed over, at the other end, by itself."""


class Order(NamedTuple):
    """The table sorted for one slot: rows of the table within runs of one factor within components of the result.

    Component r of the result has the runs ``out_ptr[r]:out_ptr[r + 1]``; run q has the factor ``run_factor[q]`` and the
    rows ``run_ptr[q]:run_ptr[q + 1]``, each of which multiplies ``index_a`` and ``index_b``. All int32.
    """

    out_ptr: Tensor
    run_factor: Tensor
    run_ptr: Tensor
    index_a: Tensor
    index_b: Tensor


def sort_for(slot: int, indices: tuple[np.ndarray, ...], size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The permutation that sorts the rows of a table for ``slot``, and the arrays of its `Order`.

    Args:
        slot: the result.
        indices: of x, y, weight, z, ``[T]`` each.
        size: number of components of the result.
    """
    a, b, factor = (indices[role] for role in ROLES[slot])
    permutation = np.lexsort((b, a, factor, indices[slot]))
    out, factor, a, b = (index[permutation] for index in (indices[slot], factor, a, b))
    begins = np.ones(len(out), bool)
    begins[1:] = (out[1:] != out[:-1]) | (factor[1:] != factor[:-1])
    runs = np.flatnonzero(begins)
    out_ptr = np.searchsorted(out[runs], np.arange(size + 1))
    return permutation, [out_ptr, factor[runs], np.append(runs, len(out)), a, b]


def order_for(slot: int, plan: Tensor, layout: list[int], coefficients: int) -> Order:
    """The `Order` of ``slot`` out of the plan of a table."""
    start = 0
    for at in range(slot + 1):
        size, runs = layout[at], layout[4 + at]
        lengths = [size + 1, runs, runs + 1, coefficients, coefficients]
        if at < slot:
            start += sum(lengths)
    return Order(*plan[start : start + sum(lengths)].split(lengths))


class Contraction(NamedTuple):
    """What the loops for one result run over: groups of edges, and where each operand's row is."""

    a: Tensor
    b: Tensor
    factor: Tensor | None
    where: tuple[int, int, int, int]
    ptr: Tensor
    other: Tensor
    edge_id: Tensor


def arrange(slot: int, operands: Operands, pointers: tuple[Tensor | None, ...]) -> Contraction:
    """Operands and pointers for the result ``slot``; ``where`` is that of a, b, factor and the result."""
    a, b, factor = (operands[role] for role in ROLES[slot])
    assert a is not None and b is not None
    if pointers[0] is None:  # rows belong together one by one: each is a group of one edge
        rows = torch.arange(a.shape[0] + 1, device=a.device)
        return Contraction(a, b, factor, (GROUP,) * 4, rows, rows, rows)
    places = {X: OTHER, Y: EDGE, WEIGHT: EDGE, Z: GROUP}
    if slot == X:  # summed over the edges of each source
        places, pointers = places | {X: GROUP, Z: OTHER}, pointers[3:]
    ptr, other, edge_id = pointers[:3]
    assert ptr is not None and other is not None and edge_id is not None
    where_a, where_b, where_factor = (places[role] for role in ROLES[slot])
    return Contraction(a, b, factor, (where_a, where_b, where_factor, places[slot]), ptr, other, edge_id)


def empty_result(
    slot: int, operands: Operands, shared: bool, layout: list[int], pointers: tuple[Tensor | None, ...]
) -> Tensor:
    """An uninitialised tensor in the shape of ``slot``."""
    like = operands[X] if operands[X] is not None else operands[Z]
    assert like is not None
    ptr, _, edge_id, ptr_t, *_ = pointers
    if ptr is None or edge_id is None:
        rows = like.shape[0]
    elif slot == X:
        assert ptr_t is not None
        rows = ptr_t.shape[0] - 1
    else:
        rows = ptr.shape[0] - 1 if slot == Z else edge_id.shape[0]
    channels = () if slot == Y and shared else (like.shape[2],)
    return like.new_empty(rows, layout[slot], *channels)
