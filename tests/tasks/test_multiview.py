"""``geoattn multiview``: the run folder, resuming, test, predict, audit, the command line, bad input, the demo."""

import copy
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geoattn.cli import main
from geoattn.datasets.multiview_arrays import write_npz
from geoattn.datasets.multiview_files import each_scene
from geoattn.datasets.multiview_nerf import write_nerf
from geoattn.datasets.multiview_samples import trials_of_scene
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.multiview.audit import audit
from geoattn.domains.multiview.orbit import orbit
from geoattn.domains.multiview.records import in_unit
from geoattn.domains.multiview.scenes import make_scenes
from geoattn.domains.multiview.transformer_model import MultiViewModel
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks import multiview
from geoattn.tasks._multiview_draw import draw, in_model_unit
from geoattn.tasks._multiview_evaluate import measure_symmetry
from geoattn.tasks._multiview_predict import predict_file
from geoattn.tasks._parser import expand_arguments, merged, recipe_names, recipe_path

FILES = [
    "checkpoints", "config.yaml", "environment.txt", "metrics.csv", "metrics.json", "model", "predictions.csv",
    "rejected.csv", "report.html", "split.json",
]  # fmt: skip
NUM, VIEWS = 12, 4
SMALL = {
    "data": {"val_fraction": 0.2, "test_fraction": 0.2, "batch_size": 4, "rays": 32, "unit": "data"},
    "model": {"channels": 32, "num_heads": 2, "num_layers": 1, "decoder_layers": 1},
    "trainer": {"max_epochs": 2},
    "quiet": True,
}


def fit(file, out, **options):
    return multiview.fit(file, out=out, **merged(SMALL, options))


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(NUM, views=VIEWS, size=16, supersample=1)


