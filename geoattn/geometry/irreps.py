"""Irreps as arguments, and the two layouts of features made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoattn.errors import InputError, ShapeError

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


def as_irreps(irreps: str | Irreps, argument: str = "irreps") -> Irreps:
    """``irreps`` as an ``e3nn.o3.Irreps``, from text such as ``"8x0e + 4x1o"`` or from one.

    Args:
        irreps: what the user gave.
        argument: its name, for the message.

    Raises:
        InputError: if the text is not irreps.

    Example:
        >>> as_irreps("8x0e + 4x1o").dim
        20
    """
    from e3nn import o3  # slow to import

    try:
        return o3.Irreps(irreps)
    except Exception as error:
        raise InputError(
            f"{argument}: got {irreps!r}, expected irreps: multiplicity x degree and parity (e or o), "
            "joined by +, as in '8x0e + 4x1o'."
        ) from error


def natural_irreps(lmax: int, channels: int) -> str:
    """Irreps of all degrees ``0..lmax``, ``channels`` of each, with the parity ``(-1)^l`` of the harmonics.

    Example:
        >>> natural_irreps(2, 8)
        '8x0e+8x1o+8x2e'
    """
    return "+".join(f"{channels}x{degree}{'eo'[degree % 2]}" for degree in range(lmax + 1))


class PackedLayout:
    """Where the degrees stand in features packed as e3nn packs them, and the way from packed to per-degree and back.

    Irreps of one degree are one group, in the order in which they are packed, whatever their parity: only rotations
    are looked at.

    Attributes:
        irreps: the ``e3nn.o3.Irreps``.
        dim: width of a packed row.
        multiplicity: degree -> number of irreps of that degree, degrees ascending; none is 0.

    Raises:
        InputError: if the text is not irreps.
        ShapeError: if there is no irrep at all.

    Example:
        >>> import torch
        >>> layout = PackedLayout("2x0e + 3x1o + 1x0e")
        >>> layout.dim, layout.multiplicity
        (12, {0: 3, 1: 3})
        >>> {degree: tuple(part.shape) for degree, part in layout.split(torch.randn(5, 12)).items()}
        {0: (5, 3, 1), 1: (5, 3, 3)}
    """

    def __init__(self, irreps: str | Irreps, argument: str = "irreps") -> None:
        self.irreps = as_irreps(irreps, argument)
        self.dim: int = self.irreps.dim
        if self.dim == 0:
            raise ShapeError(argument, repr(str(irreps)), "at least one irrep")
        self._blocks: list[tuple[int, int]] = [(ir.l, mul) for mul, ir in self.irreps]
        self._sizes = [mul * (2 * degree + 1) for degree, mul in self._blocks]
        totals: dict[int, int] = {}
        for degree, mul in sorted(self._blocks):
            totals[degree] = totals.get(degree, 0) + mul
        self.multiplicity = {degree: mul for degree, mul in totals.items() if mul}

    def split(self, x: Tensor, argument: str = "x") -> dict[int, Tensor]:
        """``[..., dim]`` -> degree -> ``[..., multiplicity, 2l + 1]``, views where a degree stands in one place.

        Raises:
            ShapeError: if ``x`` is not ``[..., dim]``.
        """
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ShapeError(argument, f"shape {tuple(x.shape)}", f"[..., {self.dim}], packed {self.irreps}")
        parts: dict[int, list[Tensor]] = {degree: [] for degree in self.multiplicity}
        for (degree, mul), block in zip(self._blocks, x.split(self._sizes, dim=-1), strict=True):
            if mul:
                parts[degree].append(block.unflatten(-1, (mul, 2 * degree + 1)))
        return {degree: part[0] if len(part) == 1 else torch.cat(part, dim=-2) for degree, part in parts.items()}

    def join(self, degrees: Mapping[int, Tensor]) -> Tensor:
        """Degree -> ``[..., multiplicity, 2l + 1]``, a tensor for every degree of the layout, -> ``[..., dim]``."""
        used = dict.fromkeys(self.multiplicity, 0)
        blocks = []
        for degree, mul in self._blocks:
            if mul:
                start = used[degree]
                used[degree] = start + mul
                blocks.append(degrees[degree].narrow(-2, start, mul).flatten(-2))
        return torch.cat(blocks, dim=-1)


def to_degrees(x: Tensor, irreps: str | Irreps) -> Tensor:
    """Packed features ``[N, irreps.dim]`` as ``[N, (L+1)^2, C]``: degrees one after the other, channels last.

    Args:
        x: ``[N, irreps.dim]``, packed as e3nn packs them: per irrep a block ``[C, 2l + 1]``.
        irreps: ``Cx0 + Cx1 + ... + CxL`` in this order, the same number of each.

    Raises:
        ShapeError: if the irreps are not of that form, or ``x`` does not fit them.

    Cost: one copy.

    Example:
        >>> import torch
        >>> to_degrees(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]), "2x0e + 2x1o").tolist()
        [[[1.0, 2.0], [3.0, 6.0], [4.0, 7.0], [5.0, 8.0]]]
    """
    channels, lmax = _equal_multiplicity(as_irreps(irreps))
    if x.ndim != 2 or x.shape[1] != channels * (lmax + 1) ** 2:
        raise ShapeError("x", f"shape {tuple(x.shape)}", f"[N, {channels * (lmax + 1) ** 2}], packed {irreps}")
    blocks = x.split([channels * (2 * degree + 1) for degree in range(lmax + 1)], dim=1)
    return torch.cat([block.unflatten(1, (channels, -1)).transpose(1, 2) for block in blocks], dim=1)


def to_packed(x: Tensor) -> Tensor:
    """Features ``[N, (L+1)^2, C]`` packed as e3nn packs ``Cx0 + Cx1 + ... + CxL``; the inverse of ``to_degrees``.

    Returns:
        ``[N, C (L+1)^2]``.

    Raises:
        ShapeError: if the size of the middle axis is not a square.

    Cost: one copy.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 9, 4)
        >>> torch.equal(to_degrees(to_packed(x), natural_irreps(2, 4)), x)
        True
    """
    lmax = max(round(x.shape[1] ** 0.5) - 1, 0) if x.ndim == 3 else 0
    if x.ndim != 3 or x.shape[1] != (lmax + 1) ** 2:
        raise ShapeError("x", f"shape {tuple(x.shape)}", "[N, (L+1)^2, C]")
    degrees = x.split([2 * degree + 1 for degree in range(lmax + 1)], dim=1)
    return torch.cat([block.transpose(1, 2).flatten(1) for block in degrees], dim=1)


def _equal_multiplicity(irreps: Irreps) -> tuple[int, int]:
    """C and L of ``Cx0 + ... + CxL``."""
    degrees, channels = [ir.l for _, ir in irreps], {mul for mul, _ in irreps}
    if not degrees or degrees != list(range(len(degrees))) or len(channels) > 1:
        raise ShapeError("irreps", f"{irreps}", "the same multiplicity of every degree 0, 1, ..., L, in this order")
    return channels.pop(), len(degrees) - 1
