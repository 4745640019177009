"""Graph attention: a transformer block in which each node attends to its neighbours, with edge features as bias."""

from __future__ import annotations

from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood, neighbor_attention


class GraphAttentionLayer(nn.Module):
    r"""Pre-norm transformer block over the edges of a graph.

    .. math::
        \alpha_{ij}^h &= \operatorname{softmax}_{j \in N(i)}
            \big( q_i^h \cdot k_j^h / \sqrt{D} + b^h \cdot a_{ij} \big) \\
        x_i &\leftarrow x_i + W_o \big[ \textstyle\sum_j \alpha_{ij}^h v_j^h \big]_h \\
        x_i &\leftarrow x_i + \operatorname{MLP}(\operatorname{norm}(x_i))

    with q, k, v linear in ``norm(x)``. Edge features act on the logits of each head, as relations do in relational
    transformers, so keys and values stay one row per node: memory is O(N C + E H), never O(E C).

    Papers: "Attention Is All You Need", arXiv:1706.03762; attention bias from edges as in "Do Transformers Really
    Perform Bad for Graph Representation?" (Graphormer), arXiv:2106.05234.

    Args:
        channels: C, width of the node features; divisible by ``num_heads``.
        num_heads: H.
        edge_channels: A, width of ``edge_attr``; 0 for none.
        dropout: on attention's output and inside the MLP.

    Shapes:
        x ``[N, C]``, edge_index ``[2, E]`` or a ``Neighborhood``, edge_attr ``[E, A]`` in the caller's order.
        Returns ``[N, C]``.

    Symmetry: equivariant under node permutations. No coordinates enter.

    Edge cases: a node attends only to itself if the graph has its self loop; an isolated node without one receives
    zero from attention and goes through the MLP alone.

    Example:
        >>> layer = GraphAttentionLayer(16, num_heads=4)
        >>> layer(torch.randn(3, 16), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([3, 16])
    """

    def __init__(self, channels: int, num_heads: int = 4, *, edge_channels: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % num_heads:
            raise ShapeError("channels", f"{channels}", f"a multiple of num_heads = {num_heads}")
        self.channels, self.num_heads, self.edge_channels = channels, num_heads, edge_channels
        self.attention_norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.edge_bias = nn.Linear(edge_channels, num_heads) if edge_channels else None
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels, channels),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edge_index: Tensor | Neighborhood, edge_attr: Tensor | None = None) -> Tensor:
        """Update node features; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, channels = {self.channels}]")
        if (0 if edge_attr is None else edge_attr.shape[-1]) != self.edge_channels:
            got = "None" if edge_attr is None else f"shape {tuple(edge_attr.shape)}"
            raise ShapeError("edge_attr", got, f"[E, edge_channels = {self.edge_channels}]")
        nbr = as_neighborhood(edge_index, x.shape[0])
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.num_heads, -1)).unbind(1)
        bias = None if self.edge_bias is None else self.edge_bias(edge_attr)
        attended = neighbor_attention(q, k, v, nbr, bias).flatten(1)
        x = x + self.dropout(self.out(attended.to(x.dtype)))
        return x + self.dropout(self.mlp(x))

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}"
