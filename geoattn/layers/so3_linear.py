"""Linear map of spherical features: one channel-mixing matrix per degree."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry._constants import constant


def so3_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``y[n, lm] = weight[l] x[n, lm]``, plus the bias where l = 0.

    Args:
        x: ``[N, S, C]``, S = (L+1)^2.
        weight: ``[L+1, C', C]``.
        bias: ``[C']``.

    Returns:
        ``[N, S, C']``, as a transposed view.
    """
    lmax = weight.shape[0] - 1
    rows = weight.mT.index_select(0, degree_of_row(lmax, torch.int64, x.device))
    offset = functional.pad(bias[None, None], (0, 0, 0, 0, 0, x.shape[1] - 1))  # [S, 1, C'], 0 for l > 0
    return torch.baddbmm(offset, x.transpose(0, 1), rows).transpose(0, 1)


def check_degrees(x: Tensor, lmax: int, channels: int) -> None:
    """Raise ShapeError unless ``x`` is ``[N, (lmax+1)^2, channels]``."""
    if x.ndim != 3 or x.shape[1:] != ((lmax + 1) ** 2, channels):
        expected = f"[N, (lmax+1)^2 = {(lmax + 1) ** 2}, {channels} channels]"
        raise ShapeError("x", f"shape {tuple(x.shape)}", expected)


@constant
def degree_of_row(lmax: int) -> Tensor:
    """``[S]``, the degree l of each of the ``S = (lmax+1)^2`` rows in l-major order: 0, 1, 1, 1, 2, ..."""
    degrees = torch.arange(lmax + 1)
    return degrees.repeat_interleave(2 * degrees + 1)


class SO3Linear(nn.Module):
    r"""Mixes the channels of spherical features, degree by degree.

    .. math:: y_{lm} = W_l\, x_{lm} + \delta_{l0}\, b

    Args:
        lmax: L, largest degree.
        in_channels: C.
        out_channels: C'.

    Shapes:
        x ``[N, (L+1)^2, C]``, l-major; returns ``[N, (L+1)^2, C']``.

    Symmetry: equivariant to O(3), exactly; the most general linear map that is.

    Cost: N (L+1)^2 C C' multiply-adds.

    Example:
        >>> SO3Linear(lmax=2, in_channels=8, out_channels=4)(torch.randn(5, 9, 8)).shape
        torch.Size([5, 9, 4])
    """

    def __init__(self, lmax: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lmax, self.in_channels, self.out_channels = lmax, in_channels, out_channels
        self.weight = nn.Parameter(torch.empty(lmax + 1, out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Unit variance in, unit variance out; no bias."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.in_channels))
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels; see the class for shapes.

        Raises:
            ShapeError: if ``x`` is not ``[N, (lmax+1)^2, in_channels]``.
        """
        check_degrees(x, self.lmax, self.in_channels)
        return so3_linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.lmax}, {self.in_channels}, {self.out_channels}"
