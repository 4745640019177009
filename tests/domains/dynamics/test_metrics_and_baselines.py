"""Errors with their intervals, what has to be beaten, and what train and test share."""

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from geoattn.domains.dynamics.audit import audit, audit_rows, system_keys
from geoattn.domains.dynamics.baselines import baseline_predictions, fitted_time
from geoattn.domains.dynamics.metrics import evaluate_positions, system_errors
from geoattn.domains.dynamics.pictures import draw_system
from geoattn.domains.dynamics.systems import joined
from geoattn.errors import ShapeError

from .conftest import make_systems


class TestMetrics:
    def test_against_their_definitions(self):
        rng = np.random.default_rng(0)
        sizes = rng.integers(1, 6, size=40)
        y, p = rng.normal(size=(2, sizes.sum(), 3))
        squares = (y - p) ** 2
        each = [part.mean() for part in np.split(squares, np.cumsum(sizes)[:-1])]
        found = evaluate_positions(y, p, sizes)
        assert found["mse"]["value"] == pytest.approx(squares.mean())
        assert found["rmse"]["value"] == pytest.approx(np.sqrt(squares.mean()))
        assert found["median_system_mse"]["value"] == pytest.approx(np.median(each))
        assert found["median_coordinate_se"]["value"] == pytest.approx(np.median(squares))
        np.testing.assert_allclose(system_errors(y, p, sizes), each)
        for entry in found.values():
            assert entry["n"] == 40 and entry["ci95"][0] < entry["value"] < entry["ci95"][1]

    def test_the_interval_resamples_whole_systems(self):
        """All bodies of a system go wrong together: the spread is that of the systems, not of the bodies."""
        rng = np.random.default_rng(1)
        error = rng.normal(size=200)
        y = np.zeros((2000, 1))
        found = evaluate_positions(y, np.repeat(error, 10)[:, None], np.full(200, 10))
        low, high = found["mse"]["ci95"]
        assert (high - low) / 2 == pytest.approx(1.96 * (error**2).std() / np.sqrt(200), rel=0.15)
        middle = found["median_system_mse"]["ci95"]
        draws = [np.median(rng.choice(error, 200) ** 2) for _ in range(2000)]
        np.testing.assert_allclose(middle, np.quantile(draws, [0.025, 0.975]), rtol=0.15)

    def test_a_prefix_and_no_system(self):
        found = evaluate_positions(np.empty((0, 3)), np.empty((0, 3)), np.array([], dtype=int), prefix="velocity_")
        assert found["velocity_mse"] == {"value": None, "ci95": None, "n": 0, "reason": "no system"}

    @pytest.mark.parametrize("shape", [(4, 2), (3, 3)])
    def test_wrong_shapes(self, shape):
        with pytest.raises(ShapeError, match="prediction"):
            evaluate_positions(np.zeros((4, 3)), np.zeros(shape), np.array([4]))


def test_baselines(systems):
    systems.horizon = 2.0
    found = baseline_predictions(0.5, systems)
    np.testing.assert_array_equal(found["constant"][0], systems.pos)
    np.testing.assert_array_equal(found["constant_velocity"][0], systems.pos + 2 * systems.vel)
    np.testing.assert_array_equal(found["linear"][0], systems.pos + 0.5 * systems.vel)
    assert all(vel is systems.vel for _, vel in found.values())


def test_fitted_time_is_the_best(systems):
    error = lambda t: ((systems.pos + t * systems.vel - systems.target_pos) ** 2).sum()
    t = fitted_time(systems)
    assert error(t) < min(error(t - 0.01), error(t + 0.01))


class TestAudit:
    def moved(self, systems, seed=3):
        """The same systems elsewhere, turned, mirrored, their bodies renumbered."""
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        order = np.concatenate(
            [start + rng.permutation(size) for start, size in zip(systems.ptr, systems.sizes, strict=False)]
        )
        return dataclasses.replace(
            systems,
            pos=(systems.pos @ turn.T + [1, 2, 3])[order],
            vel=(systems.vel @ turn.T)[order],
            charge=systems.charge[order],
        )

    def test_copies_are_found_however_they_lie(self):
        systems = make_systems((4, 4, 3, 5))
        copy = self.moved(systems)
        assert system_keys(systems) == system_keys(copy)
        both = joined([systems, copy])
        report = audit(both, {"train": [0, 1, 2, 3], "valid": [], "test": [4, 5, 6, 7]})
        assert report["duplicates"] == 4
        assert report["pairs"]["train/test"] == {"identical_states": 4, "near_states": 4}
        (row,) = [r for r in audit_rows(report) if r["parts"] == "train/test" and r["what"] == "near_states"]
        assert (row["count"], row["of"], row["percent"]) == (4, 4, 100.0)

    @pytest.mark.parametrize(("shake", "near"), [(1e-4, 3), (0.3, 0)])
    def test_near_copies(self, shake, near):
        systems = make_systems()
        rng = np.random.default_rng(5)
        shaken = dataclasses.replace(systems, pos=systems.pos + shake * rng.normal(size=systems.pos.shape))
        report = audit(joined([systems, shaken]), {"train": [0, 1, 2], "test": [3, 4, 5]})
        assert report["pairs"]["train/test"]["near_states"] == near
        assert shake < 0.1 or report["pairs"]["train/test"]["identical_states"] == 0

    def test_other_charges_are_another_state(self):
        systems = make_systems()
        other = dataclasses.replace(systems, charge=np.where(np.arange(12) % 4 == 0, -systems.charge, systems.charge))
        report = audit(joined([systems, other]), {"train": [0, 1, 2], "test": [3, 4, 5]})
        assert report["pairs"]["train/test"] == {"identical_states": 0, "near_states": 0}


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("charge", [None, np.array([1.0, -1.0, 0.0])])
def test_picture(dim, charge):
    pos, vel, true, predicted = np.random.default_rng(0).normal(size=(4, 3, dim))
    root = ET.fromstring(draw_system(pos, vel, true, predicted, charge))
    assert len(root.findall("{*}circle")) == 6
    assert "nan" not in ET.tostring(root, encoding="unicode")


def test_picture_of_one_body_at_rest():
    still = np.zeros((1, 3))
    assert "nan" not in draw_system(still, still, still, still)
