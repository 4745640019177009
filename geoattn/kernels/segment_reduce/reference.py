"""Sum, mean, maximum or minimum over each target's edges: the definition."""

import torch
from torch import Tensor


def segment_reduce(x: Tensor, row_ptr: Tensor, target: Tensor, edge_id: Tensor, reduce: str) -> Tensor:
    """The reduction of the edges' ``x [E, ...]`` (caller's order) into each target, ``[N, ...]``; 0 without edges."""
    values = x[edge_id]
    if reduce == "max":
        return _maximum(values, row_ptr, target)
    if reduce == "min":
        return -_maximum(-values, row_ptr, target)
    total = _sum(values, row_ptr, target)
    return total / _degree(row_ptr, x).clamp(min=1) if reduce == "mean" else total


def _maximum(values: Tensor, row_ptr: Tensor, target: Tensor) -> Tensor:
    """Written as the mean of the largest values, so that tied edges share the gradient."""
    index = target.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
    peak = values.new_full((row_ptr.shape[0] - 1, *values.shape[1:]), -torch.inf)
    peak = peak.scatter_reduce(0, index, values.detach(), "amax").masked_fill(_degree(row_ptr, values) == 0, 0)
    largest = (values == peak[target]) | values.isnan()
    count = _sum(largest.to(values.dtype), row_ptr, target).clamp(min=1)
    mean = _sum(torch.where(largest, values, 0), row_ptr, target) / count
    rounding = (peak - mean).detach().nan_to_num(0, 0, 0)
    return mean + rounding


def _sum(values: Tensor, row_ptr: Tensor, target: Tensor) -> Tensor:
    return values.new_zeros(row_ptr.shape[0] - 1, *values.shape[1:]).index_add(0, target, values)


def _degree(row_ptr: Tensor, like: Tensor) -> Tensor:
    """``[N, 1, ...]`` number of edges of each target."""
    return (row_ptr[1:] - row_ptr[:-1]).to(like.dtype).view(-1, *[1] * (like.ndim - 1))
