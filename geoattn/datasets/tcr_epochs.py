"""Training pairs whose negatives are drawn anew in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import Dataset

from geoattn.datasets.sampler import EpochShuffle
from geoattn.domains.tcr.records import Pair


class EpochPairs(Dataset[Pair]):
    """The same positives in every epoch, beside negatives of the epoch.

    Item ``epoch * len(self) + i`` is pair ``i`` of that epoch: the number alone says which negatives are meant, so
    processes of a data loader, which keep copies of this object, need not be told when an epoch begins.

    Args:
        positives: of the training part.
        negatives: those of an epoch, always as many.
    """

    def __init__(self, positives: Sequence[Pair], negatives: Callable[[int], Sequence[Pair]]) -> None:
        self._positives, self._negatives = positives, negatives
        self._epoch, self._pairs = 0, [*positives, *negatives(0)]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, item: int) -> Pair:
        epoch, i = divmod(item, len(self))
        if epoch != self._epoch:
            self._epoch, self._pairs = epoch, [*self._positives, *self._negatives(epoch)]
        return self._pairs[i]


class EpochOrder(EpochShuffle):
    """The order of `EpochShuffle`, as items of `EpochPairs`."""

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * len(self) + i for i in super().__iter__())
