"""EGNN: equivariant message passing with scalar messages and one vector per node."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.edges import edge_vectors, gaussian_basis, polynomial_envelope, safe_norm
from geoattn.kernels import Neighborhood, as_neighborhood, gather_scatter, gather_silu, segment_reduce


class EdgeGeometry(NamedTuple):
    """What the layers need to know of the edges' geometry, in CSR order; computed once while positions stand still.

    Attributes:
        vector: ``[E, n]``, ``pos[source] - pos[target]``.
        radial: ``[E, R]``, invariant functions of the distance: the squared distance (R = 1) or a radial basis.
        weight: ``[E, 1]``, the factor of each message: 0 on self loops, elsewhere the cutoff's envelope or 1.
        count: ``[N, 1]``, sum of the weights of each target's edges, at least 1: the number of neighbours, made smooth
            by the envelope, so that a neighbour that crosses the cutoff changes nothing abruptly.
    """

    vector: Tensor
    radial: Tensor
    weight: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count


def edge_geometry(
    pos: Tensor, nbr: Neighborhood, shift: Tensor | None = None, num_rbf: int = 0, cutoff: float | None = None
) -> EdgeGeometry:
    """Edge vectors, radial functions and message weights of ``pos`` ``[N, n]`` over a neighbourhood.

    Args:
        pos: ``[N, n]`` positions. Kept in its own precision under autocast.
        nbr: the edges.
        shift: ``[E, n]`` in the caller's order, added to the edge vectors (periodic images).
        num_rbf: 0 for the squared distance, else the number of Gaussians of the distance on ``[0, cutoff]``.
        cutoff: distance at which messages vanish, with two continuous derivatives; None for no envelope.
    """
    if num_rbf and cutoff is None:
        raise ShapeError("cutoff", "None", "a distance, because num_rbf > 0 spaces the radial basis on [0, cutoff]")
    with torch.autocast(pos.device.type, enabled=False):
        vector = edge_vectors(pos, nbr, shift)
        dist2 = vector.square().sum(-1, keepdim=True)
        weight = (nbr.source != nbr.target).to(pos.dtype)[:, None]
        if shift is not None:  # an atom and its own periodic image are two different points
            weight = torch.maximum(weight, (dist2.detach() > 0).to(pos.dtype))
        radial = dist2
        if cutoff is not None:
            distance = safe_norm(vector)
            weight = weight * polynomial_envelope(distance, cutoff)[:, None]
            if num_rbf:
                radial = gaussian_basis(distance, 0.0, cutoff, num_rbf)
        count = segment_reduce(weight, nbr.in_csr_order(), "sum").clamp(min=1)
        return EdgeGeometry(vector, radial, weight, count)


class EGNNLayer(nn.Module):
    r"""E(n)-equivariant graph convolution of Satorras, Hoogeboom and Welling.

    .. math::
        m_{ij} &= \phi_e(h_i, h_j, \|x_i - x_j\|^2, a_{ij}) \\
        x_i' &= x_i + C_i \sum_{j \ne i} u_{ij}\,(x_i - x_j)\,\phi_x(m_{ij}) \\
        h_i' &= h_i + \phi_h\big(h_i, \textstyle\sum_{j \ne i} u_{ij}\,m_{ij}\big)

    with an optional gate :math:`m_{ij} \leftarrow \sigma(w \cdot m_{ij} + b)\, m_{ij}` (called attention in the paper,
    but neighbours do not compete), and :math:`u_{ij}` the cutoff's envelope, 1 without a cutoff. With velocities
    :math:`v_i' = \phi_v(h_i) v_i + C_i \sum_j (x_i - x_j) \phi_x(m_{ij})` and :math:`x_i' = x_i + v_i'`.

    The first linear map of :math:`\phi_e` is split: its node parts run once per node, so the ``[E, 2F+1]``
    concatenation of the paper's code is never made. The parameters are those of the concatenated form.

    Paper: "E(n) Equivariant Graph Neural Networks", ICML 2021, arXiv:2102.09844.

    Args:
        in_channels: F, width of the node features.
        out_channels: width of the updated features, ``in_channels`` if None.
        hidden_channels: M, width of the messages.
        edge_channels: A, width of ``edge_attr``.
        radial_channels: R, width of ``EdgeGeometry.radial``; 1 is the squared distance.
        node_attr_channels: width of ``node_attr``, which enters :math:`\phi_h` (the paper's :math:`h^0`).
        update_pos: whether positions are updated; False makes the layer E(n)-invariant.
        use_velocity: whether the layer takes and returns velocities.
        gate: whether messages are gated.
        residual: whether features are added to their update; needs ``out_channels == in_channels``.
        pos_aggr: :math:`C_i`, "mean" (1 / number of neighbours, the authors' code) or "sum" (1).
        normalize: divide :math:`x_i - x_j` by ``||x_i - x_j|| + norm_constant`` (differentiable, also at 0).
        norm_constant: see ``normalize``.
        tanh: bound :math:`\phi_x` to (-1, 1).
        pos_clamp: clamp each component of the summed position update to ``[-pos_clamp, pos_clamp]``. A clamp acts on
            components, so it breaks rotation symmetry wherever it is active; ``tanh`` does not.

    Shapes:
        x ``[N, F]``, pos ``[N, n]`` for any n, edge_index ``[2, E]`` or a ``Neighborhood``, edge_attr ``[E, A]`` in the
        caller's order, vel ``[N, n]``, node_attr ``[N, node_attr_channels]``. Returns ``(x' [N, out_channels],
        pos' [N, n])`` and ``vel' [N, n]`` with ``use_velocity``. Inputs are never modified.

    Symmetry: x' is invariant, pos' and vel' are equivariant, exactly, under rotations, reflections and translations of
    n-dimensional space and under node permutations. Mirror images cannot be told apart. A configuration in which all
    nodes look alike stays so: break the tie with a velocity or with noise.

    Cost: O(N F M + E M^2) time; O(E M) memory for the hidden layers of the messages.

    Edge cases: an isolated node keeps its position (``v' = phi_v(h) v``) and gets :math:`h_i + \phi_h(h_i, 0)`. Self
    loops send nothing and are not counted. Coincident points are fine, with finite first and second derivatives.

    Example:
        >>> layer = EGNNLayer(8, hidden_channels=16)
        >>> x, pos = layer(torch.randn(4, 8), torch.randn(4, 3), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))
        >>> x.shape, pos.shape
        (torch.Size([4, 8]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        hidden_channels: int = 64,
        edge_channels: int = 0,
        radial_channels: int = 1,
        node_attr_channels: int = 0,
        update_pos: bool = True,
        use_velocity: bool = False,
        gate: bool = False,
        residual: bool = True,
        pos_aggr: Literal["mean", "sum"] = "mean",
        normalize: bool = False,
        norm_constant: float = 1.0,
        tanh: bool = False,
        pos_clamp: float | None = None,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        if residual and out_channels != in_channels:
            raise ShapeError("out_channels", f"{out_channels}", f"in_channels = {in_channels}", "Or residual=False.")
        if use_velocity and not update_pos:
            raise ShapeError("use_velocity", "True with update_pos=False", "update_pos=True")
        if pos_aggr not in ("mean", "sum"):
            raise ShapeError("pos_aggr", repr(pos_aggr), "'mean' or 'sum'")
        self.in_channels, self.out_channels, self.hidden_channels = in_channels, out_channels, hidden_channels
        self.edge_channels, self.radial_channels = edge_channels, radial_channels
        self.node_attr_channels = node_attr_channels
        self.update_pos, self.use_velocity, self.residual = update_pos, use_velocity, residual
        self.pos_aggr, self.normalize, self.norm_constant = pos_aggr, normalize, norm_constant
        self.tanh, self.pos_clamp = tanh, pos_clamp

        hidden = hidden_channels
        # phi_e: columns are [h_i, h_j, radial, edge_attr], as in the concatenated form
        self.edge_in = nn.Linear(2 * in_channels + radial_channels + edge_channels, hidden)
        self.edge_out = nn.Linear(hidden, hidden)
        self.gate = nn.Linear(hidden, 1) if gate else None
        self.node_mlp = nn.Sequential(
            nn.Linear(in_channels + hidden + node_attr_channels, hidden), nn.SiLU(), nn.Linear(hidden, out_channels)
        )
        self.pos_mlp = (
            nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1, bias=False))
            if update_pos
            else None
        )
        self.velocity_mlp = (
            nn.Sequential(nn.Linear(in_channels, hidden), nn.SiLU(), nn.Linear(hidden, 1)) if use_velocity else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Linear defaults; the last map of phi_x starts near zero, so that stacked layers do not explode."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        if self.pos_mlp is not None:
            last = self.pos_mlp[-1]
            assert isinstance(last, nn.Linear)
            nn.init.xavier_uniform_(last.weight, gain=0.001)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor | Neighborhood,
        edge_attr: Tensor | None = None,
        *,
        vel: Tensor | None = None,
        node_attr: Tensor | None = None,
        geometry: EdgeGeometry | None = None,
    ) -> tuple[Tensor, ...]:
        """Update features and positions; see the class for shapes.

        Args:
            geometry: ``edge_geometry(pos, nbr, ...)``, where several layers share it or where it carries a cutoff, a
                radial basis or periodic images; made from ``pos`` if None.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        self._check(x, pos, edge_attr, vel, node_attr)
        nbr = as_neighborhood(edge_index, x.shape[0])
        if geometry is None:
            geometry = edge_geometry(pos, nbr)
        if geometry.radial.shape[-1] != self.radial_channels:
            raise ShapeError(
                "geometry.radial", f"{geometry.radial.shape[-1]} columns", f"radial_channels = {self.radial_channels}"
            )
        for name, rows in (("edge_attr", edge_attr), ("geometry", geometry.vector)):
            if rows is not None and rows.shape[0] != nbr.num_edges:
                raise ShapeError(name, f"{rows.shape[0]} rows", f"one per edge, E = {nbr.num_edges}")
        if edge_attr is not None:
            edge_attr = nbr.to_csr_order(edge_attr)
        nbr = nbr.in_csr_order()
        message, gate = self.message(x, nbr, geometry, edge_attr)
        weight = geometry.weight.to(message.dtype) if gate is None else gate * geometry.weight
        received = gather_scatter(message, weight[:, 0], nbr.with_edges_as_sources())
        x_out = self.update(x, received, node_attr)
        if self.pos_mlp is None:
            return x_out, pos
        step = self.position_step(message if gate is None else gate * message, nbr, geometry)
        if self.velocity_mlp is None:
            return x_out, pos + step
        vel_out = self.velocity_mlp(x).to(pos.dtype) * vel + step
        return x_out, pos + vel_out, vel_out

    def message(
        self, x: Tensor, nbr: Neighborhood, geometry: EdgeGeometry, edge_attr: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Messages ``[E, M]`` before the gate, and the gate ``[E, 1]`` if there is one; in CSR order."""
        widths = [self.in_channels, self.in_channels, self.radial_channels + self.edge_channels]
        w_target, w_source, w_edge = self.edge_in.weight.split(widths, dim=1)
        edge = geometry.radial if edge_attr is None else torch.cat([geometry.radial, edge_attr], dim=-1)
        hidden = gather_silu(
            functional.linear(x, w_target, self.edge_in.bias),
            functional.linear(x, w_source),
            functional.linear(edge.to(x.dtype), w_edge),
            nbr,
        )
        message = functional.silu(self.edge_out(hidden))
        return message, None if self.gate is None else torch.sigmoid(self.gate(message))

    def update(self, x: Tensor, received: Tensor, node_attr: Tensor | None) -> Tensor:
        """``h_i' [N, out_channels]`` from the summed messages ``received [N, M]``."""
        parts = [x, received.to(x.dtype)] + ([] if node_attr is None else [node_attr])
        out = self.node_mlp(torch.cat(parts, dim=-1))
        return x + out if self.residual else out

    def position_step(self, message: Tensor, nbr: Neighborhood, geometry: EdgeGeometry) -> Tensor:
        """``C_i sum_j u_ij (x_i - x_j) phi_x(m_ij)``, ``[N, n]``, in the precision of the positions."""
        assert self.pos_mlp is not None
        strength = self.pos_mlp(message)
        if self.tanh:
            strength = torch.tanh(strength)
        vector = geometry.vector
        with torch.autocast(vector.device.type, enabled=False):
            if self.normalize:
                vector = vector / (safe_norm(vector)[:, None] + self.norm_constant)
            step = segment_reduce(-vector * (strength.to(vector.dtype) * geometry.weight), nbr, "sum")
            if self.pos_aggr == "mean":
                step = step / geometry.count
            return step if self.pos_clamp is None else step.clamp(-self.pos_clamp, self.pos_clamp)

    def _check(
        self, x: Tensor, pos: Tensor, edge_attr: Tensor | None, vel: Tensor | None, node_attr: Tensor | None
    ) -> None:
        if x.ndim != 2 or x.shape[1] != self.in_channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, in_channels = {self.in_channels}]")
        if pos.ndim != 2 or pos.shape[0] != x.shape[0]:
            raise ShapeError("pos", f"shape {tuple(pos.shape)}", f"[N = {x.shape[0]}, n]")
        for name, value, width in (
            ("edge_attr", edge_attr, self.edge_channels),
            ("node_attr", node_attr, self.node_attr_channels),
        ):
            if (0 if value is None else value.shape[-1]) != width:
                got = "None" if value is None else f"shape {tuple(value.shape)}"
                raise ShapeError(name, got, f"{width} columns, as given to the constructor")
        if (vel is not None) != self.use_velocity:
            raise ShapeError("vel", "None" if vel is None else "a tensor", f"use_velocity = {self.use_velocity}")
        if vel is not None and vel.shape != pos.shape:
            raise ShapeError("vel", f"shape {tuple(vel.shape)}", f"that of pos, {tuple(pos.shape)}")
        if node_attr is not None and node_attr.shape[0] != x.shape[0]:
            raise ShapeError("node_attr", f"shape {tuple(node_attr.shape)}", f"[N = {x.shape[0]}, ...]")

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, hidden_channels={self.hidden_channels}"
