"""SO(2) convolution (eSCN): an equivariant map of edge features in the edge's frame, at a cost of O(L^3).

In the frame whose polar axis is the edge, the harmonics of the edge are non-zero for m = 0 only. The Clebsch-Gordan sum
of a tensor product with them then leaves maps that are block-diagonal in m, and a dense matrix for each m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.edge_frame import m_sizes


def split_m(z: Tensor, lmax: int, mmax: int) -> list[Tensor]:
    """The blocks of equal |m| of ``z [E, S_M, C]``, without a copy.

    Returns:
        mmax + 1 tensors: ``[E, L+1, C]`` for m = 0, and ``[E, 2, L-m+1, C]`` for m > 0 with the rows +m, then -m.
    """
    first_size, *sizes = m_sizes(lmax, mmax)
    first, *others = z.split([first_size, *(2 * size for size in sizes)], dim=1)
    return [first, *(block.unflatten(1, (2, -1)) for block in others)]


def join_m(blocks: Sequence[Tensor]) -> Tensor:
    """``[E, S_M, C]`` from the blocks of `split_m`."""
    return torch.cat([blocks[0], *(block.flatten(1, 2) for block in blocks[1:])], dim=1)


def scale_m(blocks: Sequence[Tensor], factor: Tensor) -> list[Tensor]:
    """Multiply the rows (l, m) and (l, -m) by one factor.

    Args:
        blocks: as from `split_m`.
        factor: ``[E, (number of pairs (l, m >= 0)) C]``, in the order of m = 0's degrees, m = 1's degrees, ...
    """
    channels = blocks[0].shape[-1]
    parts = factor.split([block.shape[-2] * channels for block in blocks], dim=1)
    first, *others = (part.unflatten(1, (-1, channels)) for part in parts)
    return [
        blocks[0] * first,
        *(block * part.unsqueeze(1) for block, part in zip(blocks[1:], others, strict=True)),
    ]


def so2_linear(
    blocks: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor | None, out_channels: int, extra_scalars: int = 0
) -> tuple[list[Tensor], Tensor]:
    """The linear maps that commute with rotations about the polar axis: one matrix product per m.

    ``y_0 = W_0 x_0 + b``, and for m > 0 the complex product
    ``y_m = W_r x_m - W_i x_-m``, ``y_-m = W_i x_m + W_r x_-m``.

    Args:
        blocks: as from `split_m`, C channels.
        weights: ``[extra_scalars + (L+1) C', (L+1) C]`` for m = 0, and ``[2, (L-m+1) C', (L-m+1) C]``, W_r and W_i, for
            m > 0.
        bias: ``[extra_scalars + (L+1) C']`` or None. All of it is invariant only where it stands on l = 0.
        out_channels: C'.
        extra_scalars: number of further outputs that the m = 0 product emits.

    Returns:
        blocks of C' channels, and the further scalars ``[E, extra_scalars]``.
    """
    first = functional.linear(blocks[0].flatten(1), weights[0], bias)
    extra, first = first.split([extra_scalars, first.shape[1] - extra_scalars], dim=1)
    out = [first.unflatten(1, (-1, out_channels))]
    for block, weight in zip(blocks[1:], weights[1:], strict=True):
        real, imaginary = weight.unbind()
        packed = torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)])
        product = functional.linear(block.flatten(1), packed)
        out.append(product.unflatten(1, (2, block.shape[2], out_channels)))
    return out, extra


class SO2Conv(nn.Module):
    r"""Equivariant convolution of features that stand in the edge's frame.

    .. math::
        x_{lm} &\leftarrow r_{l|m|}(a)\, x_{lm} \\
        y_0 &= W_0 x_0 + b \qquad
        \begin{pmatrix} y_m \\ y_{-m} \end{pmatrix} =
        \begin{pmatrix} W_{r,m} & -W_{i,m} \\ W_{i,m} & W_{r,m} \end{pmatrix}
        \begin{pmatrix} x_m \\ x_{-m} \end{pmatrix}

    where :math:`x_m` holds all degrees l >= m and all channels, and the multipliers r come from a two-layer perceptron
    of invariants of the edge. Between a rotation into the edge's frame and one back (`EdgeFrame`), this is the
    convolution with the edge's spherical harmonics, in the same function class as all Clebsch-Gordan paths together
    (`geoattn.layers.so2_clebsch_gordan`), for O(L^3) instead of O(L^6).

    Papers: "Reducing SO(3) Convolutions to SO(2)" (eSCN), arXiv:2302.03655; EquiformerV2, arXiv:2306.12059.

    Args:
        lmax: L, largest degree.
        mmax: M <= L, largest order |m| that is kept.
        in_channels: C.
        out_channels: C'.
        extra_scalars: number of invariants that the map of m = 0 emits beside the features.
        radial_channels: width of the edge's invariants ``a``; None for a convolution without multipliers.

    Shapes:
        z ``[E, S_M, C]`` m-major as from `EdgeFrame.rotate`, a ``[E, radial_channels]``. Returns ``[E, S_M, C']``, and
        with ``extra_scalars`` the pair of that and ``[E, extra_scalars]``.

    Symmetry: commutes with rotations about the edge, exactly, for any M; hence rotate, convolve, rotate back is
    equivariant to SO(3), not to reflections (the :math:`W_i` are odd).

    Cost: E C C' ((L+1)^2 + 4 sum_{m=1..M} (L-m+1)^2) multiply-adds in M + 1 matrix products.

    Example:
        >>> conv = SO2Conv(lmax=2, mmax=1, in_channels=8, out_channels=4)
        >>> conv(torch.randn(10, 7, 8)).shape  # 3 rows of m = 0, 2 of m = 1, 2 of m = -1
        torch.Size([10, 7, 4])
    """

    def __init__(
        self,
        lmax: int,
        mmax: int,
        in_channels: int,
        out_channels: int,
        extra_scalars: int = 0,
        radial_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.lmax, self.mmax = lmax, mmax
        self.in_channels, self.out_channels = in_channels, out_channels
        self.extra_scalars, self.radial_channels = extra_scalars, radial_channels
        num_degrees = m_sizes(lmax, mmax)
        self.num_rows = 2 * sum(num_degrees) - num_degrees[0]
        shapes = [(k * out_channels, k * in_channels) for k in num_degrees]
        first = (extra_scalars + shapes[0][0], shapes[0][1])
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.empty(first)), *(nn.Parameter(torch.empty(2, *shape)) for shape in shapes[1:])]
        )
        self.bias = nn.Parameter(torch.empty(extra_scalars + out_channels))
        self.radial = None
        if radial_channels is not None:
            self.radial = nn.Sequential(
                nn.Linear(radial_channels, radial_channels),
                nn.SiLU(),
                nn.Linear(radial_channels, sum(num_degrees) * in_channels),
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Unit variance in, unit variance out, also of the multipliers if their perceptron's input has it."""
        for m, weight in enumerate(self.weights):
            fan_in = weight.shape[-1] * (1 if m == 0 else 2)
            nn.init.normal_(weight, std=1 / math.sqrt(fan_in))
        nn.init.zeros_(self.bias)
        if self.radial is not None:
            for module, second_moment in ((self.radial[0], 1.0), (self.radial[2], 0.356)):  # E silu(x)^2 = 0.356
                assert isinstance(module, nn.Linear)
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features * second_moment))
                nn.init.zeros_(module.bias)

    def forward(self, z: Tensor, a: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Convolve; see the class for shapes.

        Raises:
            ShapeError: if a tensor does not fit the constructor's arguments.
        """
        if z.ndim != 3 or z.shape[1:] != (self.num_rows, self.in_channels):
            raise ShapeError(
                "z",
                f"shape {tuple(z.shape)}",
                f"[E, {self.num_rows}, {self.in_channels}], the rows |m| <= mmax of in_channels",
            )
        if (None if a is None else a.shape[-1]) != self.radial_channels:
            got = "None" if a is None else f"shape {tuple(a.shape)}"
            raise ShapeError("a", got, f"[E, radial_channels = {self.radial_channels}]")
        blocks, extra = self.forward_blocks(split_m(z, self.lmax, self.mmax), a)
        return (join_m(blocks), extra) if self.extra_scalars else join_m(blocks)

    def forward_blocks(self, blocks: Sequence[Tensor], a: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """The same on the blocks of `split_m`, so that maps in a row need not be joined in between.

        Returns:
            blocks of C' channels, and the invariants ``[E, extra_scalars]``.
        """
        if self.radial is not None:
            blocks = scale_m(blocks, self.radial(a))
        bias = functional.pad(self.bias, (0, self.lmax * self.out_channels))
        return so2_linear(blocks, list(self.weights), bias, self.out_channels, self.extra_scalars)

    def extra_repr(self) -> str:
        return (
            f"{self.lmax}, {self.mmax}, {self.in_channels}, {self.out_channels}, extra_scalars={self.extra_scalars}, "
            f"radial_channels={self.radial_channels}"
        )
