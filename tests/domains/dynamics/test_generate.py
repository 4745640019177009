"""Simulated particles: against runs of the published algorithm, a loop in plain Python, and the laws of motion."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from geoattn.domains.dynamics import generate
from geoattn.domains.dynamics.baselines import fitted_time
from geoattn.domains.dynamics.generate import simulate_charged, simulate_springs
from geoattn.domains.dynamics.protocols import PROTOCOLS, nbody_arrays
from geoattn.domains.dynamics.systems import Systems
from geoattn.errors import InputError

REFERENCE = np.load(Path(__file__).with_name("reference.npz"))
FRAMES = [0, 9, 30]


def rotation(seed: int = 0) -> np.ndarray:
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return matrix * np.sign(np.linalg.det(matrix))


class TestPublished:
    def test_charged(self):
        """Charges, initial states and runs of the published EGNN set, seed 43."""
        runs = simulate_charged(2, frames=FRAMES, seed=43, legacy_rng=True)
        np.testing.assert_array_equal(runs.charge, REFERENCE["charged_charge"])
        np.testing.assert_allclose(runs.init_pos, REFERENCE["charged_init_loc"], atol=1e-14)
        np.testing.assert_allclose(runs.init_vel, REFERENCE["charged_init_vel"], atol=1e-14)
        np.testing.assert_allclose(runs.pos, REFERENCE["charged_loc"], atol=1e-9)
        np.testing.assert_allclose(runs.vel, REFERENCE["charged_vel"], atol=1e-8)
        assert runs.interval == pytest.approx(0.1)

    def test_springs(self):
        runs = simulate_springs(2, frames=FRAMES, seed=42, legacy_rng=True)
        np.testing.assert_array_equal(runs.edges, REFERENCE["springs_edge"])
        np.testing.assert_allclose(runs.pos, REFERENCE["springs_loc"], atol=1e-12)
        np.testing.assert_allclose(runs.vel, REFERENCE["springs_vel"], atol=1e-12)
        assert runs.interval == pytest.approx(0.2)

    def test_skip(self):
        """The third run of a set is the first behind two that are passed over."""
        whole = simulate_charged(3, steps=400, frames=[0], seed=5, legacy_rng=True)
        rest = simulate_charged(1, steps=400, frames=[0], seed=5, legacy_rng=True, skip=2)
        np.testing.assert_allclose(whole.pos[2:], rest.pos, atol=1e-14)

    @pytest.mark.slow
    def test_linear_baseline_of_egnn(self):
        """Published: 0.0819 on their test systems; five sets of 2,000 gave 0.0855 with a spread of 0.0015."""
        runs = simulate_charged(2000, frames=[30, 40], seed=1)
        x, v, y = runs.pos[:, 0], runs.vel[:, 0], runs.pos[:, 1]
        t = (v * (y - x)).sum() / (v * v).sum()
        assert 0.68 < t < 0.78
        assert 0.076 < ((x + t * v - y) ** 2).mean() < 0.095
        assert 0.25 < ((x - y) ** 2).mean() < 0.29

    @pytest.mark.slow
    def test_linear_baseline_of_the_se3_transformer(self):
        """Published: 0.0691 for positions and 0.261 for velocities."""
        runs = simulate_charged(2000, frames=[0, 10], loc_std=1.0, box=5.0, seed=1)
        assert 0.064 < ((runs.pos[:, 0] + runs.vel[:, 0] - runs.pos[:, 1]) ** 2).mean() < 0.080
        assert 0.235 < ((runs.vel[:, 0] - runs.vel[:, 1]) ** 2).mean() < 0.275


def scalar_run(pos, vel, force, steps, box=None):
    """The published algorithm, one system, body by body."""
    n, dim = pos.shape
    pos, vel = pos.copy(), vel.copy()
    for _ in range(steps):
        total = np.zeros_like(pos)
        for i, j in product(range(n), range(n)):
            if i != j:
                total[i] += force(i, j, pos[i] - pos[j])
        vel += 1e-3 * np.clip(total, -100, 100)
        pos += 1e-3 * vel
        if box is not None:
            for i, c in product(range(n), range(dim)):
                if pos[i, c] > box:
                    pos[i, c], vel[i, c] = 2 * box - pos[i, c], -abs(vel[i, c])
                elif pos[i, c] < -box:
                    pos[i, c], vel[i, c] = -2 * box - pos[i, c], abs(vel[i, c])
    return pos, vel


@pytest.mark.parametrize("box", [None, 1.0])
def test_charged_against_a_loop(box):
    runs = simulate_charged(3, steps=500, interval=100, seed=3, box=box)
    assert runs.pos.shape == (3, 4, 5, 3)
    for s in range(3):
        q = runs.charge[s]
        pos, vel = scalar_run(
            runs.init_pos[s], runs.init_vel[s], lambda i, j, d, q=q: q[i] * q[j] * d / np.linalg.norm(d) ** 3, 400, box
        )
        np.testing.assert_allclose(runs.pos[s, 3], pos, atol=1e-10)
        np.testing.assert_allclose(runs.vel[s, 3], vel, atol=1e-9)


def test_springs_against_a_loop():
    runs = simulate_springs(2, n=4, dim=2, steps=300, interval=100, seed=3)
    for s in range(2):
        e = runs.edges[s]
        pos, _ = scalar_run(runs.init_pos[s], runs.init_vel[s], lambda i, j, d, e=e: -0.1 * e[i, j] * d, 200)
        np.testing.assert_allclose(runs.pos[s, 1], pos, atol=1e-12)


def test_initial_states():
    runs = simulate_charged(2000, n=10, steps=200, frames=[0], seed=0)
    np.testing.assert_allclose(np.linalg.norm(runs.init_vel, axis=-1), 0.5)
    assert runs.init_pos.std() == pytest.approx(2 ** (1 / 3), rel=0.02)
    assert set(np.unique(runs.charge)) == {-1, 1} and abs(runs.charge.mean()) < 0.02
    edges = simulate_springs(500, steps=400, frames=[0], seed=0).edges
    assert set(np.unique(edges)) == {0, 1} and abs(edges[:, 0, 1].mean() - 0.5) < 0.1
    np.testing.assert_array_equal(edges, edges.swapaxes(1, 2))
    assert not np.diagonal(edges, axis1=1, axis2=2).any()


def test_a_seed_says_everything():
    first, again, other = (simulate_charged(4, steps=300, frames=[0], seed=seed).pos for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_blocks_make_no_difference(monkeypatch):
    whole = simulate_charged(5, steps=300, seed=1).pos
    monkeypatch.setattr(generate, "_SYSTEMS_AT_ONCE", 2)
    np.testing.assert_allclose(simulate_charged(5, steps=300, seed=1).pos, whole, atol=1e-14)


@pytest.mark.parametrize("simulate", [simulate_charged, simulate_springs])
def test_momentum_is_conserved_where_no_force_is_cut(simulate, monkeypatch):
    monkeypatch.setattr(generate, "MAX_FORCE", np.inf)
    runs = simulate(8, steps=1000, interval=100, frames=[0, 8], seed=2)
    np.testing.assert_allclose(runs.vel.sum(axis=2) - runs.init_vel.sum(axis=1)[:, None], 0, atol=1e-10)


def test_walls_hold():
    runs = simulate_charged(20, frames=[5, 30], box=1.5, loc_std=0.5, seed=0)
    assert np.abs(runs.pos).max() <= 1.5


class TestClip:
    """Two opposite charges that meet: the force is cut."""

    def close(self, clip, turn, steps=200):
        charge = np.array([[1.0, -1.0]])
        pos = np.array([[[0.03, 0.02, 0.01], [-0.03, -0.02, -0.01]]]) @ turn.T
        vel = np.zeros_like(pos)
        strength = charge[:, :1] * charge[:, 1:]
        force = lambda d2, q: q / d2**1.5
        return generate._integrate(pos, vel, strength, force, steps, 50, [0], None, clip)[0][0, 0]

    def test_of_the_length_is_equivariant(self):
        turn = rotation()
        np.testing.assert_allclose(self.close("norm", np.eye(3)) @ turn.T, self.close("norm", turn), atol=1e-9)

    def test_of_components_is_not(self):
        turn = rotation()
        difference = self.close("component", np.eye(3)) @ turn.T - self.close("component", turn)
        assert np.abs(difference).max() > 1e-3

    def test_a_force_has_at_most_its_length(self):
        """From rest, one step: the velocity is the time step times the force."""
        pos = self.close("norm", np.eye(3), steps=200)
        assert np.isfinite(pos).all()
        block = generate._Block(
            np.array([[[0.01, 0, 0], [-0.01, 0, 0]]]), np.zeros((1, 2, 3)), -np.ones((1, 1)),
            lambda d2, q: q / d2**1.5, "norm",
        )  # fmt: skip
        block.step(None)
        assert np.linalg.norm(block.vel[:, 0, 0]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": [49]}, "frames: got [49], expected numbers from 0 to 48"),
        ({"frames": []}, "frames: got []"),
        ({"clip": "cube"}, "clip: got 'cube', expected 'component' or 'norm'"),
        ({"skip": 3}, "skip: got 3 without legacy_rng"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError) as caught:
        simulate_charged(1, **options)
    assert message in str(caught.value)


class TestProtocols:
    def test_parts_do_not_repeat_each_other(self):
        arrays = nbody_arrays("se3", sizes=(3, 3, 3))
        states = [arrays[f"{part}_loc0"] for part in ("train", "valid", "test")]
        assert len({state.tobytes() for state in states}) == 3
        assert arrays["train_loc1"].dtype == np.float32 and arrays["test_charge"].dtype == np.int8

    def test_they_are_kept_apart(self):
        assert PROTOCOLS["egnn"].options == {} and PROTOCOLS["se3"].options == {"loc_std": 1.0, "box": 5.0}
        assert [(p.frame_in, p.frame_out) for p in PROTOCOLS.values()] == [(30, 40), (0, 10)]

    def test_the_published_order(self, monkeypatch):
        """10,000 runs for training, then 2,000 and 2,000, from one stream."""
        calls = []

        def simulate(num, **options):
            calls.append((num, options["skip"], options["seed"]))
            return simulate_charged(num, frames=(0, 1))

        monkeypatch.setattr("geoattn.domains.dynamics.protocols.simulate_charged", simulate)
        nbody_arrays("egnn", sizes=(3, 2, 1), legacy_rng=True)
        assert calls == [(3, 0, 43), (2, 10000, 43), (1, 12000, 43)]

    def test_fitted_time_without_forces(self):
        pos, vel = np.random.default_rng(0).normal(size=(2, 6, 3))
        systems = Systems(["a", "b"], np.array([3, 3]), pos, vel, target_pos=pos + 0.7 * vel)
        assert fitted_time(systems) == pytest.approx(0.7)
        systems.vel = np.zeros_like(vel)
        assert fitted_time(systems) == 0
