"""Layer normalisation of spherical features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.geometry._constants import constant
from geoattn.layers.so3_linear import check_degrees, degree_of_row


class SO3LayerNorm(nn.Module):
    r"""Separable layer normalisation: the mean and variance of l = 0, and one root mean square for all l > 0.

    .. math::
        y_{0c} &= \frac{x_{0c} - \mu}{\sqrt{\sigma^2 + \epsilon}}\, w_{0c} + b_c, \qquad
            \mu, \sigma^2 \text{ over the channels of } l = 0 \\
        y_{lmc} &= \frac{x_{lmc}}{\sqrt{p + \epsilon}}\, w_{lc}, \qquad
            p = \frac{1}{L C} \sum_{l>0} \frac{1}{2l+1} \sum_{m,c} x_{lmc}^2

    so that the degrees l > 0 keep their sizes relative to one another.

    Paper: EquiformerV2, arXiv:2306.12059.

    Args:
        lmax: L, largest degree.
        channels: C.
        eps: added under the root, so the second derivative is finite where all of x is zero.

    Shapes:
        x ``[N, (L+1)^2, C]``, l-major; returns the same.

    Symmetry: equivariant to O(3), exactly.

    Example:
        >>> SO3LayerNorm(lmax=2, channels=8)(torch.randn(5, 9, 8)).shape
        torch.Size([5, 9, 8])
    """

    def __init__(self, lmax: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.lmax, self.channels, self.eps = lmax, channels, eps
        self.weight = nn.Parameter(torch.empty(lmax + 1, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights one, bias zero."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; see the class for shapes.

        Raises:
            ShapeError: if ``x`` is not ``[N, (lmax+1)^2, channels]``.
        """
        check_degrees(x, self.lmax, self.channels)
        like = (x.dtype, x.device)
        scalar_row = _scalar_row(self.lmax, *like)
        x = torch.addcmul(x, scalar_row, x[:, :1].mean(-1, keepdim=True), value=-1)
        power = x.square().mean(-1) @ _average(self.lmax, *like)  # [N, 2]
        scale = (power + self.eps).rsqrt() @ _spread(self.lmax, *like)  # [N, S]
        weight = self.weight.index_select(0, degree_of_row(self.lmax, torch.int64, x.device))
        return torch.addcmul(scalar_row * self.bias, x * scale.unsqueeze(-1), weight)

    def extra_repr(self) -> str:
        return f"{self.lmax}, {self.channels}, eps={self.eps}"


@constant
def _scalar_row(lmax: int) -> Tensor:
    """``[S, 1]``: 1 for l = 0, 0 for the others."""
    return torch.eye((lmax + 1) ** 2, 1, dtype=torch.float64)


@constant
def _average(lmax: int) -> Tensor:
    """``[S, 2]``: what the mean square of each row counts in the variance of l = 0, and in the power of l > 0."""
    scalar = _scalar_row(lmax, torch.float64, "cpu")
    degrees = degree_of_row(lmax, torch.float64, "cpu")[:, None]
    return torch.cat([scalar, (1 - scalar) / ((2 * degrees + 1) * max(lmax, 1))], dim=1)


@constant
def _spread(lmax: int) -> Tensor:
    """``[2, S]``: which of the two scales each row takes."""
    scalar = _scalar_row(lmax, torch.float64, "cpu").T
    return torch.cat([scalar, 1 - scalar])
