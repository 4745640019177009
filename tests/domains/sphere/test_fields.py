import json

import numpy as np
import pytest

from geoattn.domains.sphere.baselines import (
    Climatology,
    LatitudePrior,
    LinearExtrapolation,
    MeanChange,
    NearestPoints,
    Persistence,
    PointwiseRidge,
    usual_baselines,
)
from geoattn.domains.sphere.metrics import evaluate_classes, evaluate_fields, evaluate_variables
from geoattn.domains.sphere.pictures import draw_classes, draw_errors, draw_maps
from geoattn.domains.sphere.records import FieldSample, SphereGrid
from geoattn.errors import InputError, ShapeError
from geoattn.geometry.sphere import lat_lon_grid

POINTS = lat_lon_grid(9, 16)
W = POINTS.weight.numpy()
RNG = np.random.default_rng(0)


def sample(targets, inputs=None, used=None, name="a"):
    targets = np.asarray(targets)
    inputs = np.zeros((1, targets.shape[1]), dtype=np.float32) if inputs is None else inputs
    return FieldSample(name, inputs, targets, np.ones(targets.shape[1], bool) if used is None else used, "", "")


def fields(num=6, targets=2):
    return [sample(RNG.standard_normal((targets, 144)).astype(np.float32)) for _ in range(num)]


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grid",
    [
        SphereGrid("lat_lon", (60.0, 0.0, -60.0), (0.0, 90.0, 180.0, 270.0)),
        SphereGrid("scattered", (60.0, 0.0, -60.0, 10.0), (0.0, 90.0, 180.0, 270.0)),
        SphereGrid("healpix", size=4, order="nested"),
        SphereGrid("cubed_sphere", size=3),
    ],
)
def test_grids_go_through_json(grid):
    again = SphereGrid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert again == grid and again.same(grid) and grid.points.num_points == grid.num_points
    assert float(grid.points.weight.sum()) == pytest.approx(4 * np.pi)
    assert not grid.same(SphereGrid("healpix", size=4, order="ring"))


def test_known_points():
    one = sample(np.array([[1.0, np.nan, 3.0]], dtype=np.float32), used=np.array([True, True, False]))
    assert one.known.tolist() == [[True, False, False]]
    assert sample(np.array([[0, -1, 2]])).known.tolist() == [[True, False, True]]
    with pytest.raises(InputError, match="Did you mean 'healpix'"):
        SphereGrid("healpics")


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_field_metrics_are_weighted_means():
    samples = fields()
    predicted = [one.targets + RNG.standard_normal((2, 144)) for one in samples]
    mean = 0.1 * RNG.standard_normal((2, 144))
    found = evaluate_fields(samples, predicted, POINTS, scale=[2.0, 4.0], climatology=mean)
    truth, said = np.stack([one.targets for one in samples]), np.stack(predicted)
    error = said - truth
    rmse = np.sqrt((error**2 @ W).mean(axis=0) / W.sum())
    assert found["rmse"]["value"] == pytest.approx(rmse.mean())
    assert found["nrmse"]["value"] == pytest.approx((rmse / [2, 4]).mean())
    assert found["mae"]["value"] == pytest.approx((np.abs(error) @ W).mean() / W.sum())
    assert found["bias"]["value"] == pytest.approx((error @ W).mean() / W.sum())
    a, b = truth - mean, said - mean
    product, first, second = (((x * y) @ W).sum(axis=0) for x, y in ((a, b), (a, a), (b, b)))
    assert found["anomaly_correlation"]["value"] == pytest.approx((product / np.sqrt(first * second)).mean())
    assert found["rmse"]["ci95"][0] < found["rmse"]["value"] < found["rmse"]["ci95"][1] and found["rmse"]["n"] == 1728
    each = evaluate_variables(samples, predicted, POINTS, ["u", "v"], climatology=mean)
    assert each["v"]["rmse"]["value"] == pytest.approx(rmse[1])


