"""Simulated particles: charged ones and ones joined by springs, as the published n-body data sets make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoattn.errors import InputError

TIME_STEP = 1e-3
MAX_FORCE = 0.1 / TIME_STEP
_SYSTEMS_AT_ONCE = 256  # their pairs fit into a processor's cache
_NOISE_BLOCKS = 2  # observation noise of amplitude zero for positions and for velocities, which is drawn all the same

Clip = Literal["component", "norm"]
PairForce = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of the squared distances and the strengths of the pairs: what is multiplied by ``x_i - x_j``."""


@dataclass
class Trajectories:
    """Simulated runs: S systems of n bodies in d dimensions at F moments.

    Attributes:
        pos, vel: ``[S, F, n, d]`` float64.
        charge: ``[S, n]`` of -1 and 1, or None.
        edges: ``[S, n, n]`` of 0 and 1, symmetric, or None.
        interval: time between two frames of the published numbering.
        init_pos, init_vel: ``[S, n, d]`` the initial state, which is no frame.
    """

    pos: np.ndarray
    vel: np.ndarray
    charge: np.ndarray | None
    edges: np.ndarray | None
    interval: float
    init_pos: np.ndarray
    init_vel: np.ndarray


def simulate_charged(
    num: int,
    n: int = 5,
    dim: int = 3,
    *,
    steps: int = 5000,
    interval: int = 100,
    frames: Sequence[int] | None = None,
    loc_std: float | None = None,
    speed: float = 0.5,
    box: float | None = None,
    clip: Clip = "component",
    seed: int = 0,
    legacy_rng: bool = False,
    skip: int = 0,
) -> Trajectories:
    r"""Particles with charges :math:`\pm 1` that attract and repel each other.

    .. math:: F_i = \sum_{j \ne i} q_i q_j \frac{x_i - x_j}{|x_i - x_j|^3}

    Unit masses, no softening. The force on a body is cut to 100, so close encounters do not conserve energy. The step
    order is kick, then (drift, record, kick) with a time step of 1e-3: frame k is step (k + 1) ``interval``, and a
    recorded velocity is the one that led to the recorded position.

    With the defaults these are the data of EGNN (arXiv:2102.09844); ``loc_std=1`` and ``box=5`` make those of the
    SE(3)-Transformer (arXiv:2006.10503).

    Args:
        num: S, number of systems.
        n: bodies per system.
        dim: d, of the space.
        steps: integration steps of a whole run; it ends earlier if no later frame is wanted.
        interval: steps between two frames.
        frames: which frames to keep; all ``steps / interval - 1`` if None.
        loc_std: standard deviation of the initial positions; (n / 5)^(1/3) if None.
        speed: length of every initial velocity.
        box: half width of a box whose walls reflect; it breaks the symmetry under rotations and translations. None for
            no walls, where only initial positions beyond 5 are reflected.
        clip: cut each component of a force, as published, or its length, which is equivariant.
        seed: of everything drawn; a data set is a function of the seed and the sizes.
        legacy_rng: draw as the published scripts do, run by run from NumPy's legacy generator.
        skip: with ``legacy_rng``: pass over so many runs first. The published sets are 10,000 runs for training, then
            2,000 for validation and 2,000 for testing, from one seed (43).

    Cost: O(S steps n^2 d); 2,000 systems of five take some ten seconds for 5,000 steps on one core.

    Symmetry: with ``clip="norm"`` and no box, moving the initial state moves the run in the same way, up to rounding
    that close encounters amplify.

    Example:
        >>> runs = simulate_charged(2, frames=[0, 1])
        >>> runs.pos.shape, runs.charge.shape
        ((2, 2, 5, 3), (2, 5))
    """
    std = (n / 5) ** (1 / 3) if loc_std is None else loc_std
    shape = _Shape(num, n, dim, steps // interval - 1)
    charge, pos, vel = _draw("charge", shape, seed, std, speed, legacy_rng, skip)
    first, second = np.triu_indices(n, 1)
    strength = charge[:, first] * charge[:, second]

    def pair_force(squared_distance: np.ndarray, strength: np.ndarray) -> np.ndarray:
        return strength / (squared_distance * np.sqrt(squared_distance))

    runs = _integrate(pos, vel, strength, pair_force, steps, interval, frames, box, clip)
    return Trajectories(*runs, charge=charge, edges=None, interval=interval * TIME_STEP, init_pos=pos, init_vel=vel)


def simulate_springs(
    num: int,
    n: int = 5,
    dim: int = 3,
    *,
    steps: int = 10000,
    interval: int = 200,
    frames: Sequence[int] | None = None,
    loc_std: float = 0.5,
    speed: float = 0.5,
    box: float | None = None,
    clip: Clip = "component",
    seed: int = 0,
    legacy_rng: bool = False,
    skip: int = 0,
) -> Trajectories:
    r"""Particles of which every second pair, drawn, is joined by a spring of length zero.

    .. math:: F_i = -0.1 \sum_{j \ne i} e_{ij} (x_i - x_j)

    The defaults are those of EqMotion (arXiv:2303.10876); see `simulate_charged` for the arguments and the step order.

    Example:
        >>> simulate_springs(1, frames=[0]).edges.shape
        (1, 5, 5)
    """
    shape = _Shape(num, n, dim, steps // interval - 1)
    edges, pos, vel = _draw("edges", shape, seed, loc_std, speed, legacy_rng, skip)
    first, second = np.triu_indices(n, 1)

    def pair_force(squared_distance: np.ndarray, strength: np.ndarray) -> np.ndarray:
        return strength

    runs = _integrate(pos, vel, -0.1 * edges[:, first, second], pair_force, steps, interval, frames, box, clip)
    return Trajectories(*runs, charge=None, edges=edges, interval=interval * TIME_STEP, init_pos=pos, init_vel=vel)


@dataclass(frozen=True)
class _Shape:
    num: int
    n: int
    dim: int
    frames: int


def _draw(
    what: Literal["charge", "edges"], shape: _Shape, seed: int, std: float, speed: float, legacy: bool, skip: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Charges or edges, positions and velocities at the start."""
    if skip and not legacy:
        raise InputError(f"skip: got {skip} without legacy_rng, expected 0. Choose another seed instead.")
    num, n, dim = shape.num, shape.n, shape.dim
    if legacy:
        interaction, pos, vel = _draw_legacy(what, shape, seed, skip)
    else:
        rng = np.random.default_rng(seed)
        size = (num, n) if what == "charge" else (num, n, n)
        interaction = rng.integers(0, 2, size=size).astype(np.float64)
        interaction = 2 * interaction - 1 if what == "charge" else interaction
        pos, vel = rng.standard_normal((num, n, dim)), rng.standard_normal((num, n, dim))
    if what == "edges":
        interaction = np.tril(interaction, -1) + np.tril(interaction, -1).swapaxes(1, 2)
    vel *= speed / np.linalg.norm(vel, axis=2, keepdims=True)
    return interaction, *_reflected(pos * std, vel, 5.0)


def _draw_legacy(what: str, shape: _Shape, seed: int, skip: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The published order of random numbers, run by run."""
    rng = np.random.RandomState(seed)
    n, dim = shape.n, shape.dim
    types, size = ([-1.0, 0.0, 1.0], (n, 1)) if what == "charge" else ([0.0, 0.5, 1.0], (n, n))
    found = []
    for run in range(skip + shape.num):
        interaction = rng.choice(types, size=size, p=[0.5, 0.0, 0.5])
        pos, vel = rng.randn(dim, n).T, rng.randn(dim, n).T
        for _ in range(_NOISE_BLOCKS):
            rng.randn(shape.frames, dim, n)
        if run >= skip:
            found.append((interaction[:, 0] if what == "charge" else interaction, pos, vel))
    interaction, pos, vel = (np.stack(parts) for parts in zip(*found, strict=True))
    return interaction, pos, vel


def _reflected(pos: np.ndarray, vel: np.ndarray, box: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions beyond the walls at ``-box`` and ``box`` mirrored back in, their velocities turned inwards."""
    vel = np.where(pos > box, -np.abs(vel), np.where(pos < -box, np.abs(vel), vel))
    pos = np.where(pos > box, 2 * box - pos, np.where(pos < -box, -2 * box - pos, pos))
    return pos, vel


def _integrate(
    init_pos: np.ndarray,
    init_vel: np.ndarray,
    strength: np.ndarray,
    pair_force: PairForce,
    steps: int,
    interval: int,
    frames: Sequence[int] | None,
    box: float | None,
    clip: Clip,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities at the wanted frames, ``[S, F, n, d]`` each."""
    if clip not in ("component", "norm"):
        raise InputError(f"clip: got {clip!r}, expected 'component' or 'norm'.")
    last = steps // interval - 2
    frames = list(range(last + 1)) if frames is None else list(frames)
    if not frames or min(frames) < 0 or max(frames) > last:
        raise InputError(
            f"frames: got {frames}, expected numbers from 0 to {last} (steps = {steps}, interval = {interval})."
        )
    num, n, dim = init_pos.shape
    pos, vel = (np.empty((num, len(frames), n, dim)) for _ in range(2))
    for begin in range(0, num, _SYSTEMS_AT_ONCE):
        block = slice(begin, begin + _SYSTEMS_AT_ONCE)
        states = _Block(init_pos[block], init_vel[block], strength[block], pair_force, clip)
        for step in range(1, (max(frames) + 1) * interval + 1):
            states.step(box)
            if step % interval == 0:
                for k, frame in enumerate(frames):
                    if (frame + 1) * interval == step:
                        pos[block, k], vel[block, k] = states.pos.transpose(2, 1, 0), states.vel.transpose(2, 1, 0)
    return pos, vel


class _Block:
    """Some systems, integrated together; arrays are ``[d, n, S]``, so that every operation runs along the systems."""

    def __init__(
        self, pos: np.ndarray, vel: np.ndarray, strength: np.ndarray, pair_force: PairForce, clip: Clip
    ) -> None:
        self.pos, self.vel = (np.ascontiguousarray(array.transpose(2, 1, 0)) for array in (pos, vel))
        self.strength, self.pair_force, self.clip = np.ascontiguousarray(strength.T), pair_force, clip
        n = pos.shape[1]
        first, second = np.triu_indices(n, 1)
        self.difference = np.zeros((len(first), n))  # pairs by bodies
        self.difference[np.arange(len(first)), first] = 1
        self.difference[np.arange(len(first)), second] = -1

    def step(self, box: float | None) -> None:
        """One kick and one drift."""
        self.vel = self.vel + TIME_STEP * self._force()
        self.pos = self.pos + TIME_STEP * self.vel
        if box is not None:
            self.pos, self.vel = _reflected(self.pos, self.vel, box)

    def _force(self) -> np.ndarray:
        vector = self.difference @ self.pos  # [d, pairs, S]
        squared_distance = np.einsum("dps,dps->ps", vector, vector)
        force = self.difference.T @ (vector * self.pair_force(squared_distance, self.strength))
        if self.clip == "component":
            return np.clip(force, -MAX_FORCE, MAX_FORCE)
        length = np.sqrt(np.einsum("dns,dns->ns", force, force))
        return force * np.minimum(1.0, MAX_FORCE / np.maximum(length, MAX_FORCE))
