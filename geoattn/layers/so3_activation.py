"""Activations of spherical features: the exact gate, and pointwise functions on a grid of the sphere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.geometry._constants import constant
from geoattn.geometry.edge_frame import m_major
from geoattn.geometry.sphere_grid import grid_transforms
from geoattn.layers.so2_conv import join_m, split_m
from geoattn.layers.so3_linear import degree_of_row


class GateActivation(nn.Module):
    r"""SiLU on l = 0, and a sigmoid of an invariant as the factor of each degree l > 0 and channel.

    .. math:: y_0 = x_0\, \sigma(x_0), \qquad y_{lm} = x_{lm}\, \sigma(g_l)

    Args:
        lmax: L, largest degree.
        channels: C.

    Attributes:
        num_scalars: L C, the number of gates.

    Shapes:
        x ``[N, (L+1)^2, C]``, l-major, and the gates ``[N, L C]``, degree by degree. Returns the shape of x.

    Symmetry: equivariant to O(3), exactly (to SO(3) if the gates change under reflections).

    Example:
        >>> GateActivation(lmax=2, channels=8)(torch.randn(5, 9, 8), torch.randn(5, 16)).shape
        torch.Size([5, 9, 8])
    """

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.lmax, self.channels = lmax, channels
        self.num_scalars = lmax * channels

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """Apply to node features; see the class for shapes."""
        return x * self._factors(x[:, 0], scalars).index_select(1, degree_of_row(self.lmax, torch.int64, x.device))

    def forward_blocks(self, blocks: Sequence[Tensor], scalars: Tensor) -> list[Tensor]:
        """The same on edge features in the blocks of `geoattn.layers.so2_conv.split_m`."""
        factors = self._factors(blocks[0][:, 0], scalars)
        gated = [block * factors[:, m:].unsqueeze(1) for m, block in enumerate(blocks[1:], start=1)]
        return [blocks[0] * factors, *gated]

    def _factors(self, invariants: Tensor, gates: Tensor) -> Tensor:
        """``[N, L+1, C]``: x sigmoid(x) is SiLU, so l = 0 is its own gate."""
        return torch.cat([invariants, gates], dim=1).sigmoid().unflatten(1, (-1, self.channels))

    def extra_repr(self) -> str:
        return f"{self.lmax}, {self.channels}"


class S2Activation(nn.Module):
    r"""SiLU of the function on the sphere whose harmonic coefficients are the features.

    .. math:: f(p) = \sum_{lm} s_l\, x_{lm} Y_{lm}(p), \qquad
        y_{lm} = \frac{1}{s_l} \sum_g w_g\, Y_{lm}(p_g) \operatorname{SiLU}(f(p_g)), \qquad
        s_l = \sqrt{\frac{4\pi}{(2l+1)(L+1)}}

    with orthonormal harmonics, on a Gauss-Legendre grid; with :math:`s_l` a function of coefficients of unit variance
    has unit variance at every point.

    Papers: spherical CNNs, arXiv:1801.10130; EquiformerV2, arXiv:2306.12059.

    Args:
        lmax: L, largest degree.
        mmax: None for node features, l-major; M for edge features in the edge's frame, m-major with rows |m| <= M.
        resolution: number of latitudes, and of longitudes; at least 2 L + 1.

    Shapes:
        x ``[N, (L+1)^2, C]`` or ``[E, S_M, C]``; returns the same.

    Symmetry: equivariant to O(3) only up to the error of the quadrature, which falls as the grid is refined. Relative
    error for coefficients of unit variance:

    ===  ======  ======  ======  ======  ======
    L    14      18      26      36      64
    ===  ======  ======  ======  ======  ======
    2    6e-5    8e-6    1e-7
    4    6e-3    2e-3    5e-5    2e-6
    6    8e-2    2e-2    1e-3    7e-5    2e-7
    ===  ======  ======  ======  ======  ======

    Cost: 2 N (L+1)^2 R^2 C multiply-adds, and N R^2 C numbers of memory.

    Example:
        >>> S2Activation(lmax=2, resolution=18)(torch.randn(5, 9, 8)).shape
        torch.Size([5, 9, 8])
    """

    def __init__(self, lmax: int, mmax: int | None = None, resolution: int = 18) -> None:
        super().__init__()
        self.lmax, self.mmax, self.resolution = lmax, mmax, resolution
        grid_transforms(lmax, resolution, resolution, torch.float64)  # refuses a grid that is too coarse

    def forward(self, x: Tensor) -> Tensor:
        """Apply; see the class for shapes."""
        to_grid, from_grid = _transforms(self.lmax, self.mmax, self.resolution, x.dtype, x.device)
        return from_grid @ functional.silu(to_grid @ x)

    def extra_repr(self) -> str:
        return f"{self.lmax}, {self.mmax}, resolution={self.resolution}"


class SeparableS2Activation(nn.Module):
    r"""SiLU of separate invariants at l = 0, and the `S2Activation` of all degrees at l > 0.

    Paper: EquiformerV2, arXiv:2306.12059, where it trains stably and `S2Activation` alone does not.

    Args:
        lmax: L, largest degree.
        channels: C.
        mmax: None for node features, M for edge features; see `S2Activation`.
        resolution: see `S2Activation`.

    Attributes:
        num_scalars: C, the number of separate invariants.

    Shapes:
        x ``[N, (L+1)^2, C]`` or ``[E, S_M, C]``, the invariants ``[N, C]``. Returns the shape of x.

    Symmetry: as `S2Activation`, exact at l = 0.

    Example:
        >>> SeparableS2Activation(lmax=2, channels=8)(torch.randn(5, 9, 8), torch.randn(5, 8)).shape
        torch.Size([5, 9, 8])
    """

    def __init__(self, lmax: int, channels: int, mmax: int | None = None, resolution: int = 18) -> None:
        super().__init__()
        self.num_scalars = channels
        self.s2 = S2Activation(lmax, mmax, resolution)

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """Apply; see the class for shapes."""
        return torch.cat([functional.silu(scalars).unsqueeze(1), self.s2(x)[:, 1:]], dim=1)

    def forward_blocks(self, blocks: Sequence[Tensor], scalars: Tensor) -> list[Tensor]:
        """The same on edge features in the blocks of `geoattn.layers.so2_conv.split_m`."""
        assert self.s2.mmax is not None, "made for node features"
        return split_m(self.forward(join_m(blocks), scalars), self.s2.lmax, self.s2.mmax)


def _transforms(
    lmax: int, mmax: int | None, resolution: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """``[G, rows]`` and ``[rows, G]`` in the order of the rows of the features."""
    return _to_grid(lmax, mmax, resolution, dtype, device), _from_grid(lmax, mmax, resolution, dtype, device)


@constant
def _to_grid(lmax: int, mmax: int | None, resolution: int) -> Tensor:
    to_grid, _ = grid_transforms(lmax, resolution, resolution, torch.float64)
    return (to_grid * _scale(lmax))[:, _rows(lmax, mmax)]


@constant
def _from_grid(lmax: int, mmax: int | None, resolution: int) -> Tensor:
    _, from_grid = grid_transforms(lmax, resolution, resolution, torch.float64)
    return (from_grid / _scale(lmax)[:, None])[_rows(lmax, mmax)]


def _scale(lmax: int) -> Tensor:
    return (4 * math.pi / (2 * degree_of_row(lmax, torch.float64, "cpu") + 1) / (lmax + 1)).sqrt()


def _rows(lmax: int, mmax: int | None) -> list[int]:
    """Where each row of the features stands in l-major order."""
    if mmax is None:
        return list(range((lmax + 1) ** 2))
    return [degree * degree + degree + m for degree, m in m_major(lmax, mmax)]
