"""Tensor field convolution: messages whose kernels are full matrices of each edge for every Clebsch-Gordan path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.edge_frame import m_major
from geoattn.layers.padded_degrees import Columns
from geoattn.layers.radial_network import RadialNetwork
from geoattn.layers.so2_clebsch_gordan import frame_coefficients
from geoattn.layers.tensor_field_orders import edges_in_blocks, messages_by_source


class TensorFieldConv(nn.Module):
    r"""Messages of a tensor field network, on the edges, for any number of channels per degree.

    .. math::
        v^l_{e o} = \sum_k \sum_{J=|k-l|}^{k+l} \sum_c R^{kJl}_{oc}(a_e)\,
            \sum_{m M} C^{kJl}_{m M \cdot}\, Y_{JM}(\hat r_e)\, x^k_{j c m}, \qquad
        R^{kJl}(a_e) = \sum_u u_{e,u}\, W^{kJl}_u

    with :math:`\hat r_e` the direction from the target i to the source j, ``C = clebsch_gordan(k, J, l)``, "component"
    harmonics Y, and ``u_e`` from a `RadialNetwork` of the edge's invariants ``a_e``: its length and what the user
    gives. Differences from the paper: one radial network serves all paths, each with a linear map of its own; SiLU in
    it; no bias in that map.

    The paths of one pair (k, l) are kept as they act in the edge's frame, where Y is zero but for M = 0: as a matrix
    for each m, :math:`R_0`, and :math:`R_{r,m}`, :math:`R_{i,m}` acting like a complex number on the components
    (+m, -m). For each pair these 2 min(k, l) + 1 matrices and those of the paths determine each other
    (`path_weights`); J + k + l is even for :math:`R_0, R_r` and odd for :math:`R_i`. So the function is the paper's,
    and neither the kernels ``[(2l+1) C', (2k+1) C]`` nor products with harmonics are ever formed.

    Papers: Tensor field networks, arXiv:1802.08219; SE(3)-Transformers, arXiv:2006.10503; the frame: arXiv:2302.03655.

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

    Cost: ``U sum_paths C_k C'_l`` multiplications per edge.

    Edge cases: the message of an edge of length zero has no meaning, as it has no direction. Give it no weight.

    Example:
        >>> from geoattn.kernels import Neighborhood
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 0], [0, 1]]), num_targets=2)
        >>> basis = EdgeBasis.build(torch.randn(2, 3), nbr)
        >>> conv = TensorFieldConv(Columns.heads({0: 4, 1: 4}), Columns.heads({0: 2, 1: 2, 2: 2}))
        >>> conv(torch.randn(2, 4, 4), basis).shape  # edges, channels, components of degrees 0 to 2
        torch.Size([2, 2, 9])
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
        self.columns_in, self.columns_out, self.reflections = columns_in, columns_out, reflections
        self.lmax, self.mmax = (choose(columns_in.lmax, columns_out.lmax) for choose in (max, min))
        self.radial = RadialNetwork(1 + edge_channels, radial_channels)
        self.weights = nn.ParameterList()
        for m in range(self.mmax + 1):
            sizes = [sum(n for degree, n in side.channels.items() if degree >= m) for side in (columns_in, columns_out)]
            parts = 1 if m == 0 or reflections else 2
            self.weights.append(nn.Parameter(torch.empty(radial_channels, sizes[0], parts, sizes[1])))
            self.register_buffer(f"columns_{m}", _columns_of_order(columns_in, self.lmax, m), persistent=False)
        self.register_buffer("places", _places(columns_out, self.lmax, self.mmax), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Independent normal weights of every path, so that messages of unit variance leave where it comes in."""
        inputs = self.columns_in.channels.items()
        fan_in = {out: sum(count_paths(k, out, self.reflections) * c for k, c in inputs) for out in self.columns_out.of}
        second_moment = 0.356  # of SiLU of a standard normal number
        for m, weight in enumerate(self.weights):
            nn.init.normal_(weight, std=(weight.shape[0] * second_moment * (2 if m else 1)) ** -0.5)
            outputs = [(degree, n) for degree, n in self.columns_out.channels.items() if degree >= m]
            scale = [torch.full((n,), ((2 * degree + 1) / fan_in[degree]) ** 0.5) for degree, n in outputs]
            with torch.no_grad():
                weight.mul_(torch.cat(scale))

    def forward(
        self,
        x: Tensor,
        basis: EdgeBasis,
        edge_attr: Tensor | None = None,
        *,
        order: Literal["auto", "edge", "source"] = "auto",
    ) -> Tensor:
        """The messages; see the class for shapes.

        Args:
            order: of work; "auto" takes the one with fewer multiplications (`geoattn.layers.tensor_field_orders`).
        """
        a = basis.distance.unsqueeze(1)
        u = self.radial(a if edge_attr is None else torch.cat([a, edge_attr.to(a.dtype)], dim=1))
        if order == "source" or (order == "auto" and self._source_is_cheaper(basis)):
            paths = self.path_weights()
            return messages_by_source(x, u, paths, basis, self.columns_in, self.columns_out).mT
        # in m-major order the rows |m| <= mmax come first, in l-major order the columns l <= lmax_in or lmax_out
        num_rows = len(m_major(self.lmax, self.mmax))
        rotation = basis.frame(self.lmax, self.lmax).rotation[:, :num_rows]
        z = torch.bmm(rotation[:, :, : x.shape[1]], x.index_select(0, basis.nbr.source))
        columns = [getattr(self, f"columns_{m}") for m in range(self.mmax + 1)]
        y = edges_in_blocks(z, u, list(self.weights), columns, self.lmax)
        width = self.columns_out.width
        if self.places is not None:
            y = y.new_zeros(y.shape[0], num_rows * width).index_copy(1, self.places, y)
        return torch.bmm(y.view(y.shape[0], num_rows, width).mT, rotation[:, :, : (self.columns_out.lmax + 1) ** 2])

    def _source_is_cheaper(self, basis: EdgeBasis) -> bool:
        """Whether there are so many edges to a node that the order by source pays, and enough of them to matter."""
        if torch.compiler.is_compiling():  # its blocks depend on the graph
            return False
        num_edges, num_nodes = basis.nbr.num_edges, basis.nbr.num_sources
        per_edge = sum(weight[0].numel() for weight in self.weights)
        by_node = by_source = 0
        for k, c_in in self.columns_in.channels.items():
            for out, c_out in self.columns_out.channels.items():
                num_paths = count_paths(k, out, self.reflections)
                by_node += num_paths * (2 * k + 1) * c_in * c_out
                by_source += num_paths * (2 * k + 1) * c_out
        return num_edges * per_edge > 2**22 and num_nodes * by_node + num_edges * by_source < 0.7 * num_edges * per_edge

    def path_weights(self) -> dict[tuple[int, int, int], Tensor]:
        """The same weights as those of the paths: ``(k, J, l) -> W [U, C_k, C'_l]``, so that ``R = sum_u u W[u]``."""
        return path_weights(list(self.weights), self.columns_in.channels, self.columns_out.channels)


def count_paths(k: int, out: int, reflections: bool) -> int:
    """The number of degrees J of paths from degree k to degree ``out``: all, or those with k + J + l even."""
    return min(k, out) + 1 + (0 if reflections else min(k, out))


def path_weights(
    weights: Sequence[Tensor], channels_in: Mapping[int, int], channels_out: Mapping[int, int]
) -> dict[tuple[int, int, int], Tensor]:
    """Weights of each order m, as `frame_messages` takes them, as those of the paths ``(k, J, l) -> [U, C_k, C'_l]``.

    Without the parts ``R_i`` (``weights[m].shape[2] == 1``) there are only paths with k + J + l even.
    """
    blocks: dict[tuple[int, int], list[Tensor]] = {(k, out): [] for k in channels_in for out in channels_out}
    for m, weight in enumerate(weights):
        inputs, outputs = ([degree for degree in side if degree >= m] for side in (channels_in, channels_out))
        for k, rows in zip(inputs, weight.split([channels_in[k] for k in inputs], dim=1), strict=True):
            for out, block in zip(outputs, rows.split([channels_out[d] for d in outputs], dim=3), strict=True):
                blocks[k, out].append(block)
    paths = {}
    for (k, out), orders in blocks.items():
        for j in range(abs(k - out), k + out + 1):
            part = (k + j + out) % 2  # even: the first part, R_0 and R_r; odd: the second, R_i
            if part and len(orders) > 1 and orders[1].shape[2] == 1:
                continue
            factors = frame_coefficients(k, j, out, orders[0].dtype, orders[0].device)[part]
            terms = [(2 if m else 1) * factors[m] * orders[m][:, :, part] for m in range(part, len(orders))]
            paths[k, j, out] = torch.stack(terms).sum(0)
    return paths


def _columns_of_order(columns: Columns, lmax: int, m: int) -> Tensor | None:
    """`Columns.of_order`; None if that is all of them, in order."""
    places = columns.of_order(lmax, m)
    return None if places == list(range((lmax + 1 - m) * columns.width)) else torch.tensor(places)


def _places(columns: Columns, lmax: int, mmax: int) -> Tensor | None:
    """Where what `frame_messages` returns stands among ``(rows |m| <= mmax, C')``; None if in that order."""
    rows = m_major(lmax, mmax)
    places = [row * columns.width + c for row, (degree, _) in enumerate(rows) for c in columns.of.get(degree, [])]
    return None if places == list(range(len(rows) * columns.width)) else torch.tensor(places)
