"""EGNN for moving bodies, set up as its authors do for charged particles."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoattn.domains.dynamics.batch import Prediction, SystemBatch
from geoattn.geometry.edges import edge_vectors, safe_norm
from geoattn.layers.egnn import EGNNLayer
from geoattn.models.egnn import EGNN


class EGNNDynamics(nn.Module):
    r"""Positions of bodies after some time, by an EGNN with velocities.

    Node input is the speed :math:`|v_i|` and the bodies' scalars; edge input the batch's ``edge_scalars``
    (:math:`q_i q_j`, known interactions) and the squared distance at the start. Every layer adds
    :math:`\phi_v(h_i)\, v_i` with the velocity at the start. The defaults are those of the published particle
    experiment (arXiv:2102.09844): four layers, 64 features.

    Velocities, where they are trained too, come from one more layer that moves nothing else.

    Args:
        num_node_scalars: A of the batch.
        num_edge_scalars: B of the batch.
        predict_velocity: also predict velocities.
        hidden_channels, num_layers: of the `EGNN`.
        velocity: see `EGNN`.
        gate, pos_aggr, normalize, tanh: see `EGNNLayer`.

    Shapes: forward takes a `SystemBatch` and returns a `Prediction` ``[N, n]``.

    Symmetry: equivariant under rotations, reflections, translations and permutations of the bodies, exactly.
    """

    def __init__(
        self,
        num_node_scalars: int = 0,
        num_edge_scalars: int = 1,
        predict_velocity: bool = False,
        hidden_channels: int = 64,
        num_layers: int = 4,
        velocity: Literal["initial", "updated"] = "initial",
        gate: bool = False,
        pos_aggr: Literal["mean", "sum"] = "mean",
        normalize: bool = False,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            num_node_scalars=num_node_scalars,
            num_edge_scalars=num_edge_scalars,
            predict_velocity=predict_velocity,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            velocity=velocity,
            gate=gate,
            pos_aggr=pos_aggr,
            normalize=normalize,
            tanh=tanh,
        )
        options: dict[str, Any] = dict(gate=gate, pos_aggr=pos_aggr, normalize=normalize, tanh=tanh)
        edge_channels = num_edge_scalars + 1
        self.network = EGNN(
            1 + num_node_scalars,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            edge_channels=edge_channels,
            velocity=velocity,
            **options,
        )
        self.velocity_layer = (
            EGNNLayer(
                hidden_channels,
                hidden_channels=hidden_channels,
                edge_channels=edge_channels,
                use_velocity=True,
                **options,
            )
            if predict_velocity
            else None
        )

    def forward(self, batch: SystemBatch) -> Prediction:
        """Positions, and velocities if the model predicts them, after ``batch.horizon``."""
        x = torch.cat([safe_norm(batch.vel)[:, None], batch.node_scalars], dim=1)
        edge_attr = torch.cat([batch.edge_scalars, self._squared_distance(batch)], dim=1)
        h, pos, _ = self.network(x, batch.pos, batch.nbr, edge_attr, vel=batch.vel)
        if self.velocity_layer is None:
            return Prediction(pos)
        return Prediction(pos, self.velocity_layer(h, pos, batch.nbr, edge_attr, vel=batch.vel)[2])

    @staticmethod
    def _squared_distance(batch: SystemBatch) -> Tensor:
        return edge_vectors(batch.pos, batch.nbr).square().sum(-1, keepdim=True)
