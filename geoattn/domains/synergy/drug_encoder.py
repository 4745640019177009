"""A drug as one vector: atoms in space (or bonds alone), motifs, fingerprint and identity."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from geoattn.domains.synergy.featurize import DrugBatch
from geoattn.errors import InputError, nearest_hint
from geoattn.kernels import Neighborhood, segment_reduce, segment_softmax
from geoattn.layers.equivariant_gat import EquivariantGATLayer
from geoattn.layers.gin_attention import GINAttention
from geoattn.layers.graph_attention import GraphAttentionLayer
from geoattn.layers.polynormer import PolynormerGlobalLayer, PolynormerLocalLayer
from geoattn.layers.self_loops import with_self_loops

AtomEncoder = Literal["egat", "gin", "polynormer"]
LENGTH = 2.0
"""The unit of length of the networks, in angstrom: squares of distances are then of the size of other features."""


class DrugEncoder(nn.Module):
    r"""Vectors of drugs.

    .. math::
        d = \operatorname{norm}\big( \operatorname{MLP}[\operatorname{pool}(\text{atoms}),
            \operatorname{pool}(\text{motifs})] + W\,\text{fingerprint} + \text{identity} \big), \qquad
        \operatorname{pool}(x) = \big[ \textstyle\sum_i \alpha_i x_i,\; \max_i x_i \big]

    A motif starts as a vector of its code plus a linear map of the mean of its atoms, then motifs that touch attend to
    each other. In training a drug is taken for an unknown one with probability ``identity_dropout``, so that the vector
    of unknown drugs is learned. With probability ``molecule_dropout`` its molecule is hidden, so that a known drug can
    be known by its name: tens of drugs teach little chemistry, and a network that leans on it is worse where names are
    known.

    Args: see `geoattn.domains.synergy.egat_model.SynergyEGAT`.

    Shapes: a `DrugBatch` of D drugs to ``[D, C]``.
    """

    def __init__(
        self,
        num_motifs: int,
        num_drugs: int,
        num_bits: int,
        atom_channels: int,
        bond_channels: int,
        channels: int,
        num_heads: int,
        num_layers: int,
        atoms: AtomEncoder,
        dropout: float,
        input_dropout: float,
        identity_dropout: float,
        molecule_dropout: float,
    ) -> None:
        super().__init__()
        self.identity_dropout, self.molecule_dropout = identity_dropout, molecule_dropout
        self.atoms = _tower(atoms, atom_channels, bond_channels, channels, num_heads, num_layers, dropout)
        self.code = nn.Embedding(num_motifs, channels)
        self.of_atoms = nn.Linear(channels, channels)
        self.motifs = nn.ModuleList(
            GraphAttentionLayer(channels, num_heads, dropout=dropout) for _ in range(num_layers)
        )
        self.motif_norm = nn.LayerNorm(channels)
        self.atom_pool, self.motif_pool = AttentionPool(channels), AttentionPool(channels)
        self.structure = nn.Sequential(
            nn.Linear(4 * channels, channels), nn.SiLU(), nn.Dropout(dropout), nn.Linear(channels, channels)
        )
        self.fingerprint = nn.Sequential(nn.Dropout(input_dropout), nn.Linear(num_bits, channels))
        self.identity = nn.Embedding(num_drugs, channels)
        for embedding in (self.code, self.identity):
            nn.init.normal_(embedding.weight, std=0.3)
        self.norm = nn.LayerNorm(channels)

    def forward(self, batch: DrugBatch) -> Tensor:
        """``[D, C]``."""
        identity, seen = batch.identity, batch.has_pos.new_ones(batch.num_drugs)
        if self.training:
            identity = identity * (torch.rand(identity.shape, device=identity.device) >= self.identity_dropout)
            seen = torch.rand(identity.shape, device=identity.device) >= self.molecule_dropout
        name = self.identity(identity)
        if self.molecule_dropout == 1:
            return self.norm(name)
        atoms, motifs = self._states(batch)
        pooled = [self.atom_pool(atoms, _rows(batch.atom_ptr)), self.motif_pool(motifs, _rows(batch.motif_ptr))]
        molecule = self.structure(torch.cat(pooled, dim=1)) + self.fingerprint(batch.fingerprint)
        return self.norm(molecule * seen[:, None] + name)

    def weights(self, batch: DrugBatch) -> tuple[list[Tensor], list[Tensor]]:
        """Per drug the weights of its atoms and of its motifs in the sums; each sums to 1."""
        atoms, motifs = self._states(batch)
        of_atom = self.atom_pool.weights(atoms, _rows(batch.atom_ptr))
        of_motif = self.motif_pool.weights(motifs, _rows(batch.motif_ptr))
        return (
            list(of_atom.split(batch.atom_ptr.diff().tolist())),
            list(of_motif.split(batch.motif_ptr.diff().tolist())),
        )

    def _states(self, batch: DrugBatch) -> tuple[Tensor, Tensor]:
        """Atoms ``[N, C]`` and motifs ``[M, C]``."""
        atoms, num_motifs = self.atoms(batch), len(batch.motif)
        members = Neighborhood.from_edge_index(batch.member, num_motifs, len(atoms))
        mean = segment_reduce(atoms[batch.member[0]], members, "mean")
        x = self.code(batch.motif) + self.of_atoms(mean)
        touching = Neighborhood.from_edge_index(batch.motif_edge_index, num_motifs)
        for layer in self.motifs:
            x = layer(x, touching)
        return atoms, self.motif_norm(x)


class AttentionPool(nn.Module):
    r"""Rows of each set, summed with one learned weight each, beside their largest values.

    .. math:: \big[ \textstyle\sum_i \alpha_i x_i,\; \max_i x_i \big], \qquad
        \alpha = \operatorname{softmax}_i\, w \cdot \tanh(W x_i)

    Args:
        channels: C.

    Shapes: ``[N, C]`` and the sets as a ``Neighborhood`` of N edges; returns ``[D, 2 C]``.

    Edge cases: an empty set gets 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # the softmax would not see a bias of the score
        self.score = nn.Sequential(nn.Linear(channels, channels), nn.Tanh(), nn.Linear(channels, 1, bias=False))

    def forward(self, x: Tensor, sets: Neighborhood) -> Tensor:
        """Pool; see the class for shapes."""
        weighted = segment_reduce(self.weights(x, sets)[:, None] * x, sets, "sum")
        return torch.cat([weighted, segment_reduce(x, sets, "max")], dim=1)

    def weights(self, x: Tensor, sets: Neighborhood) -> Tensor:
        """``[N]`` the weight of each row."""
        return segment_softmax(self.score(x).squeeze(1), sets)


