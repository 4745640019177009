"""The order of a training epoch, which depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochShuffle(Sampler[int]):
    """All samples in an order drawn from ``(seed, epoch)``, so that a resumed run sees the order it would have seen.

    Lightning calls `set_epoch` before each training epoch; the state of no global generator is read or changed.

    Example:
        >>> order = EpochShuffle(5, seed=0)
        >>> order.set_epoch(3)
        >>> sorted(order), list(order) == list(order)
        ([0, 1, 2, 3, 4], True)
    """

    def __init__(self, num_samples: int, seed: int = 0) -> None:
        self.num_samples, self.seed, self.epoch = num_samples, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.num_samples, generator=generator).tolist())


class EpochOrder(EpochShuffle):
    """The order of `EpochShuffle`, as items that tell the epoch: item ``epoch * num_samples + i`` is sample ``i``."""

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * len(self) + i for i in super().__iter__())
