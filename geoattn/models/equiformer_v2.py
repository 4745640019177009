"""EquiformerV2: a stack of attention blocks over atoms, with heads for energies and for direct forces."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood, as_neighborhood, segment_reduce
from geoattn.layers.equiformer_v2 import EquiformerV2Block
from geoattn.layers.equiformer_v2_attention import Activation, EquiformerV2Attention
from geoattn.layers.so3_layer_norm import SO3LayerNorm


class EquiformerV2(nn.Module):
    r"""Features of atoms that turn with the molecule.

    Species are embedded at l = 0; the edges' harmonics, weighted by a function of distance and species, start the other
    degrees; `EquiformerV2Block` follows ``num_layers`` times, then a layer norm. The edges' geometry is computed once
    and shared by all blocks.

    Paper: EquiformerV2, arXiv:2306.12059. Differences: the multipliers of each block start from one shared embedding of
    distance and species; everything vanishes smoothly at the cutoff; nothing is detached, so gradients to positions are
    forces.

    Args:
        num_species: number of kinds of atoms.
        channels: C, width of every degree.
        num_layers: number of blocks.
        lmax: L, largest degree.
        mmax: M <= L, largest order kept in the edge's frame; L if None.
        num_heads: H.
        hidden_channels: width of the messages; C if None.
        alpha_channels: width of each head's input to the logits.
        value_channels: width of each head's values; C / H if None.
        ffn_channels: width inside the feed-forward; 2 C if None.
        edge_channels: width of the embedding of distance and species.
        cutoff: length at which edges vanish, in the unit of the positions.
        num_radial: number of radial functions of the distance.
        radial_basis: "gaussian" or "bessel".
        average_degree: divides the sum over edges that starts the degrees; about the number of neighbours.
        activation: "gate" (exactly equivariant) or "separable_s2" (the paper's).
        grid_resolution: number of latitudes and longitudes of "separable_s2".
        max_edges: messages of at most about this many edges are in memory at a time, and are computed again for first
            and for second derivatives, at 1.8 times the time of training forces; None keeps all.

    Shapes:
        species ``[N]`` integer in 0..num_species - 1, pos ``[N, 3]``, edge_index ``[2, E]`` or a Neighborhood, shift
        ``[E, 3]`` in the caller's order (periodic images). Returns ``[N, (L+1)^2, C]``: row 0 is invariant, rows l^2 to
        (l+1)^2 - 1 are of degree l in e3nn's order.

    Symmetry: invariant to translations, equivariant to SO(3) and permutations; exactly with the gate, up to the grid's
    error with "separable_s2" (then features also depend a little on the directions of the axes).

    Edge cases: an isolated atom gets features of its species at l = 0 and zero elsewhere. Edges of zero length and
    edges beyond the cutoff send nothing; the features have two continuous derivatives where an edge crosses it.

    Example:
        >>> model = EquiformerV2(10, channels=8, num_layers=1, lmax=2, num_heads=2)
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> model(torch.tensor([8, 1, 1]), torch.randn(3, 3), edges).shape
        torch.Size([3, 9, 8])
    """

    def __init__(
        self,
        num_species: int,
        channels: int = 64,
        num_layers: int = 4,
        lmax: int = 2,
        mmax: int | None = None,
        num_heads: int = 4,
        *,
        hidden_channels: int | None = None,
        alpha_channels: int = 16,
        value_channels: int | None = None,
        ffn_channels: int | None = None,
        edge_channels: int = 64,
        cutoff: float = 5.0,
        num_radial: int = 32,
        radial_basis: Literal["gaussian", "bessel"] = "gaussian",
        average_degree: float = 10.0,
        activation: Activation = "gate",
        grid_resolution: int = 18,
        max_edges: int | None = None,
    ) -> None:
        super().__init__()
        mmax = lmax if mmax is None else mmax
        self.num_species, self.channels, self.lmax, self.mmax = num_species, channels, lmax, mmax
        self.cutoff, self.num_radial, self.average_degree = cutoff, num_radial, average_degree
        self.radial_basis: Literal["gaussian", "bessel"] = radial_basis
        self.species = nn.Embedding(num_species, channels)
        self.edge_source = nn.Embedding(num_species, edge_channels)
        self.edge_target = nn.Embedding(num_species, edge_channels)
        self.edge_radial = nn.Linear(num_radial, edge_channels)
        self.edge_degree = nn.Sequential(
            nn.Linear(edge_channels, edge_channels), nn.SiLU(), nn.Linear(edge_channels, (lmax + 1) * channels)
        )
        self.blocks = nn.ModuleList(
            EquiformerV2Block(
                channels,
                lmax=lmax,
                mmax=mmax,
                num_heads=num_heads,
                edge_channels=edge_channels,
                hidden_channels=hidden_channels,
                alpha_channels=alpha_channels,
                value_channels=value_channels,
                ffn_channels=ffn_channels,
                activation=activation,
                grid_resolution=grid_resolution,
                max_edges=max_edges,
            )
            for _ in range(num_layers)
        )
        self.norm = SO3LayerNorm(lmax, channels)
        for weight in (self.edge_source.weight, self.edge_target.weight, self.edge_radial.weight):
            nn.init.normal_(weight, std=1 / math.sqrt(3))  # three summands make a variance of about one

    def forward(
        self, species: Tensor, pos: Tensor, edge_index: Tensor | Neighborhood, shift: Tensor | None = None
    ) -> Tensor:
        """Features of the atoms; see the class for shapes.

        Raises:
            ShapeError: if a tensor does not fit.
        """
        return self.node_features(species, *self.edge_features(species, pos, edge_index, shift))

    def edge_features(
        self, species: Tensor, pos: Tensor, edge_index: Tensor | Neighborhood, shift: Tensor | None = None
    ) -> tuple[EdgeBasis, Tensor]:
        """The edges' geometry and their scalars ``[E, edge_channels]`` in CSR order, which all blocks share."""
        if species.shape != pos.shape[:1]:
            raise ShapeError("species", f"shape {tuple(species.shape)}", f"[N = {pos.shape[0]}], one number per atom")
        basis = EdgeBasis.build(pos, as_neighborhood(edge_index, pos.shape[0]), cutoff=self.cutoff, shift=shift)
        return basis, self.embed_edges(species, basis)

    def node_features(self, species: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """Features ``[N, (L+1)^2, C]`` from what `edge_features` gives."""
        x = self.embed_nodes(species, basis, edge_scalars)
        for block in self.blocks:
            x = block(x, basis, edge_scalars)
        return self.norm(x)

    def embed_edges(self, species: Tensor, basis: EdgeBasis) -> Tensor:
        """``[E, edge_channels]``, of distance and both species, in CSR order; mean square about 1."""
        radial = self.edge_radial(basis.radial(self.num_radial, self.radial_basis, self.cutoff))
        source = self.edge_source(species).index_select(0, basis.nbr.source)
        target = self.edge_target(species).index_select(0, basis.nbr.target)
        return functional.silu(radial + source + target) * 1.676  # E silu(x)^2 = 1 / 1.676^2

    def embed_nodes(self, species: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """``[N, (L+1)^2, C]``: species at l = 0, and the edges' harmonics (the m = 0 rows of the rotation)."""
        strength = self.edge_degree(edge_scalars) * (basis.weight / self.average_degree).unsqueeze(1)
        polar = basis.frame(self.lmax, self.mmax).rotation[:, : self.lmax + 1]
        message = polar.mT @ strength.unflatten(1, (self.lmax + 1, self.channels))
        scalars = functional.pad(self.species(species).unsqueeze(1), (0, 0, 0, (self.lmax + 1) ** 2 - 1))
        return scalars + segment_reduce(message, basis.nbr)


class EnergyHead(nn.Module):
    """The energy of each atom from its invariants: ``[N, (L+1)^2, C]`` to ``[N]``. Sum it over a molecule's atoms.

    Args:
        channels: C.
        hidden_channels: width of the perceptron; C if None.

    Symmetry: invariant.

    Example:
        >>> EnergyHead(8)(torch.randn(3, 9, 8)).shape
        torch.Size([3])
    """

    def __init__(self, channels: int, hidden_channels: int | None = None) -> None:
        super().__init__()
        hidden = hidden_channels or channels
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Energies; see the class for shapes."""
        return self.mlp(x[:, 0]).squeeze(-1)


class DirectForceHead(nn.Module):
    """A vector for each atom by one more attention, whose degree 1 it is.

    Such forces cost no gradient, but are not the gradient of any energy: dynamics driven by them does not conserve it.

    Paper: EquiformerV2, arXiv:2306.12059.

    Args:
        channels: C.
        lmax, mmax, num_heads, edge_channels: as in the model.
        hidden_channels: width of the messages; C if None.
        alpha_channels: width of each head's input to the logits.

    Shapes:
        x ``[N, (L+1)^2, C]`` from `EquiformerV2.node_features`, with the basis and edge scalars that it got. Returns
        ``[N, 3]``.

    Symmetry: equivariant to SO(3), invariant to translations.

    Edge cases: an isolated atom gets 0.

    Example:
        >>> model = EquiformerV2(10, channels=8, num_layers=1, lmax=2, num_heads=2, edge_channels=16)
        >>> head = DirectForceHead(8, lmax=2, mmax=2, num_heads=2, edge_channels=16)
        >>> species, edges = torch.tensor([8, 1, 1]), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> basis, edge_scalars = model.edge_features(species, torch.randn(3, 3), edges)
        >>> head(model.node_features(species, basis, edge_scalars), basis, edge_scalars).shape
        torch.Size([3, 3])
    """

    def __init__(
        self,
        channels: int,
        *,
        lmax: int,
        mmax: int,
        num_heads: int,
        edge_channels: int,
        hidden_channels: int | None = None,
        alpha_channels: int = 16,
    ) -> None:
        super().__init__()
        if lmax < 1:
            raise ShapeError("lmax", str(lmax), "at least 1, the degree of a force")
        self.attention = EquiformerV2Attention(
            channels,
            1,
            lmax=lmax,
            mmax=mmax,
            num_heads=num_heads,
            edge_channels=edge_channels,
            hidden_channels=hidden_channels or channels,
            alpha_channels=alpha_channels,
            value_channels=max(channels // num_heads, 1),
        )

    def forward(self, x: Tensor, basis: EdgeBasis, edge_scalars: Tensor) -> Tensor:
        """Forces; see the class for shapes."""
        return self.attention(x, basis, edge_scalars)[:, 1:4, 0]
