"""The models of ``geoattn sphere``: networks on the points of a file, with what a task makes of their answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoattn.domains.sphere.batch import FieldBatch
from geoattn.domains.sphere.records import SphereGrid
from geoattn.models.sphere_transformer import SphereTransformer
from geoattn.models.sphere_unet import SphereUNet

Network = Literal["transformer", "unet"]


class SphereModel(nn.Module):
    """Fields from fields, in standardised units; or scores of classes.

    A forecast is the last known state plus a change: the network's answer times the usual size of changes.

    Args:
        grid: of the points, as `SphereGrid.to_dict` gives it.
        num_inputs: channels of a batch's inputs.
        num_outputs: variables that are wanted, or classes.
        base: the input channels that the outputs are changes of: the last state of a forecast; empty if of none.
        network: transformer (blocks on one coarser level) or unet (several levels).
        channels: width of the transformer; on each level of the unet.
        num_heads: of each attention.
        num_layers: blocks of the transformer; of each level of the unet.
        window: width of a point's disk in cells.
        planar: take the map for a plane.

    Shapes: forward takes a `FieldBatch` of B samples at N points and returns ``[B, num_outputs, N]``.

    Attributes:
        change: ``[num_outputs]`` usual size of a change in standardised units; saved with the weights.
    """

    change: Tensor

    def __init__(
        self,
        grid: Mapping[str, Any],
        num_inputs: int,
        num_outputs: int,
        base: Sequence[int] = (),
        network: Network = "transformer",
        channels: Sequence[int] = (64,),
        num_heads: int = 4,
        num_layers: int = 4,
        window: float = 7.0,
        planar: bool = False,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            grid=dict(grid),
            num_inputs=num_inputs,
            num_outputs=num_outputs,
            base=list(base),
            network=network,
            channels=list(channels),
            num_heads=num_heads,
            num_layers=num_layers,
            window=window,
            planar=planar,
        )
        points = SphereGrid.from_dict(grid).points
        common: dict[str, Any] = dict(num_heads=num_heads, num_layers=num_layers, window=window, planar=planar)
        self.network: nn.Module
        if network == "transformer":
            (width,) = channels
            self.network = SphereTransformer(2 * num_inputs, num_outputs, points, channels=width, **common)
        else:
            self.network = SphereUNet(2 * num_inputs, num_outputs, points, channels=channels, **common)
        self.register_buffer("change", torch.ones(num_outputs))

    def forward(self, batch: FieldBatch) -> Tensor:
        missing = (~batch.present).to(batch.inputs.dtype)
        found: Tensor = self.network(torch.cat([batch.inputs, missing], 1))
        base = self.config["base"]
        return batch.inputs[:, base] + self.change[:, None] * found if base else found

    def on(self, grid: SphereGrid) -> SphereModel:
        """The same weights on other points."""
        other = type(self)(**{**self.config, "grid": grid.to_dict()})
        other.load_state_dict(self.state_dict())
        return other.train(self.training)
