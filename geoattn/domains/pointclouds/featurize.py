"""From a cloud as it was read to what a model reads: thinned, scaled, sampled, described."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from geoattn.domains.pointclouds.batch import CloudBatch, CloudSample, collate
from geoattn.domains.pointclouds.records import Cloud
from geoattn.geometry.surface_pyramid import surface_pyramid
from geoattn.kernels import farthest_points

LARGEST = 8192
"""A cloud of more points is thinned to so many, evenly, before its normals are estimated and its points sampled."""
CACHE_BYTES = 2**31


class Featurizer:
    """Makes samples of clouds, and batches of samples.

    The points are centred, scaled to the unit sphere unless their size matters, thinned, and sampled to a
    `SurfacePyramid`, as the model's preprocessing says: ``num_points``, ``levels`` (centres and neighbours of each),
    ``up_neighbors`` (tasks on points), ``normals`` (``given`` or ``estimated``), ``normal_neighbors`` and ``scale``
    (``unit`` or ``keep``).

    Samples are kept in memory, up to two gigabytes, and made once: an augmented cloud is one of a few variants,
    whose points are left out and shifted at random, but the same in every epoch and for every seed of the training;
    only its size is drawn anew, which leaves neighbours and angles as they are.

    Args:
        preprocess: of the model.
        variants: of each cloud; 1 is the cloud itself.
        dropout: a variant lacks up to this share of the points.
        jitter: standard deviation by which points of a variant are shifted, in radii of the cloud.
        stretch: the size is multiplied by up to 1 + this, or divided by it.
        keep: whether samples are kept in memory.
    """

    def __init__(
        self,
        preprocess: Mapping[str, Any],
        *,
        variants: int = 1,
        dropout: float = 0.0,
        jitter: float = 0.0,
        stretch: float = 0.0,
        keep: bool = False,
    ) -> None:
        self.preprocess = preprocess
        self.variants, self.dropout, self.jitter, self.stretch = variants, dropout, jitter, stretch
        self.keep = keep
        # with the clouds, so that Python gives their ids to no others
        self._kept: dict[tuple[int, int], tuple[Cloud, CloudSample]] = {}
        self._bytes = 0

    def __call__(self, cloud: Cloud, rng: np.random.Generator | None = None) -> CloudSample:
        """One sample; without ``rng`` it is the cloud itself."""
        variant = 0 if rng is None else int(rng.integers(self.variants))
        key = (id(cloud), variant)
        sample = self._kept[key][1] if key in self._kept else self._sample(cloud, variant)
        if self.keep and key not in self._kept and self._bytes < CACHE_BYTES:
            self._kept[key] = cloud, sample
            self._bytes += sum(f.nbytes for f in (*sample.pyramid.features, *sample.pyramid.up_features)) * 2
        if rng is None or not self.stretch:
            return sample
        factor = torch.tensor([(1 + self.stretch) ** rng.uniform(-1, 1)])
        return replace(sample, pyramid=sample.pyramid.scaled(factor))

    def collate(self, samples: Sequence[CloudSample]) -> CloudBatch:
        """A batch of samples."""
        return collate(samples)

    def batch(self, clouds: Sequence[Cloud]) -> CloudBatch:
        """The clouds themselves, as a batch."""
        return collate([self(cloud) for cloud in clouds])

    def _sample(self, cloud: Cloud, variant: int) -> CloudSample:
        settings = self.preprocess
        rng = np.random.default_rng([zlib.crc32(cloud.id.encode()), variant])
        rows = self._rows(cloud, rng, variant)
        points = cloud.points[rows].astype(np.float64)
        points -= points.mean(0)
        radius = np.sqrt((points**2).sum(1).max())
        if settings["scale"] == "unit":
            points /= max(radius, np.finfo(np.float32).tiny)
            radius = 1.0
        if variant and self.jitter:
            points += rng.normal(scale=self.jitter * radius, size=points.shape)
        given = settings["normals"] == "given" and cloud.normals is not None
        pyramid = surface_pyramid(
            torch.from_numpy(points.astype(np.float32)),
            settings["levels"],
            normal=torch.from_numpy(cloud.normals[rows]) if given and cloud.normals is not None else None,
            num_points=settings["num_points"],
            normal_neighbors=settings["normal_neighbors"],
            up_neighbors=settings["up_neighbors"],
        )
        chosen = rows[pyramid.index.numpy()]
        label = -1 if cloud.label is None else cloud.label
        target = None
        if settings["task"] == "segmentation" and cloud.segment is not None:
            target = torch.from_numpy(cloud.segment[chosen])
        elif settings["task"] == "normals" and cloud.normals is not None:
            target = torch.from_numpy(cloud.normals[chosen])
        return CloudSample(pyramid, label, target, chosen)

    def _rows(self, cloud: Cloud, rng: np.random.Generator, variant: int) -> np.ndarray:
        """Which points to use, in ascending order: at most `LARGEST`, the farthest from each other, whatever the order
        of the points and the name of the cloud; of a variant not all."""
        rows = np.arange(len(cloud))
        if len(cloud) > LARGEST:
            points = np.ascontiguousarray(cloud.points, dtype=np.float32)
            rows = farthest_points(torch.from_numpy(points), LARGEST, start="centroid")[0].sort().values.numpy()
        if variant and self.dropout:
            number = max(1, round(len(rows) * (1 - rng.uniform(0, self.dropout))))
            rows = np.sort(rng.choice(rows, number, replace=False))
        return rows
