"""A potential on EGNN: invariant messages over distances. The cheap choice."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from geoattn.domains.molecules.potential import Potential, by_element
from geoattn.kernels import Neighborhood
from geoattn.layers.egnn import EGNNLayer, edge_geometry


class EGNNBackbone(nn.Module):
    """Invariant features of atoms: an embedding of the elements and EGNN layers in which positions stay.

    Args:
        num_species: number of elements.
        channels: C, width of features and messages.
        num_layers: layers; each looks one edge further.
        cutoff: angstrom; messages vanish smoothly there.
        num_radial: Gaussians of the distance.

    Shapes: species ``[N]``, pos ``[N, 3]``, edge_index ``[2, E]`` or a ``Neighborhood``, shift ``[E, 3]``; returns
    ``[N, C]``.

    Symmetry: invariant under rotations, reflections and translations; mirror images look alike.
    """

    def __init__(self, num_species: int, channels: int, num_layers: int, cutoff: float, num_radial: int) -> None:
        super().__init__()
        self.cutoff, self.num_radial = cutoff, num_radial
        self.embedding = nn.Embedding(num_species, channels)
        self.layers = nn.ModuleList(
            EGNNLayer(channels, hidden_channels=channels, radial_channels=num_radial, update_pos=False, gate=True)
            for _ in range(num_layers)
        )

    def forward(self, species: Tensor, pos: Tensor, nbr: Neighborhood, shift: Tensor | None = None) -> Tensor:
        geometry = edge_geometry(pos, nbr, shift, self.num_radial, self.cutoff)
        x = self.embedding(species)
        for layer in self.layers:
            x, _ = layer(x, pos, nbr, geometry=geometry)
        return x


class EGNNPotential(Potential):
    """`Potential` on an `EGNNBackbone`.

    Args:
        elements, references, scale, cutoff: see `Potential`.
        channels: width of features and messages.
        num_layers: layers; each looks one edge further.
        num_radial: Gaussians of the distance.
    """

    def __init__(
        self,
        elements: list[int],
        references: Mapping[int, float] | Mapping[str, float] | None = None,
        scale: float = 1.0,
        cutoff: float = 5.0,
        channels: int = 64,
        num_layers: int = 4,
        num_radial: int = 32,
    ) -> None:
        backbone = EGNNBackbone(len(elements), channels, num_layers, cutoff, num_radial)
        super().__init__(backbone, channels, elements, by_element(references), scale, cutoff)
        self.config = dict(
            elements=list(elements),
            references={str(z): energy for z, energy in by_element(references).items()},
            scale=scale,
            cutoff=cutoff,
            channels=channels,
            num_layers=num_layers,
            num_radial=num_radial,
        )
