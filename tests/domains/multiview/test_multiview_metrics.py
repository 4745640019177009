import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from geoattn.domains.multiview.baselines import BASELINES, GroundPlane, MeanImage, MeanView, NearestView
from geoattn.domains.multiview.batch import Trial
from geoattn.domains.multiview.metrics import evaluate_images, psnr, scene_groups, ssim
from geoattn.domains.multiview.pictures import draw_error, draw_trial
from geoattn.domains.multiview.records import Scene, in_unit
from geoattn.domains.multiview.scenes import World, look_at, make_scenes, pinhole, render
from geoattn.errors import InputError, ShapeError


@pytest.fixture(scope="module")
def scenes():
    return [in_unit(scene, 2.8) for scene in make_scenes(6, 6, 32, supersample=2)]


def trials_of(scenes):
    return [Trial(scene, (0, 1, 2), target) for scene in scenes for target in (3, 4)]


def test_psnr_and_ssim_are_those_of_torchmetrics():
    rng = np.random.default_rng(0)
    y = rng.uniform(size=(3, 20, 17, 3))
    p = np.clip(y + 0.2 * rng.normal(size=y.shape), 0, 1)
    a, b = (torch.from_numpy(values).movedim(-1, 1) for values in (p, y))
    _, image = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    inside = image[..., 5:-5, 5:-5].mean((1, 2, 3))  # torchmetrics adds windows over mirrored borders
    np.testing.assert_allclose(ssim(y, p), inside.numpy(), atol=1e-6)
    for k in range(3):
        assert psnr(y, p)[k] == pytest.approx(peak_signal_noise_ratio(a[k], b[k], data_range=1.0).item(), abs=1e-6)


def test_metrics_of_images_that_are_equal_nan_small_or_none():
    y = np.random.default_rng(0).uniform(size=(2, 12, 12, 3))
    same = evaluate_images(y, y, ["a", "b"])
    assert same["psnr"] == {"value": 100.0, "ci95": [100.0, 100.0], "n": 2} and same["ssim"]["value"] == pytest.approx(
        1
    )
    assert evaluate_images(y, y + 9.0, ["a", "b"])["mse"]["value"] < 1  # cut off at 1
    broken = evaluate_images(y, np.full_like(y, np.nan), ["a", "b"])
    assert broken["psnr"]["value"] is None and "NaN" in broken["psnr"]["reason"]
    small = evaluate_images(y[:, :8, :8], y[:, :8, :8], ["a", "b"])
    assert small["ssim"]["value"] is None and small["psnr"]["value"] == 100
    assert evaluate_images(y[:0], y[:0], [])["psnr"]["reason"] == "no image"
    with pytest.raises(ShapeError, match="prediction"):
        evaluate_images(y, y[:1], ["a", "b"])
    with pytest.raises(ShapeError, match="groups"):
        evaluate_images(y, y, ["a"])


def test_intervals_draw_whole_scenes():
    """Forty views of two scenes are two independent values, not forty."""
    y = np.full((40, 12, 12, 3), 0.5)
    p = y.copy()
    p[:20] += 0.1
    p[20:] += 0.01
    apart = evaluate_images(y, p, ["a"] * 20 + ["b"] * 20)["psnr"]
    alone = evaluate_images(y, p, list(range(40)))["psnr"]
    assert apart["ci95"] == pytest.approx([20, 40]) and apart["n"] == 2
    assert alone["ci95"][1] - alone["ci95"][0] < 8 and alone["value"] == pytest.approx(apart["value"])


def test_groups_are_scenes_or_views_of_one(scenes):
    assert scene_groups(trials_of(scenes[:2])) == ["scene_0000"] * 2 + ["scene_0001"] * 2
    assert scene_groups(trials_of(scenes[:1])) == ["view_003", "view_004"]


@pytest.mark.parametrize("baseline", BASELINES)
def test_baselines_share_an_interface_and_do_not_see_the_target(baseline, scenes):
    train, test = trials_of(scenes[:4]), trials_of(scenes[4:])
    fitted = baseline().fit(train)
    found = fitted.predict(test)
    assert found.shape == (4, 32, 32, 3) and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    hidden = []
    for trial in test:
        images = trial.scene.images.copy()
        images[trial.target] = 0
        hidden.append(Trial(Scene(**(vars(trial.scene) | {"images": images})), trial.inputs, trial.target))
    assert (fitted.predict(hidden) == found).all()
    with pytest.raises(InputError, match="none"):
        baseline().fit([])


def test_what_the_simple_baselines_give(scenes):
    train = trials_of(scenes[:2])
    np.testing.assert_allclose(
        MeanImage().fit(train).predict(train)[1], np.mean([t.truth for t in train], 0), atol=1e-6
    )
    np.testing.assert_allclose(
        MeanView().fit(train).predict(train)[0], scenes[0].images[:3].mean(axis=0) / 255, atol=1e-6
    )
    scene = scenes[0]
    poses = scene.extrinsics.copy()
    poses[3] = poses[1]
    poses[3, 2, 3] += 0.01
    trial = Trial(Scene(**(vars(scene) | {"extrinsics": poses})), (0, 1, 2), 3)
    assert (NearestView().predict([trial])[0] == scene.images[1].astype(np.float32) / 255).all()


@pytest.mark.parametrize("moved", [False, True])
def test_the_ground_is_laid_where_it_is(moved):
    """A bare ground is drawn rightly by its homography, far better than by any mean, in any frame of the world."""
    rng = np.random.default_rng(0)
    frame = np.eye(4)
    if moved:
        frame[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        frame[:3, :3] *= np.linalg.det(frame[:3, :3])
        frame[:3, 3] = [3.0, 8.0, -2.0]
    world = World([], np.array([[0.9, 0.8, 0.7], [0.2, 0.3, 0.4]]), np.zeros((2, 3)), np.array([0, 0, 1.0]), frame)
    eyes = [(3.0, 0.3, 3.0), (2.6, 1.0, 3.2), (2.8, -0.6, 3.1), (2.7, 0.2, 3.3)]
    poses = np.stack([look_at(np.array(eye), np.array([0.1 * k, 0.0, 0.0])) for k, eye in enumerate(eyes)])
    poses = poses @ np.linalg.inv(frame)
    cameras = np.tile(pinhole(48), (4, 1, 1))
    scene = Scene("a", render(world, poses, cameras, (48, 48)), poses, cameras, list("abcd"), "")
    trial = Trial(in_unit(scene, 3.0), (0, 1, 2), 3)
    baseline = GroundPlane(64).fit([trial])
    scores = {b.name: psnr(trial.truth[None], b.fit([trial]).predict([trial]))[0] for b in (baseline, MeanView())}
    assert scores["ground_plane"] > scores["mean_view"] + 4 and scores["ground_plane"] > 16


def test_pictures(scenes):
    trial = trials_of(scenes)[0]
    text = draw_trial(trial, trial.truth, {"mean <view>": np.zeros((32, 32, 3))})
    assert text.count("<image") == 3 + 3 + 1 and "mean &lt;view&gt;" in text and "100.0 dB" in text
    error = draw_error(np.zeros((1, 2, 3)), np.array([[[0.0, 0, 0], [0.7, 0.7, 0.7]]]))
    np.testing.assert_allclose(error[0], [[1, 1, 1], [0.8, 0, 0]])
