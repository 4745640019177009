"""Exact solutions of the shallow-water equations that a solver is measured against.

Source: Williamson et al. (1992), J. Comput. Phys. 102, 211, cases 2 and 6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geoattn.domains.sphere.shallow_water import GRAVITY, RADIUS, ROTATION, ShallowWater


def steady_zonal_flow(solver: ShallowWater) -> Tensor:
    """``[1, 3, L, M]``: case 2, a rigid turn of the air in 12 days in geostrophic balance; nothing ever changes."""
    speed = 2 * math.pi * RADIUS / (12 * 86400)
    theta, zeros = _grid(solver)
    geopotential = 2.94e4 - (RADIUS * ROTATION * speed + speed**2 / 2) * theta.cos() ** 2
    return solver.state_of((geopotential / GRAVITY + zeros)[None], (speed * theta.sin() + zeros)[None], zeros[None])


def rossby_haurwitz_wave(solver: ShallowWater, number: int = 4) -> Tensor:
    """``[1, 3, L, M]``: case 6, a wave of ``number`` crests that travels east almost unchanged.

    In the barotropic vorticity equation its speed is `rossby_haurwitz_speed`; with a free surface it is a little less.
    """
    turn = strength = 7.848e-6
    r, (theta, zeros) = number, _grid(solver)
    phi = solver.transform.longitude[None, :] + zeros
    c, s = theta.sin(), theta.cos()  # of the latitude
    a = turn / 2 * (2 * ROTATION + turn) * c**2 + strength**2 / 4 * c ** (2 * r) * (
        (r + 1) * c**2 + (2 * r**2 - r - 2) - 2 * r**2 / c**2
    )
    b = (
        2 * (ROTATION + turn) * strength / ((r + 1) * (r + 2)) * c**r
        * ((r**2 + 2 * r + 2) - (r + 1) ** 2 * c**2)
    )  # fmt: skip
    d = strength**2 / 4 * c ** (2 * r) * ((r + 1) * c**2 - (r + 2))
    height = 8e3 + RADIUS**2 / GRAVITY * (a + b * torch.cos(r * phi) + d * torch.cos(2 * r * phi))
    east = RADIUS * (turn * c + strength * c ** (r - 1) * (r * s**2 - c**2) * torch.cos(r * phi))
    north = -RADIUS * strength * r * c ** (r - 1) * s * torch.sin(r * phi)
    return solver.state_of(height[None], east[None], north[None])


def rossby_haurwitz_speed(number: int = 4) -> float:
    """Radians per second by which the wave moves east without divergence: about 12.2 degrees a day for 4 crests."""
    turn, r = 7.848e-6, number
    return (r * (3 + r) * turn - 2 * ROTATION) / ((1 + r) * (2 + r))


def _grid(solver: ShallowWater) -> tuple[Tensor, Tensor]:
    theta = solver.transform.colatitude[:, None]
    return theta, torch.zeros(solver.transform.nlat, solver.transform.nlon, dtype=torch.float64, device=theta.device)
