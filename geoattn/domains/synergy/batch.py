"""Batches of drug pairs as tensors: each distinct drug and cell line stands once, and pairs point to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoattn.domains.molecules.fingerprints import molecules_of, morgan_counts
from geoattn.domains.synergy.records import Combination, Drug

DrugFeatures = Callable[[Sequence[Drug]], Any]
"""From D drugs to a PyG batch of D graphs, a tensor ``[D, F]``, or anything with ``to(device)``."""


@dataclass(frozen=True)
class PairBatch:
    """What a model of this field gets: P pairs of D distinct drugs in C distinct cell lines.

    Attributes:
        drugs: features of D drugs, as `PairCollator` was told to make them.
        cells: ``[C, G]`` float32 standardised expression.
        drug_a, drug_b: ``[P]`` the drugs of each pair, numbers of ``drugs``.
        cell: ``[P]`` its cell line, a row of ``cells``.
        target: ``[P]`` float32 score or label, NaN for a score between the classes; None if that is asked.
        measured: ``[P]`` float32 scores from which labels were made; None if there are none.
    """

    drugs: Any
    cells: Tensor
    drug_a: Tensor
    drug_b: Tensor
    cell: Tensor
    target: Tensor | None = None
    measured: Tensor | None = None

    @property
    def num_pairs(self) -> int:
        """P."""
        return self.cell.shape[0]

    def swapped(self) -> PairBatch:
        """The same pairs with their drugs in the other order, which must not change what a model says."""
        return replace(self, drug_a=self.drug_b, drug_b=self.drug_a)

    def to(self, device: torch.device | str) -> PairBatch:
        """A copy on ``device``; Lightning calls it."""
        return PairBatch(
            self.drugs.to(device),
            self.cells.to(device),
            self.drug_a.to(device),
            self.drug_b.to(device),
            self.cell.to(device),
            None if self.target is None else self.target.to(device),
            None if self.measured is None else self.measured.to(device),
        )


class PairCollator:
    """Collates `Combination` records to a `PairBatch`.

    Args:
        drug_features: makes features of the distinct drugs of a batch, in their order.
        cells: name of a cell line -> ``[G]`` its standardised expression.
    """

    def __init__(self, drug_features: DrugFeatures, cells: Mapping[str, np.ndarray]) -> None:
        self.drug_features, self.cells = drug_features, cells

    def __call__(self, samples: Sequence[Combination]) -> PairBatch:
        """Drugs and cells in order of first appearance."""
        drugs: dict[Drug, int] = {}
        cells: dict[str, int] = {}
        rows = [
            (
                drugs.setdefault(sample.drug_a, len(drugs)),
                drugs.setdefault(sample.drug_b, len(drugs)),
                cells.setdefault(sample.cell.name, len(cells)),
            )
            for sample in samples
        ]
        index = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
        return PairBatch(
            drugs=self.drug_features(list(drugs)),
            cells=torch.from_numpy(np.stack([self.cells[name] for name in cells])).to(torch.float32),
            drug_a=index[:, 0],
            drug_b=index[:, 1],
            cell=index[:, 2],
            target=_values([sample.score for sample in samples]),
            measured=_values([sample.measured for sample in samples]),
        )


def _values(values: Sequence[float | None]) -> Tensor | None:
    """``[P]`` with NaN for None; None if there are no numbers."""
    if all(value is None for value in values):
        return None
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)


def fingerprints(drugs: Sequence[Drug]) -> Tensor:
    """``[D, 2048]`` Morgan counts: features that need no fit."""
    return torch.from_numpy(morgan_counts(molecules_of([drug.smiles for drug in drugs])))
