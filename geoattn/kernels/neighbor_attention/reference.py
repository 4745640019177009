"""The definition of `neighbor_attention` in plain PyTorch: any device, any dtype, any order of derivative.

It builds ``[E, H, D]`` tensors, which the compiled implementations avoid.
"""

import torch
from torch import Tensor


def neighbor_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    row_ptr: Tensor,
    source: Tensor,
    edge_id: Tensor,
    scale: float,
    kv: str,
) -> Tensor:
    """Shapes as in `geoattn.kernels.neighbor_attention`; ``row_ptr``, ``source``, ``edge_id`` of a Neighborhood."""
    nodes = torch.arange(q.shape[0], device=q.device)
    target = nodes.repeat_interleave(row_ptr.diff(), output_size=source.shape[0])
    row = source if kv == "node" else edge_id
    logit = (q[target] * k[row]).sum(-1) * scale
    if bias is not None:
        logit = logit + bias[edge_id]

    nodes_heads = (q.shape[0], q.shape[1])
    index = target[:, None].expand_as(logit)
    peak = logit.new_full(nodes_heads, -torch.inf).scatter_reduce(0, index, logit.detach(), "amax")
    peak = peak.masked_fill(peak == -torch.inf, 0)  # no edge, or every edge masked
    weight = (logit - peak[target]).exp()
    total = weight.new_zeros(nodes_heads).index_add(0, target, weight)
    p = weight / total.masked_fill(total == 0, 1)[target]

    out = v.new_zeros(*nodes_heads, v.shape[2])
    return out.index_add(0, target, p[:, :, None] * v[row])
