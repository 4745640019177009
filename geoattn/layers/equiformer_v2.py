"""EquiformerV2's block: graph attention with messages in the frame of each edge, and a feed-forward at each node."""

from __future__ import annotations

from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.layers.equiformer_v2_attention import Activation, EquiformerV2Attention, make_activation
from geoattn.layers.so3_layer_norm import SO3LayerNorm
from geoattn.layers.so3_linear import SO3Linear


class FeedForward(nn.Module):
    """SO(3) linear map, activation, SO(3) linear map, at each node: ``[N, (L+1)^2, C]`` to the same.

    Args:
        channels: C.
        hidden_channels: width in between.
        lmax: L, largest degree.
        activation, grid_resolution: as in `EquiformerV2Attention`.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        *,
        lmax: int,
        activation: Activation = "gate",
        grid_resolution: int = 18,
    ) -> None:
        super().__init__()
        self.activation = make_activation(activation, lmax, hidden_channels, None, grid_resolution)
        self.linear_in = SO3Linear(lmax, channels, hidden_channels)
        self.scalars = nn.Linear(channels, self.activation.num_scalars)
        self.linear_out = SO3Linear(lmax, hidden_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply; see the class for shapes."""
        return self.linear_out(self.activation(self.linear_in(x), self.scalars(x[:, 0])))


class EquiformerV2Block(nn.Module):
    r"""Pre-norm transformer block: attention over neighbours, then a feed-forward, each added to its input.

    .. math:: x \leftarrow x + \operatorname{attention}(\operatorname{norm} x), \qquad
        x \leftarrow x + \operatorname{feed-forward}(\operatorname{norm} x)

    Paper: EquiformerV2, arXiv:2306.12059. See `EquiformerV2Attention` and `SO3LayerNorm`.

    Args:
        channels: C, of the node features.
        lmax: L, largest degree.
        mmax: M <= L, largest order kept in the edge's frame.
        num_heads: H.
        edge_channels: width of the edge scalars.
        hidden_channels: width of the messages; ``channels`` if None.
        alpha_channels: width of each head's input to the logits.
        value_channels: width of each head's values; ``channels / num_heads`` if None.
        ffn_channels: width inside the feed-forward; ``2 * channels`` if None.
        activation: "gate" (exactly equivariant) or "separable_s2" (the paper's; see `SeparableS2Activation`).
        grid_resolution: number of latitudes and longitudes of "separable_s2".
        max_edges: messages of at most about this many edges are in memory at a time, and are computed again for first
            and for second derivatives; None keeps all.

    Shapes:
        x ``[N, (L+1)^2, C]``, l-major; basis an `EdgeBasis` of the same nodes; edge_scalars ``[E, edge_channels]``,
        invariants in the order of ``basis.nbr``. Returns ``[N, (L+1)^2, C]``.

    Symmetry: equivariant to SO(3) and permutations; exactly with the gate, up to the grid's error with
    "separable_s2". Reflections are not a symmetry.

    Cost: per edge, two rotations O(L^2 M C) and two convolutions O(L^2 M C^2), and as much for the radial multipliers.

    Edge cases: an edge of zero length or beyond the cutoff sends nothing; an isolated node is changed by biases and
    the feed-forward alone.

    Example:
        >>> from geoattn.geometry.edge_basis import EdgeBasis
        >>> from geoattn.kernels import Neighborhood
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), num_targets=3)
        >>> basis = EdgeBasis.build(torch.randn(3, 3), nbr, cutoff=5.0)
        >>> block = EquiformerV2Block(16, lmax=2, mmax=2, num_heads=4, edge_channels=8)
        >>> block(torch.randn(3, 9, 16), basis, torch.randn(3, 8)).shape
        torch.Size([3, 9, 16])
    """

    def __init__(
        self,
        channels: int,
        *,
        lmax: int,
        mmax: int,
        num_heads: int,
        edge_channels: int,
        hidden_channels: int | None = None,
        alpha_channels: int = 16,
        value_channels: int | None = None,
        ffn_channels: int | None = None,
        activation: Activation = "gate",
        grid_resolution: int = 18,
        max_edges: int | None = None,
    ) -> None:
        super().__init__()
        if value_channels is None and channels % num_heads:
            raise ShapeError("channels", f"{channels}", f"a multiple of num_heads = {num_heads}", "Or value_channels.")
        self.channels = channels
        self.attention_norm = SO3LayerNorm(lmax, channels)
        self.attention = EquiformerV2Attention(
            channels,
            channels,
            lmax=lmax,
            mmax=mmax,
            num_heads=num_heads,
            edge_channels=edge_channels,
            hidden_channels=hidden_channels or channels,
            alpha_channels=alpha_channels,
            value_channels=value_channels or channels // num_heads,
            activation=activation,
            grid_resolution=grid_resolution,
            max_edges=max_edges,
        )
        self.ffn_norm = SO3LayerNorm(lmax, channels)
        self.ffn = FeedForward(
            channels,
            ffn_channels or 2 * channels,
            lmax=lmax,
            activation=activation,
            grid_resolution=grid_resolution,
        )

    def forward(self, x: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """Update node features; see the class for shapes."""
        x = x + self.attention(self.attention_norm(x), basis, edge_scalars)
        return x + self.ffn(self.ffn_norm(x))
