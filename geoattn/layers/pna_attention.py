"""PNA-attention: several aggregators over the graph that attention weights, scaled by the degree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError, nearest_hint
from geoattn.kernels import Neighborhood, as_neighborhood, gather_scatter, segment_reduce
from geoattn.layers.edge_weights import EdgeWeights
from geoattn.layers.grouped_mlp import GroupedMLP

Aggregator = Literal["sum", "mean", "max", "min", "std"]
Scaler = Literal["identity", "amplification", "attenuation"]
EPS = 1e-5  # inside the square root of a variance, whose derivative at 0 is infinite


class PNAAttention(nn.Module):
    r"""Principal neighbourhood aggregation with attention weights, head by head.

    .. math::
        \mu_i &= \sum_j A_{ij} v_j \Big/ \sum_j A_{ij}, \qquad
        \operatorname{std}_i = \sqrt{\textstyle\sum_j A_{ij} v_j^2 / \sum_j A_{ij} - \mu_i^2}, \qquad
        \max_i = \max_{j : A_{ij} > 0} v_j \\
        z_i &= W_o \Big[ \operatorname{MLP}_h \big( [\, s(d_i)\, a_i^h \,]_{a,\ s} \big) \Big]_h

    over the aggregators a and the scalers s of the number of neighbours :math:`d_i`: identity 1, amplification
    :math:`\log(d_i + 1) / \delta`, attenuation :math:`\delta / \log(d_i + 1)`, where :math:`\delta` is the mean of
    :math:`\log(d + 1)` over the training nodes. Maximum and minimum are over the senders, channel by channel. With
    softmax, "sum" is "mean".

    Papers: Corso et al., "Principal Neighbourhood Aggregation for Graph Nets", arXiv:2004.05718; Buehler,
    arXiv:2501.02393.

    Args:
        channels: C, width of the node features; divisible by ``num_heads``.
        num_heads: H.
        aggregators: of "sum", "mean", "max", "min", "std".
        scalers: of "identity", "amplification", "attenuation".
        mean_log_degree: :math:`\delta`, see `mean_log_degree`.
        normalize: "softmax", "sigmoid" or "relu", see `EdgeWeights`; weights are not negative.
        edge_channels: A, width of ``edge_attr``, which acts on the scores; 0 for none.
        mlp_ratio: hidden width of each head's network over its C / H channels.
        dropout: on the weights and inside the networks.

    Shapes:
        x ``[N, C]``, edge_index ``[2, E]`` or a ``Neighborhood``, edge_attr ``[E, A]`` in the caller's order.
        Returns ``[N, C]``.

    Symmetry: equivariant under node permutations. No coordinates enter.

    Cost: O(N C^2 + E C) time; memory O(N C + E H) for sum, mean and std, O(E C) with max or min.

    Edge cases: a node without edges, or with weights of 0 alone, gets what the networks make of zeros. The standard
    deviation of equal values is 0, with a gradient of 0.

    Example:
        >>> layer = PNAAttention(16, num_heads=4, scalers=("identity", "amplification", "attenuation"))
        >>> layer(torch.randn(3, 16), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 4,
        *,
        aggregators: Sequence[Aggregator] = ("mean", "max", "std", "min"),
        scalers: Sequence[Scaler] = ("identity",),
        mean_log_degree: float = 1.0,
        normalize: Literal["softmax", "sigmoid", "relu"] = "softmax",
        edge_channels: int = 0,
        mlp_ratio: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, chosen, known in (
            ("aggregators", aggregators, get_args(Aggregator)),
            ("scalers", scalers, get_args(Scaler)),
        ):
            if not chosen:
                raise ShapeError(name, "none", f"some of {', '.join(map(repr, known))}")
            for value in chosen:
                if value not in known:
                    raise ShapeError(name, repr(value), ", ".join(map(repr, known)), nearest_hint(value, known))
        if normalize not in ("softmax", "sigmoid", "relu"):
            hint = "Means and deviations divide by the sum of the weights."
            raise ShapeError("normalize", repr(normalize), "'softmax', 'sigmoid' or 'relu'", hint)
        if mean_log_degree <= 0:
            raise ShapeError("mean_log_degree", f"{mean_log_degree}", "a number above 0")
        self.channels, self.num_heads = channels, num_heads
        self.aggregators, self.scalers = tuple(aggregators), tuple(scalers)
        self.mean_log_degree = mean_log_degree
        self.weights = EdgeWeights(
            channels, num_heads, normalize=normalize, edge_channels=edge_channels, sharpen=False, dropout=dropout
        )
        self.value = nn.Linear(channels, channels, bias=False)
        width = channels // num_heads
        inputs = len(self.aggregators) * len(self.scalers) * width
        self.mlp = GroupedMLP(num_heads, inputs, max(1, round(mlp_ratio * width)), width, dropout)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, edge_index: Tensor | Neighborhood, edge_attr: Tensor | None = None) -> Tensor:
        """Update node features; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        nbr = as_neighborhood(edge_index, x.shape[0])
        weights = self.weights(x, nbr, edge_attr)
        values = self.value(x).unflatten(1, (self.num_heads, -1))
        gathered = self.aggregate(values, weights, nbr)
        factors = torch.stack([self._scale(name, nbr.degree.to(gathered.dtype)) for name in self.scalers], -1)
        scaled = gathered[:, :, None] * factors[:, None, :, None]
        return self.out(self.mlp(scaled.flatten(2)).flatten(1)).to(x.dtype)

    def aggregate(self, values: Tensor, weights: Tensor, nbr: Neighborhood) -> Tensor:
        """``[N, H, aggregators * D]`` of ``values [N, H, D]`` and ``weights [E, H]``, one aggregator after another."""
        found: dict[str, Tensor] = {}
        if "sum" in self.aggregators:
            found["sum"] = gather_scatter(values, weights, nbr)
        if "mean" in self.aggregators or "std" in self.aggregators:
            total = segment_reduce(weights, nbr, "sum")
            shares = weights / nbr.to_caller_order(total.masked_fill(total == 0, 1.0)[nbr.target])
            found["mean"] = gather_scatter(values, shares, nbr)
        if "std" in self.aggregators:
            square = gather_scatter(values.square(), shares, nbr)
            variance = (square - found["mean"].square()).clamp(min=0)
            found["std"] = (variance + EPS).sqrt() - EPS**0.5
        if "max" in self.aggregators or "min" in self.aggregators:
            found |= self._extrema(values, weights, nbr)
        return torch.cat([found[name] for name in self.aggregators], -1)

    def _extrema(self, values: Tensor, weights: Tensor, nbr: Neighborhood) -> dict[str, Tensor]:
        unconnected = (nbr.to_csr_order(weights) <= 0)[:, :, None]
        sent, nbr = values[nbr.source], nbr.in_csr_order()
        none = segment_reduce((~unconnected).to(values.dtype), nbr, "max") == 0
        extrema: dict[str, Tensor] = {}
        for name, worst in (("max", -torch.inf), ("min", torch.inf)):
            if name in self.aggregators:
                reached = segment_reduce(sent.masked_fill(unconnected, worst), nbr, "max" if name == "max" else "min")
                extrema[name] = reached.masked_fill(none, 0.0)
        return extrema

    def _scale(self, name: str, degree: Tensor) -> Tensor:
        amplification = torch.log(degree.clamp(min=1) + 1) / self.mean_log_degree
        if name == "identity":
            return torch.ones_like(degree)
        return amplification if name == "amplification" else 1 / amplification

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, aggregators={self.aggregators}, scalers={self.scalers}"


def mean_log_degree(degrees: Tensor) -> float:
    r"""Mean of :math:`\log(d + 1)` over the nodes of the training graphs.

    Args:
        degrees: ``[N]`` number of edges that arrive at each node.

    Example:
        >>> round(mean_log_degree(torch.tensor([1, 1, 3])), 3)
        0.924
    """
    return float(torch.log(degrees.double() + 1).mean())
