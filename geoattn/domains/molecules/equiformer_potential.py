"""A potential on EquiformerV2: features of every degree, attention over neighbours. The accurate choice."""

from __future__ import annotations

from collections.abc import Mapping

from geoattn.domains.molecules.potential import Potential, by_element
from geoattn.models.equiformer_v2 import EquiformerV2


class EquiformerV2Potential(Potential):
    """`Potential` on `EquiformerV2`.

    Args:
        elements, references, scale, cutoff: see `Potential`.
        channels: width of every degree.
        num_layers: blocks; each looks one cutoff further.
        lmax: largest degree.
        mmax: largest order kept in the frame of an edge; lmax if None.
        num_heads: attention heads.
        num_radial: functions of the distance.
        average_degree: mean number of neighbours of an atom.
    """

    def __init__(
        self,
        elements: list[int],
        references: Mapping[int, float] | Mapping[str, float] | None = None,
        scale: float = 1.0,
        cutoff: float = 5.0,
        channels: int = 64,
        num_layers: int = 4,
        lmax: int = 2,
        mmax: int | None = None,
        num_heads: int = 4,
        num_radial: int = 32,
        average_degree: float = 10.0,
    ) -> None:
        backbone = EquiformerV2(
            len(elements),
            channels,
            num_layers,
            lmax,
            mmax,
            num_heads,
            cutoff=cutoff,
            num_radial=num_radial,
            average_degree=average_degree,
        )
        super().__init__(backbone, channels, elements, by_element(references), scale, cutoff)
        self.config = dict(
            elements=list(elements),
            references={str(z): energy for z, energy in by_element(references).items()},
            scale=scale,
            cutoff=cutoff,
            channels=channels,
            num_layers=num_layers,
            lmax=lmax,
            mmax=mmax,
            num_heads=num_heads,
            num_radial=num_radial,
            average_degree=average_degree,
        )