@pytest.fixture(scope="module")
def file(scenes, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scenes.npz"
    write_npz(path, scenes)
    return path


@pytest.fixture(scope="module")
def folders(scenes, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scenes"
    for scene in scenes[:3]:
        write_nerf(path / scene.id, scene)
    return path


@pytest.fixture(scope="module")
def trained(file, tmp_path_factory):
    return fit(file, tmp_path_factory.mktemp("run") / "run")


def weights(run):
    return torch.cat([parameter.flatten() for parameter in run.model.parameters()])


def complaint(capsys, *words):
    assert main(["multiview", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_the_run_folder(trained):
    assert sorted(path.name for path in trained.folder.iterdir()) == FILES
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert set(metrics) == {"valid", "test", "baselines"}
    assert set(metrics["test"]) == {"psnr", "ssim", "mse"} and metrics["test"]["psnr"]["n"] == 2
    assert set(metrics["baselines"]["test"]) == {"mean_image", "mean_view", "nearest_view", "ground_plane"}
    table = pd.read_csv(trained.folder / "predictions.csv")
    assert list(table) == ["id", "view", "given", "psnr", "split"] and set(table["split"]) == {"valid", "test"}
    part = table[table["split"] == "test"]
    assert part["psnr"].mean() == pytest.approx(metrics["test"]["psnr"]["value"])
    page = (trained.folder / "report.html").read_text()
    assert page.count("data:image/png") > 20 and "Worst cases" in page and "near image" in page
    card = (trained.folder / "model" / "README.md").read_text()
    assert "world frame" in card and "blurred" in card


def test_the_measured_symmetry_is_that_of_the_layer(trained, scenes):
    """GTA is measured with poses in the frame of the file; embedded rays in that frame fail the same measurement."""
    trials = [trial for scene in scenes[:2] for trial in trials_of_scene(scene, 2, 0)]
    preprocess = from_pretrained(trained.folder / "model").preprocess
    errors = measure_symmetry(trained.model, trials, preprocess).errors
    assert 0 < errors["float64"] < 1e-10 and errors["float32"] < 1e-4
    torch.manual_seed(0)
    absolute = MultiViewModel("absolute", channels=32, num_heads=2, encoder_layers=1, decoder_layers=1)
    assert measure_symmetry(absolute, trials, preprocess).errors["float64"] < 1e-10  # relative to the first view
    assert measure_symmetry(absolute, trials, {**preprocess, "frame": "file"}).errors["float64"] > 1e-3
    both = Ensemble([trained.model, trained.model])
    assert measure_symmetry(both, trials, preprocess) == measure_symmetry(trained.model, trials, preprocess)
    assert "relative to the first given view" not in measure_symmetry(both, trials, preprocess).text
    assert "relative to the first given view" in measure_symmetry(absolute, trials, preprocess).text
    black = copy.deepcopy(trained.model)
    black.forward = lambda batch: torch.zeros_like(batch.colors)
    assert measure_symmetry(black, trials, preprocess).errors == {"float32": 0.0, "float64": 0.0}
    assert "Measured error" in (trained.folder / "model" / "README.md").read_text()


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(file, trained, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(multiview.MultiviewModule, "on_train_epoch_end", _stop_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            fit(file, tmp_path / "run")
    again = fit(file, tmp_path / "run", resume=True)
    assert torch.equal(weights(again), weights(trained))
    assert again.metrics == trained.metrics


def _stop_in_second_epoch(self):
    if self.current_epoch == 1:
        raise KeyboardInterrupt
    self.log("train_loss", torch.stack(self._losses).mean())
    self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
    self._losses.clear()


def test_a_test_of_the_test_part_is_what_the_training_found(file, trained, tmp_path, capsys):
    assert main(["multiview", "test", "--model", str(trained.folder), "--data", str(file), "--rows", "test", "--out",
                 str(tmp_path / "test")]) == 0  # fmt: skip
    found = json.loads((tmp_path / "test" / "metrics.json").read_text())
    for name in ("psnr", "ssim", "mse"):
        assert found["test"][name]["value"] == pytest.approx(trained.metrics["test"][name]["value"], rel=1e-5)
    assert found["baselines"] == trained.metrics["baselines"]
    said = capsys.readouterr()
    assert "PSNR" in said.out and "8 of 12 scenes of the file are in the model's training part" in said.err
    assert (tmp_path / "test" / "report.html").is_file()


def test_scenes_of_another_size_and_number_of_views_are_measured(trained, tmp_path):
    write_npz(tmp_path / "new.npz", make_scenes(2, views=3, size=32, seed=5, supersample=1))
    metrics = multiview.test(str(trained.folder), str(tmp_path / "new.npz"), quiet=True)
    assert metrics["test"]["psnr"]["n"] == 2
    assert set(metrics["baselines"]["test"]) == {"mean_view", "nearest_view"}  # nothing was learned here


def test_one_scene_is_split_by_its_views_and_tested_so(tmp_path, capsys):
    write_nerf(tmp_path / "one", make_scenes(1, views=14, size=16, supersample=1)[0])
    run = fit(tmp_path / "one", tmp_path / "run")
    metrics = multiview.test(str(run.folder), str(tmp_path / "one"), rows="test", quiet=True)
    assert metrics["test"]["psnr"]["value"] == pytest.approx(run.metrics["test"]["psnr"]["value"], rel=1e-5)
    multiview.test(str(run.folder), str(tmp_path / "one"))
    assert "of 14 views of the file are in the model's training part" in capsys.readouterr().err


def test_own_views_are_drawn_and_compared(trained, folders, scenes, tmp_path):
    predict_file(str(trained.folder), str(folders), str(tmp_path / "out"), quiet=True)
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["id"].tolist() == [scene.id for scene in scenes[:3] for _ in range(2)]
    assert set(table["given"]) == {"images/view_000.png images/view_001.png"}
    image = np.asarray(Image.open(tmp_path / "out" / table["file"][0]))
    first = scenes[0]
    drawn = multiview.predict(
        trained.folder, first.images[:2], first.extrinsics[:2], first.intrinsics[0], first.extrinsics[2:]
    )
    assert drawn.shape == (2, 16, 16, 3) and drawn.dtype == np.float32
    assert np.abs(image / 255 - drawn[0]).max() < 0.51 / 255 + 1e-4
    error = np.mean((drawn[0] - first.images[2] / 255) ** 2)
    assert table["psnr"][0] == pytest.approx(-10 * np.log10(error), abs=1e-2)


def test_views_that_are_not_given_change_nothing(trained, folders, scenes, tmp_path):
    """With a unit of length per scene: more views in the folder, the file's unit and Python's arrays give the same."""
    loaded = from_pretrained(trained.folder / "model")
    loaded.preprocess["unit"] = None
    scene = scenes[0]
    far = scene.extrinsics.copy()
    far[3, :3, 3] *= 50
    images = []
    for name, one in (("three", scene.take([0, 1, 2])), ("four", replace(scene, extrinsics=far)),
                      ("kilometres", in_unit(scene, 1000.0))):  # fmt: skip
        write_nerf(tmp_path / name / scene.id, one)
        found = next(each_scene(tmp_path / name / scene.id))[2]
        assert found is not None
        asked = in_model_unit(found, [0, 1], loaded.preprocess)
        images.append(draw(loaded, asked, [0, 1], (["a"], asked.extrinsics[2:3], asked.intrinsics[2:3]), "cpu")[0])
    words = scene.images[:2], scene.extrinsics[:2], scene.intrinsics[0], scene.extrinsics[2:3]
    for image in images:
        np.testing.assert_allclose(image, multiview.predict(loaded, *words), atol=1e-5)
    raw = multiview.predict(trained.folder, *words)
    assert np.abs(raw - images[0]).max() > 1e-4
    with pytest.raises(InputError, match="one given view knows no unit of length"):
        multiview.predict(loaded, scene.images[:1], scene.extrinsics[:1], *words[2:])


def test_a_prediction_goes_on_where_it_was_stopped(trained, folders, tmp_path, monkeypatch):
    words = [str(trained.folder), str(folders)]
    predict_file(*words, str(tmp_path / "whole"), chunk_size=1, orbit=2, quiet=True)
    draw, calls = multiview.predict_file.__globals__["draw"], []

    def stopping(*arguments):
        calls.append(arguments[1].id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("geoattn.tasks._multiview_predict.draw", stopping)
        with pytest.raises(KeyboardInterrupt):
            predict_file(*words, str(tmp_path / "parts"), chunk_size=1, orbit=2, quiet=True)
    assert (tmp_path / "parts" / "predictions.csv.parts").is_dir()
    with pytest.raises(InputError, match="another orbit"):
        predict_file(*words, str(tmp_path / "parts"), chunk_size=1, orbit=3, quiet=True)
    predict_file(*words, str(tmp_path / "parts"), chunk_size=1, orbit=2, quiet=True)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*"))
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_cameras_of_a_file(trained, folders, scenes, tmp_path):
    """The same cameras as an .npz and as transforms.json without images, and as views of the scene."""
    write_nerf(tmp_path / "there", scenes[0])
    for path in (tmp_path / "there" / "images").iterdir():
        path.unlink()
    np.savez(tmp_path / "new.npz", extrinsics=scenes[0].extrinsics[2:], intrinsics=scenes[0].intrinsics[0])
    one = folders / scenes[0].id
    words = [str(trained.folder), str(one)]
    predict_file(*words, str(tmp_path / "own"), quiet=True)
    predict_file(*words, str(tmp_path / "json"), cameras=str(tmp_path / "there" / "transforms.json"), quiet=True)
    predict_file(*words, str(tmp_path / "npz"), cameras=str(tmp_path / "new.npz"), quiet=True)
    own = [np.asarray(Image.open(tmp_path / "own" / scenes[0].id / f"view_00{k}.png")).astype(int) for k in (2, 3)]
    for folder, names in (("json", ("view_002", "view_003")), ("npz", ("camera_0000", "camera_0001"))):
        for image, name in zip(own, names, strict=True):
            found = np.asarray(Image.open(tmp_path / folder / scenes[0].id / f"{name}.png")).astype(int)
            assert np.abs(found - image).max() <= 1
    assert np.abs(own[0] - own[1]).max() > 1


def test_the_given_views_can_be_chosen(trained, folders, scenes, tmp_path):
    one = str(folders / scenes[0].id)
    predict_file(str(trained.folder), one, str(tmp_path / "out"), given="view_003,0,1", quiet=True)
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["view"].tolist() == ["images/view_002.png"]
    with pytest.raises(InputError, match="'view_009'.*no view of the scene"):
        predict_file(str(trained.folder), one, str(tmp_path / "other"), given="view_009,0", quiet=True)


def test_an_orbit_goes_along_with_the_world_and_looks_at_the_middle(scenes):
    given = scenes[0].extrinsics
    cameras = orbit(given, 8)
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0], [3.0, 1, -2]
    motion[:3, 0] *= np.linalg.det(motion[:3, :3])
    np.testing.assert_allclose(orbit(given @ motion, 8), cameras @ motion, atol=1e-9)
    places = -(cameras[:, :3, :3].swapaxes(1, 2) @ cameras[:, :3, 3:])[..., 0]
    middle = places.mean(0)
    seen = cameras[:, :3, :3] @ middle + cameras[:, :3, 3]
    np.testing.assert_allclose(seen[:, 0], 0, atol=1e-9)
    assert (seen[:, 2] > 0).all() and np.ptp(seen[:, 2]) < 1e-9
    np.testing.assert_allclose(np.linalg.det(cameras[:, :3, :3]), 1)
    alike = np.stack([np.eye(4), np.eye(4)])
    alike[1, 0, 3] = 1.0  # two cameras side by side that look the same way
    assert np.isfinite(orbit(alike, 3)).all()


def test_audit_counts_scenes_images_and_near_images(scenes, file, tmp_path, capsys):
    a, b, c, d = scenes[:4]
    mixed = replace(c, images=np.concatenate([a.images[:1], c.images[1:]]))
    noisy = replace(d, images=np.clip(a.images.astype(int) + 1, 0, 255).astype(np.uint8))
    reordered = a.take([2, 1, 0, 3])
    parts = {"train": [0], "valid": [1], "test": [2, 3, 4, 5]}
    report = audit([a, b, reordered, mixed, noisy, d], parts, by_view=False)
    assert report["pairs"]["train/test"] == {"identical": 1, "shared_image": 2, "near_image": 3}
    assert report["pairs"]["train/valid"] == {"identical": 0, "shared_image": 0, "near_image": 0}
    assert report["duplicates"] == 1
    same = replace(a, images=a.images[[0, 1, 2, 0]])
    views = audit([same], {"train": [0, 1], "valid": [2], "test": [3]}, by_view=True)
    assert views["pairs"]["train/test"] == {"identical": 1, "shared_image": 1, "near_image": 1}
    assert views["what"] == "views"
    assert main(["multiview", "audit", "--data", str(file), "--out", str(tmp_path / "counts.csv")]) == 0
    assert "near_image" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "counts.csv")["count"]) == {0}


def test_what_is_wrong_is_said_at_the_command_line(trained, folders, file, scenes, tmp_path, capsys):
    run, out = trained.folder, tmp_path / "out"
    assert "Did you mean --model.pose" in complaint(capsys, "fit", "--data", file, "--model.poze", "gta")
    assert "got 40 for 4 heads, expected a multiple of 64" in complaint(
        capsys, "fit", "--data", file, "--model.channels", 40, "--out", out
    )
    assert not out.exists()
    assert "Missing: --out" in complaint(capsys, "predict", "--model", run, "--data", file)
    both = ("--cameras", "a.npz", "--orbit", 3)
    assert "exclude each other" in complaint(capsys, "predict", "--model", run, "--data", file, "--out", out, *both)
    assert "no such file" in complaint(
        capsys, "predict", "--model", run, "--data", file, "--out", out, "--cameras", tmp_path / "none.json"
    )
    assert "expected a folder" in complaint(capsys, "predict", "--model", run, "--data", file, "--out", "a.csv")
    lens = np.diag([-1.0, 1, 1])
    np.savez(tmp_path / "bad.npz", extrinsics=scenes[0].extrinsics, intrinsics=lens)
    assert "they must be above 0" in complaint(
        capsys, "predict", "--model", run, "--data", file, "--out", out, "--cameras", tmp_path / "bad.npz"
    )
    bent = scenes[0].extrinsics.copy()
    bent[1, 0, 0] += 0.5
    write_npz(tmp_path / "bent.npz", [replace(scenes[0], extrinsics=bent), scenes[1]])
    said = complaint(capsys, "test", "--model", run, "--data", tmp_path / "bent.npz")
    assert "view_001" in said and "R^T R off the identity" in said and "--on-error skip" in said
    words = ["--model", str(run), "--data", str(tmp_path / "bent.npz"), "--on-error", "skip", "--out", str(out)]
    assert main(["multiview", "predict", *words, "--quiet"]) == 0
    assert pd.read_csv(out / "predictions.csv")["id"].unique().tolist() == [scenes[1].id]
    assert len(pd.read_csv(out / "predictions.csv.rejected.csv")) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--given", "9,1"], "--given = '9': no view of the scene, which has 4"),
        (["--given", ""], "--given: got ''"),
        (["--given", "0,0"], "--given: got '0,0', expected names or numbers of different views"),
        (["--given", "0,view_000"], "--given = '0,view_000': names a view twice"),
    ],
)
def test_given_views_that_cannot_be(trained, folders, scenes, tmp_path, capsys, words, message):
    one = folders / scenes[0].id
    said = complaint(capsys, "predict", "--model", trained.folder, "--data", one, "--out", tmp_path / "out", *words)
    assert message in said and "Mend the file" not in said


def test_too_few_views_and_cameras_that_cannot_be(trained, scenes, tmp_path, capsys):
    write_nerf(tmp_path / "two", scenes[0].take([0, 1]))
    words = ["predict", "--model", trained.folder, "--data", tmp_path / "two", "--out", tmp_path / "out"]
    said = complaint(capsys, *words)
    assert "trained with 2 given views; choose others with --given" in said and "num-inputs" not in said
    np.savez(tmp_path / "a.npz", extrinsics=scenes[0].extrinsics[2:], views=np.array(["a"]))
    assert "expected 2 names, one for each pose" in complaint(capsys, *words, "--cameras", tmp_path / "a.npz")
    frame = {"transform_matrix": np.eye(4).tolist()}
    for key, value, message in (
        ("w", 0, "w of b.json, frame 0"),
        ("camera_angle_x", 0, "camera_angle_x of camera_0000"),
    ):
        (tmp_path / "b.json").write_text(json.dumps({"camera_angle_x": 1.0, key: value, "frames": [frame]}))
        assert message in complaint(capsys, *words, "--cameras", tmp_path / "b.json")


def test_arrays_that_do_not_fit_are_refused(trained, scenes):
    scene = scenes[0]
    given = (scene.images[:2], scene.extrinsics[:2], scene.intrinsics[0])
    with pytest.raises(InputError, match="expected 0..1 or uint8"):
        multiview.predict(trained.folder, given[0].astype(float), *given[1:], scene.extrinsics[2:])
    with pytest.raises(InputError, match="2 images need shape"):
        multiview.predict(trained.folder, given[0], scene.extrinsics, given[2], scene.extrinsics[2:])
    with pytest.raises(InputError, match=r"R\^T R off the identity"):
        multiview.predict(trained.folder, *given, scene.extrinsics[2:] * np.array([2.0, 2, 2, 1])[:, None])


def test_recipes_are_read():
    names = recipe_names("multiview")
    assert {"multiview-demo", "multiview-scenes"} <= set(names)
    from geoattn.tasks._multiview_fit import fit_parser

    for name in names:
        config = fit_parser().parse_args(
            expand_arguments("multiview", ["--recipe", str(recipe_path("multiview", name)), "--data", "x"])
        )
        assert config["data"]["unit"] == "data" and config["model"]["pose"] == "gta"


def test_demo(tmp_path, monkeypatch, capsys):
    import geoattn.tasks._task as task

    whole = task.fit_config

    def short(of_task, options, command):
        return whole(of_task, merged(options, {"trainer": {"max_epochs": 1}, "model": {"channels": 32}}), command)

    monkeypatch.setattr(task, "fit_config", short)
    for name, value in (("DEMO_SCENES", 10), ("DEMO_NEW_SCENES", 2), ("DEMO_SIZE", 16), ("ORBIT", 3)):
        monkeypatch.setattr(multiview, name, value)
    report = multiview.demo(str(tmp_path / "demo"))
    assert report.is_file() and (tmp_path / "demo" / "test" / "report.html").is_file()
    assert len(list((tmp_path / "demo" / "orbit").rglob("*.png"))) == 3
    assert (tmp_path / "demo" / "scenes" / "scene_0000" / "transforms.json").is_file()
    assert "All done" in capsys.readouterr().err
