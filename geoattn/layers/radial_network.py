"""Radial network: from invariants of an edge to the units that the kernel of a convolution is linear in."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class RadialNetwork(nn.Module):
    r"""Two layers with layer norm: ``u = silu(LN(W_2 silu(LN(W_1 a))))``.

    The kernel of the convolution is a linear function of ``u``, whose coefficients belong to the convolution. The
    papers' networks end in ReLU; SiLU has the derivatives that energies and forces need.

    Args:
        in_channels: A, invariants of an edge: its length first, then what the user gives.
        hidden_channels: U, the width; 32 in the paper.

    Shapes:
        a ``[E, A]``; returns ``[E, U]``.

    Symmetry: none of its own; it maps invariants to invariants.

    Example:
        >>> import torch
        >>> RadialNetwork(2, 32)(torch.rand(10, 2)).shape
        torch.Size([10, 32])
    """

    def __init__(self, in_channels: int, hidden_channels: int = 32) -> None:
        super().__init__()
        self.in_channels, self.hidden_channels = in_channels, hidden_channels
        self.linear_in = nn.Linear(in_channels, hidden_channels)
        self.norm_in = nn.LayerNorm(hidden_channels)
        self.linear = nn.Linear(hidden_channels, hidden_channels)
        self.norm = nn.LayerNorm(hidden_channels)

    def forward(self, a: Tensor) -> Tensor:
        """The units; see the class for shapes."""
        hidden = functional.silu(self.norm_in(self.linear_in(a)))
        return functional.silu(self.norm(self.linear(hidden)))
