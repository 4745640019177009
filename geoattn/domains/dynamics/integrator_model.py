"""Bodies under pair forces that are learned, moved by an integrator: the law is learned, not the motion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geoattn.domains.dynamics.batch import Prediction, SystemBatch
from geoattn.geometry.edges import gaussian_basis, safe_norm

GAUSSIANS = 12
"""Number of Gaussians of the distance in the law."""
REACH = 6.0
"""Distance of the last Gaussian, in the model's unit of length."""
SOFTENING = 1e-3
"""Added in quadrature to every distance, in the model's unit of length: coincident bodies feel no force."""
LARGEST_KICK = 0.1
"""Largest momentum that a pair exchanges in one step, in the model's units: keeps encounters closer than the steps can
resolve from throwing bodies out. The simulator of the published particles bounds each component of a body's force by
the same number, which breaks the symmetry under rotations and the conservation of momentum; a bound on the pair keeps
both."""


class PairForceIntegrator(nn.Module):
    r"""Positions and velocities of bodies after some time, from a learned law of force between pairs.

    .. math::
        m_i \ddot x_i = \sum_{j \ne i} f_{ij}(|x_i - x_j|)\, \frac{x_i - x_j}{|x_i - x_j|}, \qquad
        f_{ij}(r) = \sum_k c_k(e_{ij})\, b_k(r), \qquad m_i = \exp \mu(s_i)

    The radial functions :math:`b_k` are the inverse square (point sources in space), the distance itself (springs) and
    Gaussians for all else; a perceptron of the pair's invariants :math:`e_{ij}` (product of charges, known
    interactions, sum and product of the bodies' scalars) gives their coefficients once per forward. The leapfrog method
    (drift, kick, drift) moves the bodies in ``steps`` equal steps while training and ``eval_steps`` when evaluated: the
    law does not know the step, so it can be learned with coarse steps and used with fine ones. All gradients go through
    the integrator.

    What it assumes: forces act along the line between two bodies, the reaction equals the action, and they depend on
    distance and constant properties alone. Where that does not hold, the networks that map start to end (`EGNN`,
    `SE3Transformer`) are the better choice.

    References: interaction networks, arXiv:1612.00222; neural ordinary differential equations, arXiv:1806.07366.

    Args:
        num_node_scalars: A of the batch.
        num_edge_scalars: B of the batch.
        predict_velocity: also return velocities.
        hidden_channels: width of the perceptrons.
        steps: integration steps while training.
        eval_steps: integration steps otherwise; the error of a close encounter falls with it.

    Shapes: forward takes a `SystemBatch` and returns a `Prediction` ``[N, n]``.

    Symmetry: equivariant under rotations, reflections, translations and permutations of the bodies, exactly. Total
    momentum is conserved, exactly too.

    Cost: O(steps E K) for K = 14 radial functions; training keeps all steps in memory.
    """

    def __init__(
        self,
        num_node_scalars: int = 0,
        num_edge_scalars: int = 1,
        predict_velocity: bool = False,
        hidden_channels: int = 32,
        steps: int = 150,
        eval_steps: int = 1000,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            num_node_scalars=num_node_scalars,
            num_edge_scalars=num_edge_scalars,
            predict_velocity=predict_velocity,
            hidden_channels=hidden_channels,
            steps=steps,
            eval_steps=eval_steps,
        )
        self.predict_velocity, self.steps, self.eval_steps = predict_velocity, steps, eval_steps
        self.coefficients = _zero_start(num_edge_scalars + 2 * num_node_scalars, hidden_channels, 2 + GAUSSIANS)
        self.mass = _zero_start(num_node_scalars, hidden_channels, 1) if num_node_scalars else None

    def forward(self, batch: SystemBatch) -> Prediction:
        """Integrate from the batch's moment to its horizon."""
        once = (batch.nbr.source > batch.nbr.target).nonzero().squeeze(1)  # one of the two edges of each pair
        i, j = batch.nbr.target[once], batch.nbr.source[once]
        coefficients = self.pair_coefficients(batch, once, i, j)
        inverse_mass = None if self.mass is None else torch.exp(-self.mass(batch.node_scalars))
        steps = self.steps if self.training else self.eval_steps
        dt = batch.horizon / steps
        pos, vel = batch.pos, batch.vel
        for _ in range(steps):
            pos = pos + dt / 2 * vel
            vel = vel + kick(pos, dt * coefficients, i, j, inverse_mass)
            pos = pos + dt / 2 * vel
        return Prediction(pos, vel if self.predict_velocity else None)

    def pair_coefficients(self, batch: SystemBatch, once: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """``[P, K]``, of the radial functions of each of the P pairs."""
        first, second = batch.node_scalars[i], batch.node_scalars[j]
        invariants = torch.cat([batch.edge_scalars[once], first + second, first * second], dim=1)
        return self.coefficients(invariants)


def kick(pos: Tensor, coefficients: Tensor, i: Tensor, j: Tensor, inverse_mass: Tensor | None) -> Tensor:
    """``[N, n]``, the change of velocity of bodies at ``pos`` by the pairs (i, j) in one step.

    Args:
        pos: ``[N, n]``.
        coefficients: ``[P, K]``, those of the force times the length of the step.
        i, j: ``[P]``, the bodies of each pair.
        inverse_mass: ``[N, 1]``; None for masses of 1.
    """
    vector = pos.index_select(0, i) - pos.index_select(0, j)
    distance = (vector.square().sum(-1) + SOFTENING**2).sqrt()
    strength = (radial_functions(distance) * coefficients).sum(-1) / distance
    exchanged = bounded(strength.unsqueeze(1) * vector, LARGEST_KICK)
    total = torch.zeros_like(pos).index_add(0, i, exchanged).index_add(0, j, exchanged, alpha=-1)
    return total if inverse_mass is None else total * inverse_mass


def bounded(vector: Tensor, largest: float) -> Tensor:
    """``vector [N, n]``, shortened to length ``largest`` where it is longer."""
    return vector / (safe_norm(vector, keepdim=True) / largest).clamp(min=1)


def radial_functions(distance: Tensor) -> Tensor:
    """Inverse square, distance and Gaussians, ``[..., K]``.

    The factor 0.1 lets the gradient find the simple laws first: what they explain the Gaussians need not learn, and
    only they reach to distances that no training system has seen.
    """
    simple = torch.stack([distance.pow(-2), 0.1 * distance], dim=-1)
    return torch.cat([simple, 0.1 * gaussian_basis(distance, 0.0, REACH, GAUSSIANS)], dim=-1)


def _zero_start(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    """A perceptron whose output is 0 before training: bodies move uniformly, and have mass 1."""
    last = nn.Linear(hidden_channels, out_channels)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(_Linear(in_channels, hidden_channels), nn.SiLU(), last)


class _Linear(nn.Linear):
    """A linear map that may have no inputs, and is its bias then."""

    def reset_parameters(self) -> None:
        if self.in_features:
            super().reset_parameters()
        else:
            nn.init.uniform_(self.bias, -1, 1)
