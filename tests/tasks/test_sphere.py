"""``geoattn sphere``, through the command line as people use it, on states that the package makes."""

import json
import shutil

import numpy as np
import pytest

from geoattn.cli import main
from geoattn.datasets.sphere_files import read_fields
from geoattn.datasets.sphere_output import later_labels
from geoattn.domains.sphere.demo import write_states
from geoattn.errors import InputError
from geoattn.tasks import sphere

SMALL = ["--model.channels", "[8]", "--model.num_layers", "1", "--model.window", "3", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on trajectories of shallow-water states, made once."""
    path = tmp_path_factory.mktemp("sphere")
    write_states(path / "states.npz", 8, 7, interval=3600.0, nlat=8, nlon=16)
    run = sphere.fit(
        path / "states.npz",
        out=path / "run",
        quiet=True,
        data={"history": 2, "val_fraction": 0.2, "test_fraction": 0.2, "batch_size": 8},
        model={"channels": [8], "num_layers": 1, "window": 3.0, "learning_rate": 0.01},
        trainer={"max_epochs": 10},
    )
    assert run.folder == path / "run"
    return path


@pytest.fixture(autouse=True)
def few_maps(monkeypatch):
    """Maps take most of the time of a small run; the run of `folder` has them all."""
    for name in ("SAMPLES_DRAWN", "VARIABLES_DRAWN", "WORST_DRAWN"):
        monkeypatch.setattr(f"geoattn.tasks._sphere_pictures.{name}", 1)


def states(folder) -> dict[str, np.ndarray]:
    with np.load(folder / "states.npz") as source:
        return dict(source)


def wrong(capsys, *words) -> str:
    assert main(["sphere", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_fit_writes_what_every_task_writes_and_beats_persistence(folder):
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    simple = metrics["baselines"]["test"]
    assert set(simple) == {"persistence", "mean_change", "linear", "climatology", "ridge"}
    assert metrics["test"]["nrmse"]["value"] < simple["persistence"]["nrmse"]["value"]
    assert set(metrics["rollout"]) == set(metrics["baselines"]["rollout"]["persistence"]) == {"1", "5"}
    for name in ("report.html", "predictions.csv", "rollout.csv", "split.json", "model/README.md", "rejected.csv"):
        assert (folder / "run" / name).is_file()


def test_resumed_run_is_the_same(folder, tmp_path):
    whole = folder / "run"
    config = (whole / "config.yaml").read_text()
    shutil.copytree(whole, tmp_path / "run")
    for name in ("report.html", "metrics.json", "predictions.csv", "model"):
        target = tmp_path / "run" / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    again = sphere.fit(folder / "states.npz", out=tmp_path / "run", resume=True, quiet=True)
    assert again.metrics == json.loads((whole / "metrics.json").read_text())
    assert (tmp_path / "run" / "config.yaml").read_text() == config


def test_first_step_of_a_roll_out_is_the_forecast(folder):
    fields = {name: states(folder)[name][0] for name in ("height", "vorticity", "divergence")}
    single = sphere.predict(folder / "run", fields)
    rolled = sphere.predict(folder / "run", fields, steps=3)
    assert single.shape == (7, 3, 8, 16) and rolled.shape == (3, 3, 8, 16)
    np.testing.assert_allclose(rolled[0], single[-1], rtol=1e-3, atol=1e-12)  # in another batch
    # the second step reads the last known state and the first forecast
    longer = {name: np.concatenate([values, rolled[:1, k]]) for k, (name, values) in enumerate(fields.items())}
    np.testing.assert_allclose(sphere.predict(folder / "run", longer)[-1], rolled[1], rtol=1e-3, atol=1e-12)


def test_predict_test_and_audit_from_the_command_line(folder, tmp_path, capsys):
    run, data = folder / "run", folder / "states.npz"
    assert main(["sphere", "test", "--model", str(run), "--data", str(data), "--rows", "test", "--out",
                 str(tmp_path / "test"), "--quiet"]) == 0  # fmt: skip
    assert "NRMSE over lead time" in capsys.readouterr().out
    there = json.loads((tmp_path / "test" / "metrics.json").read_text())
    here = json.loads((run / "metrics.json").read_text())
    assert there["test"]["nrmse"]["value"] == pytest.approx(here["test"]["nrmse"]["value"], rel=1e-5)
    assert there["rollout"]["5"]["nrmse"]["value"] == pytest.approx(here["rollout"]["5"]["nrmse"]["value"], rel=1e-5)
    assert (tmp_path / "test" / "report.html").is_file()
    out = tmp_path / "ahead.npz"
    words = ["predict", "--model", run, "--data", data, "--steps", "4", "--out", out, "--quiet"]
    assert main(["sphere", *map(str, words)]) == 0
    found = read_fields(out)
    assert found.trajectories and found.variables["height"].shape == (32, 128) and found.units["height"] == "m"
    assert found.labels[:4] == ["0,8", "0,9", "0,10", "0,11"]
    assert "exists" in wrong(capsys, *words)
    assert main(["sphere", "audit", "--data", str(data), "--out", str(tmp_path / "counts.csv")]) == 0
    assert "near_in_time" in capsys.readouterr().out
    assert (tmp_path / "counts.csv").is_file()


def test_axes_of_the_file_do_not_change_the_answer(folder, tmp_path):
    """Longitudes from -180, rows from south to north: the same numbers, on the axes of the file."""
    pytest.importorskip("h5netcdf")
    xarray = pytest.importorskip("xarray")
    source = states(folder)
    names = ("height", "vorticity", "divergence")
    np.savez(tmp_path / "plain.npz", **source)
    columns = np.roll(np.arange(16), 8)
    lon = (source["lon"][columns] + 180) % 360 - 180
    turned = {name: source[name][:, :, ::-1][..., columns] for name in names}
    np.savez(tmp_path / "turned.npz", **source | turned | {"lat": source["lat"][::-1], "lon": lon})
    for name in ("plain", "turned"):
        main(["sphere", "predict", "--model", str(folder / "run"), "--data", str(tmp_path / f"{name}.npz"), "--out",
              str(tmp_path / f"{name}.nc"), "--quiet"])  # fmt: skip
    with xarray.open_dataset(tmp_path / "plain.nc") as plain, xarray.open_dataset(tmp_path / "turned.nc") as other:
        assert (other["lon"].values == lon).all() and other["lat"].values[0] < 0
        for name in names:
            np.testing.assert_array_equal(other[name].values, plain[name].values[:, :, ::-1][..., columns])
            assert plain[name].attrs["units"] == source[f"{name}_units"]


def test_missing_values_stay_missing(folder):
    fields = {name: states(folder)[name][0].copy() for name in ("height", "vorticity", "divergence")}
    fields["height"][:, 2, 3] = np.nan  # never known
    fields["height"][3, 5, 5] = np.nan  # known a state before and after
    found = sphere.predict(folder / "run", fields)
    assert np.isnan(found[:, 0, 2, 3]).all() and np.isfinite(found[:, 1:]).all()
    assert np.isfinite(found[:, 0, 5, 5]).all()
    rolled = sphere.predict(folder / "run", fields, steps=2)
    assert np.isnan(rolled[:, 0, 2, 3]).all() and np.isnan(rolled).sum() == 2


def test_arrays_are_read_in_the_order_of_the_training_file(tmp_path):
    """Trained on rows from south to north and longitudes from -180: arrays, as the file has them."""
    write_states(tmp_path / "plain.npz", 4, 4, interval=3600.0, nlat=8, nlon=16)
    with np.load(tmp_path / "plain.npz") as plain:
        source = dict(plain)
    columns = np.roll(np.arange(16), 8)
    names = ("height", "vorticity", "divergence")
    axes = {"lat": source["lat"][::-1], "lon": (source["lon"][columns] + 180) % 360 - 180}
    turned = {name: source[name][:, :, ::-1][..., columns] for name in names}
    np.savez(tmp_path / "turned.npz", **source | turned | axes)
    small = {"channels": [8], "num_layers": 1, "window": 3.0}
    for name in ("plain", "turned"):
        sphere.fit(tmp_path / f"{name}.npz", out=tmp_path / name, quiet=True, model=small, trainer={"max_epochs": 1})
    model, given = tmp_path / "turned", {name: turned[name][0] for name in names}
    found = sphere.predict(model, given)
    np.testing.assert_array_equal(found, sphere.predict(model, given, **axes))
    usual = {name: source[name][0] for name in names}
    expected = sphere.predict(model, usual, lat=source["lat"], lon=source["lon"])
    np.testing.assert_array_equal(found, expected[:, :, ::-1][..., columns])
    np.testing.assert_array_equal(expected, sphere.predict(tmp_path / "plain", usual))
    with pytest.raises(InputError, match=r"expected \(5, 8, 16\)"):
        sphere.predict(model, {name: values.reshape(5, -1) for name, values in given.items()})


def test_arrays_without_values_are_refused(folder):
    for shape in ((0, 3, 8, 16), (3, 3, 0), (2, 3, 0, 16)):
        with pytest.raises(InputError, match="fields: height: got shape"):
            sphere.predict(folder / "run", np.empty(shape))
    with pytest.raises(InputError, match="fields: height: got shape"):
        sphere.predict(folder / "run", dict.fromkeys(("height", "vorticity", "divergence"), np.float32(1)))
    with pytest.raises(InputError, match="every value of height, vorticity, divergence is missing"):
        sphere.predict(folder / "run", np.full((3, 3, 8, 16), np.nan))


def test_another_grid_gets_the_same_weights(folder, tmp_path, capsys):
    made = write_states(tmp_path / "dense.npz", 1, 2, interval=3600.0, nlat=12, nlon=24)
    assert main(["sphere", "predict", "--model", str(folder / "run"), "--data", str(made), "--out",
                 str(tmp_path / "out.npz")]) == 0  # fmt: skip
    assert "the model was trained on 8 latitudes" in capsys.readouterr().err
    assert read_fields(tmp_path / "out.npz").variables["height"].shape == (2, 288)


def test_bad_input_is_named(folder, tmp_path, capsys):
    source, run = states(folder), folder / "run"
    words = ("predict", "--model", run, "--out", tmp_path / "x.npz", "--data")

    def file(**changes):
        np.savez(tmp_path / "bad.npz", **source | changes)
        return tmp_path / "bad.npz"

    assert "is in km, the model was trained with height in m" in wrong(capsys, *words, file(height_units="km"))
    assert "same quantity in the same unit" in wrong(
        capsys, *words, file(height=source["height"] / 1000, height_units="")
    )
    poles = np.r_[90.0, source["lat"][1:-1], 90.0]
    assert "latitude" in wrong(capsys, *words, file(lat=poles))
    renamed = {("heigth" if name == "height" else name): value for name, value in source.items()}
    np.savez(tmp_path / "renamed.npz", **renamed)
    assert "Did you mean 'heigth'?" in wrong(capsys, *words, tmp_path / "renamed.npz")
    assert "expected a number from 1" in wrong(capsys, *words, folder / "states.npz", "--steps", 0)
    assert ".npz or .nc" in wrong(capsys, *words[:3], "--out", tmp_path / "x.txt", "--data", folder / "states.npz")
    assert "num_heads" in wrong(capsys, "fit", "--data", folder / "states.npz", *SMALL, "--model.num_heads", 3,
                                "--out", tmp_path / "run")  # fmt: skip
    gone = {name: np.full_like(source[name], np.nan) for name in ("height", "vorticity", "divergence")}
    assert "bad.npz: every value of height" in wrong(capsys, *words, file(**gone))
    assert not (tmp_path / "x.npz").exists() and not (tmp_path / "run").exists()


def classes(path, nlat: int = 18, nlon: int = 36):
    lat, lon = np.linspace(85, -85, nlat), np.arange(nlon) * 360 / nlon
    height = np.sin(np.radians(lat))[:, None] + 0.5 * np.cos(2 * np.radians(lon))[None]
    kind = (height > 0).astype(int) + (height > 0.7)
    kind[3, 4] = -1
    np.savez(path, lat=lat, lon=lon, height=height.astype(np.float32), kind=kind, kind_names=np.array(["a", "b", "c"]))
    return path


def test_classes_of_places_by_region(tmp_path, capsys):
    data, out = classes(tmp_path / "map.npz"), tmp_path / "run"
    assert main(["sphere", "fit", "--data", str(data), "--data.task", "segmentation", "--data.targets", "kind", "--out",
                 str(out), "--model.channels", "[8, 8]", "--model.learning_rate", "0.01", "--trainer.max_epochs", "12",
                 "--quiet"]) == 0  # fmt: skip
    capsys.readouterr()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test"]["area_accuracy"]["value"] > 0.5 and "rollout" not in metrics
    found = sphere.test(str(out), str(data), rows="test", quiet=True)
    assert found["test"]["area_accuracy"]["value"] == pytest.approx(metrics["test"]["area_accuracy"]["value"])
    assert set(found["baselines"]["test"]) == {"latitude", "nearest_points"}
    sphere.test(str(out), str(data), quiet=False)
    assert "looks better than it is" in capsys.readouterr().err
    with np.load(data) as source:
        arrays = dict(source)
    for value in (0.5, -2, 3, 7):
        kind = arrays["kind"].astype(float)
        kind[9, 9] = value
        np.savez(tmp_path / "odd.npz", **arrays | {"kind": kind})
        said = wrong(capsys, "test", "--model", out, "--data", tmp_path / "odd.npz")
        assert f"odd.npz: kind: got {value:g}, expected the classes of the training, whole numbers from 0 to 2" in said
    assert main(["sphere", "predict", "--model", str(out), "--data", str(data), "--out", str(tmp_path / "p.npz")]) == 0
    with np.load(tmp_path / "p.npz") as made:
        assert made["kind"].shape == (1, 18, 36) and set(np.unique(made["kind"])) <= {0, 1, 2}
        assert (made["kind_probability"] > 1 / 3).all()
    assert "only forecasts go on" in wrong(
        capsys, "predict", "--model", out, "--data", data, "--steps", 2, "--out", tmp_path / "q.npz"
    )


def test_demo(tmp_path, monkeypatch):
    """The whole way, shortened."""
    from geoattn.tasks import _task

    whole = _task.fit_config

    def short(task, options, command):
        options["trainer"]["max_epochs"], options["model"]["channels"] = 1, [8]
        return whole(task, options, command)

    monkeypatch.setattr("geoattn.tasks._task.fit_config", short)
    monkeypatch.setattr(sphere, "DEMO_TRAJECTORIES", 6)
    monkeypatch.setattr(sphere, "DEMO_NEW_TRAJECTORIES", 2)
    monkeypatch.setattr(sphere, "DEMO_GRID", {"nlat": 8, "nlon": 16})
    report = sphere.demo(str(tmp_path / "demo"), quiet=True)
    assert report.is_file() and "Roll-out" in report.read_text()
    future = read_fields(tmp_path / "demo" / "future.npz")
    assert future.num_samples == 2 * sphere.DEMO_AHEAD


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "known, expected",
    [
        (["2001-01-31", "2001-02-01"], "2001-02-03T00:00"),
        (["2001-01-31T00:00", "2001-02-01T00:00", "2001-02-05T00:00"], "2001-02-05T00:00+2"),  # no even pace
        (["0", "6"], "18"),
        (["member 3"], "member 3+2"),
        (["7"], "7+2"),
        (["2000-01-10T18:00Z", "2000-01-11T00:00Z"], "2000-01-11T12:00"),
        (["2000-01-10T18:00+1", "2000-01-10T18:00+2"], "2000-01-10T18:00+2+2"),  # a count of steps, no time zone
    ],
)
def test_labels_go_on_at_their_own_pace(known, expected):
    assert later_labels(known, [2]) == [expected]
