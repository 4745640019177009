"""Weighted sum of each target's sources: the definition."""

from torch import Tensor


def gather_scatter(
    x: Tensor, weight: Tensor | None, row_ptr: Tensor, source: Tensor, target: Tensor, edge_id: Tensor
) -> Tensor:
    """``sum_e w_e x[source_e]`` over the edges of each target, ``[N, ...]``; ``weight`` in the caller's order."""
    values = x[source]
    if weight is not None:
        values = values * weight[edge_id].view(*weight.shape, *[1] * (x.ndim - weight.ndim))
    return x.new_zeros(row_ptr.shape[0] - 1, *x.shape[1:]).index_add(0, target, values)


def gather_dot(x: Tensor, y: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``x[source_e] . y[target_e]`` over the last axis, ``[E, ...]``; the ends in the caller's order."""
    return (x[source] * y[target]).sum(-1)