def test_missing_points_count_for_nothing():
    truth = RNG.standard_normal((1, 144)).astype(np.float32)
    gaps = truth.copy()
    gaps[0, :40] = np.nan
    wild = truth.astype(np.float64) + 1
    wild[0, :40] = np.nan
    found = evaluate_fields([sample(gaps)], [wild], POINTS)
    assert found["rmse"]["value"] == pytest.approx(1) and found["rmse"]["n"] == 104
    used = np.arange(144) < 100
    assert evaluate_fields([sample(gaps, used=used)], [wild], POINTS)["bias"]["n"] == 60
    nothing = evaluate_fields([sample(np.full((1, 144), np.nan, np.float32))], [wild], POINTS)
    assert nothing["rmse"] == {"value": None, "ci95": None, "n": 0, "reason": "no target is known"}


def test_one_sample_has_an_interval_by_blocks():
    truth = RNG.standard_normal((1, 144)).astype(np.float32)
    found = evaluate_fields([sample(truth)], [truth + RNG.random((1, 144))], POINTS)
    assert found["bias"]["ci95"][0] < found["bias"]["value"] < found["bias"]["ci95"][1]
    assert found["bias"]["ci95"][1] - found["bias"]["ci95"][0] > 0.02


def test_class_metrics():
    truth = RNG.integers(0, 3, (4, 1, 144))
    said = np.where(RNG.random((4, 1, 144)) < 0.7, truth, RNG.integers(0, 3, (4, 1, 144)))
    truth[0, 0, :10] = -1
    samples = [sample(one) for one in truth]
    found = evaluate_classes(samples, list(said), POINTS, 3)
    area = np.broadcast_to(W, (4, 1, 144)) * (truth >= 0)
    assert found["area_accuracy"]["value"] == pytest.approx((area * (said == truth)).sum() / area.sum())
    iou = [(area * ((said == k) & (truth == k))).sum() / (area * ((said == k) | (truth == k))).sum() for k in range(3)]
    assert found["area_miou"]["value"] == pytest.approx(np.mean(iou)) and found["area_accuracy"]["n"] == 566
    scores = [np.eye(3)[one[0]].T for one in said]
    assert evaluate_classes(samples, scores, POINTS, 3) == found


def test_metrics_refuse_other_shapes():
    samples = fields(2)
    with pytest.raises(ShapeError, match="predicted: got 1 fields, expected 2"):
        evaluate_fields(samples, [samples[0].targets], POINTS)
    with pytest.raises(ShapeError, match=r"shape \(1, 144\) of 'a', expected \(2, 144\)"):
        evaluate_fields(samples, [one.targets[:1] for one in samples], POINTS)


# --- baselines --------------------------------------------------------------------------------------------------------


def series(num=8):
    """A line in time at each point, with another slope each: what linear extrapolation knows exactly."""
    slope = RNG.standard_normal((1, 144)).astype(np.float32)
    made = []
    for k in range(num):
        inputs = np.concatenate([slope * k, slope * (k + 1)]) + 5
        made.append(sample(slope * (k + 3) + 5, inputs=inputs.astype(np.float32), name=str(k)))
    return made


def test_forecast_baselines():
    samples = series()
    np.testing.assert_allclose(Persistence([1]).fit(samples).predict(samples)[2], samples[2].inputs[1:])
    for exact in (LinearExtrapolation([1], [0], steps=2), MeanChange([1])):
        for one, answer in zip(samples, exact.fit(samples[:4]).predict(samples), strict=True):
            np.testing.assert_allclose(answer, one.targets, atol=1e-4)
    mean = Climatology().fit(samples).predict(samples[:1])[0]
    np.testing.assert_allclose(mean, np.mean([one.targets for one in samples], axis=0), atol=1e-5)
    names = {"task": "forecast", "inputs": ["t"], "targets": ["t"], "static": [], "history": 2, "steps": 2}
    found = usual_baselines(names, POINTS)
    assert [one.name for one in found] == ["persistence", "mean_change", "linear", "climatology", "ridge"]
    assert found[0].last == [1] and found[2].before == [0]


