"""The SE(3)-Transformer for moving bodies."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from geoattn.domains.dynamics.batch import Prediction, SystemBatch
from geoattn.errors import ShapeError
from geoattn.geometry.edges import safe_norm
from geoattn.models.se3_transformer import SE3Transformer


class SE3TransformerDynamics(nn.Module):
    r"""Positions of bodies after some time, by an `SE3Transformer` that predicts displacements.

    Node input is the speed and the bodies' scalars (degree 0) and the velocity (degree 1); edge input the batch's
    ``edge_scalars`` (:math:`q_i q_j`, known interactions). Output is the displacement and, where velocities are trained
    too, the change of the velocity, degree 1 each, as in the published particle experiment (arXiv:2006.10503), whose
    four layers, degrees 0 to 3 and 8 channels are the defaults.

    Args:
        num_node_scalars: A of the batch.
        num_edge_scalars: B of the batch.
        predict_velocity: also predict velocities.
        hidden_channels: channels of each degree.
        num_layers: attention layers before the last.
        lmax: highest degree.
        num_heads: attention heads.
        reflections: equivariant under reflections too.
        kernel: form of the convolutions, see `SE3TransformerLayer`; the cheaper ones are "depthwise" and "so2".

    Shapes: forward takes a `SystemBatch` in three dimensions and returns a `Prediction` ``[N, 3]``.

    Symmetry: equivariant under rotations, translations and permutations of the bodies, exactly; under reflections with
    ``reflections``.
    """

    def __init__(
        self,
        num_node_scalars: int = 0,
        num_edge_scalars: int = 1,
        predict_velocity: bool = False,
        hidden_channels: int = 8,
        num_layers: int = 4,
        lmax: int = 3,
        num_heads: int = 1,
        reflections: bool = False,
        kernel: Literal["full", "depthwise", "so2"] = "full",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            num_node_scalars=num_node_scalars,
            num_edge_scalars=num_edge_scalars,
            predict_velocity=predict_velocity,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            lmax=lmax,
            num_heads=num_heads,
            reflections=reflections,
            kernel=kernel,
        )
        self.group = "E" if reflections else "SE"
        hidden = " + ".join(f"{hidden_channels}x{degree}{'eo'[degree % 2]}" for degree in range(lmax + 1))
        self.network = SE3Transformer(
            f"{1 + num_node_scalars}x0e + 1x1o",
            hidden,
            f"{1 + predict_velocity}x1o",
            num_layers=num_layers,
            num_heads=num_heads,
            edge_channels=num_edge_scalars,
            reflections=reflections,
            kernel=kernel,
        )

    def forward(self, batch: SystemBatch) -> Prediction:
        """Positions, and velocities if the model predicts them, after ``batch.horizon``.

        Raises:
            ShapeError: the bodies do not move in three dimensions.
        """
        if batch.pos.shape[1] != 3:
            raise ShapeError("pos", f"{batch.pos.shape[1]} coordinates", "3 for the SE(3)-Transformer")
        x = torch.cat([safe_norm(batch.vel)[:, None], batch.node_scalars, batch.vel], dim=1)
        edge_attr = batch.edge_scalars if batch.edge_scalars.shape[1] else None
        change = self.network(x, batch.pos, batch.nbr, edge_attr)
        return Prediction(batch.pos + change[:, :3], batch.vel + change[:, 3:] if change.shape[1] > 3 else None)
