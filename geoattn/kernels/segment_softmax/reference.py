"""Softmax over each target's edges: the definition."""

import torch
from torch import Tensor


def segment_softmax(x: Tensor, row_ptr: Tensor, target: Tensor, edge_id: Tensor) -> Tensor:
    """``exp(x_e) / sum_{f into the same target} exp(x_f)``, ``[E, ...]`` in the caller's order.

    The largest logit of each target is subtracted first; it is a constant to autograd, since softmax does not change
    with it. Where all logits of a target are -inf, the result is 0.
    """
    logits = x[edge_id]
    shape = (row_ptr.shape[0] - 1, *x.shape[1:])
    index = target.view(-1, *[1] * (x.ndim - 1)).expand_as(logits)
    peak = logits.new_full(shape, -torch.inf).scatter_reduce(0, index, logits.detach(), "amax")
    peak = peak.masked_fill(peak == -torch.inf, 0)
    weight = (logits - peak[target]).exp()
    total = weight.new_zeros(shape).index_add(0, target, weight)
    total = total.masked_fill(total == 0, 1)
    return torch.empty_like(weight).index_copy(0, edge_id, weight / total[target])
