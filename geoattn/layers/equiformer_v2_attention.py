"""EquiformerV2's attention: messages are SO(2) convolutions in the frame of each edge."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from geoattn.errors import ShapeError, nearest_hint
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.edge_frame import EdgeFrame
from geoattn.kernels import Neighborhood, segment_reduce, segment_softmax
from geoattn.layers.recompute import recompute
from geoattn.layers.so2_conv import SO2Conv, join_m, split_m
from geoattn.layers.so3_activation import GateActivation, SeparableS2Activation
from geoattn.layers.so3_linear import SO3Linear, check_degrees

Activation = Literal["gate", "separable_s2"]


def make_activation(
    kind: Activation, lmax: int, channels: int, mmax: int | None, resolution: int
) -> GateActivation | SeparableS2Activation:
    """The activation by its name, for node features (mmax None) or for edge features in the edge's frame."""
    if kind not in get_args(Activation):
        raise ShapeError("activation", repr(kind), "'gate' or 'separable_s2'", nearest_hint(kind, get_args(Activation)))
    if kind == "gate":
        return GateActivation(lmax, channels)
    return SeparableS2Activation(lmax, channels, mmax, resolution)


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
        max_edges: messages of at most about this many edges are in memory at a time, and are computed again for first
            and for second derivatives; None keeps all.

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
        max_edges: int | None = None,
    ) -> None:
        super().__init__()
        if max_edges is not None and max_edges < 1:
            raise ShapeError("max_edges", str(max_edges), "at least 1, or None")
        self.max_edges = max_edges
        self.channels, self.lmax, self.mmax, self.num_heads = channels, lmax, mmax, num_heads
        self.alpha_channels, self.value_channels = alpha_channels, value_channels
        num_alpha, num_values = num_heads * alpha_channels, num_heads * value_channels
        self.activation = make_activation(activation, lmax, hidden_channels, mmax, grid_resolution)
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
        check_degrees(x, self.lmax, self.channels)
        edges = (basis.frame(self.lmax, self.mmax).rotation, basis.weight, edge_scalars)
        if self.max_edges is None:
            return self._attend(x, *edges, basis.nbr, 0)
        module = _Call(self)
        names, parameters = zip(*module.named_parameters(), strict=True)

        def chunk(nbr: Neighborhood, first: int, *inputs: Tensor) -> Tensor:
            def attend(x: Tensor, rotation: Tensor, envelope: Tensor, scalars: Tensor, *parameters: Tensor) -> Tensor:
                weights = dict(zip(names, parameters, strict=True))
                result: Tensor = functional_call(module, weights, (x, rotation, envelope, scalars, nbr, first))
                return result

            return recompute(attend, x, *inputs, *parameters)

        chunks, firsts = zip(*_by_targets(basis.nbr, self.max_edges), strict=True)
        sizes = [nbr.num_edges for nbr in chunks]
        pieces = zip(*(tensor.split(sizes) for tensor in edges), strict=True)
        return torch.cat([chunk(nbr, first, *piece) for nbr, first, piece in zip(chunks, firsts, pieces, strict=True)])

    def _attend(
        self, x: Tensor, rotation: Tensor, envelope: Tensor, edge_scalars: Tensor, nbr: Neighborhood, first: int
    ) -> Tensor:
        """What the targets of ``nbr``, which are the nodes ``first, first + 1, ...``, get from its edges."""
        frame = EdgeFrame(rotation, self.lmax, self.mmax)
        z = frame.rotate(_pairs(x, nbr.source, nbr.target + first if first else nbr.target))
        blocks, extra = self.message_in.forward_blocks(split_m(z, self.lmax, self.mmax), edge_scalars)
        alpha, scalars = extra.split([self.num_heads * self.alpha_channels, self.activation.num_scalars], dim=1)
        blocks, _ = self.message_out.forward_blocks(self.activation.forward_blocks(blocks, scalars))
        attention = attention_weights(self._logits(alpha), envelope, nbr)
        values = join_m(blocks).unflatten(2, (self.num_heads, -1)) * attention[:, None, :, None]
        return self.out(segment_reduce(frame.rotate_back(values.flatten(2)), nbr))

    def _logits(self, alpha: Tensor) -> Tensor:
        """``[E, H]`` from ``[E, H A]``."""
        alpha = self.alpha_norm(alpha.unflatten(1, (self.num_heads, -1)))
        return (torch.lerp(functional.silu(alpha), alpha, 0.2) * self.alpha_weight).sum(-1)


class _Call(nn.Module):
    """`EquiformerV2Attention._attend` as a forward, for `functional_call`."""

    def __init__(self, attention: EquiformerV2Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, *inputs: Any) -> Tensor:
        return self.attention._attend(*inputs)


def _by_targets(nbr: Neighborhood, max_edges: int) -> Iterator[tuple[Neighborhood, int]]:
    """Runs of targets with at most ``max_edges`` edges together, or of one target; and the first target of each."""
    ptr = nbr.row_ptr.tolist()
    start = 0
    while start < nbr.num_targets or not start:
        stop = min(max(bisect_right(ptr, ptr[start] + max_edges) - 1, start + 1), nbr.num_targets)
        rows, edges = slice(start, stop + 1), slice(ptr[start], ptr[stop])
        yield (
            Neighborhood.from_csr(
                nbr.row_ptr[rows] - ptr[start],
                nbr.source[edges],
                nbr.target[edges] - start,
                stop - start,
                nbr.num_sources,
            ),
            start,
        )
        start = max(stop, 1)


def _pairs(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``[E, S, 2C]``, the features of source and target side by side, in one gather and without a concatenation."""
    ends = torch.stack([source, target], dim=1).flatten()
    gathered = x.transpose(1, 2).contiguous().index_select(0, ends)  # [2E, C, S]
    return gathered.view(source.shape[0], 2 * x.shape[2], x.shape[1]).transpose(1, 2)