def test_ridge_finds_a_linear_law_despite_gaps():
    z = POINTS.xyz.numpy()[:, 2]
    samples = []
    for _ in range(3):
        inputs = RNG.standard_normal((2, 144)).astype(np.float32)
        targets = (2 * inputs[:1] - inputs[1:] + 3 * z + 1).astype(np.float32)
        targets[0, :5] = np.nan
        samples.append(sample(targets, inputs=inputs))
    answer = PointwiseRidge(POINTS, 1e-9).fit(samples).predict(samples[:1])[0]
    np.testing.assert_allclose(answer[0, 5:], samples[0].targets[0, 5:], atol=1e-3)
    gap = sample(samples[0].targets, inputs=np.full((2, 144), np.nan, np.float32))
    assert np.isfinite(PointwiseRidge(POINTS).fit([*samples, gap]).predict([gap])[0]).all()


def test_baselines_of_held_out_regions():
    z = POINTS.xyz.numpy()[:, 2]
    kind = (z > 0.1).astype(np.int64)[None]
    used = RNG.random(144) < 0.7
    one = sample(kind, used=used)
    for baseline in (NearestPoints(POINTS, 3), LatitudePrior(POINTS, 9)):
        answer = baseline.fit([one]).predict([one])[0]
        assert answer.dtype == np.int64 and (answer == kind)[:, ~used].mean() > 0.9
    smooth = sample(z[None].astype(np.float32), used=used)
    assert np.abs(NearestPoints(POINTS, 3).fit([smooth]).predict([smooth])[0] - z).mean() < 0.2


def test_baselines_refuse_no_samples():
    with pytest.raises(InputError, match="samples: got none"):
        Climatology().fit([])
    with pytest.raises(InputError, match="'a' has no targets"):
        Persistence([0]).fit([FieldSample("a", np.zeros((1, 3)), None, np.ones(3, bool), "", "")])


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_maps(tmp_path):
    grid = SphereGrid("lat_lon", tuple(np.linspace(90, -90, 9)), tuple(np.arange(0, 360, 22.5)))
    field = RNG.standard_normal(144)
    field[:20] = np.nan
    figure = draw_maps(grid, [field, 2 * field], ["one", "two"], label="K")
    figure.savefig(tmp_path / "a.png")
    scale = figure.axes[-1]
    assert scale.get_xlim()[0] == -scale.get_xlim()[1] and scale.get_xlabel() == "K"
    mesh = figure.axes[0].collections[0]
    assert mesh.get_array().mask.sum() == 20
    beside, error = draw_errors(grid, field, field + 300)
    assert len(beside.axes) == 3 and len(error.axes) == 2
    for kind in (SphereGrid("healpix", size=2, order="ring"), SphereGrid("healpix", size=8, order="nested")):
        classes = RNG.integers(-1, 3, kind.num_points)
        draw_classes(kind, [classes], ["classes"], ["a", "b", "c"]).savefig(tmp_path / "b.svg")
    with pytest.raises(ShapeError, match="titles: got 0, expected 1"):
        draw_maps(grid, [field], [])
    with pytest.raises(ShapeError, match=r"fields: got shape \(3,\), expected \[144\]"):
        draw_maps(grid, [np.zeros(3)], ["a"])


def test_a_map_puts_east_to_the_right():
    grid = SphereGrid("lat_lon", tuple(np.linspace(90, -90, 5)), tuple(np.arange(0, 360, 90.0)))
    east = np.zeros((5, 4))
    east[:, 1] = 1.0  # 90 degrees east
    mesh = draw_maps(grid, [east.reshape(-1)], ["a"]).axes[0].collections[0]
    corners = mesh.get_coordinates()[..., 0]
    column = int(np.asarray(mesh.get_array()).reshape(5, 4)[2].argmax())
    assert corners[2, column] == pytest.approx(np.pi / 4) and corners[2, column + 1] > np.pi / 2
