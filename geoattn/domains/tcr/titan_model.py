"""TITAN as published: convolutions over both sequences, context attention between them at each scale, an MLP."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geoattn.domains.tcr import amino_acids, smiles_tokens
from geoattn.domains.tcr.batch import PairBatch, Sequences
from geoattn.domains.tcr.titan_encoders import Encoded, GraphEncoder, SequenceEncoder
from geoattn.errors import InputError, ShapeError, nearest_hint
from geoattn.layers.context_attention import ContextAttention

EPITOPES = ("smiles", "aa", "graph")


class Titan(nn.Module):
    r"""Binding of receptors and epitopes by attention that each pays to itself in the light of the other.

    .. math::
        X^k &= \operatorname{BN}(\operatorname{Dropout}(\operatorname{ReLU}(\operatorname{Conv}_{w_k} X^0))),
            \quad k = 1..K \\
        o_l^k, \alpha_l^k &= \operatorname{ContextAttention}(X_l^k, X_r^k), \qquad
        o_r^k, \alpha_r^k = \operatorname{ContextAttention}(X_r^k, X_l^k), \quad k = 0..K \\
        \text{logit} &= \operatorname{MLP}\big([o_l^0 .. o_l^K, o_r^0 .. o_r^K]\big)

    for the ligand l (the epitope) and the receptor r, whose raw embeddings are :math:`X^0`. The defaults are the
    released configuration: 15,486,517 parameters in 97 tensors.

    Paper: "TITAN: T-cell receptor specificity prediction with bimodal attention networks", Bioinformatics 37, i237
    (2021), arXiv:2105.03323.

    What follows from the publication, and `TitanMasked` mends: sequences are padded on the left to fixed lengths, with
    START before and STOP behind; one that is too long loses its end; padding takes part in convolution and attention.
    In training every pair is convolved for itself, since dropout and the statistics of batch norm are per pair; in
    evaluation every distinct sequence once, which gives the same.

    Args:
        epitope: what the ligand is: "smiles" (tokens, learned embedding), "aa" (amino acids as BLOSUM62 rows) or
            "graph" (atoms and bonds; graph attention layers stand in for the convolutions, and since atoms have no
            order, both directions use masked attention instead of fixed lengths).
        num_smiles_tokens: size of the vocabulary with padding, START and STOP (smiles).
        smiles_channels: width of its embedding (smiles).
        atom_channels, bond_channels: widths of ``x`` and ``edge_attr`` (graph).
        num_heads: of the graph attention layers (graph).
        epitope_length, receptor_length: to which the sequences are padded.
        kernels: w_k, odd, of both sides; with a graph their number is that of the layers.
        filters: channels of each convolution.
        attention_channels: width in which reference and context are compared.
        head: widths of the MLP.
        dropout: in the convolutions and the MLP.
        receptor: False replaces the receptor's features by zeros: the epitope-only copy of the network, with the same
            parameters. What it scores, a model can score without looking at the receptor.

    Shapes: forward takes a `PairBatch` of P pairs and returns logits ``[P]``.

    Symmetry: none in space. A pair's logit does not depend on the other pairs of a batch (in evaluation), but on the
    amount of padding. With a graph it is invariant under renumbering of the atoms.

    Cost: per distinct sequence O(L w E F) for each convolution and O(T S A) for each attention.

    Edge cases: training needs two pairs or more in a batch, as batch norm does; evaluation takes one.
    """

    def __init__(
        self,
        epitope: Literal["smiles", "aa", "graph"] = "smiles",
        num_smiles_tokens: int = 571,
        smiles_channels: int = 32,
        atom_channels: int = 72,
        bond_channels: int = 14,
        num_heads: int = 4,
        epitope_length: int = 500,
        receptor_length: int = 1028,
        kernels: Sequence[int] = (3, 7, 13),
        filters: int = 512,
        attention_channels: int = 256,
        head: Sequence[int] = (2048, 1024, 512),
        dropout: float = 0.5,
        receptor: bool = True,
    ) -> None:
        super().__init__()
        if epitope not in EPITOPES:
            raise InputError(f"epitope: got {epitope!r}. {nearest_hint(str(epitope), EPITOPES)}")
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ShapeError("kernels", f"{tuple(kernels)}", "odd numbers, which keep the length")
        self.config: dict[str, Any] = dict(
            epitope=epitope,
            num_smiles_tokens=num_smiles_tokens,
            smiles_channels=smiles_channels,
            atom_channels=atom_channels,
            bond_channels=bond_channels,
            num_heads=num_heads,
            epitope_length=epitope_length,
            receptor_length=receptor_length,
            kernels=list(kernels),
            filters=filters,
            attention_channels=attention_channels,
            head=list(head),
            dropout=dropout,
            receptor=receptor,
        )
        self.epitope, self.sees_receptor = epitope, receptor
        blosum = torch.from_numpy(amino_acids.BLOSUM62_OF_TOKEN)
        ligand: SequenceEncoder | GraphEncoder
        if epitope == "graph":
            ligand = GraphEncoder(
                atom_channels, bond_channels, smiles_channels, filters, len(kernels), num_heads, dropout
            )
        elif epitope == "aa":
            specials = (amino_acids.START, amino_acids.STOP)
            ligand = SequenceEncoder(blosum, specials, epitope_length, kernels, filters, dropout)
        else:
            specials = (smiles_tokens.START, smiles_tokens.STOP)
            table = nn.Embedding(num_smiles_tokens, smiles_channels)
            ligand = SequenceEncoder(table, specials, epitope_length, kernels, filters, dropout)
        specials = (amino_acids.START, amino_acids.STOP)
        receptors = SequenceEncoder(blosum, specials, receptor_length, kernels, filters, dropout)
        self.ligand = _Side(ligand, receptors, attention_channels)
        self.receptor = _Side(receptors, ligand, attention_channels)
        self.head = _head((sum(ligand.channels) + sum(receptors.channels), *head), dropout)

    def forward(self, batch: PairBatch) -> Tensor:
        """Logits ``[P]``.

        Raises:
            ShapeError: if the batch's epitopes are not what the model was built for.
        """
        ligand, receptor = self._encode(batch)
        pooled = [*self.ligand(ligand, receptor)[0], *self.receptor(receptor, ligand)[0]]
        return self.head(torch.cat(pooled, dim=-1)).squeeze(-1)

    @torch.no_grad()
    def attention(self, batch: PairBatch) -> tuple[list[Tensor], list[Tensor]]:
        """Where the model looks, for each pair: a weight for each residue of the receptor, and for each token or atom
        of the epitope.

        The mean over scales, cut to the positions of the sequence itself (no padding, START or STOP) and divided by
        its sum, so that each list sums to 1. What a sequence that is too long lost has weight 0.
        """
        ligand, receptor = self._encode(batch)
        of_ligand, of_receptor = self.ligand(ligand, receptor)[1], self.receptor(receptor, ligand)[1]
        return receptor.cut(torch.stack(of_receptor).mean(0)), ligand.cut(torch.stack(of_ligand).mean(0))

    def _encode(self, batch: PairBatch) -> tuple[Encoded, Encoded]:
        wanted = Batch if self.epitope == "graph" else Sequences
        if not isinstance(batch.epitope, wanted):
            expected = f"{wanted.__name__}, as epitope = {self.epitope!r} says"
            raise ShapeError("batch.epitope", type(batch.epitope).__name__, expected)
        ligand = self.ligand.encoder(batch.epitope, batch.pair_epitope)
        receptor = self.receptor.encoder(batch.tcr, batch.pair_tcr, silent=not self.sees_receptor)
        return ligand, receptor


class _Side(nn.Module):
    """One partner: its encoder, and for each scale the attention that pools it with the other one as context."""

    def __init__(
        self,
        encoder: SequenceEncoder | GraphEncoder,
        other: SequenceEncoder | GraphEncoder,
        attention_channels: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        lengths = None if encoder.length is None or other.length is None else (encoder.length, other.length)
        self.masked = lengths is None
        self.attention = nn.ModuleList(
            ContextAttention(own, context, attention_channels, lengths=lengths)
            for own, context in zip(encoder.channels, other.channels, strict=True)
        )

    def forward(self, own: Encoded, other: Encoded) -> tuple[list[Tensor], list[Tensor]]:
        """For each scale the pooled features ``[P, C_k]`` and the weights ``[P, L]``."""
        own_mask, other_mask = (own.mask[own.row], other.mask) if self.masked else (None, None)
        pooled, alphas = [], []
        for attention, reference, context in zip(self.attention, own.scales, other.scales, strict=True):
            assert isinstance(attention, ContextAttention)
            # what does not depend on the partner is computed once for each distinct sequence
            projected, summary = attention.project(reference), attention.summarize(context, other_mask)
            vector, alpha = attention.attend(reference[own.row], projected[own.row], summary[other.row], own_mask)
            pooled.append(vector)
            alphas.append(alpha)
        return pooled, alphas


def _head(widths: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm1d(widths[0])]
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))
