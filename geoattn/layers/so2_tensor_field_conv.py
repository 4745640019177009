"""Tensor field convolution in eSCN's form: one kernel in the edge's frame for all edges, scaled by radial functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.edge_frame import m_major, m_sizes
from geoattn.layers.padded_degrees import Columns
from geoattn.layers.radial_network import RadialNetwork
from geoattn.layers.so2_conv import join_m, scale_m, so2_linear, split_m
from geoattn.layers.tensor_field_conv import count_paths


class SO2TensorFieldConv(nn.Module):
    r"""Messages of a tensor field network whose kernels have the same weights on all edges.

    .. math::
        z_e = D(\hat r_e)\, x_j, \qquad
        \begin{pmatrix} y_m \\ y_{-m} \end{pmatrix} =
        \begin{pmatrix} W_{r,m} & -W_{i,m} \\ W_{i,m} & W_{r,m} \end{pmatrix}
        \begin{pmatrix} r_m(a_e) \odot z_m \\ r_m(a_e) \odot z_{-m} \end{pmatrix}, \qquad
        v_e = D(\hat r_e)^T y_e

    with D the rotation into the edge's frame, :math:`z_m` all channels of all degrees k >= m, and the multipliers
    :math:`r(a_e) = V u_e`, one for each degree, order m >= 0 and channel of the input, from a `RadialNetwork`; m = 0
    has :math:`W_0` alone.

    What changes against `TensorFieldConv`: its matrices :math:`R_m(a_e) = \sum_u u_{e,u} W_{u,m}` become
    :math:`W_m \operatorname{diag} r_m(a_e)`. So the functions are some of its functions: all paths and all mixtures of
    channels are there, but the edge sets only how much each input channel of each order goes in. The radial network
    gives a number per channel instead of a matrix: the cost per edge falls by about U, and no matrix of an edge is ever
    in memory.

    Papers: "Reducing SO(3) Convolutions to SO(2)" (eSCN), arXiv:2302.03655; EquiformerV2, arXiv:2306.12059.

    Args:
        columns_in: degree k -> the columns of its C_k channels.
        columns_out: degree l -> the columns of its C'_l channels.
        edge_channels: A, invariants of an edge besides its length.
        radial_channels: U, width of the radial network.
        reflections: leave out the :math:`W_i`, which makes the convolution O(3)-equivariant for features of natural
            parity.

    Shapes:
        x ``[N, (L_in+1)^2, C]``, padded; basis an `EdgeBasis`; edge_attr ``[E, A]`` in its order. Returns
        ``[E, C', (L_out+1)^2]``, channels first, zero in columns that a degree does not fill.

    Symmetry: equivariant to SO(3), exactly.

    Cost: ``C C' ((L+1)^2 + 4 sum_{m>0} (L-m+1)^2)`` multiplications per edge, as `SO2Conv`, and ``2 (L+1)^4 C`` for
    the rotations; memory O(E (L+1)^2 (C + C')).

    Edge cases: the message of an edge of length zero has no meaning, as it has no direction. Give it no weight.
    """

    radial_places: Tensor | None

    def __init__(
        self,
        columns_in: Columns,
        columns_out: Columns,
        *,
        edge_channels: int = 0,
        radial_channels: int = 32,
        reflections: bool = False,
    ) -> None:
        super().__init__()
        self.columns_in, self.columns_out, self.reflections = columns_in, columns_out, reflections
        self.lmax, self.mmax = (choose(columns_in.lmax, columns_out.lmax) for choose in (max, min))
        self.num_rows = len(m_major(self.lmax, self.mmax))
        self.radial = RadialNetwork(1 + edge_channels, radial_channels)
        self.weights = nn.ParameterList()
        multipliers: list[int] = []
        for m, size in enumerate(m_sizes(self.lmax, self.mmax)):
            rows, columns = (torch.tensor(side.of_order(self.lmax, m)) for side in (columns_out, columns_in))
            parts = 1 if m == 0 or reflections else 2
            self.weights.append(nn.Parameter(torch.empty(parts, len(rows), len(columns))))
            places = (rows[:, None] * (size * columns_in.width) + columns).flatten()
            self.register_buffer(f"places_{m}", places, persistent=False)
            before = sum(m_sizes(self.lmax, self.mmax)[:m]) * columns_in.width
            multipliers += (before + columns).tolist()
        self.num_multipliers = sum(m_sizes(self.lmax, self.mmax)) * columns_in.width
        identity = multipliers == list(range(self.num_multipliers))
        self.register_buffer("radial_places", None if identity else torch.tensor(multipliers), persistent=False)
        self.multipliers = nn.Parameter(torch.empty(len(multipliers), radial_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Independent normal weights, so that messages of unit variance leave where it comes in."""
        second_moment = 0.356  # of SiLU of a standard normal number
        nn.init.normal_(self.multipliers, std=(self.multipliers.shape[1] * second_moment) ** -0.5)
        inputs = self.columns_in.channels.items()
        for m, weight in enumerate(self.weights):
            nn.init.normal_(weight, std=(2 if m else 1) ** -0.5)
            scale = []
            for out, count in self.columns_out.channels.items():
                if out >= m:
                    fan_in = sum(count_paths(k, out, self.reflections) * c for k, c in inputs)
                    scale.append(torch.full((count,), ((2 * out + 1) / fan_in) ** 0.5))
            with torch.no_grad():
                weight.mul_(torch.cat(scale).unsqueeze(1))

    def forward(self, x: Tensor, basis: EdgeBasis, edge_attr: Tensor | None = None) -> Tensor:
        """The messages; see the class for shapes."""
        a = basis.distance.unsqueeze(1)
        u = self.radial(a if edge_attr is None else torch.cat([a, edge_attr.to(a.dtype)], dim=1))
        multipliers: Tensor = self.multipliers
        if self.radial_places is not None:
            multipliers = multipliers.new_zeros(self.num_multipliers, u.shape[1])
            multipliers = multipliers.index_copy(0, self.radial_places, self.multipliers)
        # in m-major order the rows |m| <= mmax come first, in l-major order the columns l <= lmax_in or lmax_out
        rotation = basis.frame(self.lmax, self.lmax).rotation[:, : self.num_rows]
        z = torch.bmm(rotation[:, :, : x.shape[1]], x.index_select(0, basis.nbr.source))
        blocks = scale_m(split_m(z, self.lmax, self.mmax), functional.linear(u, multipliers))
        blocks, _ = so2_linear(blocks, self._padded_weights(), None, self.columns_out.width)
        return torch.bmm(join_m(blocks).mT, rotation[:, :, : (self.columns_out.lmax + 1) ** 2])

    def _padded_weights(self) -> Sequence[Tensor]:
        """The weights as `so2_linear` takes them, zero where a degree does not fill a column."""
        padded = []
        for m, (weight, size) in enumerate(zip(self.weights, m_sizes(self.lmax, self.mmax), strict=True)):
            shape = size * self.columns_out.width, size * self.columns_in.width
            full = weight.new_zeros(weight.shape[0], shape[0] * shape[1])
            full = full.index_copy(1, getattr(self, f"places_{m}"), weight.flatten(1)).view(-1, *shape)
            missing = (2 if m else 1) - len(full)  # W_i, without the paths that are odd under reflections
            padded.append(functional.pad(full, (0, 0, 0, 0, 0, missing)) if m else full[0])
        return padded
