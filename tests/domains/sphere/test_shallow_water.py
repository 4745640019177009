import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from geoattn.domains.sphere.harmonic_transform import HarmonicTransform, legendre_functions
from geoattn.domains.sphere.shallow_water import ShallowWater, random_states, trajectories
from geoattn.domains.sphere.williamson import rossby_haurwitz_speed, rossby_haurwitz_wave, steady_zonal_flow
from geoattn.errors import InputError, ShapeError


def coefficients(size, lead=(), seed=0):
    """Of a real field: nothing above the diagonal, order 0 real."""
    draw = np.random.default_rng(seed).standard_normal((2, *lead, size, size))
    made = np.tril(draw[0] + 1j * draw[1])
    made[..., 0] = made[..., 0].real
    return torch.from_numpy(made)


# --- the transform ----------------------------------------------------------------------------------------------------


def test_legendre_functions_are_scipys():
    theta = np.linspace(0.05, 3.1, 9)
    table = legendre_functions(np.cos(theta), 30)
    for degree, m in ((0, 0), (1, 1), (7, 3), (29, 0), (29, 17), (29, 29)):
        np.testing.assert_allclose(table[m, degree], sph_harm_y(degree, m, theta, 0.0).real, atol=1e-13)


def test_a_harmonic_has_one_coefficient():
    t = HarmonicTransform(24, 48, 20)
    for degree, m in ((0, 0), (5, 0), (5, 2), (19, 19)):
        field = torch.from_numpy(sph_harm_y(degree, m, t.colatitude.numpy()[:, None], t.longitude.numpy()[None]).real)
        wanted = torch.zeros(20, 20, dtype=torch.complex128)
        wanted[degree, m] = 1.0 if m == 0 else 0.5
        assert (t.analyse(field) - wanted).abs().max() < 1e-13


@pytest.mark.parametrize("nlat, nlon, size", [(16, 32, 16), (11, 24, 7), (64, 128, 43)])
def test_round_trips(nlat, nlon, size):
    t = HarmonicTransform(nlat, nlon, size)
    c = coefficients(size, (2, 3))
    assert (t.analyse(t.synthesise(c)) - c).abs().max() < 1e-12
    c[..., 0, 0] = 0
    low = min(size, nlat - 1)  # a wind has one degree more
    c[..., low:, :] = 0
    vorticity, divergence = t.curl_and_divergence(*t.wind(c[0], c[1]))
    assert (vorticity - c[0]).abs().max() < 1e-11 and (divergence - c[1]).abs().max() < 1e-11


def test_integrals_and_derivatives():
    t = HarmonicTransform(16, 32, 8)
    assert float(t.integral(torch.ones(16, 32, dtype=torch.float64))) == pytest.approx(4 * math.pi, rel=1e-14)
    sine = t.colatitude.sin()[:, None].expand(16, 32)
    vorticity, divergence = t.curl_and_divergence(sine, torch.zeros_like(sine))  # air that turns eastwards like a body
    rigid = 2 * t.colatitude.cos()[:, None].expand(16, 32)
    assert (t.synthesise(vorticity) - rigid).abs().max() < 1e-13 and divergence.abs().max() < 1e-13
    _, outward = t.curl_and_divergence(torch.zeros_like(sine), sine)  # from the south pole to the north pole
    assert (t.synthesise(outward) + rigid).abs().max() < 1e-13


def test_batches_are_single_fields():
    t = HarmonicTransform(12, 24, 8)
    fields = t.synthesise(coefficients(8, (3, 2)))
    torch.testing.assert_close(t.analyse(fields)[2, 1], t.analyse(fields[2, 1]), rtol=0, atol=1e-13)
    u, v = t.wind(t.analyse(fields[:, 0]), t.analyse(fields[:, 1]))
    one = t.wind(t.analyse(fields[1, 0]), t.analyse(fields[1, 1]))
    torch.testing.assert_close((u[1], v[1]), one, rtol=0, atol=1e-13)


def test_refuses_what_the_grid_cannot_carry():
    with pytest.raises(ShapeError, match=r"num_degrees: got 17, expected 1 .. 16 for a grid of 16 x 32"):
        HarmonicTransform(16, 32, 17)
    with pytest.raises(ShapeError, match="field: got shape"):
        HarmonicTransform(16, 32, 16).analyse(torch.zeros(32, 16))
    with pytest.raises(ShapeError, match="num_degrees: got 12, expected at most 11 for 16 x 32"):
        ShallowWater(16, 32, 12)


