"""Linear map of spherical features: one channel-mixing matrix per degree."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError


def degree_of_row(lmax: int) -> Tensor:
    """``[S]`` int64, the degree l of each of the ``S = (lmax+1)^2`` rows in l-major order: 0, 1, 1, 1, 2, ..."""
    degrees = torch.arange(lmax + 1)
    return degrees.repeat_interleave(2 * degrees + 1)


def so3_linear(x: Tensor, weight: Tensor, bias: Tensor | None, degrees: Tensor) -> Tensor:
    """``y[n, lm] = weight[l] x[n, lm] (+ bias where l = 0)``.

    Args:
        x: ``[N, S, C]``.
        weight: ``[L+1, C', C]``.
        bias: ``[C']`` or None.
        degrees: ``[S]``, the degree of each row.

    Returns:
        ``[N, S, C']``, as a transposed view.
    """
    rows = weight.index_select(0, degrees).mT
    if bias is None:
        return torch.bmm(x.transpose(0, 1), rows).transpose(0, 1)
    offset = functional.pad(bias[None, None], (0, 0, 0, 0, 0, len(degrees) - 1))  # [S, 1, C'], 0 for l > 0
    return torch.baddbmm(offset.to(x.dtype), x.transpose(0, 1), rows).transpose(0, 1)


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

    degrees: Tensor

    def __init__(self, lmax: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lmax, self.in_channels, self.out_channels = lmax, in_channels, out_channels
        self.weight = nn.Parameter(torch.empty(lmax + 1, out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.register_buffer("degrees", degree_of_row(lmax), persistent=False)
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
        if x.ndim != 3 or x.shape[1:] != (len(self.degrees), self.in_channels):
            expected = f"[N, {len(self.degrees)}, {self.in_channels}]"
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"{expected}, (lmax+1)^2 rows of in_channels")
        return so3_linear(x, self.weight, self.bias, self.degrees)

    def extra_repr(self) -> str:
        return f"{self.lmax}, {self.in_channels}, {self.out_channels}"
