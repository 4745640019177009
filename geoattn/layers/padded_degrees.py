"""Features of any number of channels per degree as one tensor ``[N, (L+1)^2, C]``, zero where a degree has fewer.

One matrix product then serves all degrees. `Columns` says which of the C columns a degree fills.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from geoattn.geometry.edges import smallest_square
from geoattn.geometry.irreps import PackedLayout
from geoattn.layers.equivariant_linear import EquivariantLinear
from geoattn.layers.norm_nonlinearity import NormNonlinearity

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


class Columns:
    """Which columns of a padded tensor the channels of each degree fill.

    Attributes:
        of: degree -> its columns, in the order of its channels; degrees ascending.
        width: C, number of columns.
        lmax: L, highest degree.
        full: whether every degree 0..L fills all columns in order, so that nothing is padding.

    Example:
        >>> Columns.heads({0: 4, 1: 2}, num_heads=2).of  # two heads of 2 columns each; degree 1 fills one of either
        {0: [0, 1, 2, 3], 1: [0, 2]}
    """

    def __init__(self, of: Mapping[int, list[int]], width: int) -> None:
        self.of = dict(sorted(of.items()))
        self.width = width
        self.lmax = max(self.of)
        self.full = list(self.of) == list(range(self.lmax + 1)) and all(
            columns == list(range(width)) for columns in self.of.values()
        )

    @classmethod
    def heads(cls, channels: Mapping[int, int], num_heads: int = 1) -> Columns:
        """Heads one after the other, each with as many columns as its widest degree has channels per head."""
        width = max(channels.values()) // num_heads
        return cls(
            {
                degree: [head * width + c for head in range(num_heads) for c in range(count // num_heads)]
                for degree, count in channels.items()
            },
            num_heads * width,
        )

    def beside(self, other: Columns) -> Columns:
        """These columns, then those of ``other``."""
        degrees = self.of.keys() | other.of.keys()
        of = {d: self.of.get(d, []) + [self.width + c for c in other.of.get(d, [])] for d in degrees}
        return Columns(of, self.width + other.width)

    @property
    def channels(self) -> dict[int, int]:
        """Degree -> number of channels."""
        return {degree: len(columns) for degree, columns in self.of.items()}

    @property
    def irreps(self) -> str:
        """The channels as irreps of natural parity, degrees ascending."""
        return "+".join(f"{count}x{degree}{'eo'[degree % 2]}" for degree, count in self.channels.items())

    def of_order(self, lmax: int, m: int) -> list[int]:
        """Where the channels of degrees >= m stand among ``(degrees m..lmax, width)``."""
        return [(degree - m) * self.width + c for degree, of in self.of.items() if degree >= m for c in of]


def to_padded(x: Tensor, layout: PackedLayout) -> Tensor:
    """Packed features ``[N, dim]`` -> ``[N, (L+1)^2, C]``, C the largest number of channels."""
    parts = layout.split(x)
    width, lmax = max(layout.multiplicity.values()), max(layout.multiplicity)
    rows = []
    for degree in range(lmax + 1):
        if degree in parts:
            rows.append(functional.pad(parts[degree], (0, 0, 0, width - parts[degree].shape[1])).mT)
        else:
            rows.append(x.new_zeros(x.shape[0], 2 * degree + 1, width))
    return torch.cat(rows, dim=1)


def to_packed(x: Tensor, layout: PackedLayout, columns: Columns | None = None) -> Tensor:
    """Padded features -> packed ``[N, dim]``; the inverse of `to_padded`, unless the channels stand in other columns.

    Rows of degrees that the layout has not are left out.
    """
    parts = {}
    for degree, count in layout.multiplicity.items():
        rows = x[:, degree**2 : (degree + 1) ** 2]
        parts[degree] = (rows[..., :count] if columns is None else rows[..., columns.of[degree]]).mT
    return layout.join(parts)


class PaddedLinear(EquivariantLinear):
    """`EquivariantLinear` without a bias, of padded features: ``[N, (L_in+1)^2, C]`` -> ``[N, (L_out+1)^2, C']``.

    Args:
        irreps_in, irreps_out: as there; the channels of each degree in this order.
        columns_in, columns_out: where they stand.
    """

    places: Tensor | None
    degrees: Tensor

    def __init__(
        self, irreps_in: str | Irreps, irreps_out: str | Irreps, columns_in: Columns, columns_out: Columns
    ) -> None:
        super().__init__(irreps_in, irreps_out, bias=False)
        self.lmax_out = columns_out.lmax
        lmax = min(columns_in.lmax, columns_out.lmax)
        self.shape = (lmax + 1, columns_out.width, columns_in.width)
        places = [
            (degree * columns_out.width + row) * columns_in.width + column
            for degree in map(int, self.weight)
            for row in columns_out.of[degree]
            for column in columns_in.of[degree]
        ]
        identity = places == list(range(self.shape[0] * self.shape[1] * self.shape[2]))
        self.register_buffer("places", None if identity else torch.tensor(places), persistent=False)
        self.register_buffer("degrees", _degree_of_row(lmax), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels; see the class for shapes."""
        weight = torch.cat([weight.flatten() for weight in self.weight.values()])
        if self.places is not None:
            size = self.shape[0] * self.shape[1] * self.shape[2]
            weight = weight.new_zeros(size).index_copy(0, self.places, weight)
        rows = weight.view(self.shape).index_select(0, self.degrees)
        y = torch.bmm(x.transpose(0, 1)[: len(rows)], rows.mT).transpose(0, 1)
        missing = (self.lmax_out + 1) ** 2 - len(rows)
        return functional.pad(y, (0, 0, 0, missing)) if missing else y


class PaddedNormNonlinearity(NormNonlinearity):
    """`NormNonlinearity` of padded features: ``[N, (L+1)^2, C]`` to the same, all degrees at once where they are alike.

    Args:
        irreps: irreps of the features.
    """

    degrees: Tensor

    def __init__(self, irreps: str | Irreps) -> None:
        super().__init__(irreps)
        columns = Columns.heads(self.layout.multiplicity)
        self.alike = columns.full and columns.width > 1
        self.register_buffer("degrees", _degree_of_row(columns.lmax), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Change the lengths; see the class for shapes."""
        if not self.alike:
            return to_padded(super().forward(to_packed(x, self.layout)), self.layout)
        weight, bias = (torch.stack(list(values.values())) for values in (self.weight, self.bias))
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        square = x.new_zeros(x.shape[0], len(weight), x.shape[2]).index_add(1, self.degrees, x.square())
        zero = square < smallest_square(x.dtype)
        inverse = square.masked_fill(zero, 1.0).rsqrt().masked_fill(zero, 0.0)
        length = functional.relu(functional.layer_norm(square * inverse, square.shape[2:]) * weight + bias)
        return x * (length * inverse).index_select(1, self.degrees)


def _degree_of_row(lmax: int) -> Tensor:
    """``[(L+1)^2]``: 0, 1, 1, 1, 2, ..."""
    degrees = torch.arange(lmax + 1)
    return degrees.repeat_interleave(2 * degrees + 1)
