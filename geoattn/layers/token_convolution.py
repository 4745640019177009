"""Token convolution: several widths of 1-D convolution side by side, independent of padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError


class TokenConvolution(nn.Module):
    r"""Parallel convolutions over the tokens of padded sequences, mixed into one feature per token.

    .. math:: x'_t = W \big[ \operatorname{SiLU}\big( \textstyle\sum_{|d| \le w_k/2} K^k_d x_{t+d} + b^k \big) \big]_k

    Tokens beyond the ends count as zero, whether the tensor ends there or padding begins.

    Paper: the parallel widths are those of TITAN, doi 10.1093/bioinformatics/btab294.

    Args:
        in_channels: width of the input.
        channels: C, width of the result; each convolution has half as many.
        kernel_sizes: odd widths w.
        dropout: after W.

    Shapes:
        x ``[S, L, in_channels]``, mask ``[S, L]``. Returns ``[T, C]``, the T tokens under the mask, sequence by
        sequence.

    Symmetry: equivariant to the order of the sequences; padding and other sequences change nothing.

    Cost: O(S L in_channels C sum(w)).

    Edge cases: an empty sequence gives no row.

    Example:
        >>> mask = torch.tensor([[True, True, False], [True, False, False]])
        >>> TokenConvolution(4, 6, kernel_sizes=(1, 3))(torch.randn(2, 3, 4), mask).shape
        torch.Size([3, 6])
    """

    def __init__(
        self, in_channels: int, channels: int, kernel_sizes: Sequence[int] = (1, 3, 5, 7), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if any(size % 2 == 0 or size < 1 for size in kernel_sizes) or not kernel_sizes:
            raise ShapeError("kernel_sizes", f"{tuple(kernel_sizes)}", "odd widths")
        if channels % 2:
            raise ShapeError("channels", f"{channels}", "an even number: each width has half as many")
        self.convolutions = nn.ModuleList(
            nn.Conv1d(in_channels, channels // 2, size, padding=size // 2) for size in kernel_sizes
        )
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear(channels // 2 * len(kernel_sizes), channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Convolve; see the class for shapes."""
        padded = (x * mask.unsqueeze(2)).mT
        wide = torch.cat([convolution(padded) for convolution in self.convolutions], dim=1)
        return self.dropout(self.mix(nn.functional.silu(wide.mT[mask])))
