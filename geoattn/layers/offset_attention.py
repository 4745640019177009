"""Offset attention: self-attention whose result is subtracted from the input before the last map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Normalization = Literal["queries", "softmax", "sets"]
EPSILON = 1e-9


class OffsetAttention(nn.Module):
    r"""Attention within sets, and the difference of each element from what it attends to.

    .. math::
        A_{ij} = \mathrm{softmax}_j(q_i \cdot k_j), \quad
        A_{ij} \leftarrow A_{ij} / (10^{-9} + \textstyle\sum_i A_{ij}), \quad
        r_j = \textstyle\sum_i A_{ij} v_i, \quad
        y = x + \mathrm{ReLU}(\mathrm{BN}(W (x - r)))

    with queries and keys of a quarter of the channels, no scale and one head. The second step normalises over the
    queries, so element j gets an average of those that look at it.

    Args:
        channels: C, a multiple of 4.
        normalize: ``"queries"`` as above; ``"softmax"``: ordinary attention, ``r_i = sum_j A_ij v_j``; ``"sets"``: the
            second step sums over the sets instead of the queries, as the code of RISurConv does. Then every set depends
            on all others of its cloud: for comparison only.

    Shape:
        ``x [..., S, C]``, sets of S elements, and ``mask [..., S]``, False where there is no element. ``"sets"`` takes
        ``x [B, M, S, C]`` and sums over M. Returns ``[..., S, C]``, 0 where there is no element.

    Symmetry: equivariant to the order of the elements. In evaluation a set depends on itself alone (not with
    ``"sets"``); in training batch statistics are shared.

    Cost: ``O(S^2 C)`` and ``S^2`` weights per set. An empty set gives nothing, a single element attends to itself.

    Source: PCT, arXiv 2012.09688.

    Example:
        >>> import torch
        >>> OffsetAttention(16)(torch.randn(2, 5, 16)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, channels: int, normalize: Normalization = "queries") -> None:
        super().__init__()
        self.normalize = normalize
        self.query = nn.Linear(channels, channels // 4, bias=False)
        self.key = nn.Linear(channels, channels // 4, bias=False)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        weight = self.attention(x, mask)
        value = self.value(x)
        received = weight @ value if self.normalize == "softmax" else weight.transpose(-1, -2) @ value
        offset = self.out(x - received)
        if mask is None:
            return x + self.norm(offset.flatten(0, -2)).relu().view_as(x)
        y = torch.zeros_like(x)
        y[mask] = x[mask] + self.norm(offset[mask]).relu()
        return y

    def attention(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[..., S, S]``, weights of queries (rows) and keys (columns), after both steps."""
        energy = self.query(x) @ self.key(x).transpose(-1, -2)
        if mask is not None:
            energy = energy.masked_fill(~mask[..., None, :], torch.finfo(energy.dtype).min)
        weight = energy.softmax(-1)
        if mask is not None:
            weight = weight * (mask[..., None, :] & mask[..., :, None])
        if self.normalize == "softmax":
            return weight
        return weight / (EPSILON + weight.sum(-2 if self.normalize == "queries" else -3, keepdim=True))
