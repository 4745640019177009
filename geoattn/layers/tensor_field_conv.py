"""Tensor field convolution: messages whose kernels are full matrices of each edge for every Clebsch-Gordan path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.edge_frame import m_major
from geoattn.layers.radial_network import RadialNetwork
from geoattn.layers.so2_clebsch_gordan import frame_coefficients


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
    (`path_weights`); J + k + l is even for :math:`R_0, R_r` and odd for :math:`R_i`. So the function is the paper's, and
    neither the kernels ``[(2l+1) C', (2k+1) C]`` nor products with harmonics are ever formed.

    Papers: Tensor field networks, arXiv:1802.08219; SE(3)-Transformers, arXiv:2006.10503; the frame: arXiv:2302.03655.

    Args:
        channels_in: degree k -> C_k.
        channels_out: degree l -> C'_l.
        edge_channels: A, invariants of an edge besides its length.
        radial_channels: U, width of the radial network.
        reflections: keep the paths with k + J + l even only, which makes the convolution O(3)-equivariant for features
            of natural parity.

    Shapes:
        x ``[N, (L_in+1)^2, max C_k]``, l-major, channels last, channels that a degree lacks are never read; basis an
        `EdgeBasis`; edge_attr ``[E, A]`` in its order. Returns ``[E, (L_out+1)^2, max C'_l]``, zero where a degree
        lacks channels.

    Symmetry: equivariant to SO(3), exactly.

    Cost: ``U sum_paths C_k C'_l`` multiplications per edge.

    Edge cases: the message of an edge of length zero has no meaning, as it has no direction. Give it no weight.
    """

    def __init__(
        self,
        channels_in: Mapping[int, int],
        channels_out: Mapping[int, int],
        *,
        edge_channels: int = 0,
        radial_channels: int = 32,
        reflections: bool = False,
    ) -> None:
        super().__init__()
        self.channels_in, self.channels_out = dict(channels_in), dict(channels_out)
        self.reflections = reflections
        self.lmax_in, self.lmax_out = max(channels_in), max(channels_out)
        self.lmax = max(self.lmax_in, self.lmax_out)
        self.radial = RadialNetwork(1 + edge_channels, radial_channels)
        self.weights = nn.ParameterList()
        for m in range(min(self.lmax_in, self.lmax_out) + 1):
            size_in, size_out = (sum(c for k, c in side.items() if k >= m) for side in (channels_in, channels_out))
            parts = 1 if m == 0 or reflections else 2
            self.weights.append(nn.Parameter(torch.empty(radial_channels, size_in, parts, size_out)))
            self.register_buffer(f"columns_{m}", _columns(self.channels_in, self.lmax, m), persistent=False)
        self.register_buffer("places", _places(self.channels_out, self.lmax, len(self.weights)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Independent normal weights of every path, so that messages of unit variance leave where it comes in."""
        fan_in = {
            l: sum(c * (min(k, l) + 1 if self.reflections else 2 * min(k, l) + 1) for k, c in self.channels_in.items())
            for l in self.channels_out
        }
        second_moment = 0.356  # of SiLU of a standard normal number
        for m, weight in enumerate(self.weights):
            scale = torch.cat(
                [torch.full((c,), ((2 * l + 1) / fan_in[l]) ** 0.5) for l, c in self.channels_out.items() if l >= m]
            )
            nn.init.normal_(weight, std=(weight.shape[0] * second_moment * (2 if m else 1)) ** -0.5)
            with torch.no_grad():
                weight.mul_(scale)

    def forward(self, x: Tensor, basis: EdgeBasis, edge_attr: Tensor | None = None) -> Tensor:
        """The messages; see the class for shapes."""
        a = basis.distance.unsqueeze(1)
        u = self.radial(a if edge_attr is None else torch.cat([a, edge_attr.to(a.dtype)], dim=1))
        num_rows = (self.lmax + 1) ** 2 - (self.lmax + 1 - len(self.weights)) * (self.lmax + 2 - len(self.weights))
        rotation = basis.frame(self.lmax, self.lmax).rotation[:, :num_rows]
        rotation_in = rotation[:, :, : (self.lmax_in + 1) ** 2]
        rotation_out = rotation[:, :, : (self.lmax_out + 1) ** 2]
        columns = [getattr(self, f"columns_{m}") for m in range(len(self.weights))]
        z = torch.bmm(rotation_in, x.index_select(0, basis.nbr.source))
        y = frame_messages(z, u, list(self.weights), columns, self.lmax)
        num_channels = max(self.channels_out.values())
        if self.places is not None:
            y = y.new_zeros(y.shape[0], num_rows * num_channels).index_copy(1, self.places, y)
        return torch.bmm(rotation_out.mT, y.view(y.shape[0], num_rows, num_channels))

    def path_weights(self) -> dict[tuple[int, int, int], Tensor]:
        """The same weights as those of the paths: ``(k, J, l) -> W [U, C_k, C'_l]``, so that ``R = sum_u u W[u]``."""
        return path_weights(list(self.weights), self.channels_in, self.channels_out)


def path_weights(
    weights: Sequence[Tensor], channels_in: Mapping[int, int], channels_out: Mapping[int, int]
) -> dict[tuple[int, int, int], Tensor]:
    """Weights of each order m, as `frame_messages` takes them, as those of the paths ``(k, J, l) -> [U, C_k, C'_l]``.

    Without the parts ``R_i`` (``weights[m].shape[2] == 1``) there are only paths with k + J + l even.
    """
    blocks: dict[tuple[int, int], list[Tensor]] = {(k, l): [] for k in channels_in for l in channels_out}
    for m, weight in enumerate(weights):
        degrees_in, degrees_out = ([l for l in side if l >= m] for side in (channels_in, channels_out))
        for k, rows in zip(degrees_in, weight.split([channels_in[k] for k in degrees_in], dim=1), strict=True):
            parts = rows.split([channels_out[l] for l in degrees_out], dim=3)
            for l, block in zip(degrees_out, parts, strict=True):
                blocks[k, l].append(block)
    paths = {}
    for (k, l), orders in blocks.items():
        for j in range(abs(k - l), k + l + 1):
            part = (k + j + l) % 2  # even: the first part, R_0 and R_r; odd: the second, R_i
            if part and len(orders) > 1 and orders[1].shape[2] == 1:
                continue
            factors = frame_coefficients(k, j, l, orders[0].dtype, orders[0].device)[part]
            terms = [(2 if m else 1) * factors[m] * orders[m][:, :, part] for m in range(part, len(orders))]
            paths[k, j, l] = torch.stack(terms).sum(0)
    return paths


def frame_messages(
    z: Tensor, u: Tensor, weights: Sequence[Tensor], columns: Sequence[Tensor | None], lmax: int
) -> Tensor:
    """The convolution in the edges' frames: for each m the matrices of the edges, times the components of order m.

    Args:
        z: ``[E, S_M, C]``, features of the sources, m-major.
        u: ``[E, U]``, units of the radial network.
        weights: for each m ``[U, K_m, 1 or 2, N_m]``, ``K_m`` and ``N_m`` the channels of all degrees >= m.
        columns: for each m where those K_m stand among ``(degrees lmax >= m, C)``; None where that is all of them.
        lmax: highest degree of ``z``'s order.

    Returns:
        ``[E, N_0 + 2 N_1 + ...]``: m = 0, +1, -1, +2, ...
    """
    out = []
    row = 0
    for m, (weight, where) in enumerate(zip(weights, columns, strict=True)):
        num_signs = 2 if m else 1
        num_rows = num_signs * (lmax + 1 - m)
        z_m = z[:, row : row + num_rows].reshape(z.shape[0], num_signs, -1)
        row += num_rows
        if where is not None:
            z_m = z_m.index_select(2, where)
        _, size_in, parts, size_out = weight.shape
        matrix = functional.linear(u, weight.flatten(1).mT).view(-1, size_in, parts * size_out)
        y = torch.bmm(z_m, matrix)
        if parts == 1:
            out.append(y.flatten(1))
        else:
            (real_plus, imag_plus), (real_minus, imag_minus) = (
                side.unbind(1) for side in y.unflatten(2, (2, size_out)).unbind(1)
            )
            out += [real_plus - imag_minus, real_minus + imag_plus]
    return torch.cat(out, dim=1)


def _columns(channels: Mapping[int, int], lmax: int, m: int) -> Tensor | None:
    """Where the channels of degrees >= m stand among ``(m..lmax, max C)``; None if that is all of them."""
    width = max(channels.values())
    places = [(degree - m) * width + c for degree, count in channels.items() if degree >= m for c in range(count)]
    return None if len(places) == (lmax + 1 - m) * width else torch.tensor(places)


def _places(channels: Mapping[int, int], lmax: int, num_orders: int) -> Tensor | None:
    """Where the columns of `frame_messages` stand among ``(rows |m| < num_orders, max C)``; None if in that order."""
    width = max(channels.values())
    rows = m_major(lmax, num_orders - 1)
    places = [row * width + c for row, (degree, _) in enumerate(rows) for c in range(channels.get(degree, 0))]
    return None if len(places) == len(rows) * width else torch.tensor(places)
