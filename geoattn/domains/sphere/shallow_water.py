"""The shallow-water equations on the rotating sphere, solved with spherical harmonics; states to learn from.

With the vorticity zeta, the divergence delta, the geopotential Phi = g h and the wind V of the two,

    d zeta  / dt = - div ((zeta + f) V)
    d delta / dt =   curl ((zeta + f) V) - laplace (Phi + |V|^2 / 2)
    d Phi   / dt = - div (Phi V)

Products are made on a Gauss-Legendre grid that has room for them (truncation to a third of the rows), derivatives
with the harmonics. Time goes in Runge-Kutta steps of fourth order: unlike multistep methods it needs no past, so that
a trajectory continued from a state is the trajectory itself.

Source: Bourke (1972), Mon. Wea. Rev. 100, 683; constants and random states as in Bonev et al. (2025), arXiv
2505.11157, which steps with third-order Adams-Bashforth.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from geoattn.domains.sphere.harmonic_transform import HarmonicTransform
from geoattn.errors import InputError, ShapeError

RADIUS, ROTATION, GRAVITY = 6.37122e6, 7.292e-5, 9.80616
"""Of the earth, in m, 1/s and m/s^2."""
MEAN_HEIGHT, HEIGHT_PERTURBATION, MACH, DEGREES = 1e4, 120.0, 0.2, 120
NAMES = ("height", "vorticity", "divergence")
UNITS = ("m", "1/s", "1/s")
_DIFFUSION_TIME, _DIFFUSION_POWER = 7200.0, 4
_AT_ONCE = 16  # states that are stepped together: more do not fit into the caches


class ShallowWater:
    """A solver of the shallow-water equations for many states at once.

    A state is complex128 ``[S, 3, L, M]``: the coefficients (see `HarmonicTransform`) of geopotential (m^2/s^2),
    vorticity and divergence (1/s). Mass is conserved to rounding; energy and enstrophy leave at the smallest scales,
    where vorticity and divergence fade by ``exp(-t / 7200 s (l (l+1) / l_max (l_max+1))^4)``.

    Cost of a second of model time: O(S L^3 nlat), because steps shrink with L.

    Args:
        nlat: rows of the Gauss-Legendre grid.
        nlon: columns.
        num_degrees: L; the smallest whole number of at least ``nlat / 3`` if left out.
        device: to compute on.

    Raises:
        ShapeError: a grid that has no room for the products of so many degrees.

    Example:
        >>> solver = ShallowWater(16, 32)
        >>> states = solver.random_states(2, seed=0)
        >>> later = solver.advance(states, seconds=1800)
        >>> tuple(solver.fields(later).shape)
        (2, 3, 16, 32)
    """

    def __init__(
        self, nlat: int, nlon: int, num_degrees: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        size = num_degrees or math.ceil(nlat / 3)
        if 3 * (size - 1) > 2 * nlat - 1 or 3 * (size - 1) >= nlon:
            raise ShapeError(
                "num_degrees", str(size), f"at most {min((2 * nlat - 1) // 3, (nlon - 1) // 3) + 1} for {nlat} x {nlon}"
            )
        self.transform = HarmonicTransform(nlat, nlon, size, device)
        self.coriolis = 2 * ROTATION * self.transform.colatitude.cos()[:, None]  # [nlat, 1]
        self._laplacian = self.transform.laplacian / RADIUS**2

    def tendency(self, state: Tensor) -> Tensor:
        """The time derivative of states, without the diffusion; shaped as they are."""
        t = self.transform
        phi, zeta = t.synthesise(state[:, :2]).unbind(dim=1)
        u, v = (RADIUS * wind for wind in t.wind(state[:, 1], state[:, 2]))
        absolute = zeta + self.coriolis
        curl, divergence = t.curl_and_divergence(
            torch.stack([absolute * u, phi * u], dim=1), torch.stack([absolute * v, phi * v], dim=1)
        )
        bernoulli = state[:, 0] + t.analyse((u**2 + v**2) / 2)
        return torch.stack(
            [
                -divergence[:, 1] / RADIUS,
                -divergence[:, 0] / RADIUS,
                curl[:, 0] / RADIUS - self._laplacian * bernoulli,
            ],
            dim=1,
        )

    def advance(self, state: Tensor, seconds: float, step: float | None = None) -> Tensor:
        """States after ``seconds``.

        Args:
            state: ``[S, 3, L, M]``.
            seconds: of model time.
            step: the longest step in seconds; a radian of the fastest gravity wave if left out (about 400 s at 43
                degrees), which loses less of it than the diffusion does.

        Raises:
            InputError: the solution became infinite: the step is too long for these winds.
        """
        longest = step or self.stable_step(state)
        count = max(1, math.ceil(seconds / longest - 1e-9))
        dt = seconds / count
        share = self._laplacian / self._laplacian[-1].clamp(max=-1e-30)
        half = torch.exp(-dt / 2 / _DIFFUSION_TIME * share**_DIFFUSION_POWER)
        fade = torch.stack([torch.ones_like(half), half, half])  # [3, L, 1]: in half a step; height does not diffuse
        for _ in range(count):  # with the diffusion as integrating factor, that is, exactly
            k1 = self.tendency(state)
            k2 = self.tendency(fade * (state + dt / 2 * k1))
            state, k1 = fade * state, fade * k1
            k3 = self.tendency(state + dt / 2 * k2)
            k4 = self.tendency(fade * (state + dt * k3))
            state = fade * (state + dt / 6 * (k1 + 2 * k2 + 2 * k3)) + dt / 6 * k4
        if not torch.isfinite(torch.view_as_real(state)).all():
            raise InputError(f"step: the solution became infinite with steps of {dt:g} s. Choose shorter ones.")
        return state

    def stable_step(self, state: Tensor) -> float:
        """Seconds in which the fastest wave that the degrees can carry turns by a radian (2.8 are unstable)."""
        u, v = (RADIUS * wind for wind in self.transform.wind(state[:, 1], state[:, 2]))
        phi = self.transform.synthesise(state[:, 0]).clamp(min=0.0)
        speed = float((phi.sqrt() + (u**2 + v**2).sqrt()).max())
        return 1.0 / (speed * math.sqrt(-float(self._laplacian[-1])) + ROTATION)

    def state_of(self, height: Tensor, east: Tensor, north: Tensor) -> Tensor:
        """``[S, 3, L, M]`` of the height in m and the wind in m/s, ``[S, nlat, nlon]`` each."""
        curl, divergence = self.transform.curl_and_divergence(east, north)
        return torch.stack([GRAVITY * self.transform.analyse(height), curl / RADIUS, divergence / RADIUS], dim=1)

    def fields(self, state: Tensor) -> Tensor:
        """``[S, 3, nlat, nlon]``: height in m, vorticity and divergence in 1/s."""
        fields = self.transform.synthesise(state)
        fields[:, 0] /= GRAVITY
        return fields

    def wind(self, state: Tensor) -> Tensor:
        """``[S, 2, nlat, nlon]``: eastward and northward wind in m/s."""
        return RADIUS * torch.stack(self.transform.wind(state[:, 1], state[:, 2]), dim=1)

    def energy(self, state: Tensor) -> Tensor:
        """``[S]``: kinetic and potential energy over the unit sphere, divided by density, m^3/s^2 per steradian."""
        phi = self.transform.synthesise(state[:, 0])
        return self.transform.integral(phi * self.wind(state).square().sum(dim=1) + phi**2) / (2 * GRAVITY)

    def random_states(self, num: int, seed: int = 0, degrees: int = DEGREES) -> Tensor:
        """``[num, 3, L, M]``: independent normal coefficients of height, vorticity and divergence.

        Over all of ``degrees`` degrees the height would have a standard deviation of about 120 m around 10,000 m, and
        the vorticity that of a wind of Mach 0.2 over the radius of the earth; a solver with fewer degrees has the
        share ``L / degrees`` of both. Fewer ``degrees`` give stronger fields, in which waves interact more.

        Args:
            num: states.
            seed: of the coefficients; each state has its own numbers, whatever ``num`` is.
            degrees: that share the variance.
        """
        size = self.transform.num_degrees
        scale = math.sqrt(4 * math.pi / (degrees * (degrees + 1)))
        waves = math.sqrt(GRAVITY * MEAN_HEIGHT)
        states = np.zeros((num, 3, size, size), dtype=np.complex128)
        for k in range(num):
            drawn = np.random.default_rng([seed, k]).standard_normal((2, 3, size, size)) * math.sqrt(0.5)
            states[k] = np.tril(scale * (drawn[0] + 1j * drawn[1]))
        states[..., 0] = states[..., 0].real * math.sqrt(2)  # of order 0 a real field has real coefficients
        states *= np.array([GRAVITY * HEIGHT_PERTURBATION, *2 * [MACH * waves / RADIUS]])[:, None, None]
        states[:, :, 0, 0] = 0.0
        states[:, 0, 0, 0] = math.sqrt(4 * math.pi) * GRAVITY * MEAN_HEIGHT
        states[:, :, min(degrees, size) :] = 0.0
        return torch.from_numpy(states).to(self.coriolis.device)


def random_states(num: int, nlat: int, nlon: int, seed: int = 0) -> np.ndarray:
    """``[num, 3, nlat, nlon]`` float32: the states that `trajectories` begins with."""
    solver = ShallowWater(nlat, nlon)
    return solver.fields(solver.random_states(num, seed)).cpu().numpy().astype(np.float32)


def trajectories(
    num: int,
    steps: int,
    interval_seconds: float = 1800.0,
    *,
    nlat: int = 64,
    nlon: int = 128,
    seed: int = 0,
    degrees: int = DEGREES,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Random states and what becomes of them.

    Args:
        num: S, trajectories.
        steps: T, states after the first.
        interval_seconds: of model time between two states.
        nlat, nlon: the Gauss-Legendre grid, north to south and from longitude 0 eastwards.
        seed: of the initial states, as in `ShallowWater.random_states`.
        degrees: likewise.
        device: to compute on.

    Returns:
        ``[S, T + 1, 3, nlat, nlon]`` float32: height (m), vorticity and divergence (1/s).

    Example:
        >>> trajectories(2, 3, nlat=16, nlon=32).shape
        (2, 4, 3, 16, 32)
    """
    solver = ShallowWater(nlat, nlon, device=device)
    first = solver.random_states(num, seed, degrees)
    out = np.empty((num, steps + 1, 3, nlat, nlon), dtype=np.float32)
    with torch.no_grad():
        for start in range(0, num, _AT_ONCE):
            state = first[start : start + _AT_ONCE]
            step = solver.stable_step(state) if len(state) else None
            for k in range(steps + 1):
                state = solver.advance(state, interval_seconds, step) if k else state
                out[start : start + _AT_ONCE, k] = solver.fields(state).cpu().numpy()
    return out
