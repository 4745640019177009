"""Equivariant graph attention with motifs for pairs of drugs, symmetric in the two drugs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geoattn.domains.synergy.batch import PairBatch
from geoattn.domains.synergy.drug_encoder import AtomEncoder, DrugEncoder
from geoattn.domains.synergy.featurize import DrugBatch
from geoattn.errors import ShapeError


class SynergyEGAT(nn.Module):
    r"""The score of two drugs in a cell line, from what each drug is in that cell line.

    .. math::
        d &= \operatorname{encode}(\text{drug}), \qquad c = \operatorname{encode}(\text{expression}) \\
        u_a &= d_a + \operatorname{MLP}[d_a, c], \qquad u_b = d_b + \operatorname{MLP}[d_b, c] \\
        \text{score} &= \operatorname{MLP} \operatorname{norm}
            \big[ u_a + u_b,\; u_a \odot u_b,\; |u_a - u_b|,\; c \big]

    with drugs encoded as in `DrugEncoder`: equivariant graph attention over atoms in space, attention over motifs,
    fingerprint, and the identity of drugs that training knew. Each distinct drug, cell line, and drug in a cell line of
    a batch is computed once; a screen of all pairs calls `encode_drugs`, `encode_cells`, `in_cell` and `combine`.

    Paper: Schwehr, "Equivariant Graph Attention Networks with Structural Motifs for Predicting Cell Line-Specific
    Synergistic Drug Combinations", arXiv:2411.04747. Not as there: the order of the drugs has no say; positions are
    vectors and not distances from an origin; one vocabulary of motifs, of the training drugs; attention pooling; a
    drug meets the cell line before it meets the other drug; no contrastive phase.

    Args:
        num_genes: G, width of the expression.
        num_motifs: codes of motifs, with that of unknown ones; see `geoattn.domains.synergy.featurize.sizes`.
        num_drugs: identities, with that of unknown ones.
        num_bits: width of the fingerprint.
        atom_channels, bond_channels: widths of ``x`` and ``edge_attr`` of a `DrugBatch`.
        channels: C, width of everything; divisible by ``num_heads``.
        num_heads: of the attention over atoms and over motifs.
        num_layers: layers of each of the two.
        drug_encoder: over atoms: egat (in space), gin or polynormer (over bonds).
        dropout: inside.
        input_dropout: on fingerprint and expression.
        molecule_dropout: how often a drug is known by its identity alone in training; 1 for a model of names.
        cell_dropout: how often a cell line is taken for an unknown one in training, so that the network does not learn
            tens of cell lines by heart.
        num_outputs: 2 for a classifier that learns the scores behind the labels too.
        identity_dropout: how often a drug is taken for an unknown one in training; 1 for a model without identities.

    Shapes: forward takes a `PairBatch` of P pairs with a `DrugBatch`, and returns ``[P]``: scores in standardised
    units, or logits.

    Symmetry: swapping the drugs of a pair changes no bit of the result. Invariant under rotations, reflections and
    translations of each drug, under renumbering of its atoms; the batch's other pairs have no say.

    Cost: O(N C^2 + E C) for N atoms and E edges of the distinct drugs, O(K C^2) for K distinct drugs in cell lines,
    O(P C^2) for the pairs.

    Edge cases: a drug without positions is read along its bonds, and the network is told so. Drugs and motifs that
    training has not seen have a learned vector of their own. A pair may be twice the same drug.

    Example:
        >>> from geoattn.domains.synergy.featurize import DrugFeaturizer, make_preprocess, sizes
        >>> from geoattn.domains.synergy.records import Drug
        >>> drugs = [Drug("phenol", "Oc1ccccc1"), Drug("toluene", "Cc1ccccc1")]
        >>> preprocess = make_preprocess(drugs)
        >>> model = SynergyEGAT(num_genes=5, channels=16, **sizes(preprocess))
        >>> first, second, cell = torch.tensor([[0, 0], [1, 0], [2, 1]])
        >>> model(PairBatch(DrugFeaturizer(preprocess)(drugs), torch.randn(3, 5), first, second, cell)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        num_genes: int,
        num_motifs: int,
        num_drugs: int,
        num_bits: int,
        atom_channels: int,
        bond_channels: int,
        channels: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
        drug_encoder: AtomEncoder = "egat",
        dropout: float = 0.3,
        input_dropout: float = 0.2,
        identity_dropout: float = 0.3,
        molecule_dropout: float = 0.3,
        cell_dropout: float = 0.0,
        num_outputs: int = 1,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            num_genes=num_genes,
            num_motifs=num_motifs,
            num_drugs=num_drugs,
            num_bits=num_bits,
            atom_channels=atom_channels,
            bond_channels=bond_channels,
            channels=channels,
            num_heads=num_heads,
            num_layers=num_layers,
            drug_encoder=drug_encoder,
            dropout=dropout,
            input_dropout=input_dropout,
            identity_dropout=identity_dropout,
            molecule_dropout=molecule_dropout,
            cell_dropout=cell_dropout,
            num_outputs=num_outputs,
        )
        self.num_genes, self.cell_dropout = num_genes, cell_dropout
        self.drug = DrugEncoder(
            num_motifs,
            num_drugs,
            num_bits,
            atom_channels,
            bond_channels,
            channels,
            num_heads,
            num_layers,
            drug_encoder,
            dropout,
            input_dropout,
            identity_dropout,
            molecule_dropout,
        )
        self.cell = nn.Sequential(
            nn.Dropout(input_dropout),
            nn.Linear(num_genes, channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(channels, channels),
            nn.LayerNorm(channels),
        )
        self.unknown_cell = nn.Parameter(torch.zeros(channels)) if cell_dropout else None
        self.meeting = nn.Sequential(
            nn.Linear(2 * channels, 2 * channels), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * channels, channels)
        )
        self.head = nn.Sequential(
            nn.LayerNorm(4 * channels),
            nn.Linear(4 * channels, 2 * channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels, num_outputs),
        )

    def forward(self, batch: PairBatch) -> Tensor:
        """``[P]`` scores in standardised units, or logits."""
        return self.outputs(batch)[:, 0]

    def outputs(self, batch: PairBatch) -> Tensor:
        """``[P, num_outputs]``: what forward returns, and if there is a second, scores in standardised units."""
        drugs, cells = self.encode_drugs(batch.drugs), self.encode_cells(batch.cells)
        # numbers of (drug, cell line); ordered by unique, so that the order of a pair's drugs decides nothing
        both = torch.cat([batch.drug_a, batch.drug_b]) * len(cells) + batch.cell.repeat(2)
        distinct, place = torch.unique(both, return_inverse=True)
        states = self.in_cell(drugs[distinct // max(1, len(cells))], cells[distinct % max(1, len(cells))])
        a, b = states[place].chunk(2)
        return self._head(a, b, cells[batch.cell])

    def encode_drugs(self, drugs: DrugBatch) -> Tensor:
        """``[D, C]``."""
        return self.drug(drugs)

    def encode_cells(self, cells: Tensor) -> Tensor:
        """``[C', C]`` from standardised expression ``[C', G]``.

        Raises:
            ShapeError: if the cells do not have the model's genes.
        """
        if cells.ndim != 2 or cells.shape[1] != self.num_genes:
            raise ShapeError("cells", f"shape {tuple(cells.shape)}", f"[C', num_genes = {self.num_genes}]")
        found = self.cell(cells)
        if not self.training or self.unknown_cell is None:
            return found
        hidden = torch.rand(len(found), 1, device=found.device) < self.cell_dropout
        return torch.where(hidden, self.unknown_cell, found)

    def in_cell(self, drug: Tensor, cell: Tensor) -> Tensor:
        """``[K, C]`` what drugs ``[K, C]`` are in cell lines ``[K, C]``."""
        return drug + self.meeting(torch.cat([drug, cell], dim=1))

    def combine(self, a: Tensor, b: Tensor, cell: Tensor) -> Tensor:
        """``[P]`` scores from both drugs in the cell line, ``[P, C]`` each; the same for (b, a), bit by bit."""
        return self._head(a, b, cell)[:, 0]

    def _head(self, a: Tensor, b: Tensor, cell: Tensor) -> Tensor:
        return self.head(torch.cat([a + b, a * b, (a - b).abs(), cell], dim=1))

    def attention(self, batch: PairBatch) -> tuple[list[Tensor], list[Tensor]]:
        """Per distinct drug of the batch the weights of its atoms and of its motifs in its vector; each sums to 1.

        Atoms stand in the order of `geoattn.domains.synergy.featurize.molecule_of`.
        """
        return self.drug.weights(batch.drugs)
