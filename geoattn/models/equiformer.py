"""Equiformer: a stack of depthwise attention blocks over atoms."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood, as_neighborhood, segment_outer
from geoattn.layers.equiformer import EquiformerLayer
from geoattn.layers.so3_layer_norm import SO3LayerNorm


class Equiformer(nn.Module):
    r"""Features of atoms that turn with the molecule, for few degrees: fast on a CPU, and with forces.

    Species are embedded at l = 0; the edges' harmonics, weighted by a function of distance and species, start the other
    degrees; `EquiformerLayer` follows ``num_layers`` times, then a layer norm. The edges' geometry is computed once and
    shared. Everything vanishes smoothly at the cutoff, and nothing is detached, so gradients to positions are forces.

    Papers: Equiformer, arXiv:2206.11990; MACE, arXiv:2206.07697 (the product of a node's features with themselves).

    Args:
        num_species: number of kinds of atoms.
        channels: C, width of every degree.
        num_layers: number of blocks.
        lmax: L, largest degree.
        num_heads: H, a divisor of edge_channels.
        edge_channels: width of the embedding of distance and species, and of the perceptron on edges.
        cutoff: length at which edges vanish, in the unit of the positions.
        num_radial: number of Bessel functions of the distance.
        average_degree: divides the sum over edges that starts the degrees; about the number of neighbours.

    Shapes:
        species ``[N]`` integer in 0..num_species - 1, pos ``[N, 3]``, edge_index ``[2, E]`` or a Neighborhood, shift
        ``[E, 3]`` in the caller's order (periodic images). Returns ``[N, (L+1)^2, C]``: row 0 is invariant, rows l^2 to
        (l+1)^2 - 1 are of degree l in e3nn's order.

    Symmetry: invariant to translations, equivariant to O(3) with parity (-1)^l and to permutations.

    Edge cases: an isolated atom gets features of its species alone. Edges of zero length and edges beyond the cutoff
    send nothing; the features have two continuous derivatives where an edge crosses it.

    Example:
        >>> model = Equiformer(10, channels=8, num_layers=1, lmax=2, num_heads=2)
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> model(torch.tensor([8, 1, 1]), torch.randn(3, 3), edges).shape
        torch.Size([3, 9, 8])
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 64,
        num_layers: int = 3,
        lmax: int = 2,
        num_heads: int = 4,
        *,
        edge_channels: int = 64,
        cutoff: float = 5.0,
        num_radial: int = 16,
        average_degree: float = 10.0,
    ) -> None:
        super().__init__()
        sizes = dict(num_species=num_species, channels=channels, num_layers=num_layers, num_radial=num_radial)
        for name, size in sizes.items():
            if size < 1:
                raise ShapeError(name, f"{size}", "at least 1")
        for name, length in {"cutoff": cutoff, "average_degree": average_degree}.items():
            if not length > 0:
                raise ShapeError(name, f"{length}", "a number above 0")
        self.num_species, self.channels, self.lmax = num_species, channels, lmax
        self.cutoff, self.num_radial, self.average_degree = cutoff, num_radial, average_degree
        self.species = nn.Embedding(num_species, channels)
        self.edge_source = nn.Embedding(num_species, edge_channels)
        self.edge_target = nn.Embedding(num_species, edge_channels)
        self.edge_radial = nn.Linear(num_radial, edge_channels)
        self.edge_degree = nn.Linear(edge_channels, (lmax + 1) * channels)
        self.layers = nn.ModuleList(
            EquiformerLayer(lmax, channels, num_heads, edge_channels, edge_channels) for _ in range(num_layers)
        )
        self.norm = SO3LayerNorm(lmax, channels)
        for weight in (self.edge_source.weight, self.edge_target.weight):
            nn.init.normal_(weight, std=1 / math.sqrt(2))

    def forward(
        self, species: Tensor, pos: Tensor, edge_index: Tensor | Neighborhood, shift: Tensor | None = None
    ) -> Tensor:
        """Features of the atoms; see the class for shapes.

        Raises:
            ShapeError: if a tensor does not fit.
        """
        if pos.ndim != 2 or pos.shape[1] != 3:
            raise ShapeError("pos", f"shape {tuple(pos.shape)}", "[N, 3]")
        if species.shape != pos.shape[:1]:
            raise ShapeError("species", f"shape {tuple(species.shape)}", f"[N = {pos.shape[0]}]")
        check_species(species, self.num_species)
        nbr = as_neighborhood(edge_index, pos.shape[0])
        basis = EdgeBasis.build(pos, nbr, cutoff=self.cutoff, shift=shift)
        edge_scalars = self.embed_edges(species, basis)
        x = self.embed_nodes(species, basis, edge_scalars)
        for layer in self.layers:
            x = layer(x, basis, edge_scalars)
        return self.norm(x)

    def embed_edges(self, species: Tensor, basis: EdgeBasis) -> Tensor:
        """``[E, edge_channels]``, of distance and both species, in CSR order."""
        radial = self.edge_radial(basis.radial(self.num_radial, "bessel", self.cutoff))
        source = self.edge_source(species).index_select(0, basis.nbr.source)
        target = self.edge_target(species).index_select(0, basis.nbr.target)
        return functional.silu(radial + source + target) * 1.676  # E silu(x)^2 = 1 / 1.676^2

    def embed_nodes(self, species: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """``[N, (L+1)^2, C]``: species at l = 0, and for l > 0 the neighbours' harmonics."""
        weight = basis.weight.unsqueeze(1)
        strength = (self.edge_degree(edge_scalars) * weight).split(self.channels, dim=1)
        harmonics = basis.harmonics(self.lmax).split([2 * degree + 1 for degree in range(self.lmax + 1)], dim=1)
        sums = [segment_outer(y, t, basis.nbr) for y, t in zip(harmonics, strength, strict=True)]
        scalars = functional.pad(self.species(species).unsqueeze(1), (0, 0, 0, (self.lmax + 1) ** 2 - 1))
        return scalars + torch.cat(sums, dim=1) / self.average_degree


def check_species(species: Tensor, num_species: int) -> None:
    """Raise ShapeError unless all are integers in 0..num_species - 1; ranges are not checked in ``torch.compile``."""
    if species.is_floating_point() or species.dtype == torch.bool:
        raise ShapeError("species", f"dtype {species.dtype}", "an integer dtype", "Call .long() on it.")
    if torch.compiler.is_compiling() or not species.numel():
        return
    low, high = torch.aminmax(species)
    if low < 0 or high >= num_species:
        raise ShapeError("species", f"values {int(low)}..{int(high)}", f"0..{num_species - 1} as num_species says")
