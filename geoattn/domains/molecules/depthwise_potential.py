"""A potential on Equiformer: features of a few degrees, attention over neighbours. Accurate, and fast on a CPU."""

from __future__ import annotations

from collections.abc import Mapping

from geoattn.domains.molecules.potential import Potential, by_element
from geoattn.models.equiformer import Equiformer


class EquiformerPotential(Potential):
    """`Potential` on `Equiformer`.

    Args:
        elements, references, scale, cutoff: see `Potential`.
        channels: width of every degree, and of the perceptrons on edges.
        num_layers: blocks; each looks one cutoff further.
        lmax: largest degree.
        num_heads: attention heads, a divisor of channels.
        num_radial: functions of the distance.
        average_degree: mean number of neighbours of an atom.
    """

    def __init__(
        self,
        elements: list[int],
        references: Mapping[int, float] | Mapping[str, float] | None = None,
        scale: float = 1.0,
        cutoff: float = 5.0,
        channels: int = 32,
        num_layers: int = 3,
        lmax: int = 2,
        num_heads: int = 4,
        num_radial: int = 16,
        average_degree: float = 10.0,
    ) -> None:
        backbone = Equiformer(
            len(elements),
            channels,
            num_layers,
            lmax,
            num_heads,
            edge_channels=channels,
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
            num_heads=num_heads,
            num_radial=num_radial,
            average_degree=average_degree,
        )