# --- the equations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nlat, size, days", [(32, 21, 1.0), pytest.param(64, 43, 5.0, marks=pytest.mark.slow, id="T42")]
)
def test_steady_flow_stays(nlat, size, days):
    solver = ShallowWater(nlat, 2 * nlat, size)
    first = steady_zonal_flow(solver)
    later = solver.advance(first, days * 86400)
    before, after = solver.fields(first)[:, 0], solver.fields(later)[:, 0]
    assert (after - before).abs().max() / before.abs().max() < (1e-8 if size == 21 else 1e-10)
    assert (solver.wind(later) - solver.wind(first)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "nlat, size, days", [(32, 21, 0.5), pytest.param(64, 43, 2.0, marks=pytest.mark.slow, id="T42")]
)
def test_rossby_haurwitz_wave_travels(nlat, size, days):
    """A little slower than without divergence, and almost of the same height; NCAR's reference has the same."""
    solver = ShallowWater(nlat, 2 * nlat, size)
    first = rossby_haurwitz_wave(solver)
    later = solver.advance(first, days * 86400)
    before, after = first[0, 1, 5, 4], later[0, 1, 5, 4]
    angle = -float(torch.angle(after / before)) / 4
    assert 0.9 < angle / (days * 86400 * rossby_haurwitz_speed()) < 1.0
    assert float(after.abs() / before.abs()) == pytest.approx(1, abs=0.01)
    assert abs(float(later[0, 0, 0, 0].real / first[0, 0, 0, 0].real) - 1) < 1e-12
    assert abs(float(solver.energy(later) / solver.energy(first)) - 1) < 1e-5


def test_mass_and_energy_of_random_states():
    solver = ShallowWater(32, 64)
    first = solver.random_states(2, seed=3, degrees=11)  # 120 m over 11 degrees: strong
    later = solver.advance(first, 86400)
    mass = [solver.transform.integral(solver.fields(state)[:, 0]) for state in (first, later)]
    assert (mass[1] / mass[0] - 1).abs().max() < 1e-12
    change = solver.energy(later) / solver.energy(first) - 1
    assert float(change.min()) > -5e-3 and float(change.max()) < 1e-9  # it may leave at the smallest scales only
    assert (later - first)[:, 1:, 0, 0].abs().max() == 0


def test_steps_of_fourth_order():
    solver = ShallowWater(16, 32)
    first = solver.random_states(1, degrees=6)
    exact = solver.advance(first, 7200, step=50)
    errors = [float((solver.advance(first, 7200, step=dt) - exact)[:, 0].abs().max()) for dt in (1200, 600)]
    assert 10 < errors[0] / errors[1] < 25
    with pytest.raises(InputError, match="step: the solution became infinite with steps of 43200 s"):
        solver.advance(first, 40 * 86400, step=43200)


def test_states_and_trajectories():
    first = random_states(3, 16, 32, seed=5)
    path = trajectories(3, 4, 1800, nlat=16, nlon=32, seed=5)
    assert path.shape == (3, 5, 3, 16, 32) and path.dtype == np.float32
    np.testing.assert_array_equal(path[:, 0], first)
    np.testing.assert_array_equal(path[:2], trajectories(2, 4, 1800, nlat=16, nlon=32, seed=5))
    assert np.abs(path[:, 1:] - path[:, :-1])[:, :, 0].max() > 1.0  # metres: they move
    solver = ShallowWater(16, 32)  # a trajectory that is continued is the trajectory
    middle = solver.advance(solver.random_states(3, 5), 3600)
    np.testing.assert_allclose(solver.fields(middle)[:, 0], path[:, 2, 0], atol=1e-2)
    assert trajectories(0, 2, nlat=16, nlon=32).shape == (0, 3, 3, 16, 32)


def test_random_states_have_the_stated_size():
    solver = ShallowWater(96, 192, 32)
    fields = solver.fields(solver.random_states(20, seed=1, degrees=32))
    assert float(fields[:, 0].std()) == pytest.approx(120, rel=0.1)
    assert float(fields[:, 0].mean()) == pytest.approx(1e4, rel=1e-3)
    weak = solver.fields(solver.random_states(20, seed=1))
    assert float(weak[:, 1].std() / fields[:, 1].std()) == pytest.approx((32 * 33 / (120 * 121)) ** 0.5, rel=0.1)


def test_torch_harmonics_converges_to_it():
    """Its first steps are Euler's and it splits the diffusion off: the difference is as large as its step."""
    pytest.importorskip("torch_harmonics")
    from torch_harmonics.examples.shallow_water_equations import ShallowWaterSolver

    solver = ShallowWater(32, 64)
    first = solver.random_states(1, seed=2, degrees=11)
    ours = solver.advance(first, 1800, step=100)[0]
    signs = (-1.0) ** torch.arange(11)  # no Condon-Shortley phase there
    errors = []
    for dt in (40.0, 20.0):
        other = ShallowWaterSolver(32, 64, dt, lmax=11, mmax=11, grid="legendre-gauss").double()
        theirs = other.timestep(first[0] * signs, round(1800 / dt)) * signs
        errors.append((theirs - ours).abs().amax(dim=(1, 2)) / (ours - first[0]).abs().amax(dim=(1, 2)))
    assert errors[1].max() < 2e-3
    np.testing.assert_allclose((errors[0] / errors[1]).numpy(), 2, rtol=0.15)
