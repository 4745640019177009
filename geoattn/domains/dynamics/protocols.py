"""The two published n-body forecasting tasks, kept apart: their data differ, and so do their numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from geoattn.domains.dynamics.generate import Trajectories, simulate_charged

PARTS = ("train", "valid", "test")
PUBLISHED_TRAIN = 10_000
"""Training runs in the published EGNN set, of which the task uses the first 3,000."""


@dataclass(frozen=True)
class Protocol:
    """From which frame to which frame, in which simulated world."""

    frame_in: int
    frame_out: int
    options: dict[str, Any] = field(default_factory=dict)


PROTOCOLS = {
    "egnn": Protocol(30, 40),
    "se3": Protocol(0, 10, {"loc_std": 1.0, "box": 5.0}),
}
"""``egnn``: Satorras et al. 2021, no walls, positions after one time unit, t = 3.1 to 4.1. ``se3``: Fuchs et al. 2020,
a box with reflecting walls, positions and velocities, t = 0.1 to 1.1 (which meets their linear baseline)."""


def nbody_arrays(
    protocol: Literal["egnn", "se3"] = "egnn",
    sizes: tuple[int, int, int] = (3000, 2000, 2000),
    seed: int = 43,
    legacy_rng: bool = False,
) -> dict[str, np.ndarray]:
    """A data set of charged particles as arrays for ``numpy.savez``, which `geoattn dynamics` reads.

    Args:
        protocol: see `PROTOCOLS`.
        sizes: systems for training, validation and testing.
        seed: of everything drawn. The part of the split is drawn in too, so parts never repeat each other.
        legacy_rng: draw as the published scripts do; with ``egnn`` and seed 43 these are the published systems.

    Returns:
        ``{train,valid,test}_{loc0,vel0,loc1,vel1}`` ``[S, 5, 3]`` float32 and ``_charge`` ``[S, 5]`` int8.

    Example:
        >>> arrays = nbody_arrays(sizes=(2, 1, 1))
        >>> arrays["train_loc0"].shape, sorted(arrays)[:3]
        ((2, 5, 3), ['test_charge', 'test_loc0', 'test_loc1'])
    """
    chosen = PROTOCOLS[protocol]
    begins = (0, PUBLISHED_TRAIN, PUBLISHED_TRAIN + 2000)
    arrays: dict[str, np.ndarray] = {}
    for part, num, begin in zip(PARTS, sizes, begins, strict=True):
        # drawn numbers of the parts: apart by their place in one stream, or by a seed of their own
        drawn: dict[str, Any] = {"seed": _own(seed, part)}
        if legacy_rng:
            drawn = {"seed": seed, "skip": begin, "legacy_rng": True}
        runs = simulate_charged(num, frames=(chosen.frame_in, chosen.frame_out), **chosen.options, **drawn)
        arrays |= {f"{part}_{name}": array for name, array in _pairs(runs).items()}
    return arrays


def _own(seed: int, part: str) -> int:
    return int(np.random.SeedSequence([seed, PARTS.index(part)]).generate_state(1)[0])


def _pairs(runs: Trajectories) -> dict[str, np.ndarray]:
    """The first and the last kept frame as input and target."""
    assert runs.charge is not None
    frames = {"loc0": runs.pos[:, 0], "vel0": runs.vel[:, 0], "loc1": runs.pos[:, -1], "vel1": runs.vel[:, -1]}
    return {name: array.astype(np.float32) for name, array in frames.items()} | {"charge": runs.charge.astype(np.int8)}
