"""The contrast of ``geoattn pointclouds``: `PointTransformer` on batches of clouds, plain or made invariant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from geoattn.domains.pointclouds.batch import CloudBatch
from geoattn.layers.symmetrize import Canonicalize, FrameAveraging, VectorNetwork
from geoattn.models.point_transformer import PointTransformer

Symmetry = Literal["none", "frames", "canonical"]


class PointTransformerModel(nn.Module):
    """Scores of clouds or of points from coordinates, which say how a cloud stands unless ``symmetry`` takes it away.

    Args:
        task: classification or segmentation.
        num_outputs: classes.
        symmetry: ``"none"``: the network sees the pose; ``"frames"``: its mean over the four principal frames, one of
            them at random in training; ``"canonical"``: a small equivariant network turns each cloud first.
        widths: of `PointTransformer`: channels at full resolution and in each stage; a quarter of the points is kept
            from stage to stage, from 256 on.
        num_neighbors: k.
        dropout: before the last map.

    Shapes: forward takes a `CloudBatch` of B clouds with N points in all and returns ``[B, num_outputs]`` or
    ``[N, num_outputs]``.

    Symmetry: invariant to rotation and translation with ``frames`` and ``canonical``, as far as those determine a pose;
    none otherwise.
    """

    def __init__(
        self,
        task: Literal["classification", "segmentation"] = "classification",
        num_outputs: int = 10,
        symmetry: Symmetry = "none",
        widths: Sequence[int] = (32, 64, 128, 256),
        num_neighbors: int = 16,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            task=task,
            num_outputs=num_outputs,
            symmetry=symmetry,
            widths=list(widths),
            num_neighbors=num_neighbors,
            dropout=dropout,
        )
        self.task = task
        network = PointTransformer(
            num_outputs,
            channels=tuple(widths),
            points=tuple(max(256 // 4**stage, 4) for stage in range(len(widths) - 1)),
            neighbors=num_neighbors,
            per_point=task == "segmentation",
            dropout=dropout,
        )
        self.network: nn.Module = network
        if symmetry == "frames":
            self.network = FrameAveraging(network, "SO3", stochastic=True)
        elif symmetry == "canonical":
            self.network = Canonicalize(network, VectorNetwork(), "SO3")

    def forward(self, batch: CloudBatch) -> Tensor:
        pos, mask = batch.dense()
        found: Tensor = self.network(pos, mask=mask)
        if self.task == "classification":
            return found
        return found.flatten(0, 1) if mask is None else found[mask]
