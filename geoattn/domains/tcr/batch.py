"""Batches of receptor-epitope pairs as tensors: each distinct sequence stands once, and pairs point to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch


@dataclass(frozen=True)
class Sequences:
    """Sequences of tokens, padded on the right.

    Attributes:
        tokens: ``[S, L]`` int64; 0 is padding.
        region: ``[S, L]`` int64: 1 V segment, 2 CDR3, 3 J segment, 0 padding; None where there are no regions.
    """

    tokens: Tensor
    region: Tensor | None = None

    @classmethod
    def padded(cls, tokens: Sequence[Sequence[int]], regions: Sequence[Sequence[int]] | None = None) -> Sequences:
        """From lists of different length, as long as the longest."""
        return cls(_padded(tokens), None if regions is None else _padded(regions))

    @property
    def mask(self) -> Tensor:
        """``[S, L]``, true where there is a token."""
        return self.tokens != 0

    @property
    def lengths(self) -> Tensor:
        """``[S]`` tokens per sequence."""
        return self.mask.sum(1)

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: torch.device | str) -> Sequences:
        """A copy on ``device``."""
        return Sequences(self.tokens.to(device), None if self.region is None else self.region.to(device))


@dataclass(frozen=True)
class PairBatch:
    """What a model of this field gets: P pairs of T distinct receptors and E distinct epitopes.

    Attributes:
        tcr: T sequences.
        epitope: E sequences, or a PyG batch of E molecular graphs.
        pair_tcr: ``[P]`` the receptor of each pair.
        pair_epitope: ``[P]`` its epitope.
        label: ``[P]`` 1.0 binds, 0.0 does not; None if that is asked.
    """

    tcr: Sequences
    epitope: Sequences | Batch
    pair_tcr: Tensor
    pair_epitope: Tensor
    label: Tensor | None = None

    @property
    def num_pairs(self) -> int:
        """P."""
        return self.pair_tcr.shape[0]

    def to(self, device: torch.device | str) -> PairBatch:
        """A copy on ``device``; Lightning calls it."""
        return PairBatch(
            self.tcr.to(device),
            self.epitope.to(device),
            self.pair_tcr.to(device),
            self.pair_epitope.to(device),
            None if self.label is None else self.label.to(device),
        )


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.int64).reshape(
        len(rows), width
    )
