"""Layer normalisation of spherical features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.layers.so3_linear import degree_of_row


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

    degrees: Tensor
    scalar_row: Tensor
    average: Tensor
    spread: Tensor

    def __init__(self, lmax: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.lmax, self.channels, self.eps = lmax, channels, eps
        self.weight = nn.Parameter(torch.empty(lmax + 1, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        degrees = degree_of_row(lmax)
        higher = (degrees > 0).double()
        self.register_buffer("degrees", degrees, persistent=False)
        self.register_buffer("scalar_row", (1 - higher)[:, None].float(), persistent=False)
        # [S, 2]: what each row's mean square counts in the variance of l = 0 and in the power of l > 0
        average = torch.stack([1 - higher, higher / ((2 * degrees + 1) * max(lmax, 1))], 1)
        self.register_buffer("average", average, persistent=False)
        self.register_buffer("spread", torch.stack([1 - higher, higher]).float(), persistent=False)
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
        if x.ndim != 3 or x.shape[1:] != (len(self.degrees), self.channels):
            expected = f"[N, {len(self.degrees)}, {self.channels}]"
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"{expected}, (lmax+1)^2 rows of channels")
        scalar_row = self.scalar_row.to(x.dtype)
        x = torch.addcmul(x, scalar_row, x[:, :1].mean(-1, keepdim=True), value=-1)
        power = x.square().mean(-1) @ self.average.to(x.dtype)  # [N, 2]
        scale = (power + self.eps).rsqrt() @ self.spread.to(x.dtype)  # [N, S]
        normal = x * scale.unsqueeze(-1)
        return torch.addcmul(scalar_row * self.bias, normal, self.weight.index_select(0, self.degrees))

    def extra_repr(self) -> str:
        return f"{self.lmax}, {self.channels}, eps={self.eps}"
