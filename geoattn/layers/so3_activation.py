"""Activations of spherical features: the exact gate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoattn.layers.so3_linear import degree_of_row


class GateActivation(nn.Module):
    r"""SiLU on l = 0, and a sigmoid of an invariant as the factor of each degree l > 0 and channel.

    .. math:: y_0 = x_0\, \sigma(x_0), \qquad y_{lm} = x_{lm}\, \sigma(g_l)

    Args:
        lmax: L, largest degree.
        channels: C.

    Shapes:
        x ``[N, (L+1)^2, C]``, l-major, and the gates ``[N, L C]``, degree by degree. Returns the shape of x.

    Symmetry: equivariant to O(3), exactly (to SO(3) if the gates change under reflections).

    Example:
        >>> GateActivation(lmax=2, channels=8)(torch.randn(5, 9, 8), torch.randn(5, 16)).shape
        torch.Size([5, 9, 8])
    """

    degrees: Tensor

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.lmax, self.channels = lmax, channels
        self.num_scalars = lmax * channels
        self.register_buffer("degrees", degree_of_row(lmax), persistent=False)

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        """Apply; see the class for shapes."""
        return x * self._factors(x[:, 0], gates).index_select(1, self.degrees)

    def forward_blocks(self, blocks: Sequence[Tensor], gates: Tensor) -> list[Tensor]:
        """The same on edge features in the blocks of `geoattn.layers.so2_conv.split_m`."""
        factors = self._factors(blocks[0][:, 0], gates)
        gated = [block * factors[:, m:].unsqueeze(1) for m, block in enumerate(blocks[1:], start=1)]
        return [blocks[0] * factors, *gated]

    def _factors(self, scalars: Tensor, gates: Tensor) -> Tensor:
        """``[N, L+1, C]``: x sigmoid(x) is SiLU, so l = 0 is its own gate."""
        return torch.cat([scalars, gates], dim=1).sigmoid().unflatten(1, (-1, self.channels))

    def extra_repr(self) -> str:
        return f"{self.lmax}, {self.channels}"
