"""Networks of RISurConv: one label per cloud, or values per point."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoattn.geometry.surface import NUM_CONTEXT, cloud_context
from geoattn.geometry.surface_pyramid import SurfacePyramid
from geoattn.layers.risurconv import Attention, RISurConv, from_sets, to_sets

HEADS = 4


class RISurEncoder(nn.Module):
    """A RISurConv per level of a `SurfacePyramid`, and attention among the centres of the last.

    Args:
        widths: channels after each level but the last one, multiples of 4.
        edge_channels: of the embedded features, a multiple of 4.
        attention: of `RISurConv`, where it stands.
        num_layers: of the transformer among the centres of the last level of one cloud.
        context: channels of what a point knows of its cloud (`geoattn.geometry.surface.cloud_context`); 0 leaves it
            out, as the paper does.
        paper: as `RISurConv`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128),
        edge_channels: int = 32,
        attention: Attention = "both",
        num_layers: int = 1,
        context: int = 32,
        paper: bool = False,
    ) -> None:
        super().__init__()
        self.context = (
            nn.Sequential(nn.Linear(NUM_CONTEXT, context), nn.BatchNorm1d(context), nn.ReLU()) if context else None
        )
        before = [context, *widths[:-1]]
        self.convs = nn.ModuleList(
            RISurConv(channels, width, edge_channels, attention=attention, paper=paper)
            for channels, width in zip(before, widths, strict=True)
        )
        width = widths[-1]
        layer = nn.TransformerEncoderLayer(width, HEADS, 2 * width, dropout=0.05, batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False) if num_layers else None

    def forward(self, clouds: SurfacePyramid) -> list[Tensor | None]:
        """Features of the points and of the centres of every level but the centroids; the points may have none."""
        x = None if self.context is None else self.context(cloud_context(clouds.pos, clouds.normal, clouds.ptr[0]))
        found = [x]
        for level, conv in enumerate(self.convs):
            x = conv(x, clouds.features[level], clouds.idx[level], clouds.ptr[level + 1])
            found.append(x)
        if self.transformer is not None and x is not None and len(x):
            sets, mask = to_sets(x, clouds.ptr[-2])
            found[-1] = from_sets(self.transformer(sets, src_key_padding_mask=None if mask is None else ~mask), mask)
        return found


class RISurClassifier(nn.Module):
    """Class scores of point clouds that do not change when a cloud is turned or moved.

    Args:
        num_classes: of the scores.
        widths: channels after each level of the pyramid; the last one belongs to the centroids.
        edge_channels, attention, num_layers, context, paper: as `RISurEncoder`.
        dropout: before the last two linear maps.

    Shape: `SurfacePyramid` of B clouds with ``len(widths) - 1`` levels -> ``[B, num_classes]``.

    Symmetry: invariant to rotation and translation, up to ties of distances and angles; not to reflection. In
    evaluation a cloud's scores do not depend on the batch (unless ``paper``).

    Source: RISurConv, arXiv 2408.06110. Unlike its code, the transformer attends among the centres of one cloud, not
    among the clouds of a batch.

    Example:
        >>> import torch
        >>> from geoattn.geometry.surface_pyramid import surface_pyramid
        >>> clouds = surface_pyramid(torch.randn(200, 3), [(64, 8), (16, 8)])
        >>> RISurClassifier(10).eval()(clouds).shape
        torch.Size([1, 10])
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (64, 128, 256),
        edge_channels: int = 32,
        attention: Attention = "both",
        num_layers: int = 1,
        context: int = 32,
        dropout: float = 0.4,
        paper: bool = False,
    ) -> None:
        super().__init__()
        last, width = widths[-2:]
        self.encoder = RISurEncoder(widths[:-1], edge_channels, attention, num_layers, context, paper)
        self.gather = RISurConv(last, width, edge_channels, attention="none")
        self.head = nn.Sequential(
            *_block(last + width, width, dropout),
            *_block(width, width // 2, dropout),
            nn.Linear(width // 2, num_classes),
        )

    def forward(self, clouds: SurfacePyramid) -> Tensor:
        x = self.encoder(clouds)[-1]
        assert x is not None
        whole = self.gather(x, clouds.features[-1], clouds.idx[-1])
        return self.head(torch.cat([whole, segment_mean(x, clouds.ptr[-2])], -1))


class RISurSegmenter(nn.Module):
    """Values of every point that do not change when the cloud is turned or moved.

    The encoder of `RISurClassifier`, and on the way back one RISurConv per level, from the centres to the nearest
    finer points, beside what these had. No interpolation.

    Args:
        out_channels: values per point.
        widths: channels after each level, one per level of the pyramid but the points and the centroids.
        edge_channels, attention, num_layers, context, paper: as `RISurEncoder`.
        dropout: before the last linear map.

    Shape: `SurfacePyramid` with ``up_idx`` for all of its levels, N points -> ``[N, out_channels]``.

    Symmetry: as `RISurClassifier`; permuted with the points.
    """

    def __init__(
        self,
        out_channels: int,
        widths: Sequence[int] = (64, 128),
        edge_channels: int = 32,
        attention: Attention = "both",
        num_layers: int = 1,
        context: int = 32,
        dropout: float = 0.3,
        paper: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = RISurEncoder(widths, edge_channels, attention, num_layers, context, paper)
        self.gather = RISurConv(widths[-1], widths[-1], edge_channels, attention="none")
        fine = [context, *widths[:-1]]  # channels that the points of each level have already
        out = [context or widths[0], *widths[:-1]]
        coarse = [*out[1:], 2 * widths[-1]]
        self.ups = nn.ModuleList(
            RISurConv(below, width, edge_channels, attention="none") for below, width in zip(coarse, out, strict=True)
        )
        self.merges = nn.ModuleList(
            nn.Sequential(*_block(width + skip, width, 0.0)) for width, skip in zip(out, fine, strict=True)
        )
        self.head = nn.Sequential(*_block(out[0], out[0], dropout), nn.Linear(out[0], out_channels))

    def forward(self, clouds: SurfacePyramid) -> Tensor:
        levels = self.encoder(clouds)
        x = levels[-1]
        assert x is not None
        whole = self.gather(x, clouds.features[-1], clouds.idx[-1])
        x = torch.cat([x, whole.repeat_interleave(clouds.ptr[-2].diff(), 0)], -1)
        for level in reversed(range(len(self.ups))):
            x = self.ups[level](x, clouds.up_features[level], clouds.up_idx[level], clouds.ptr[level])
            skip = levels[level]
            x = self.merges[level](x if skip is None else torch.cat([x, skip], -1))
        return self.head(x)


def segment_mean(x: Tensor, ptr: Tensor) -> Tensor:
    """``[B, C]`` means of the rows of each cloud; 0 for a cloud without."""
    sets, _ = to_sets(x, ptr)
    return sets.sum(1) / ptr.diff().clamp_min(1)[:, None]


def _block(in_channels: int, out_channels: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(in_channels, out_channels), nn.BatchNorm1d(out_channels), nn.ReLU(), nn.Dropout(dropout)]
