"""GIN-attention: attention weights as a graph, on which each head makes a graph-isomorphism update."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood
from geoattn.layers.edge_weights import EdgeWeights, Normalize
from geoattn.layers.grouped_mlp import GroupedMLP


class GINAttention(nn.Module):
    r"""Graph-isomorphism update of each head on the graph that attention weights.

    .. math::
        z_i^h = \operatorname{MLP}_h\Big( (1 + \epsilon_h)\, v_i^h + \textstyle\sum_{j \in N(i)} A_{ij}^h v_j^h \Big),
        \qquad v = x \text{ or } W_V x

    with the weights A of `EdgeWeights`. The paper has no value map: heads aggregate their slices of the input. Its code
    leaves out the ``1 +`` (``one_plus_eps=False``). The operator alone: put a norm before it and a residual around it,
    ``x + attention(norm(x), edges)``.

    Weights that sum to one make means, and a mean cannot tell the neighbours {a} from {a, a}: the argument that makes
    a graph isomorphism network as strong as the Weisfeiler-Leman test holds for sums, so for ``normalize="sigmoid"``
    or ``"relu"``, not for "softmax".

    Papers: Buehler, "Graph-Aware Isomorphic Attention for Adaptive Dynamics in Transformers", arXiv:2501.02393; Xu et
    al., "How Powerful are Graph Neural Networks?", arXiv:1810.00826.

    Args:
        channels: C, width of the node features; divisible by ``num_heads``.
        num_heads: H.
        normalize: "softmax", "sigmoid", "relu" or "none", see `EdgeWeights`.
        edge_channels: A, width of ``edge_attr``, which acts on the scores; 0 for none.
        values: whether there is a value map W_V.
        mlp_ratio: hidden width of each head's network over its C / H channels; None for no network.
        eps: what :math:`\epsilon_h` starts with.
        one_plus_eps: whether the own row counts :math:`1 + \epsilon` times, or :math:`\epsilon` times.
        sharpen: whether scores have a learned factor.
        out_proj: whether a linear map mixes the heads at the end.
        dropout: on the weights and inside the networks.

    Shapes:
        x ``[N, C]``, edge_index ``[2, E]`` or a ``Neighborhood``, edge_attr ``[E, A]`` in the caller's order.
        Returns ``[N, C]``.

    Symmetry: equivariant under node permutations. No coordinates enter. On `causal_neighborhood`, row i depends on
    rows up to i alone.

    Cost: O(N C^2 / H + E C) time beside the maps of queries and keys, O(N C) memory with softmax and without dropout,
    else O(N C + E H). The heads' networks are batched matrix products.

    Edge cases: a node without edges gets ``MLP((1 + eps) v)``.

    Example:
        >>> layer = GINAttention(16, num_heads=4, normalize="sigmoid")
        >>> layer(torch.randn(3, 16), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 4,
        *,
        normalize: Normalize = "softmax",
        edge_channels: int = 0,
        values: bool = False,
        mlp_ratio: float | None = 0.5,
        eps: float = 0.0,
        one_plus_eps: bool = True,
        sharpen: bool = True,
        out_proj: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.weights = EdgeWeights(
            channels, num_heads, normalize=normalize, edge_channels=edge_channels, sharpen=sharpen, dropout=dropout
        )
        if mlp_ratio is not None and mlp_ratio <= 0:
            raise ShapeError("mlp_ratio", f"{mlp_ratio}", "a number above 0, or None for no network")
        width = channels // num_heads
        self.channels, self.num_heads, self.one_plus_eps = channels, num_heads, one_plus_eps
        self.value = nn.Linear(channels, channels, bias=False) if values else None
        self.eps = nn.Parameter(torch.full((num_heads, 1), float(eps)))
        self.mlp = (
            nn.Identity()
            if mlp_ratio is None
            else GroupedMLP(num_heads, width, max(1, round(mlp_ratio * width)), width, dropout)
        )
        self.out = nn.Linear(channels, channels) if out_proj else nn.Identity()

    def forward(self, x: Tensor, edge_index: Tensor | Neighborhood, edge_attr: Tensor | None = None) -> Tensor:
        """Update node features; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        nbr = as_neighborhood(edge_index, x.shape[0])
        values = (x if self.value is None else self.value(x)).unflatten(1, (self.num_heads, -1))
        received = self.weights.aggregate(x, values, nbr, edge_attr)
        own = self.eps + 1 if self.one_plus_eps else self.eps
        return self.out(self.mlp(own * values + received).flatten(1)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, one_plus_eps={self.one_plus_eps}"


def causal_neighborhood(lengths: Tensor) -> Neighborhood:
    """Edges from each token of a sequence to itself and to all later ones; sequences lie one after the other.

    A map of weights ``[B, H, T, T]`` (target, source) of one padded batch becomes weights of these edges by indexing it
    with the places of ``nbr.target`` and ``nbr.source`` in their sequence; of a single sequence,
    ``attention[:, nbr.target, nbr.source].T``.

    Args:
        lengths: ``[B]`` int64 number of tokens of each sequence; 0 is allowed.

    Returns:
        a neighbourhood of ``sum(lengths)`` targets and sources, ``T (T + 1) / 2`` edges per sequence of T tokens.

    Example:
        >>> causal_neighborhood(torch.tensor([2, 1])).edge_index.tolist()
        [[0, 0, 1, 2], [0, 1, 1, 2]]
    """
    if lengths.ndim != 1 or lengths.is_floating_point():
        raise ShapeError("lengths", f"shape {tuple(lengths.shape)}, dtype {lengths.dtype}", "[B] of an integer dtype")
    num_tokens, device = int(lengths.sum()), lengths.device
    start = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    token = torch.arange(num_tokens, device=device)
    degree = token - start + 1
    row_ptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    target = token.repeat_interleave(degree)
    source = torch.arange(len(target), device=device) + (start - row_ptr[:-1])[target]
    return Neighborhood.from_csr(row_ptr, source, target, num_tokens, num_tokens)
