"""Samples of clouds in random poses: augmentation for networks that see how a cloud stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from geoattn.domains.pointclouds.batch import CloudBatch, CloudSample, collate
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.records import Cloud
from geoattn.domains.pointclouds.rotations import Rotations, random_rotation


class TurnedSamples:
    """A featurizer whose samples are turned at random each time they are asked for.

    What is invariant in a sample is kept; points, their normals and normals that are a target turn.

    Args:
        featurizer: makes the samples.
        kind: of the rotations.
        up: the axis that ``kind="z"`` turns about.
    """

    def __init__(self, featurizer: Featurizer, kind: Rotations, up: Literal["x", "y", "z"] = "z") -> None:
        self.featurizer, self.kind, self.up = featurizer, kind, up

    def __call__(self, cloud: Cloud, rng: np.random.Generator) -> CloudSample:
        """One sample in a pose drawn from ``rng``."""
        sample = self.featurizer(cloud, rng)
        turn = torch.from_numpy(random_rotation(rng, self.kind, self.up)).to(sample.pyramid.pos).T
        pyramid, target = sample.pyramid, sample.target
        if target is not None and target.ndim == 2:
            target = target @ turn
        return replace(
            sample, pyramid=replace(pyramid, pos=pyramid.pos @ turn, normal=pyramid.normal @ turn), target=target
        )

    def collate(self, samples: Sequence[CloudSample]) -> CloudBatch:
        """A batch of samples."""
        return collate(samples)
