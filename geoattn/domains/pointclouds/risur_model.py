"""The invariant model of ``geoattn pointclouds``: `RISurClassifier` or `RISurSegmenter` on batches of clouds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoattn.domains.pointclouds.batch import CloudBatch
from geoattn.geometry.surface_pyramid import SurfacePyramid
from geoattn.layers.risurconv import Attention
from geoattn.models.risur import RISurClassifier, RISurSegmenter, segment_mean

Task = Literal["classification", "segmentation", "normals"]


class RISurModel(nn.Module):
    r"""Scores of clouds or of points, or a normal per point, that do not depend on how a cloud stands.

    For ``normals`` the network gives three invariant numbers per point, the coefficients of the normal in the
    `local_frames` of the points. So the normals turn exactly as the cloud does.

    Args:
        task: classification, segmentation or normals.
        num_outputs: classes; 3 for normals.
        widths, edge_channels, attention, num_layers, context, dropout: as `RISurClassifier` and `RISurSegmenter`.

    Shapes: forward takes a `CloudBatch` of B clouds with N points in all and returns ``[B, num_outputs]``, or for tasks
    on points ``[N, num_outputs]``.

    Symmetry: scores are invariant to rotation and translation, normals equivariant, up to ties of distances. In
    evaluation a cloud's result does not depend on the batch.
    """

    def __init__(
        self,
        task: Task = "classification",
        num_outputs: int = 10,
        widths: Sequence[int] = (64, 128, 256),
        edge_channels: int = 32,
        attention: Attention = "both",
        num_layers: int = 1,
        context: int = 32,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            task=task,
            num_outputs=num_outputs,
            widths=list(widths),
            edge_channels=edge_channels,
            attention=attention,
            num_layers=num_layers,
            context=context,
            dropout=dropout,
        )
        self.task = task
        network = RISurClassifier if task == "classification" else RISurSegmenter
        self.network: nn.Module = network(num_outputs, widths, edge_channels, attention, num_layers, context, dropout)

    def forward(self, batch: CloudBatch) -> Tensor:
        found = self.network(batch.pyramid)
        if self.task == "normals":
            return torch.einsum("na,nia->ni", found, local_frames(batch.pyramid))
        return found


def local_frames(clouds: SurfacePyramid) -> Tensor:
    """``[N, 3, 3]`` a rotation per point that turns with its cloud, axis a in column a.

    The first axis is ``clouds.normal``, the second the part of (point - centroid) that is orthogonal to it, the third
    their cross product. Where point - centroid is along the normal the second and third axis are zero: no direction
    there turns with the cloud.

    Example:
        >>> from geoattn.geometry.surface_pyramid import surface_pyramid
        >>> frames = local_frames(surface_pyramid(torch.randn(50, 3), [(8, 4)]))
        >>> frames.shape
        torch.Size([50, 3, 3])
    """
    first, ptr = clouds.normal, clouds.ptr[0]
    out = clouds.pos - segment_mean(clouds.pos, ptr).repeat_interleave(ptr.diff(), 0)
    second = F.normalize(out - (out * first).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)
