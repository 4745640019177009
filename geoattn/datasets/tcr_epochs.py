"""Training pairs whose negatives are drawn anew in every epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset

from geoattn.datasets.sampler import EpochShuffle
from geoattn.domains.tcr.records import Epitope, Pair
from geoattn.errors import InputError

TRIES = 20


class FreshNegatives(Dataset[list[Pair]]):
    """The binders of the training part, each beside negatives of the epoch: its receptor with other epitopes.

    Epitopes are drawn as often as they stand among the negatives of the part, so that fresh negatives follow the same
    scheme; a known binder is never drawn. Item ``epoch * len(self) + i`` is binder ``i`` of that epoch: the number
    alone says which negatives are meant, so processes of a data loader, which keep copies of this object, need not be
    told when an epoch begins.

    Args:
        pairs: of the training part.
        ratio: negatives per binder; fewer where a receptor binds nearly all epitopes.
        known: (CDR3, epitope) of the binders of all parts.
        seed: of the draw.

    Raises:
        InputError: the part has no negatives, which would say how often each epitope is wanted.
    """

    def __init__(self, pairs: Sequence[Pair], ratio: int, known: Collection[tuple[str, str]], seed: int) -> None:
        self._binders = [pair for pair in pairs if pair.label == 1]
        self._ratio, self._known, self._seed = ratio, set(known), seed
        epitopes = {pair.epitope.sequence: pair.epitope for pair in pairs}
        counts = Counter(pair.epitope.sequence for pair in pairs if pair.label == 0)
        if not counts:
            raise InputError(
                "fresh_negatives: the training part has no negatives, whose epitopes fresh ones have to follow. Draw "
                "some with --negatives frequency."
            )
        self._epitopes: list[Epitope] = [epitopes[sequence] for sequence in counts]
        self._upto = np.cumsum(list(counts.values()))

    def __len__(self) -> int:
        return len(self._binders)

    def __getitem__(self, item: int) -> list[Pair]:
        epoch, i = divmod(item, len(self))
        binder, rng = self._binders[i], np.random.default_rng([self._seed, epoch, i])
        drawn = np.searchsorted(self._upto, rng.integers(self._upto[-1], size=self._ratio + TRIES), side="right")
        cdr3 = binder.receptor.cdr3
        free = [k for k in drawn.tolist() if (cdr3, self._epitopes[k].sequence) not in self._known]
        return [binder, *(Pair("fresh", binder.receptor, self._epitopes[k], label=0) for k in free[: self._ratio])]


class EpochOrder(EpochShuffle):
    """The order of `EpochShuffle`, as items of `FreshNegatives`."""

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * len(self) + i for i in super().__iter__())
