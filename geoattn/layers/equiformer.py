"""Equiformer: graph attention whose messages are depthwise tensor products, none of which is ever stored."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.clebsch_gordan_table import clebsch_gordan_table
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import gather_silu, sparse_bilinear
from geoattn.layers.equiformer_v2_attention import attention_weights
from geoattn.layers.so3_activation import GateActivation
from geoattn.layers.so3_layer_norm import SO3LayerNorm
from geoattn.layers.so3_linear import SO3Linear


class DepthwiseAttention(nn.Module):
    r"""Attention over neighbours with depthwise tensor products as messages.

    .. math::
        h_e &= \operatorname{SiLU}(W_t s_i + W_s s_j + W_r a_e), \qquad
        \alpha_{eh} = \operatorname{softmax}_{e \in N(i)}(w_h \cdot h_e) \\
        x_i' &= W \sum_{e \in N(i)} \sum_p (R\, \alpha_e h_e)_{pc}\; \big(V x_j \otimes Y(\hat r_e)\big)_{pc}

    with s the invariant part of x, :math:`a_e` the invariants of the edge and p the paths (l of x, l of Y, l of the
    product). Each head weights its share of the units of :math:`h_e`, from which the weights of the paths are made. The
    envelope enters the softmax and the values, as `attention_weights` has it.

    The sum is one `sparse_bilinear`: neither the gathered features nor the products are ever made per edge.

    Paper: Equiformer, arXiv:2206.11990, with the attention inside the weights of the paths.

    Args:
        lmax: L, largest degree.
        channels: C.
        num_heads: H, a divisor of hidden_channels.
        edge_channels: width of the edges' invariants.
        hidden_channels: width of h.

    Shapes:
        x ``[N, (L+1)^2, C]``, basis an `EdgeBasis` of the same nodes, edge_scalars ``[E, edge_channels]`` in the order
        of ``basis.nbr``. Returns the shape of x.

    Symmetry: equivariant to O(3) with parity (-1)^l, and to permutations, exactly.

    Cost: O(E (P C hidden + T C)) for P paths and T Clebsch-Gordan coefficients; memory O(E P C).

    Edge cases: an edge of zero length or beyond the cutoff sends nothing; a node without edges gets the bias.
    """

    def __init__(self, lmax: int, channels: int, num_heads: int, edge_channels: int, hidden_channels: int) -> None:
        super().__init__()
        if num_heads < 1 or hidden_channels % num_heads:
            raise ShapeError("num_heads", f"{num_heads}", f"a divisor of hidden_channels = {hidden_channels}")
        self.lmax, self.channels, self.num_heads = lmax, channels, num_heads
        self.table = clebsch_gordan_table(lmax, lmax, lmax, reflections=True)
        self.target = nn.Linear(channels, hidden_channels)
        self.source = nn.Linear(channels, hidden_channels, bias=False)
        self.edge = nn.Linear(edge_channels, hidden_channels, bias=False)
        self.logits = nn.Linear(hidden_channels, num_heads, bias=False)
        self.paths = nn.Linear(hidden_channels, self.table.sizes[3] * channels, bias=False)
        self.values = SO3Linear(lmax, channels, channels)
        self.out = SO3Linear(lmax, channels, channels)
        for part in (self.target, self.source, self.edge):
            nn.init.normal_(part.weight, std=1 / math.sqrt(3 * part.in_features))  # three summands of variance 1/3
        nn.init.normal_(self.logits.weight, std=1 / math.sqrt(hidden_channels))
        # the products of one degree are summed over their paths; E silu(x)^2 = 0.356; coefficients have unit norm
        spread = (lmax + 1) ** 2 / (0.356 * hidden_channels * self.table.sizes[3])
        nn.init.normal_(self.paths.weight, std=math.sqrt(spread))

    def forward(self, x: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """Attend; see the class for shapes."""
        nbr, invariants = basis.nbr, x[:, 0]
        hidden = gather_silu(self.target(invariants), self.source(invariants), self.edge(edge_scalars), nbr)
        attention = attention_weights(self.logits(hidden), basis.weight, nbr)
        attended = (hidden.unflatten(1, (self.num_heads, -1)) * attention.unsqueeze(2)).flatten(1)
        weight = self.paths(attended).unflatten(1, (self.table.sizes[3], self.channels))
        product = sparse_bilinear(self.values(x).contiguous(), basis.harmonics(self.lmax), self.table, weight, nbr)
        return self.out(product)


class ProductFeedForward(nn.Module):
    r"""Gate and tensor product of a node's features with themselves: what several neighbours do together.

    .. math:: x' = W \big(\operatorname{gate}(A x) + (B x \otimes D x)\big)

    The product of sums over neighbours holds the angles between them (and, layer upon layer, more bodies), as in MACE,
    arXiv:2206.07697. It costs per node, not per edge.

    Args:
        lmax: L, largest degree.
        channels: C.
        hidden_channels: width of A x and of the product.

    Shapes: ``[N, (L+1)^2, C]`` to the same.

    Symmetry: equivariant to O(3) with parity (-1)^l, exactly.
    """

    def __init__(self, lmax: int, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.lmax, self.hidden_channels = lmax, hidden_channels
        self.table = clebsch_gordan_table(lmax, lmax, lmax, reflections=True)
        self.activation = GateActivation(lmax, hidden_channels)
        self.linear_in = SO3Linear(lmax, channels, 3 * hidden_channels)
        self.gates = nn.Linear(channels, self.activation.num_scalars)
        self.paths = nn.Parameter(torch.empty(self.table.sizes[3], hidden_channels))
        self.linear_out = SO3Linear(lmax, hidden_channels, channels)
        nn.init.normal_(self.paths, std=1 / math.sqrt(self.table.sizes[3]))

    def forward(self, x: Tensor) -> Tensor:
        """Apply; see the class for shapes."""
        gated, left, right = self.linear_in(x).split(self.hidden_channels, dim=2)
        gated = self.activation(gated, self.gates(x[:, 0]))
        paths = self.paths.expand(x.shape[0], -1, -1)
        product = sparse_bilinear(left.contiguous(), right.contiguous(), self.table, paths)
        return self.linear_out(gated + product)


class EquiformerLayer(nn.Module):
    r"""Pre-norm transformer block: :math:`x \leftarrow x + \operatorname{attention}(\operatorname{norm} x)`, then
    :math:`x \leftarrow x + \operatorname{feed-forward}(\operatorname{norm} x)`.

    The block for few degrees and small graphs, where the convolutions of `EquiformerV2Block`, made for many degrees,
    spend their time on rotations.

    Papers: Equiformer, arXiv:2206.11990; the product in the feed-forward is that of MACE, arXiv:2206.07697.

    Args:
        lmax: L, largest degree.
        channels: C, of every degree.
        num_heads: H.
        edge_channels: width of the edges' invariants.
        hidden_channels: width of the perceptron on edges; C if None.

    Shapes:
        x ``[N, (L+1)^2, C]``, l-major; basis an `EdgeBasis` of the same nodes; edge_scalars ``[E, edge_channels]`` in
        the order of ``basis.nbr``. Returns ``[N, (L+1)^2, C]``.

    Symmetry: equivariant to O(3) with parity (-1)^l, and to permutations, exactly.

    Example:
        >>> from geoattn.kernels import Neighborhood
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 0], [0, 1]]), num_targets=2)
        >>> basis = EdgeBasis.build(torch.randn(2, 3), nbr, cutoff=5.0)
        >>> layer = EquiformerLayer(2, channels=8, num_heads=2, edge_channels=4)
        >>> layer(torch.randn(2, 9, 8), basis, torch.randn(2, 4)).shape
        torch.Size([2, 9, 8])
    """

    def __init__(
        self, lmax: int, channels: int, num_heads: int, edge_channels: int, hidden_channels: int | None = None
    ) -> None:
        super().__init__()
        self.attention_norm = SO3LayerNorm(lmax, channels)
        self.attention = DepthwiseAttention(lmax, channels, num_heads, edge_channels, hidden_channels or channels)
        self.ffn_norm = SO3LayerNorm(lmax, channels)
        self.ffn = ProductFeedForward(lmax, channels, channels)

    def forward(self, x: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """Update node features; see the class for shapes."""
        x = x + self.attention(self.attention_norm(x), basis, edge_scalars)
        return x + self.ffn(self.ffn_norm(x))
