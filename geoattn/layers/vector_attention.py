"""Vector attention of the Point Transformer: a weight per neighbour and group of channels, from differences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.edges import edge_vectors
from geoattn.kernels import (
    Neighborhood,
    as_neighborhood,
    gather_scatter,
    gather_silu,
    segment_outer,
    segment_softmax,
)


class VectorAttention(nn.Module):
    r"""Attention whose weights are a network of features and displacements, one for each group of channels.

    .. math::
        \delta_{ij} &= \operatorname{relu}(W_\delta (p_j - p_i) + b_\delta) \\
        w_{ij} &= \operatorname{softmax}_j\, W_2 \operatorname{silu}(W_q x_i - W_k x_j + W_s \delta_{ij}) \\
        y_i^g &= \textstyle\sum_j w_{ij}^g\, (V_g x_j + U_g \delta_{ij}), \qquad y_i = W_o [y_i^1, \dots, y_i^G]

    The Point Transformer has a weight for each channel (``num_groups = channels``); version 2 shares it in groups. The
    weighted sum of displacements is taken before the map :math:`U_g` and not after it, which is the same and leaves no
    tensor of edges times channels.

    Papers: Zhao et al., "Point Transformer", ICCV 2021, arXiv:2012.09164; Wu et al., "Point Transformer V2", NeurIPS
    2022, arXiv:2210.05666.

    Args:
        channels: C, width of the features; divisible by ``num_groups``.
        num_groups: G.
        hidden_channels: S, width of displacements and scores on edges.
        scale: factor of displacements before the first map; the inverse of a usual distance of neighbours.

    Shapes:
        x ``[N, C]``, pos ``[N, D = 3]``, edge_index ``[2, E]`` or a ``Neighborhood``. Returns ``[N, C]``.

    Symmetry: equivariant under node permutations and invariant to translation, exactly. Not to rotation: displacements
    enter by their components.

    Cost: O(N C^2 + E (C + S^2 + S G)) time, O(E S + N G S) memory.

    Edge cases: a node without edges gets the bias of the last map. A node sees itself by a self loop only.

    Example:
        >>> layer = VectorAttention(16, num_groups=4)
        >>> layer(torch.randn(3, 16), torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 2, 2]])).shape
        torch.Size([3, 16])
    """

    def __init__(self, channels: int, *, num_groups: int = 8, hidden_channels: int = 32, scale: float = 1.0) -> None:
        super().__init__()
        if num_groups < 1 or channels % num_groups:
            raise ShapeError("num_groups", f"{num_groups}", f"a divisor of channels = {channels}")
        self.channels, self.num_groups, self.scale = channels, num_groups, scale
        self.displacement = nn.Linear(3, hidden_channels)
        self.query = nn.Linear(channels, hidden_channels)
        self.key = nn.Linear(channels, hidden_channels, bias=False)
        self.displacement_score = nn.Linear(hidden_channels, hidden_channels, bias=False)
        self.score = nn.Linear(hidden_channels, num_groups)
        self.value = nn.Linear(channels, channels)
        bound = hidden_channels**-0.5
        self.displacement_value = nn.Parameter(
            torch.empty(num_groups, hidden_channels, channels // num_groups).uniform_(-bound, bound)
        )
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, pos: Tensor, edge_index: Tensor | Neighborhood) -> Tensor:
        """Attended features ``[N, C]``; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, channels = {self.channels}]")
        if pos.shape != (x.shape[0], 3):
            raise ShapeError("pos", f"shape {tuple(pos.shape)}", f"[N = {x.shape[0]}, 3]")
        nbr = as_neighborhood(edge_index, x.shape[0]).in_csr_order()
        delta = torch.relu(self.displacement((edge_vectors(pos, nbr) * self.scale).to(x.dtype)))
        hidden = gather_silu(self.query(x), -self.key(x), self.displacement_score(delta), nbr)
        weight = segment_softmax(self.score(hidden), nbr)
        features = gather_scatter(self.value(x).unflatten(1, (self.num_groups, -1)), weight, nbr)
        places = torch.einsum("ngs,gsc->ngc", segment_outer(weight, delta, nbr), self.displacement_value)
        return self.out((features + places).flatten(1))

    def extra_repr(self) -> str:
        return f"{self.channels}, num_groups={self.num_groups}"
