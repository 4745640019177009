"""Layer normalisation of packed irreps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.irreps import PackedLayout

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class EquivariantLayerNorm(nn.Module):
    r"""Separable layer normalisation: mean and variance of degree 0, and one root mean square for all degrees above.

    .. math::
        y^0_c &= \frac{x^0_c - \mu}{\sqrt{\sigma^2 + \epsilon}}\, w^0_c + b_c, \qquad
            \mu, \sigma^2 \text{ over the channels of degree 0} \\
        y^l_{cm} &= \frac{x^l_{cm}}{\sqrt{p + \epsilon}}\, w^l_c, \qquad
            p = \frac{1}{L} \sum_{l>0} \frac{1}{(2l+1)\, C_l} \sum_{c,m} (x^l_{cm})^2

    with L the number of degrees above 0, each of which counts the same however many channels and components it has.
    So the degrees above 0 keep their sizes relative to one another.

    Paper: EquiformerV2, arXiv:2306.12059, here for any number of channels per degree.

    Args:
        irreps: irreps of the features, e.g. ``"8x0e + 4x1o"``. Of degree 0 there should be two channels or more: the
            difference of a single one from the mean is zero.
        eps: added under the root, above 0, so that the derivatives at zero features are finite.

    Shapes:
        x ``[..., irreps.dim]``, packed as e3nn packs it; returns the same.

    Symmetry: equivariant to SO(3), exactly; to O(3) where the irreps of degree 0 are all even.

    Example:
        >>> layer = EquivariantLayerNorm("8x0e + 4x1o")
        >>> layer(torch.randn(5, 20)).shape
        torch.Size([5, 20])
    """

    def __init__(self, irreps: str | Irreps, eps: float = 1e-5) -> None:
        super().__init__()
        if not eps > 0:
            raise ShapeError("eps", f"{eps}", "a number above 0", "Zero features have no derivative without it.")
        self.layout = PackedLayout(irreps)
        self.irreps, self.eps = self.layout.irreps, eps
        channels = self.layout.multiplicity
        self.weight = nn.ParameterDict({str(degree): torch.empty(mul) for degree, mul in channels.items()})
        self.bias = nn.Parameter(torch.empty(channels[0])) if 0 in channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights one, bias zero."""
        for weight in self.weight.values():
            nn.init.ones_(weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; see the class for shapes.

        Raises:
            ShapeError: if the last axis of ``x`` is not ``irreps.dim``.
        """
        degrees = self.layout.split(x)
        out = {}
        if self.bias is not None:
            scalars = degrees.pop(0)[..., 0]
            normal = nn.functional.layer_norm(scalars, scalars.shape[-1:], self.weight["0"], self.bias, self.eps)
            out[0] = normal.unsqueeze(-1)
        if degrees:
            # in float32 at least: squares of 16-bit numbers overflow, and their sums are coarse
            wide = torch.promote_types(x.dtype, torch.float32)
            power = torch.stack([part.to(wide).square().mean((-2, -1)) for part in degrees.values()]).mean(0)
            scale = torch.rsqrt(power + self.eps)[..., None, None]
            for degree, part in degrees.items():
                out[degree] = part * (scale * self.weight[str(degree)].unsqueeze(-1))
        return self.layout.join(out)

    def extra_repr(self) -> str:
        return f"{self.irreps}, eps={self.eps}"
