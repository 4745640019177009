"""A plain point transformer: attention among near points, over fewer and fewer of them. Not invariant to rotation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.edges import edge_vectors
from geoattn.kernels import Neighborhood, farthest_points, interpolate, knn, segment_reduce
from geoattn.layers.vector_attention import VectorAttention

FIRST_SCALE = 4.0  # a quarter of the radius is about how far 16 neighbours reach among 256 points of a surface


class Level(NamedTuple):
    """The points that a stage of the network works on.

    Attributes:
        pos: ``[M, 3]``, those of all clouds, one cloud after the other.
        ptr: ``[B+1]``, where each cloud begins.
        among: k nearest neighbours among these points, each point its own too.
        from_finer: k nearest neighbours among the points of the level before.
    """

    pos: Tensor
    ptr: Tensor
    among: Neighborhood
    from_finer: Neighborhood


class PointTransformer(nn.Module):
    r"""Classifies clouds of points, or each point of them, by `VectorAttention` among near points.

    Coordinates, and features if there are any, pass a small network; then each stage

    - keeps ``points[s]`` points of each cloud by farthest point sampling,
    - gives each the maximum, over its k nearest points of the stage before, of a linear map of features and
      displacement,
    - and lets it attend to its k nearest kept points: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``.

    A cloud's logits come from mean and maximum over the points of the last stage; those of points by interpolation from
    stage to stage back to all points, with the features of the way down beside. Norms are of a point's own channels, so
    that what else is in the batch changes nothing, in training neither.

    It follows Zhao et al., "Point Transformer", ICCV 2021, arXiv:2012.09164, with the grouped weights of its version 2
    and without attention at full resolution. Coordinates enter as they are: the network knows how a cloud stands, which
    is what `geoattn.layers.FrameAveraging` or `Canonicalize` take from it, and augmentation tries to teach it.

    Args:
        out_channels: classes.
        in_channels: F, width of the features of the points beside their coordinates, such as 3 for normals.
        channels: width at full resolution and in each stage; each but the first divisible by ``num_groups``.
        points: points kept in each stage, one number fewer than ``channels``.
        neighbors: k.
        num_groups: groups of channels that share an attention weight.
        per_point: whether each point gets logits, instead of each cloud.
        dropout: before the last map.

    Shapes:
        pos ``[B, N, 3]``, x ``[B, N, F]``, mask ``[B, N]`` bool, false for padding. Returns ``[B, out_channels]``, with
        ``per_point`` ``[B, N, out_channels]``, zeros at padding.

    Symmetry: permutation of the points, as far as no distances tie. Not invariant to rotation, nor to translation or
    scale: give it clouds within the unit sphere about the origin.

    Cost: O(N C^2 + M k C) time and memory for N points and M kept points of each stage: an edge tensor is bounded by
    the small ``k`` and by the points kept, a quarter in each stage by default.

    Derivatives by ``pos`` leave out who is kept and who is near, and how points are weighted when features are
    interpolated; those by features and parameters are whole.

    Edge cases: a cloud of fewer points than a stage keeps keeps all; a cloud without points gets the logits of zeros.

    Example:
        >>> network = PointTransformer(10)
        >>> network(torch.randn(2, 128, 3)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        out_channels: int,
        *,
        in_channels: int = 0,
        channels: Sequence[int] = (32, 64, 128, 256),
        points: Sequence[int] = (256, 64, 16),
        neighbors: int = 16,
        num_groups: int = 8,
        per_point: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) != len(points) + 1 or not points:
            got = f"{len(channels)} and {len(points)} numbers"
            raise ShapeError("channels, points", got, "one more of channels than of points, and a stage")
        self.in_channels, self.points, self.neighbors, self.per_point = in_channels, tuple(points), neighbors, per_point
        first, last = channels[0], channels[-1]
        self.embedding = nn.Sequential(nn.Linear(3 + in_channels, first), nn.SiLU(), nn.Linear(first, first))
        self.stages = nn.ModuleList(
            _Stage(before, after, num_groups, FIRST_SCALE * 2**number)
            for number, (before, after) in enumerate(itertools.pairwise(channels))
        )
        self.ups = nn.ModuleList(
            _Up(channels[number + 1], channels[number]) for number in reversed(range(len(points))) if per_point
        )
        width = first if per_point else 2 * last
        hidden = first if per_point else last
        self.head = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, out_channels),
        )

    def forward(self, pos: Tensor, x: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Logits; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        self._check(pos, x, mask)
        batch, num_points, _ = pos.shape
        inside = pos.new_ones(pos.shape[:2], dtype=torch.bool) if mask is None else mask
        ptr = functional.pad(inside.sum(1).cumsum(0), (1, 0))
        fine = pos[inside]
        h = self.embedding(fine if x is None else torch.cat([fine, x[inside]], dim=1))
        levels = point_levels(fine, ptr, self.points, self.neighbors)
        features = [h]
        for stage, level in zip(self.stages, levels, strict=True):
            features.append(stage(features[-1], fine, level))
            fine = level.pos
        if not self.per_point:
            nbr = _points_of_clouds(levels[-1].ptr)
            h = torch.cat([segment_reduce(features[-1], nbr, "mean"), segment_reduce(features[-1], nbr, "max")], dim=1)
            return self.head(h)
        h = features.pop()
        places = [(pos[inside], ptr), *((level.pos, level.ptr) for level in levels)]
        for up in self.ups:
            h = up(h, features.pop(), places.pop(), places[-1])
        logits = self.head(h)
        return logits.new_zeros(batch, num_points, logits.shape[1]).masked_scatter(inside[..., None], logits)

    def _check(self, pos: Tensor, x: Tensor | None, mask: Tensor | None) -> None:
        if pos.ndim != 3 or pos.shape[2] != 3:
            raise ShapeError("pos", f"shape {tuple(pos.shape)}", "[B, N, 3]")
        width = 0 if x is None else x.shape[-1]
        if width != self.in_channels or (x is not None and x.shape[:2] != pos.shape[:2]):
            got = "None" if x is None else f"shape {tuple(x.shape)}"
            raise ShapeError("x", got, f"[B, N, in_channels = {self.in_channels}], or None for 0")
        if mask is not None and (mask.shape != pos.shape[:2] or mask.dtype != torch.bool):
            raise ShapeError("mask", f"{mask.dtype} of shape {tuple(mask.shape)}", "bool [B, N]")


def point_levels(pos: Tensor, ptr: Tensor, points: Sequence[int], neighbors: int) -> list[Level]:
    """Farthest points of farthest points, and who is near whom: all that a `PointTransformer` asks of positions.

    Args:
        pos: ``[N, 3]``.
        ptr: ``[B+1]`` int64, where each cloud begins in ``pos``, and N.
        points: points that each level keeps of a cloud.
        neighbors: k.
    """
    levels = []
    for number in points:
        kept, kept_ptr = farthest_points(pos.detach(), number, ptr=ptr, start="centroid")
        coarse = pos[kept]
        among = _nearest(coarse, kept_ptr, coarse, kept_ptr, neighbors)
        levels.append(Level(coarse, kept_ptr, among, _nearest(pos, ptr, coarse, kept_ptr, neighbors)))
        pos, ptr = coarse, kept_ptr
    return levels


class _Stage(nn.Module):
    """Features of the finer points -> features of the kept ones, which attend to each other."""

    def __init__(self, in_channels: int, channels: int, num_groups: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.features = nn.Linear(in_channels, channels)
        self.displacement = nn.Linear(3, channels, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.attention = VectorAttention(channels, num_groups=num_groups, scale=scale)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor, pos_finer: Tensor, level: Level) -> Tensor:
        nbr = level.from_finer
        displacement = edge_vectors(pos_finer, nbr, pos_target=level.pos) * self.scale
        received = self.features(x).index_select(0, nbr.source) + self.displacement(displacement)
        x = functional.silu(self.norms[0](segment_reduce(received, nbr, "max")))
        x = x + self.attention(self.norms[1](x), level.pos, level.among)
        return x + self.mlp(self.norms[2](x))


class _Up(nn.Module):
    """Features of kept points -> features of the finer points, beside those that these had on the way down."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.coarse, self.fine = nn.Linear(in_channels, channels), nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, x: Tensor, x_finer: Tensor, place: tuple[Tensor, Tensor], place_finer: tuple[Tensor, Tensor]
    ) -> Tensor:
        (pos, ptr), (pos_finer, ptr_finer) = place, place_finer
        spread = interpolate(self.coarse(x), pos, pos_finer, 3, ptr_source=ptr, ptr_target=ptr_finer)
        return x_finer + functional.silu(self.norm(spread + self.fine(x_finer)))


def _nearest(pos: Tensor, ptr: Tensor, queries: Tensor, ptr_queries: Tensor, k: int) -> Neighborhood:
    """The k nearest rows of ``pos`` of each query, fewer where its cloud has fewer."""
    index, _ = knn(pos.detach(), queries.detach(), k=k, ptr_x=ptr, ptr_y=ptr_queries)
    found = index >= 0
    degree = found.sum(1)
    target = torch.arange(len(queries), device=pos.device).repeat_interleave(degree)
    row_ptr = functional.pad(degree.cumsum(0), (1, 0))
    return Neighborhood.from_csr(row_ptr, index[found], target, len(queries), len(pos))


def _points_of_clouds(ptr: Tensor) -> Neighborhood:
    """Each cloud as the target of its points."""
    num_clouds, num_points = len(ptr) - 1, int(ptr[-1])
    points = torch.arange(num_points, device=ptr.device)
    clouds = torch.arange(num_clouds, device=ptr.device).repeat_interleave(ptr.diff())
    return Neighborhood.from_csr(ptr, points, clouds, num_clouds, num_points)
