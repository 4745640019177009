"""Batches of point clouds as models get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geoattn.geometry.surface_pyramid import SurfacePyramid
from geoattn.layers.risurconv import to_sets


@dataclass(frozen=True)
class CloudSample:
    """One featurised cloud.

    Attributes:
        pyramid: of one cloud.
        label: its class, -1 if it is not known.
        target: of each point of ``pyramid.pos``: ``[N]`` its class (-1 if it is not known) or ``[N, 3]`` its normal;
            None if points have no targets.
        rows: ``[N]`` which points of the cloud ``pyramid.pos`` are; None if that is not known.
    """

    pyramid: SurfacePyramid
    label: int = -1
    target: Tensor | None = None
    rows: np.ndarray | None = None


@dataclass(frozen=True)
class CloudBatch:
    """B clouds, one after the other.

    Attributes:
        pyramid: of all clouds.
        label: ``[B]`` classes, -1 where they are not known.
        target: ``[N]`` or ``[N, 3]`` of their points, or None.
    """

    pyramid: SurfacePyramid
    label: Tensor
    target: Tensor | None = None

    def to(self, target: torch.device | str | torch.dtype) -> CloudBatch:
        """A copy on a device, or in another floating-point dtype; Lightning calls it."""
        moved = None if self.target is None else self.target
        if moved is not None and (moved.is_floating_point() or not isinstance(target, torch.dtype)):
            moved = moved.to(target)
        label = self.label if isinstance(target, torch.dtype) else self.label.to(target)
        return CloudBatch(self.pyramid.to(target), label, moved)

    def dense(self) -> tuple[Tensor, Tensor | None]:
        """``pos [B, N, 3]`` and ``mask [B, N]``, None where all clouds have N points: for networks on coordinates."""
        return to_sets(self.pyramid.pos, self.pyramid.ptr[0])


def collate(samples: Sequence[CloudSample]) -> CloudBatch:
    """A batch; either all samples have targets of points, or none."""
    targets = [sample.target for sample in samples if sample.target is not None]
    return CloudBatch(
        SurfacePyramid.cat([sample.pyramid for sample in samples]),
        torch.tensor([sample.label for sample in samples]),
        torch.cat(targets) if targets else None,
    )
