"""What a model of moving bodies has to beat: nothing moves, everything goes straight on."""

from __future__ import annotations

import numpy as np

from geoattn.domains.dynamics.systems import Systems

Pair = tuple[np.ndarray, np.ndarray]
"""Positions and velocities, ``[N, n]`` each."""


def baseline_predictions(linear_time: float, systems: Systems) -> dict[str, Pair]:
    r"""Name -> predicted positions and velocities of ``systems``.

    - ``constant``: :math:`\hat x = x`.
    - ``constant_velocity``: :math:`\hat x = x + T v` with the horizon T.
    - ``linear``: :math:`\hat x = x + t v` with the t that fits the training part best, ``linear_time`` (`fitted_time`);
      the published "linear" baseline.

    All leave the velocity as it is. Always look at them: a model that only equals ``linear`` ignores the interactions.
    """
    return {
        "constant": (systems.pos, systems.vel),
        "constant_velocity": (systems.pos + systems.horizon * systems.vel, systems.vel),
        "linear": (systems.pos + linear_time * systems.vel, systems.vel),
    }


def fitted_time(systems: Systems) -> float:
    """The t of ``x + t v`` that fits the targets best; 0 where nothing moves."""
    assert systems.target_pos is not None
    squares = float(np.sum(systems.vel**2))
    return float(np.sum(systems.vel * (systems.target_pos - systems.pos))) / squares if squares > 0 else 0.0
