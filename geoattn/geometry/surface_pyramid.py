"""A cloud at several resolutions: nested farthest-point samples, their neighbours in angular order, and features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from geoattn.geometry.normals import centroids, estimate_normals
from geoattn.geometry.surface import angular_order, local_reference_axes, surface_features
from geoattn.kernels import farthest_points, knn

Levels = Sequence[tuple[int, int]]
FINE_STRIDE = 1024
"""From so many centres the features of RISurConv step over one neighbour."""


@dataclass(frozen=True)
class SurfacePyramid:
    """Point clouds as RISurConv reads them; B clouds stand one after the other at every level.

    Level 0 has all points, level l the centres taken from level l - 1; the last has one centre per cloud, its centroid,
    with all points of the level before as neighbours. What stands here is invariant to rotation and translation, but
    ``pos`` and ``normal``, which turn along.

    Attributes:
        pos: ``[N, 3]`` points.
        normal: ``[N, 3]`` their normals or reference axes.
        ptr: for each level ``[B+1]``, where each cloud begins.
        index: ``[N]`` rows of the points that it was made from.
        idx: for each level but the first ``[M, K]`` neighbours, rows of the level before; -1 for none.
        features: the same with ``[M, K, 14]`` features.
        up_idx, up_features: for each level but the last two, from the fine points to their nearest points of the next
            level: ``[M, K]`` and ``[M, K, 14]``; empty where no decoder needs them.
    """

    pos: Tensor
    normal: Tensor
    ptr: tuple[Tensor, ...]
    index: Tensor
    idx: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    up_idx: tuple[Tensor, ...] = ()
    up_features: tuple[Tensor, ...] = ()

    @property
    def num_clouds(self) -> int:
        """B."""
        return len(self.ptr[0]) - 1

    def to(self, target: torch.device | str | torch.dtype) -> SurfacePyramid:
        """A copy on a device, or with floating-point values of a dtype; Lightning calls it."""
        if isinstance(target, torch.dtype):
            return self._map(lambda value: value.to(target) if value.is_floating_point() else value)
        return self._map(lambda value: value.to(target))

    def scaled(self, factor: Tensor) -> SurfacePyramid:
        """Each cloud larger by a factor, ``[B]``: only lengths change, so neighbours and angles are kept."""
        stretched = []
        for values, ptr in zip((*self.features, *self.up_features), (*self.ptr[1:], *self.ptr), strict=False):
            per_center = factor.repeat_interleave(ptr.diff()).to(values)
            stretched.append(torch.cat([values[..., :1] * per_center[:, None, None], values[..., 1:]], -1))
        pos = self.pos * factor.repeat_interleave(self.ptr[0].diff()).to(self.pos)[:, None]
        count = len(self.features)
        return replace(self, pos=pos, features=tuple(stretched[:count]), up_features=tuple(stretched[count:]))

    def _map(self, change: Callable[[Tensor], Tensor]) -> SurfacePyramid:
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        return SurfacePyramid(**values)

    @staticmethod
    def cat(pyramids: Sequence[SurfacePyramid]) -> SurfacePyramid:
        """The clouds of all, one after the other; rows of neighbours are filled up with -1 to the widest."""
        levels = range(len(pyramids[0].ptr))
        ptr = tuple(_pointers([p.ptr[level] for p in pyramids]) for level in levels)
        before = [[int(p.ptr[level][-1]) for p in pyramids] for level in levels]
        ups = range(len(pyramids[0].up_idx))
        return SurfacePyramid(
            pos=torch.cat([p.pos for p in pyramids]),
            normal=torch.cat([p.normal for p in pyramids]),
            ptr=ptr,
            index=_shifted([p.index for p in pyramids], before[0]),
            idx=tuple(_shifted([p.idx[level] for p in pyramids], before[level]) for level in levels[:-1]),
            features=tuple(_widened([p.features[level] for p in pyramids], 0) for level in levels[:-1]),
            up_idx=tuple(_shifted([p.up_idx[level] for p in pyramids], before[level + 1]) for level in ups),
            up_features=tuple(_widened([p.up_features[level] for p in pyramids], 0) for level in ups),
        )


def surface_pyramid(
    pos: Tensor,
    levels: Levels,
    *,
    normal: Tensor | None = None,
    ptr: Tensor | None = None,
    num_points: int | None = None,
    normal_neighbors: int = 24,
    up_neighbors: Sequence[int] = (),
) -> SurfacePyramid:
    """Sample clouds to several levels and describe every neighbourhood.

    The points are put in the order of `farthest_points`, which starts with the point farthest from the centroid; a
    level is then a first part of that order, so one search serves all.

    Args:
        pos: ``[N, 3]``; take off large coordinates and scale before.
        levels: ``(M, K)`` per level: centres per cloud, fewer where it has fewer points, and neighbours of each among
            the points of the level before.
        normal: ``[N, 3]`` unit normals; None: local reference axes of all points, which point away from the centroid.
        ptr: ``[B+1]``, where each cloud begins; None: one cloud.
        num_points: points of level 0 per cloud; None: as many as there are.
        normal_neighbors: neighbours of a local reference axis.
        up_neighbors: neighbours among the points of the next level, for levels 0, 1, ...; for a decoder.

    Returns:
        The pyramid, in the dtype of ``pos``.

    Symmetry: what is invariant there is so up to ties of distances and angles, within rounding.

    Cost: that of `farthest_points` and `knn`; ``O(M K)`` for the features.
    """
    pos, ptr = pos.contiguous(), torch.tensor([0, len(pos)], device=pos.device) if ptr is None else ptr
    if normal is None:
        normal, _ = estimate_normals(pos, normal_neighbors, ptr=ptr)
    largest = int(ptr.diff().max()) if len(ptr) > 1 else 0
    index, ptr = farthest_points(pos, max(1, min(num_points or largest, largest)), ptr=ptr, start="centroid")
    pos, normal = pos[index], normal[index]
    ptrs, rows = [ptr], [torch.arange(len(pos), device=pos.device)]
    idx: list[Tensor] = []
    features: list[Tensor] = []
    up_idx: list[Tensor] = []
    up_features: list[Tensor] = []

    def describe(centers: Tensor, sources: Tensor, ptr_y: Tensor, ptr_x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Neighbours as rows among ``sources``, in angular order, and their features."""
        there, axes = pos[sources], normal[sources]
        here, axis = pos[centers], normal[centers]
        found, _ = knn(there, here, k, ptr_x=ptr_x, ptr_y=ptr_y)
        found = angular_order(there, here, axis, found)
        stride = 2 if len(ptr_y) > 1 and int(ptr_y.diff().max()) >= FINE_STRIDE else 1
        return found, surface_features(there, axes, here, axis, found, stride)

    for level, (count, k) in enumerate(levels):
        first = torch.minimum(ptrs[-1].diff(), torch.tensor(count, device=pos.device))
        places = torch.arange(len(rows[-1]), device=pos.device) - ptrs[-1][:-1].repeat_interleave(ptrs[-1].diff())
        taken = rows[-1][places < first.repeat_interleave(ptrs[-1].diff())]
        below = torch.cat([ptrs[-1].new_zeros(1), first.cumsum(0)])
        for found, into in zip(describe(taken, rows[-1], below, ptrs[-1], k), (idx, features), strict=True):
            into.append(found)
        if level < len(up_neighbors):
            up = describe(rows[-1], taken, ptrs[-1], below, up_neighbors[level])
            for found, into in zip(up, (up_idx, up_features), strict=True):
                into.append(found)
        ptrs.append(below)
        rows.append(taken)
    found, described = _around_centroids(pos[rows[-1]], normal[rows[-1]], ptrs[-1])
    return SurfacePyramid(
        pos=pos,
        normal=normal,
        ptr=(*ptrs, torch.arange(len(ptr), device=pos.device)),
        index=index,
        idx=(*idx, found),
        features=(*features, described),
        up_idx=tuple(up_idx),
        up_features=tuple(up_features),
    )


