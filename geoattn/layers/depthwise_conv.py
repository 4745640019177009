"""Depthwise tensor field convolution: every Clebsch-Gordan path weights each channel by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.geometry.clebsch_gordan_table import clebsch_gordan_paths, clebsch_gordan_table
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import sparse_bilinear
from geoattn.layers.padded_degrees import Columns, PaddedLinear
from geoattn.layers.radial_network import RadialNetwork


class DepthwiseConv(nn.Module):
    r"""Messages of a tensor field network whose kernels do not mix channels.

    .. math::
        h^k_j = A^k x^k_j, \qquad
        v^l_{e c} = \sum_k \sum_{J=|k-l|}^{k+l} w^{kJl}_c(a_e)\,
            \sum_{m M} C^{kJl}_{m M \cdot}\, Y_{JM}(\hat r_e)\, h^k_{j c m}, \qquad
        w^{kJl}(a_e) = W^{kJl} u_e

    with the letters of `TensorFieldConv`. Channels are mixed by A, once per node and before the product, and by the
    maps that follow attention, again once per node.

    What changes against `TensorFieldConv`: its matrices :math:`R^{kJl}_{oc}(a_e)` become
    :math:`w^{kJl}_o(a_e) A^k_{oc}`, with one A for all edges and all paths from k. So the functions are some of its
    functions: how strongly a channel acts may still depend on the edge and the path, which mixture of channels it is
    may not. The radial network gives C' numbers per path instead of ``C C'``: the cost per edge falls by about C, and
    so does memory.

    Papers: depthwise tensor products, Equiformer, arXiv:2206.11990; also in NequIP, arXiv:2101.03164.

    Args:
        columns_in: degree k -> the columns of its C_k channels.
        columns_out: degree l -> the columns of its C'_l channels.
        edge_channels: A, invariants of an edge besides its length.
        radial_channels: U, width of the radial network.
        reflections: keep the paths with k + J + l even only, which makes the convolution O(3)-equivariant for features
            of natural parity.

    Shapes:
        x ``[N, (L_in+1)^2, C]``, padded; basis an `EdgeBasis`; edge_attr ``[E, A]`` in its order. Returns
        ``[E, C', (L_out+1)^2]``, channels first, zero in columns that a degree does not fill.

    Symmetry: equivariant to SO(3), exactly.

    Cost: ``sum_k (2k+1) C_k C'`` multiplications per node and ``(U P + T) C'`` per edge, for P paths and T
    Clebsch-Gordan coefficients; memory O(E P C').

    Edge cases: of an edge of length zero the paths with J = 0 remain. Give it no weight.
    """

    places: Tensor | None

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
        lmax_in, lmax_out = columns_in.lmax, columns_out.lmax
        self.columns_in, self.columns_out, self.reflections = columns_in, columns_out, reflections
        self.lmax, self.width = lmax_in + lmax_out, columns_out.width
        self.table = clebsch_gordan_table(lmax_in, self.lmax, lmax_out, reflections=reflections)
        every = Columns.heads(dict.fromkeys(columns_in.of, self.width))
        self.before = PaddedLinear(columns_in.irreps, every.irreps, columns_in, every)
        self.radial = RadialNetwork(1 + edge_channels, radial_channels)
        paths = clebsch_gordan_paths(lmax_in, self.lmax, lmax_out, reflections=reflections)
        used = [(p, out) for p, (k, _, out) in enumerate(paths) if k in columns_in.of and out in columns_out.of]
        places = [p * self.width + c for p, out in used for c in columns_out.of[out]]
        identity = places == list(range(len(paths) * self.width))
        self.register_buffer("places", None if identity else torch.tensor(places), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(places), radial_channels))
        degrees = [out for _, out in used]
        # C has unit norm, so that a path leaves 1 / (2l+1) of the variance; the paths to one degree add up
        self._spread = [(2 * out + 1) / degrees.count(out) for out in degrees for _ in columns_out.of[out]]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Independent normal weights of every path, so that messages of unit variance leave where it comes in."""
        second_moment = 0.356  # of SiLU of a standard normal number
        nn.init.normal_(self.weight, std=(self.weight.shape[1] * second_moment) ** -0.5)
        with torch.no_grad():
            self.weight.mul_(torch.tensor(self._spread).sqrt().unsqueeze(1))

    def forward(self, x: Tensor, basis: EdgeBasis, edge_attr: Tensor | None = None) -> Tensor:
        """The messages; see the class for shapes."""
        a = basis.distance.unsqueeze(1)
        u = self.radial(a if edge_attr is None else torch.cat([a, edge_attr.to(a.dtype)], dim=1))
        weight: Tensor = self.weight
        num_paths = self.table.sizes[3]
        if self.places is not None:
            weight = weight.new_zeros(num_paths * self.width, u.shape[1]).index_copy(0, self.places, weight)
        w = functional.linear(u, weight).unflatten(1, (num_paths, self.width))
        h = self.before(x).index_select(0, basis.nbr.source)
        return sparse_bilinear(h, basis.harmonics(self.lmax), self.table, w).mT
