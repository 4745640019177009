"""Clouds as samples of a data loader: featurised when they are asked for, with random numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from geoattn.domains.pointclouds.records import Cloud


class CloudFeaturizer(Protocol):
    """Makes a sample of a cloud, and a batch of samples. Both run in the processes of the data loader."""

    def __call__(self, cloud: Cloud, rng: np.random.Generator) -> Any:
        """One sample; everything random is drawn from ``rng``."""

    def collate(self, samples: Sequence[Any]) -> Any:
        """A batch of samples."""


class CloudSamples(Dataset[Any]):
    """Samples of clouds.

    Item ``epoch * len(self) + i`` is cloud ``i`` in that epoch: its random numbers follow from seed, epoch and ``i``
    alone, so that neither the number of processes nor a run that was resumed changes them.

    Args:
        clouds: of one part.
        featurizer: makes the samples.
        seed: of what it draws.
    """

    def __init__(self, clouds: Sequence[Cloud], featurizer: CloudFeaturizer, seed: int = 0) -> None:
        self.clouds, self.featurizer, self.seed = clouds, featurizer, seed

    def __len__(self) -> int:
        return len(self.clouds)

    def __getitem__(self, item: int) -> Any:
        epoch, row = divmod(item, len(self.clouds))
        return self.featurizer(self.clouds[row], np.random.default_rng([self.seed, epoch, row]))
