"""Attention as a weighted graph: a weight per edge and head, normalised over each target's edges or not."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError, nearest_hint
from geoattn.kernels import Neighborhood, gather_dot, gather_scatter, neighbor_attention, segment_softmax

Normalize = Literal["softmax", "sigmoid", "relu", "none"]


class EdgeWeights(nn.Module):
    r"""Adjacency that attention computes: one weight per edge and head.

    .. math::
        s_{ij}^h = \beta \big( q_i^h \cdot k_j^h / \sqrt{D} + b^h \cdot a_{ij} \big), \qquad
        A_{ij}^h = \begin{cases}
            \operatorname{softmax}_{j \in N(i)} s_{ij}^h & \text{softmax} \\
            \sigma(s_{ij}^h),\ \max(0, s_{ij}^h),\ s_{ij}^h & \text{sigmoid, relu, none}
        \end{cases}

    with q and k linear in the features and a learned sharpening :math:`\beta`, 1 at first. Softmax makes sums over
    neighbours into means, which cannot count; sigmoid and relu keep sums (weights are not negative); "none" lets
    weights have any sign.

    Paper: Buehler, "Graph-Aware Isomorphic Attention for Adaptive Dynamics in Transformers", arXiv:2501.02393.

    Args:
        channels: C, width of the node features; divisible by ``num_heads``.
        num_heads: H.
        normalize: "softmax", "sigmoid", "relu" or "none".
        edge_channels: A, width of ``edge_attr``; 0 for none.
        sharpen: whether :math:`\beta` is learned; else it is 1.
        dropout: on the weights, in training.

    Shapes:
        x ``[N, C]``, nbr a ``Neighborhood`` of N targets and sources, edge_attr ``[E, A]`` in the caller's order.
        Returns ``[E, H]`` in the caller's order.

    Symmetry: equivariant under permutations of nodes and of edges.

    Cost: O(N C^2 + E C) time, O(N C + E H) memory.

    Edge cases: without edges the result is ``[0, H]``.

    Example:
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> EdgeWeights(8, num_heads=2)(torch.randn(3, 8), nbr).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        normalize: Normalize = "softmax",
        edge_channels: int = 0,
        sharpen: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ShapeError("channels", f"{channels}", f"a multiple of num_heads = {num_heads}")
        if normalize not in get_args(Normalize):
            known = get_args(Normalize)
            raise ShapeError("normalize", repr(normalize), ", ".join(map(repr, known)), nearest_hint(normalize, known))
        self.channels, self.num_heads, self.edge_channels = channels, num_heads, edge_channels
        self.normalize, self.dropout = normalize, dropout
        self.query_key = nn.Linear(channels, 2 * channels, bias=False)
        self.edge_bias = nn.Linear(edge_channels, num_heads, bias=False) if edge_channels else None
        self.sharpness = nn.Parameter(torch.ones(())) if sharpen else None

    def forward(self, x: Tensor, nbr: Neighborhood, edge_attr: Tensor | None = None) -> Tensor:
        """The weights ``[E, H]``; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        query, key, bias = self._parts(x, edge_attr)
        scores = gather_dot(key, query, nbr)
        if bias is not None:
            scores = scores + bias
        if self.normalize == "softmax":
            scores = segment_softmax(scores, nbr)
        elif self.normalize == "sigmoid":
            scores = torch.sigmoid(scores)
        elif self.normalize == "relu":
            scores = torch.relu(scores)
        return functional.dropout(scores, self.dropout, self.training)

    def aggregate(self, x: Tensor, values: Tensor, nbr: Neighborhood, edge_attr: Tensor | None = None) -> Tensor:
        """Sum of the neighbours' ``values [N, H, D]`` with the weights, ``[N, H, D]``.

        Softmax without dropout is one fused operation, which stores no weight.
        """
        if self.normalize == "softmax" and not (self.training and self.dropout):
            query, key, bias = self._parts(x, edge_attr)
            return neighbor_attention(query, key, values, nbr, bias, scale=1.0)
        return gather_scatter(values, self(x, nbr, edge_attr), nbr)

    def _parts(self, x: Tensor, edge_attr: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scaled and sharpened queries, keys and biases: their dot product plus bias is the score."""
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, channels = {self.channels}]")
        if (0 if edge_attr is None else edge_attr.shape[-1]) != self.edge_channels:
            got = "None" if edge_attr is None else f"shape {tuple(edge_attr.shape)}"
            raise ShapeError("edge_attr", got, f"[E, edge_channels = {self.edge_channels}]")
        query, key = self.query_key(x).unflatten(1, (2, self.num_heads, -1)).unbind(1)
        query = query * query.shape[-1] ** -0.5
        bias = None if self.edge_bias is None else self.edge_bias(edge_attr)
        if self.sharpness is not None:
            query = query * self.sharpness
            bias = None if bias is None else bias * self.sharpness
        return query, key, bias

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, normalize={self.normalize!r}"
