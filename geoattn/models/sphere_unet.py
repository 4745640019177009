"""A U-shaped network on the sphere: attention at every resolution, with what was there beside what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import SpherePoints
from geoattn.models.sphere_transformer import Place, SphereBlock, block_neighborhood, coarser, resample


class SphereUNet(nn.Module):
    r"""Labels points, or gives them values, by what is near, further, and far away.

    On each level `SphereBlock` lets points attend to a disk of a few cells; `resample` carries the features to points
    twice as far apart, and on the way back to the denser ones, beside what those had. The disk of the last level
    covers a good part of the sphere.

    Paper: the S2 Segformer of Bonev et al., "Attention on the Sphere", arXiv:2505.11157, in outline: attention in disks
    at all levels and attention as the change of resolution, instead of its overlapping patches.

    Args:
        in_channels: F.
        out_channels: classes, or width of the answer.
        points: N points where the fields are.
        channels: width on each level, the first that of ``points``; each divisible by ``num_heads``.
        num_heads: of each attention.
        num_layers: blocks on each level, on the way down; one on each on the way up.
        window: width of a point's disk, in cells of its level.
        mlp_ratio: width of a block's network in units of the level's channels.
        planar: windows of pixels in the place of disks, and all pixels count the same; needs grids.

    Shapes:
        x ``[B, F, N]``. Returns ``[B, out_channels, N]``.

    Symmetry: as `geoattn.models.SphereTransformer`. Samples never meet.

    Cost: O(B N K C) for disks of K points, and O(B N C^2), a third more for all coarser levels; memory O(B N C).

    The parameters do not depend on the points: a state dict serves every resolution.

    Example:
        >>> from geoattn.geometry import healpix
        >>> SphereUNet(1, 5, healpix(4), channels=(8, 16), num_heads=2)(torch.randn(2, 1, 192)).shape
        torch.Size([2, 5, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        points: SpherePoints,
        *,
        channels: Sequence[int] = (32, 64, 128),
        num_heads: int = 4,
        num_layers: int = 1,
        window: float = 7.0,
        mlp_ratio: int = 2,
        planar: bool = False,
    ) -> None:
        super().__init__()
        if not channels:
            raise ShapeError("channels", "no numbers", "one for each level")
        levels = list(itertools.accumulate(channels[1:], lambda level, _: coarser(level), initial=points))
        looks = [block_neighborhood(level, window, planar) for level in levels]
        self.embed = nn.Linear(in_channels, channels[0])
        self.before = nn.ModuleList(
            nn.Sequential(*(SphereBlock(width, level, num_heads, near, mlp_ratio, planar) for _ in range(num_layers)))
            for width, level, near in zip(channels, levels, looks, strict=True)
        )
        steps = list(itertools.pairwise(zip(channels, levels, strict=True)))
        self.down = nn.ModuleList(_Down(a, b, fine, coarse, num_heads, planar) for (a, fine), (b, coarse) in steps)
        self.up = nn.ModuleList(_Up(b, a, coarse, fine, num_heads, planar) for (a, fine), (b, coarse) in steps)
        self.after = nn.ModuleList(
            SphereBlock(a, fine, num_heads, near, mlp_ratio, planar)
            for ((a, fine), _), near in zip(steps, looks, strict=False)
        )
        self.head = nn.Sequential(nn.LayerNorm(channels[0]), nn.Linear(channels[0], out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """The answer; see the class for shapes.

        Raises:
            ShapeError: if ``x`` has not as many points as the network.
        """
        h = self.before[0](self.embed(x.mT))
        kept = []
        for down, blocks in zip(self.down, self.before[1:], strict=True):
            kept.append(h)
            h = blocks(down(h))
        for up, block in zip(reversed(self.up), reversed(self.after), strict=True):
            h = block(up(kept.pop(), h))
        return self.head(h).mT


class _Down(nn.Module):
    """Features of the coarser points, from the finer ones around each."""

    def __init__(
        self, channels: int, wider: int, fine: SpherePoints, coarse: SpherePoints, num_heads: int, planar: bool
    ) -> None:
        super().__init__()
        self.place, self.norm = Place(coarse, channels), nn.LayerNorm(channels)
        self.attention = resample(channels, fine, coarse, num_heads, planar)
        self.widen = nn.Linear(channels, wider)

    def forward(self, x: Tensor) -> Tensor:
        query = self.place(x.new_zeros(1, 1, 1)).expand(len(x), -1, -1)
        return self.widen(self.attention(query, self.norm(x)))


class _Up(nn.Module):
    """Features of the finer points: what they had, and what comes from the coarser ones around each."""

    def __init__(
        self, wider: int, channels: int, coarse: SpherePoints, fine: SpherePoints, num_heads: int, planar: bool
    ) -> None:
        super().__init__()
        self.norm, self.narrow = nn.LayerNorm(wider), nn.Linear(wider, channels)
        self.attention = resample(channels, coarse, fine, num_heads, planar)
        self.merge = nn.Linear(2 * channels, channels)

    def forward(self, kept: Tensor, x: Tensor) -> Tensor:
        return self.merge(torch.cat([kept, self.attention(kept, self.narrow(self.norm(x)))], -1))
