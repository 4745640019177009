"""Equivariant graph attention: GATv2 whose scores see squared distances, and which moves the points."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood, gather_scatter, gather_silu, segment_reduce, segment_softmax
from geoattn.layers.egnn import EdgeGeometry, edge_geometry


class EquivariantGATLayer(nn.Module):
    r"""Attention over neighbours in space, with E(n)-equivariant steps of the points.

    .. math::
        e_{ij}^h &= a_h \cdot \operatorname{act}\big( W_t h_i + W_s h_j + W_e [\,a_{ij}, \|x_i - x_j\|^2\,] \big)_h,
            \qquad \alpha_{ij}^h = \operatorname{softmax}_{j \in N(i)} e_{ij}^h \\
        m_{ij} &= [\alpha_{ij}^h V_h h_j]_h, \qquad
            h_i' = \operatorname{relu}\big( W_o \textstyle\sum_j m_{ij} \big) \\
        x_i' &= x_i + C_i \textstyle\sum_{j \ne i} \phi(m_{ij})\,(x_i - x_j)

    with :math:`\phi` a linear map, GELU and a linear map to one number. Only squared distances enter the scores: a
    signed difference of coordinates there would break every symmetry but permutations. Values have a map of their own,
    V; with ``hidden_channels`` below D the scores are cheaper than the values.

    Messages per edge and head are never stored: sums take values per node and weights per edge, and the first map of
    :math:`\phi`, linear in the values, is applied per node before the weights. What is stored per edge is the hidden
    layer of the scores and that of :math:`\phi`.

    Papers: Schwehr, "Equivariant Graph Attention Networks with Structural Motifs for Predicting Cell Line-Specific
    Synergistic Drug Combinations", arXiv:2411.04747 (its text; its code feeds signed scalars); scores as in Brody et
    al., "How Attentive are Graph Attention Networks?", arXiv:2105.14491; steps as in `EGNNLayer`.

    Args:
        in_channels: F, width of the features.
        out_channels: width of the updated features, ``in_channels`` if None.
        num_heads: H.
        head_channels: D, width of a head's values; ``out_channels`` divided by H, rounded up, if None.
        hidden_channels: S, width of a head's scores before :math:`a_h`; D if None.
        edge_channels: A, width of ``edge_attr``.
        step_channels: P, hidden width of :math:`\phi`.
        update_pos: whether the points move; False makes the layer E(n)-invariant.
        pos_aggr: :math:`C_i`, "mean" (1 / number of neighbours) or "sum" (1).
        tanh: bound :math:`\phi` to (-1, 1).
        act: "leaky_relu" (slope 0.2, GATv2's), or "silu", which is smooth and fused: take it where forces are trained.
        relu: whether the features end in a relu.
        dropout: on the attention, in training.

    Shapes:
        x ``[N, F]``, pos ``[N, n]`` for any n, edge_index ``[2, E]`` or a ``Neighborhood``, edge_attr ``[E, A]`` in the
        caller's order. Returns ``(x' [N, out_channels], pos' [N, n])``.

    Symmetry: x' is invariant, pos' equivariant, exactly, under rotations, reflections and translations of n-dimensional
    space and under node permutations. Mirror images cannot be told apart.

    Cost: O(N F H D + E H (S + D + P)) time; O(E (H S + P) + N H (D + P)) memory.

    Edge cases: an isolated node keeps its place and gets relu of the bias of :math:`W_o`; give nodes self loops with
    `with_self_loops` to have them attend to themselves. Self loops take part in attention and move nothing. Coincident
    points are fine, with finite first and second derivatives.

    Example:
        >>> layer = EquivariantGATLayer(8, num_heads=2)
        >>> x, pos = layer(torch.randn(4, 8), torch.randn(4, 3), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))
        >>> x.shape, pos.shape
        (torch.Size([4, 8]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 4,
        head_channels: int | None = None,
        hidden_channels: int | None = None,
        edge_channels: int = 0,
        step_channels: int = 32,
        update_pos: bool = True,
        pos_aggr: Literal["mean", "sum"] = "mean",
        tanh: bool = False,
        act: Literal["leaky_relu", "silu"] = "leaky_relu",
        relu: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        if num_heads < 1:
            raise ShapeError("num_heads", f"{num_heads}", "at least 1")
        if pos_aggr not in ("mean", "sum"):
            raise ShapeError("pos_aggr", repr(pos_aggr), "'mean' or 'sum'")
        if act not in ("leaky_relu", "silu"):
            raise ShapeError("act", repr(act), "'leaky_relu' or 'silu'")
        head_channels = -(-out_channels // num_heads) if head_channels is None else head_channels
        hidden_channels = head_channels if hidden_channels is None else hidden_channels
        self.in_channels, self.out_channels, self.num_heads = in_channels, out_channels, num_heads
        self.edge_channels, self.pos_aggr, self.tanh, self.act = edge_channels, pos_aggr, tanh, act
        self.dropout = dropout
        width = num_heads * hidden_channels
        self.target = nn.Linear(in_channels, width)
        self.source = nn.Linear(in_channels, width, bias=False)
        self.edge = nn.Linear(edge_channels + 1, width, bias=False)
        bound = hidden_channels**-0.5
        self.score = nn.Parameter(torch.empty(num_heads, hidden_channels).uniform_(-bound, bound))
        self.value = nn.Linear(in_channels, num_heads * head_channels, bias=False)
        self.out = nn.Linear(num_heads * head_channels, out_channels)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.step_in = nn.Linear(num_heads * head_channels, step_channels) if update_pos else None
        self.step_out = nn.Linear(step_channels, 1, bias=False) if update_pos else None
        if self.step_out is not None:  # steps start small, so that stacked layers do not explode
            nn.init.xavier_uniform_(self.step_out.weight, gain=0.001)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor | Neighborhood,
        edge_attr: Tensor | None = None,
        *,
        geometry: EdgeGeometry | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update features and positions; see the class for shapes.

        Args:
            geometry: ``edge_geometry(pos, nbr, ...)`` where layers share it; made from ``pos`` if None. Its ``radial``
                has to be the squared distance, one column.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        self._check_nodes(x, pos)
        nbr = as_neighborhood(edge_index, x.shape[0])
        geometry = edge_geometry(pos, nbr) if geometry is None else geometry
        self._check_edges(edge_attr, geometry, nbr)
        radial = geometry.radial.to(x.dtype)
        edge = radial if edge_attr is None else torch.cat([nbr.to_csr_order(edge_attr), radial], -1)
        nbr = nbr.in_csr_order()
        alpha = self.attention(x, edge, nbr)
        values = self.value(x).unflatten(1, (self.num_heads, -1))
        x_out = self.relu(self.out(gather_scatter(values, alpha, nbr).flatten(1).to(x.dtype)))
        if self.step_in is None:
            return x_out, pos
        return x_out, pos + self._step(values, alpha, nbr, geometry)

    def attention(self, x: Tensor, edge: Tensor, nbr: Neighborhood) -> Tensor:
        """``[E, H]`` weights from features ``[N, F]`` and ``edge [E, A + 1]``, for edges in CSR order."""
        of_target, of_source, of_edge = self.target(x), self.source(x), self.edge(edge)
        if self.act == "silu":
            hidden = gather_silu(of_target, of_source, of_edge, nbr)
        else:
            hidden = functional.leaky_relu(of_target[nbr.target] + of_source[nbr.source] + of_edge, 0.2)
        scores = torch.einsum("ehs,hs->eh", hidden.unflatten(1, (self.num_heads, -1)), self.score)
        return functional.dropout(segment_softmax(scores, nbr), self.dropout, self.training)

    def _step(self, values: Tensor, alpha: Tensor, nbr: Neighborhood, geometry: EdgeGeometry) -> Tensor:
        """``C_i sum_j phi(m_ij) (x_i - x_j)``, ``[N, n]``, in the precision of the positions."""
        assert self.step_in is not None and self.step_out is not None
        per_head = self.step_in.weight.unflatten(1, (self.num_heads, -1))
        projected = torch.einsum("nhd,phd->nhp", values, per_head)
        # an edge is a target here, and the heads of its source are that target's sources
        hidden = gather_scatter(projected.flatten(0, 1), alpha.flatten(), _heads_of_sources(nbr, self.num_heads))
        strength = self.step_out(functional.gelu(hidden + self.step_in.bias))
        if self.tanh:
            strength = torch.tanh(strength)
        vector = geometry.vector
        with torch.autocast(vector.device.type, enabled=False):
            step = segment_reduce(-vector * (strength.to(vector.dtype) * geometry.weight), nbr, "sum")
            return step / geometry.count if self.pos_aggr == "mean" else step

    def _check_nodes(self, x: Tensor, pos: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.in_channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, in_channels = {self.in_channels}]")
        if pos.ndim != 2 or pos.shape[0] != x.shape[0]:
            raise ShapeError("pos", f"shape {tuple(pos.shape)}", f"[N = {x.shape[0]}, n]")

    def _check_edges(self, edge_attr: Tensor | None, geometry: EdgeGeometry, nbr: Neighborhood) -> None:
        if (0 if edge_attr is None else edge_attr.shape[-1]) != self.edge_channels:
            got = "None" if edge_attr is None else f"shape {tuple(edge_attr.shape)}"
            raise ShapeError("edge_attr", got, f"[E, edge_channels = {self.edge_channels}]")
        for name, rows in (("edge_attr", edge_attr), ("geometry", geometry.radial)):
            if rows is not None and rows.shape[0] != nbr.num_edges:
                raise ShapeError(name, f"{rows.shape[0]} rows", f"one per edge, E = {nbr.num_edges}")
        if geometry.radial.shape[1] != 1:
            raise ShapeError("geometry.radial", f"{geometry.radial.shape[1]} columns", "1, the squared distance")

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, num_heads={self.num_heads}, act={self.act!r}"


def _heads_of_sources(nbr: Neighborhood, num_heads: int) -> Neighborhood:
    """Edges as targets, (source, head) pairs as sources: E H edges for sums over heads, one sum per edge."""
    head = torch.arange(num_heads, device=nbr.device)
    source = (nbr.source[:, None] * num_heads + head).flatten()
    target = torch.arange(nbr.num_edges, device=nbr.device).repeat_interleave(num_heads)
    row_ptr = torch.arange(nbr.num_edges + 1, device=nbr.device) * num_heads
    return Neighborhood.from_csr(row_ptr, source, target, nbr.num_edges, nbr.num_sources * num_heads)
