"""EquiformerV2: graph attention whose messages are SO(2) convolutions in the frame of each edge."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError, nearest_hint
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood, segment_reduce, segment_softmax
from geoattn.layers.so2_conv import SO2Conv, join_m, split_m
from geoattn.layers.so3_activation import GateActivation, SeparableS2Activation
from geoattn.layers.so3_layer_norm import SO3LayerNorm
from geoattn.layers.so3_linear import SO3Linear

Activation = Literal["gate", "separable_s2"]


def attention_weights(logits: Tensor, envelope: Tensor, nbr: Neighborhood) -> Tensor:
    r"""``[E, H]`` softmax over the edges of each target in which an edge counts by its envelope.

    .. math:: \alpha_e = u_e \frac{u_e \exp(l_e)}{\sum_f u_f \exp(l_f)}

    The envelope in the softmax keeps an edge that is about to leave from taking weight from the others; the envelope
    before it does the same for the only edge of a target, whose softmax is 1. Two continuous derivatives of u are
    handed on. Edges with envelope 0 get 0.

    Args:
        logits: ``[E, H]`` in CSR order.
        envelope: ``[E]``, u.
        nbr: the edges, in CSR order.
    """
    # so far above the smallest number that the second derivative of the logarithm, 1 / u^2, is finite
    smallest = torch.finfo(envelope.dtype).tiny ** 0.4
    logits = logits + envelope.clamp(min=smallest).log().unsqueeze(1)
    logits = logits.masked_fill((envelope == 0).unsqueeze(1), -math.inf)
    return segment_softmax(logits, nbr) * envelope.unsqueeze(1)


class EquiformerV2Attention(nn.Module):
    r"""Attention over neighbours with messages from SO(2) convolutions.

    .. math::
        [\,y, a, g\,]_e &= \operatorname{SO2}_1\big(D_e [x_j ; x_i], \text{edge scalars}\big), \qquad
        v_e = \operatorname{SO2}_2\big(\operatorname{act}(y_e, g_e)\big) \\
        l_{eh} &= w_h \cdot \phi(\operatorname{LayerNorm}(a_{eh})), \qquad
        \phi(x) = s x + (1 - s) \operatorname{SiLU}(x), \quad s = 0.2 \\
        x_i' &= W \sum_{e \in N(i)} D_e^T\, [\alpha_{eh} v_{eh}]_h

    with :math:`D_e` the rotation into the edge's frame and :math:`\alpha` from `attention_weights`. The layer norm of
    the logits' input is the paper's attention re-normalisation.

    Paper: EquiformerV2, arXiv:2306.12059.

    Args:
        channels: C, of the node features.
        out_channels: C', of the result.
        lmax: L, largest degree.
        mmax: M, largest order kept in the edge's frame.
        num_heads: H.
        edge_channels: width of the edge scalars.
        hidden_channels: width of the message between the two convolutions.
        alpha_channels: A, width of each head's input to the logits.
        value_channels: V, width of each head's values.
        activation: "gate" (exactly equivariant) or "separable_s2" (the paper's; see `SeparableS2Activation`).
        grid_resolution: of "separable_s2".

    Shapes:
        x ``[N, (L+1)^2, C]``, basis an `EdgeBasis` of the same nodes, edge_scalars ``[E, edge_channels]`` in the order
        of ``basis.nbr``. Returns ``[N, (L+1)^2, C']``.

    Symmetry: equivariant to SO(3) and permutations.

    Edge cases: an edge of zero length or beyond the cutoff sends nothing; a node without edges gets the bias.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        lmax: int,
        mmax: int,
        num_heads: int,
        edge_channels: int,
        hidden_channels: int,
        alpha_channels: int,
        value_channels: int,
        activation: Activation = "gate",
        grid_resolution: int = 18,
    ) -> None:
        super().__init__()
        self.channels, self.lmax, self.mmax, self.num_heads = channels, lmax, mmax, num_heads
        self.alpha_channels, self.value_channels = alpha_channels, value_channels
        num_alpha, num_values = num_heads * alpha_channels, num_heads * value_channels
        self.activation = _activation(activation, lmax, hidden_channels, mmax, grid_resolution)
        self.message_in = SO2Conv(
            lmax,
            mmax,
            2 * channels,
            hidden_channels,
            extra_scalars=num_alpha + self.activation.num_scalars,
            radial_channels=edge_channels,
        )
        self.message_out = SO2Conv(lmax, mmax, hidden_channels, num_values)
        self.alpha_norm = nn.LayerNorm(alpha_channels)
        self.alpha_weight = nn.Parameter(torch.empty(num_heads, alpha_channels))
        self.out = SO3Linear(lmax, num_values, out_channels)
        nn.init.normal_(self.alpha_weight, std=1 / math.sqrt(alpha_channels))

    def forward(self, x: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """Attend; see the class for shapes."""
        nbr, frame = basis.nbr, basis.frame(self.lmax, self.mmax)
        z = frame.rotate(_pairs(x, nbr))
        blocks, extra = self.message_in.forward_blocks(split_m(z, self.lmax, self.mmax), edge_scalars)
        alpha, scalars = extra.split([self.num_heads * self.alpha_channels, self.activation.num_scalars], dim=1)
        blocks, _ = self.message_out.forward_blocks(self.activation.forward_blocks(blocks, scalars))
        attention = attention_weights(self._logits(alpha), basis.weight, nbr)
        values = join_m(blocks).unflatten(2, (self.num_heads, -1)) * attention[:, None, :, None]
        return self.out(segment_reduce(frame.rotate_back(values.flatten(2)), nbr))

    def _logits(self, alpha: Tensor) -> Tensor:
        """``[E, H]`` from ``[E, H A]``."""
        alpha = self.alpha_norm(alpha.unflatten(1, (self.num_heads, -1)))
        return (torch.lerp(functional.silu(alpha), alpha, 0.2) * self.alpha_weight).sum(-1)


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
        self.activation = _activation(activation, lmax, hidden_channels, None, grid_resolution)
        self.linear_in = SO3Linear(lmax, channels, hidden_channels)
        self.scalars = nn.Linear(channels, self.activation.num_scalars)
        self.linear_out = SO3Linear(lmax, hidden_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply; see the class for shapes."""
        return self.linear_out(self.activation(self.linear_in(x), self.scalars(x[:, 0])))


class EquiformerV2Block(nn.Module):
    r"""Pre-norm transformer block: :math:`x \leftarrow x + \operatorname{attention}(\operatorname{norm} x)`, then
    :math:`x \leftarrow x + \operatorname{feed-forward}(\operatorname{norm} x)`.

    Paper: EquiformerV2, arXiv:2306.12059.

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

    Shapes:
        x ``[N, (L+1)^2, C]``, l-major; basis an `EdgeBasis` of the same nodes; edge_scalars ``[E, edge_channels]`` in
        the order of ``basis.nbr``. Returns ``[N, (L+1)^2, C]``.

    Symmetry: equivariant to SO(3) and permutations; exactly with the gate, up to the grid's error with
    "separable_s2". Reflections are not a symmetry.

    Cost: per edge, the two rotations and the two convolutions, O(L^3 C^2).

    Edge cases: an edge of zero length or beyond the cutoff sends nothing; an isolated node is changed by biases and
    the feed-forward alone.

    Example:
        >>> from geoattn.geometry.edge_basis import EdgeBasis
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


def _activation(
    kind: Activation, lmax: int, channels: int, mmax: int | None, resolution: int
) -> GateActivation | SeparableS2Activation:
    if kind not in get_args(Activation):
        raise ShapeError("activation", repr(kind), "'gate' or 'separable_s2'", nearest_hint(kind, get_args(Activation)))
    if kind == "gate":
        return GateActivation(lmax, channels)
    return SeparableS2Activation(lmax, channels, mmax, resolution)


def _pairs(x: Tensor, nbr: Neighborhood) -> Tensor:
    """``[E, S, 2C]``, the features of source and target side by side, in one gather and without a concatenation."""
    ends = torch.stack([nbr.source, nbr.target], dim=1).flatten()
    gathered = x.transpose(1, 2).contiguous().index_select(0, ends)  # [2E, C, S]
    return gathered.view(nbr.num_edges, 2 * x.shape[2], x.shape[1]).transpose(1, 2)
