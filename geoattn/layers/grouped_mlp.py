"""A small network per head: all heads in one batched matrix product."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError


class GroupedLinear(nn.Module):
    r"""A linear map of its own for each head, :math:`y_n^h = W_h x_n^h + b_h`.

    Args:
        num_heads: H.
        in_channels: C, per head.
        out_channels: D, per head.

    Shapes:
        x ``[N, H, C]``. Returns ``[N, H, D]``.

    Symmetry: equivariant under permutations of the rows.

    Cost: O(N H C D), as one batched matrix product.

    Edge cases: no rows give no rows.

    Example:
        >>> GroupedLinear(2, 4, 3)(torch.randn(5, 2, 4)).shape
        torch.Size([5, 2, 3])
    """

    def __init__(self, num_heads: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = in_channels**-0.5  # as nn.Linear starts
        self.weight = nn.Parameter(torch.empty(num_heads, in_channels, out_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_heads, out_channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, H, D]``; see the class.

        Raises:
            ShapeError: if ``x`` is not ``[N, H, C]``.
        """
        if x.ndim != 3 or x.shape[1:] != self.weight.shape[:2]:
            heads, channels = self.weight.shape[:2]
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, num_heads = {heads}, in_channels = {channels}]")
        return torch.einsum("nhc,hcd->nhd", x, self.weight) + self.bias

    def extra_repr(self) -> str:
        return "{}, {}, {}".format(*self.weight.shape)


class GroupedMLP(nn.Module):
    r"""Two linear maps per head with root-mean-square normalisation and SiLU between them.

    .. math:: y^h = W_2^h \operatorname{silu}\big( g^h \odot \operatorname{rms}(W_1^h x^h + b_1^h) \big) + b_2^h

    Dropout comes before the normalisation, as in the paper's code.

    Paper: Buehler, arXiv:2501.02393.

    Args:
        num_heads: H.
        in_channels: C, per head.
        hidden_channels: M, per head.
        out_channels: D, per head.
        dropout: on the hidden layer, in training.

    Shapes:
        x ``[N, H, C]``. Returns ``[N, H, D]``.

    Symmetry: equivariant under permutations of the rows.

    Cost: O(N H M (C + D)).

    Edge cases: no rows give no rows.

    Example:
        >>> GroupedMLP(2, 4, 8, 4)(torch.randn(5, 2, 4)).shape
        torch.Size([5, 2, 4])
    """

    def __init__(
        self, num_heads: int, in_channels: int, hidden_channels: int, out_channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.linear_in = GroupedLinear(num_heads, in_channels, hidden_channels)
        self.dropout = nn.Dropout(dropout)
        self.norm_weight = nn.Parameter(torch.ones(num_heads, hidden_channels))
        self.linear_out = GroupedLinear(num_heads, hidden_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, H, D]``; see the class."""
        hidden = self.dropout(self.linear_in(x))
        mean_square = hidden.square().mean(-1, keepdim=True)
        hidden = hidden * torch.rsqrt(mean_square + 1e-6) * self.norm_weight
        return self.linear_out(functional.silu(hidden))
