"""The model of ``geoattn multiview``: `MultiViewTransformer` on batches of views."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geoattn.domains.multiview.batch import ViewBatch
from geoattn.models.multiview import MultiViewTransformer, PoseEncoding

RAYS_AT_ONCE = 8192
"""Of each scene; more are asked for piece by piece, which bounds memory and changes nothing else."""


class MultiViewModel(nn.Module):
    """Colours in 0..1 along the rays of a batch.

    Args:
        pose: how cameras enter: gta (only how they stand to each other), absolute, or rope.
        channels: of a token.
        num_heads: of each attention.
        encoder_layers: blocks over the tokens of the given views.
        decoder_layers: blocks from the asked rays to the tokens.
        lens: usual focal length of the cameras, in widths of an image.

    Shapes: forward takes a `ViewBatch` of B scenes and returns ``[B, T, R, 3]``. In training colours are not clipped.

    Symmetry: invariant to the order of the given views; with ``gta`` to the world frame. The batch's poses are relative
    to the first given view, so with the others as well, but for the choice of that view.
    """

    def __init__(
        self,
        pose: PoseEncoding = "gta",
        channels: int = 128,
        num_heads: int = 4,
        encoder_layers: int = 3,
        decoder_layers: int = 2,
        lens: float = 1.0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            pose=pose,
            channels=channels,
            num_heads=num_heads,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            lens=lens,
        )
        self.network = MultiViewTransformer(
            channels,
            num_heads=num_heads,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            pose=pose,
            lens=lens,
        )

    def forward(self, batch: ViewBatch) -> Tensor:
        x, rep = self.network.encode(batch.images, batch.extrinsics, batch.intrinsics)
        cameras = (batch.target_extrinsics, batch.target_intrinsics)
        pieces = batch.pixels.split(max(1, RAYS_AT_ONCE // batch.pixels.shape[1]), dim=2)
        colors = torch.cat([self.network.decode(x, rep, *cameras, piece) for piece in pieces], 2)
        return colors if self.training else colors.clamp(0, 1)