class EquivariantAtoms(nn.Module):
    """`EquivariantGATLayer` over bonds and near pairs, each with a residual and a norm; points move between layers."""

    def __init__(
        self, atom_channels: int, bond_channels: int, channels: int, num_heads: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.atom = nn.Linear(atom_channels + 1, channels)
        self.layers = nn.ModuleList(
            EquivariantGATLayer(
                channels,
                num_heads=num_heads,
                hidden_channels=max(1, channels // (2 * num_heads)),  # edges are many, and scores are made for each
                edge_channels=bond_channels,
                update_pos=number + 1 < num_layers,  # nobody asks where the atoms are in the end
                tanh=True,
                act="silu",
                dropout=dropout,
            )
            for number in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_layers))

    def forward(self, batch: DrugBatch) -> Tensor:
        """``[N, C]``."""
        known = batch.has_pos.repeat_interleave(batch.atom_ptr.diff()).to(batch.x.dtype)
        x, pos = self.atom(torch.cat([batch.x, known[:, None]], dim=1)), batch.pos / LENGTH
        nbr = Neighborhood.from_edge_index(batch.edge_index, len(x))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            step, pos = layer(x, pos, nbr, batch.edge_attr)
            x = norm(x + step)
        return x


class IsomorphicAtoms(nn.Module):
    """`GINAttention` over bonds, whose weights sum and do not average, each with a residual."""

    def __init__(
        self, atom_channels: int, bond_channels: int, channels: int, num_heads: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.atom = nn.Linear(atom_channels, channels)
        self.layers = nn.ModuleList(
            GINAttention(
                channels,
                num_heads,
                normalize="sigmoid",
                edge_channels=bond_channels,
                mlp_ratio=2.0,
                out_proj=True,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_layers))
        self.norm = nn.LayerNorm(channels)

    def forward(self, batch: DrugBatch) -> Tensor:
        """``[N, C]``."""
        x = self.atom(batch.x)
        edge_index, edge_attr = _bonds(batch)
        nbr = Neighborhood.from_edge_index(edge_index, len(x))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x), nbr, edge_attr)
        return self.norm(x)


class PolynomialAtoms(nn.Module):
    """`PolynormerLocalLayer` over bonds, their sum, and one `PolynormerGlobalLayer` over each molecule.

    These layers know no features of edges: an atom starts with the mean of its bonds' features.
    """

    def __init__(
        self, atom_channels: int, bond_channels: int, channels: int, num_heads: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.atom = nn.Linear(atom_channels + bond_channels, channels)
        self.layers = nn.ModuleList(
            PolynormerLocalLayer(channels, num_heads, dropout=dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.whole = PolynormerGlobalLayer(channels, num_heads)
        self.out = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Dropout(dropout))
        self.last = nn.LayerNorm(channels)

    def forward(self, batch: DrugBatch) -> Tensor:
        """``[N, C]``."""
        edge_index, edge_attr = _bonds(batch)
        mean = segment_reduce(edge_attr, Neighborhood.from_edge_index(edge_index, len(batch.x)), "mean")
        nbr = with_self_loops(edge_index, len(batch.x))[0].in_csr_order()
        x = self.atom(torch.cat([batch.x, mean], dim=1))
        total = torch.zeros_like(x)
        for layer in self.layers:
            x = layer(x, nbr)
            total = total + x
        molecule = torch.arange(batch.num_drugs, device=x.device).repeat_interleave(batch.atom_ptr.diff())
        total = self.norm(total)
        return self.last(total + self.out(self.whole(total, molecule)))


_TOWERS = {"egat": EquivariantAtoms, "gin": IsomorphicAtoms, "polynormer": PolynomialAtoms}


def _tower(kind: AtomEncoder, *sizes: int | float) -> nn.Module:
    if kind not in get_args(AtomEncoder):
        raise InputError(f"drug_encoder: got {kind!r}. {nearest_hint(str(kind), get_args(AtomEncoder))}")
    return _TOWERS[kind](*sizes)  # type: ignore[arg-type]


def _bonds(batch: DrugBatch) -> tuple[Tensor, Tensor]:
    """The edges that are bonds."""
    is_bond = batch.edge_attr[:, -1] > 0
    return batch.edge_index[:, is_bond], batch.edge_attr[is_bond]


def _rows(ptr: Tensor) -> Neighborhood:
    """The rows between two pointers as the edges of one target."""
    num = int(ptr[-1])
    rows = torch.arange(num, device=ptr.device)
    target = torch.arange(len(ptr) - 1, device=ptr.device).repeat_interleave(ptr.diff())
    return Neighborhood.from_csr(ptr, rows, target, len(ptr) - 1, num)
