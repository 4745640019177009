"""RISurConv: set convolution on rotation-invariant surface features, with attention among neighbours and centres."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from geoattn.geometry.surface import NUM_FEATURES
from geoattn.layers.offset_attention import OffsetAttention

Attention = Literal["neighbors", "centers", "both", "none"]
HIDDEN = 32


class RISurConv(nn.Module):
    r"""From the neighbourhoods of M centres to one feature vector per centre.

    .. math::
        e_{mk} = \mathrm{ReLU}(\mathrm{BN}(W_1 f_{mk})), \quad e_m \leftarrow \mathrm{OA}(e_m), \quad
        h_{mk} = \mathrm{ReLU}(\mathrm{BN}(W_2 [e_{mk}; x_{j(m,k)}])), \quad y_m = \max_k h_{mk}, \quad
        y \leftarrow \mathrm{OA}(y)

    with :math:`f` the 14 invariants of `geoattn.geometry.surface.surface_features` and OA `OffsetAttention`: the first
    among the neighbours of one centre, the second among the centres of one cloud. The part of :math:`W_2` that acts on
    :math:`x` is applied once per point, not per neighbour.

    Args:
        in_channels: of ``x``; 0 for none.
        out_channels: of the result, a multiple of 4.
        edge_channels: of e, a multiple of 4.
        attention: where: ``"neighbors"``, ``"centers"``, ``"both"`` or ``"none"``.
        paper: as the published code computes it, for comparison: e from two linear maps with a normalisation between
            them (no non-linearity, so the same functions), and attention among neighbours normalised over the centres
            of the cloud. Then every centre depends on all others.

    Shape:
        ``features [M, K, 14]``, ``idx [M, K]`` (rows of ``x``; -1 for none), ``x [N, in_channels]`` or None, ``ptr
        [B+1]``: where the centres of each cloud begin; None: all are of one cloud. Returns ``[M, out_channels]``.

    Symmetry: invariant to rotation and translation, as the features are. In evaluation the result for a cloud does not
    depend on what else is in the batch, and without attention among centres a centre depends on its neighbourhood
    alone (not with ``paper``).

    Cost: ``O(M K (edge_channels out_channels + K edge_channels) + N in_channels out_channels)``, and ``O(S^2)`` for
    attention among the S centres of a cloud. A centre without neighbours gets 0 before the attention among centres.

    Source: RISurConv, arXiv 2408.06110.

    Example:
        >>> import torch
        >>> conv = RISurConv(8, 16, edge_channels=8)
        >>> conv(torch.randn(5, 8), torch.randn(3, 4, 14), torch.randint(5, (3, 4))).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        edge_channels: int = 64,
        *,
        attention: Attention = "both",
        paper: bool = False,
    ) -> None:
        super().__init__()
        self.paper = paper
        self.embed = nn.Sequential(
            *([nn.Linear(NUM_FEATURES, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN)] if paper else []),
            nn.Linear(HIDDEN if paper else NUM_FEATURES, edge_channels, bias=False),
            nn.BatchNorm1d(edge_channels),
            nn.ReLU(),
        )
        among_neighbors, among_centers = attention in ("neighbors", "both"), attention in ("centers", "both")
        self.neighbors = OffsetAttention(edge_channels, "sets" if paper else "queries") if among_neighbors else None
        self.edge = nn.Linear(edge_channels, out_channels, bias=False)
        self.source = nn.Linear(in_channels, out_channels, bias=False) if in_channels else None
        self.norm = nn.BatchNorm1d(out_channels)
        self.centers = OffsetAttention(out_channels) if among_centers else None

    def forward(self, x: Tensor | None, features: Tensor, idx: Tensor, ptr: Tensor | None = None) -> Tensor:
        valid = idx >= 0
        complete = bool(valid.all())
        rows = features.flatten(0, 1) if complete else features[valid]
        edges = self.embed(rows)
        if self.neighbors is not None:
            edges = self._among_neighbors(self.neighbors, edges, valid, complete, ptr)
        hidden = self.edge(edges)
        if self.source is not None and x is not None:
            hidden = hidden + self.source(x)[idx.flatten() if complete else idx[valid]]
        hidden = self.norm(hidden).relu()
        y = _spread(hidden, valid, complete).amax(1) if idx.numel() else hidden.new_zeros(len(idx), hidden.shape[-1])
        if self.centers is None:
            return y
        sets, mask = to_sets(y, ptr)
        return from_sets(self.centers(sets, mask), mask)

    def _among_neighbors(
        self, attention: OffsetAttention, edges: Tensor, valid: Tensor, complete: bool, ptr: Tensor | None
    ) -> Tensor:
        sets = _spread(edges, valid, complete)
        mask = None if complete else valid
        if self.paper:  # one cloud at a time, as its centres are summed over
            bounds = [0, len(sets)] if ptr is None else ptr.tolist()
            clouds = [
                attention(sets[None, first:last], None if mask is None else mask[None, first:last])[0]
                for first, last in pairwise(bounds)
            ]
            sets = torch.cat(clouds)
        else:
            sets = attention(sets, mask)
        return sets.flatten(0, 1) if complete else sets[valid]


def to_sets(x: Tensor, ptr: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """``[B, S, C]``, the rows ``[M, C]`` of each cloud, and ``[B, S]`` which are there; None where all are."""
    if ptr is None:
        return x[None], None
    counts = ptr.diff()
    longest = int(counts.max()) if len(counts) else 0
    if int(counts.sum()) == longest * len(counts):
        return x.view(len(counts), longest, x.shape[-1]), None
    mask = torch.arange(longest, device=x.device) < counts[:, None]
    sets = x.new_zeros(len(counts), longest, x.shape[-1])
    sets[mask] = x
    return sets, mask


def from_sets(sets: Tensor, mask: Tensor | None) -> Tensor:
    """The rows that `to_sets` took."""
    return sets.flatten(0, 1) if mask is None else sets[mask]


def _spread(rows: Tensor, valid: Tensor, complete: bool) -> Tensor:
    """``[M, K, C]`` from the rows of the slots that have a neighbour; 0 elsewhere."""
    if complete:
        return rows.view(*valid.shape, rows.shape[-1])
    slots = rows.new_zeros(*valid.shape, rows.shape[-1])
    slots[valid] = rows
    return slots
