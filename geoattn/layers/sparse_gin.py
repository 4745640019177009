"""Sparse-GIN: a small graph network beside a pretrained attention layer, on the graph of its strong weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood, gather_scatter


class SparseGINAdapter(nn.Module):
    r"""Graph-isomorphism update on the strong edges of a given attention, added to the features with a learned scale.

    .. math::
        \hat A_{ij} &= \sigma\big( \beta (\min(1, \textstyle\sum_h A_{ij}^h) - \theta) \big), \quad
            \text{0 where at most } \kappa \\
        u &= W_{in} x, \qquad a_i = \epsilon u_i + \textstyle\sum_j \hat A_{ij} u_j, \qquad
            b_i = a_i + W_2 \operatorname{prelu}(W_1 a_i) \\
        x_i &\leftarrow x_i + s \operatorname{rms}(W_{out} b_i)

    For fine-tuning: freeze the pretrained model and train the adapters of its layers. With ``scale=0``, the default,
    features pass bit by bit, whatever the other parameters are. Messages run from the source j that a target i attends
    to; the code that came with the paper confuses both ends, so that only edges from a node to itself survive:
    ``self_edges_only=True`` does that, for comparison.

    Paper: Buehler, "Graph-Aware Isomorphic Attention for Adaptive Dynamics in Transformers", arXiv:2501.02393.

    Args:
        channels: C, width of the features.
        hidden_channels: width of the graph network.
        scale: what s starts with; the paper raises it from 0 in the first layer to 0.5 in the last.
        sharpness: :math:`\beta`.
        threshold: :math:`\theta`.
        keep: :math:`\kappa`; with the defaults an edge survives if its weights sum to more than 0.1405.
        self_edges_only: whether edges between different nodes are dropped.

    Shapes:
        x ``[N, C]``, weights ``[E, H]`` or ``[E]`` of the attention layer, in the caller's order of the edges,
        edge_index ``[2, E]`` or a ``Neighborhood``, see `causal_neighborhood` for sequences. Returns ``[N, C]``.

    Symmetry: equivariant under node permutations; causal where the edges are.

    Cost: O(E H) to sum and threshold, O(E' M) for the E' edges that survive, whose number has to be known on the host.

    Edge cases: a node none of whose edges survives gets the network of ``eps u_i``. Gradients reach the attention
    through the weights of surviving edges below 1 alone.

    Example:
        >>> adapter, edges = SparseGINAdapter(8, 4, scale=0.5), torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> adapter(torch.randn(2, 8), torch.tensor([[1.0], [0.5], [0.5]]), edges).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        *,
        scale: float = 0.0,
        sharpness: float = 10.0,
        threshold: float = 0.1,
        keep: float = 0.6,
        self_edges_only: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.hidden_channels = channels, hidden_channels
        self.sharpness, self.threshold, self.keep = sharpness, threshold, keep
        self.self_edges_only = self_edges_only
        self.linear_in = nn.Linear(channels, hidden_channels)
        self.eps = nn.Parameter(torch.zeros(()))
        self.mlp = nn.Sequential(
            nn.Linear(hidden_channels, hidden_channels), nn.PReLU(), nn.Linear(hidden_channels, hidden_channels)
        )
        self.linear_out = nn.Linear(hidden_channels, channels)
        self.norm_weight = nn.Parameter(torch.ones(channels))
        self.scale = nn.Parameter(torch.full((), float(scale)))

    def forward(self, x: Tensor, weights: Tensor, edge_index: Tensor | Neighborhood) -> Tensor:
        """Features with the adapter's part added; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the edges or the constructor's arguments.
        """
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, channels = {self.channels}]")
        nbr = as_neighborhood(edge_index, x.shape[0])
        strength, strong = self.strong_edges(weights, nbr)
        u = self.linear_in(x)
        received = gather_scatter(u, strength, strong)
        a = self.eps * u + received.to(u.dtype)
        g = self.linear_out(a + self.mlp(a))
        normed = functional.rms_norm(g.float() if g.dtype != torch.float64 else g, g.shape[-1:], eps=1e-6)
        return x + (self.scale * self.norm_weight * normed).to(x.dtype)

    def strong_edges(self, weights: Tensor, nbr: Neighborhood) -> tuple[Tensor, Neighborhood]:
        """The strengths ``[E']`` of the edges that survive, and these edges, both in CSR order.

        ``strong.num_edges / strong.num_targets`` is the number to watch: it decides what the adapter costs.
        """
        if weights.ndim not in (1, 2) or weights.shape[0] != nbr.num_edges:
            raise ShapeError("weights", f"shape {tuple(weights.shape)}", f"[E = {nbr.num_edges}, H]")
        total = nbr.to_csr_order(weights if weights.ndim == 1 else weights.sum(1))
        strength = torch.sigmoid(self.sharpness * (total.clamp(max=1) - self.threshold))
        kept = strength > self.keep
        if self.self_edges_only:
            kept = kept & (nbr.source == nbr.target)
        row_ptr = torch.cat([nbr.row_ptr.new_zeros(1), kept.cumsum(0)])[nbr.row_ptr]
        ends = row_ptr, nbr.source[kept], nbr.target[kept]
        return strength[kept], Neighborhood.from_csr(*ends, nbr.num_targets, nbr.num_sources)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.hidden_channels}, self_edges_only={self.self_edges_only}"
