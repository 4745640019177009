"""What TITAN makes of one side before the attention: features of every position at several scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geoattn.domains.tcr.batch import Sequences
from geoattn.errors import InputError
from geoattn.kernels import Neighborhood
from geoattn.layers.graph_attention import GraphAttentionLayer


@dataclass(frozen=True)
class Encoded:
    """S sequences or molecules at K + 1 scales, and which of them each pair has.

    Attributes:
        scales: K + 1 times ``[S, L, C_k]``.
        row: ``[P]``.
        mask: ``[S, L]`` where there is something, START and STOP included.
        first: ``[S]`` where the sequence itself begins, behind START.
        kept: ``[S]`` how many of its positions found place.
        length: ``[S]`` how many it has.
    """

    scales: list[Tensor]
    row: Tensor
    mask: Tensor
    first: Tensor
    kept: Tensor
    length: Tensor

    def cut(self, alpha: Tensor) -> list[Tensor]:
        """Weights ``[P, L]`` as one tensor per pair: the sequence's own positions, with sum 1, 0 for lost ones."""
        places = torch.stack([self.first, self.kept, self.length], dim=1)[self.row].tolist()
        own = []
        for weights, (first, kept, length) in zip(alpha, places, strict=True):
            cut = weights.new_zeros(length)
            cut[:kept] = weights[first : first + kept]
            own.append(cut / cut.sum())
        return own


class SequenceEncoder(nn.Module):
    """Tokens, padded on the left to a fixed length, as their embedding and K parallel convolutions of it.

    Args:
        table: the embedding: a module to learn, or a fixed ``[tokens, E]`` matrix.
        specials: the tokens START and STOP.
        length: L, of every sequence.
        kernels, filters: sizes and channels of the convolutions.
        dropout: between a convolution's ReLU and its batch norm.
    """

    fixed: Tensor

    def __init__(
        self,
        table: nn.Embedding | Tensor,
        specials: tuple[int, int],
        length: int,
        kernels: Sequence[int],
        filters: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.specials, self.length = specials, length
        self.table = table if isinstance(table, nn.Embedding) else None
        if isinstance(table, nn.Embedding):
            width = table.embedding_dim
        else:
            self.register_buffer("fixed", table, persistent=False)  # BLOSUM62 belongs to the code, not to the weights
            width = table.shape[1]
        self.channels = [width, *[filters] * len(kernels)]
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, filters, kernel, padding=kernel // 2),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.BatchNorm1d(filters),
            )
            for kernel in kernels
        )

    def forward(self, sequences: Sequences, row: Tensor, silent: bool = False) -> Encoded:
        """The sequences of P pairs; ``silent`` puts zeros in the place of all features."""
        tokens, length = sequences.tokens, sequences.lengths
        if self.training:  # each pair for itself: dropout and batch statistics are those of pairs
            tokens, length = tokens[row], length[row]
            row = torch.arange(len(row), device=row.device)
        framed, first = left_padded(tokens, length, self.length, *self.specials)
        if silent:
            scales = [torch.zeros(*framed.shape, width, device=row.device, dtype=self.dtype) for width in self.channels]
        else:
            embedded = self._embed(framed)
            scales = [embedded, *(convolve(embedded.mT).mT for convolve in self.convolutions)]
        kept = (self.length - first).clamp(max=length)
        return Encoded(scales, row, framed != 0, first, kept, length)

    @property
    def dtype(self) -> torch.dtype:
        """Of the features."""
        return next(self.parameters()).dtype

    def _embed(self, tokens: Tensor) -> Tensor:
        if self.table is None:
            return self.fixed[tokens]
        if int(tokens.max()) >= self.table.num_embeddings:
            raise InputError(
                f"batch.epitope: got token {int(tokens.max())}, the model knows {self.table.num_embeddings}. "
                "Featurise with the model's own preprocess, or build it with num_smiles_tokens = 3 + its vocabulary."
            )
        return self.table(tokens)


class GraphEncoder(nn.Module):
    """Atoms and bonds through K layers of graph attention; scale 0 is linear in the atoms' features.

    Args:
        atom_channels, bond_channels: widths of ``x`` and ``edge_attr``.
        width: of scale 0.
        filters: of the other scales.
        num_layers: K.
        num_heads, dropout: of the layers.
    """

    length = None

    def __init__(
        self,
        atom_channels: int,
        bond_channels: int,
        width: int,
        filters: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.channels = [width, *[filters] * num_layers]
        self.table = nn.Linear(atom_channels, width)
        self.widen = nn.Linear(width, filters)
        self.layers = nn.ModuleList(
            GraphAttentionLayer(filters, num_heads, edge_channels=bond_channels, dropout=dropout)
            for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(filters) for _ in range(num_layers))

    def forward(self, molecules: Batch, row: Tensor) -> Encoded:
        """The molecules of P pairs, each distinct one once; no batch norm is among the layers."""
        nbr = Neighborhood.from_edge_index(molecules.edge_index, molecules.x.shape[0])
        scales = [self.table(molecules.x)]
        x = self.widen(scales[0])
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x, nbr, molecules.edge_attr)
            scales.append(norm(x))
        length = molecules.ptr.diff()
        mask = torch.arange(int(length.max()), device=row.device) < length[:, None]
        dense = [
            scale.new_zeros(*mask.shape, scale.shape[1]).masked_scatter(mask[..., None], scale) for scale in scales
        ]
        return Encoded(dense, row, mask, torch.zeros_like(length), length, length)


def left_padded(tokens: Tensor, lengths: Tensor, length: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Sequences padded on the right as START, tokens, STOP, padded on the left; a longer one loses its end.

    Args:
        tokens: ``[S, L]``.
        lengths: ``[S]`` of the sequences.
        length: of the result.
        start, stop: the special tokens.

    Returns:
        ``[S, length]``, and ``[S]`` where each sequence itself begins.
    """
    begin = (length - lengths - 2).clamp(min=0)[:, None]  # where START stands
    place = torch.arange(length, device=tokens.device) - begin - 1
    framed = tokens.new_zeros(len(tokens), length)
    inside = (place >= 0) & (place < lengths[:, None])
    if tokens.shape[1]:
        framed = torch.where(inside, tokens.gather(1, place.clamp(0, tokens.shape[1] - 1)), framed)
    framed = framed.masked_fill(place == -1, start).masked_fill(place == lengths[:, None], stop)
    return framed, begin[:, 0] + 1