def _around_centroids(pos: Tensor, normal: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, S]`` all points of each cloud in the angular order around its centroid, and ``[B, S, 14]`` features."""
    counts = ptr.diff()
    slots = torch.arange(int(counts.max()) if len(counts) else 0, device=pos.device)
    everything = torch.where(slots < counts[:, None], ptr[:-1, None] + slots, -1)
    center = centroids(pos, ptr)
    axis, _ = local_reference_axes(pos, center, everything)
    found = angular_order(pos, center, axis, everything)
    return found, surface_features(pos, normal, center, axis, found)


def _pointers(parts: Sequence[Tensor]) -> Tensor:
    counts = torch.cat([part.diff() for part in parts])
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _shifted(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Rows of each part behind those of the parts before it."""
    begins = torch.tensor([0, *sizes[:-1]]).cumsum(0).tolist()
    moved = [torch.where(part < 0, -1, part + begin) for part, begin in zip(parts, begins, strict=True)]
    return torch.cat(moved) if parts[0].ndim == 1 else _widened(moved, -1)


def _widened(parts: Sequence[Tensor], fill: float) -> Tensor:
    """Stacked along the first axis, the second filled up to the widest."""
    widest = max(part.shape[1] for part in parts)
    if all(part.shape[1] == widest for part in parts):
        return torch.cat(list(parts))
    wide = [torch.cat([p, p.new_full((len(p), widest - p.shape[1], *p.shape[2:]), fill)], 1) for p in parts]
    return torch.cat(wide)
