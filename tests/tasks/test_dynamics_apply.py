"""Trained models of moving bodies on files: predict, test, audit and demo."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geoattn.cli import main
from geoattn.domains.dynamics.protocols import nbody_arrays
from geoattn.domains.ensemble import Ensemble
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks import _task, dynamics
from geoattn.tasks._dynamics_predict import predict_file
from geoattn.tasks._parser import merged

from .dynamics_runs import arrays_of


class TestPredict:
    def predict(self, dynamics_run, data, out, *words):
        given = ["--model", str(dynamics_run.folder), "--data", str(data), "--out", str(out)]
        assert main(["dynamics", "predict", *given, *words]) == 0
        return pd.read_parquet(out) if Path(out).suffix == ".parquet" else pd.read_csv(out)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_new_systems(self, dynamics_run, nbody, tmp_path, suffix):
        test = arrays_of(nbody)
        np.savez(tmp_path / "new.npz", **{k: test[k] for k in ("loc0", "vel0", "charge")})
        table = self.predict(dynamics_run, tmp_path / "new.npz", tmp_path / f"p{suffix}", "--quiet")
        assert list(table.columns[:5]) == ["id", "entity", "x_pred", "y_pred", "z_pred"] and "error" not in table
        stored = pd.read_csv(dynamics_run.folder / "predictions.csv").query("split == 'test'")
        for name in ("x_pred", "vz_pred"):
            np.testing.assert_allclose(table[name], stored[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(table["std"], stored["std"], rtol=1e-2, atol=1e-5)
        assert isinstance(from_pretrained(dynamics_run.folder / "model").model, Ensemble)

    def test_the_error_where_the_truth_is_there(self, dynamics_run, nbody, tmp_path):
        np.savez(tmp_path / "new.npz", **arrays_of(nbody))
        table = self.predict(dynamics_run, tmp_path / "new.npz", tmp_path / "p.csv")
        assert (table["error"] ** 2).mean() / 3 == pytest.approx(dynamics_run.metrics["test"]["mse"]["value"], rel=1e-4)

    def test_systems_of_other_sizes_and_bad_ones(self, dynamics_run, nbody, tmp_path, capsys):
        test = {k: v.astype(float) for k, v in arrays_of(nbody).items() if k in ("loc0", "vel0", "charge")}
        test["loc0"][0, 3:] = np.nan
        test["vel0"][1, 0, 0] = np.nan
        np.savez(tmp_path / "new.npz", **test)
        words = [
            "--model",
            str(dynamics_run.folder),
            "--data",
            str(tmp_path / "new.npz"),
            "--out",
            str(tmp_path / "p.csv"),
        ]
        assert main(["dynamics", "predict", *words]) == 2
        message = capsys.readouterr().err
        assert (
            "new.npz: system 1: vel0[1, 0, 0] = 'nan': not a finite number. Mend the file, or use --on-error" in message
        )
        table = self.predict(dynamics_run, tmp_path / "new.npz", tmp_path / "p.csv", "--on-error", "skip")
        assert table["id"].value_counts().loc[0] == 3 and 1 not in set(table["id"])
        rejected = pd.read_csv(tmp_path / "p.csv.rejected.csv")
        assert rejected["column"].tolist() == ["vel0[1, 0, 0]"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"charge": None},
                r"charge: there is none, and the model was trained with it. Add the array charge \[systems, bodies\]",
            ),
            ({"mass": np.ones((10, 5))}, "mass: the model was trained without it. Leave it out"),
            ({"edges": np.ones((10, 5, 5))}, "edges: the model was trained without it. Leave it out"),
            (
                {"loc0": np.zeros((10, 5, 2)), "vel0": np.zeros((10, 5, 2))},
                "got 2 coordinates per body, expected 3 as in the model's training file",
            ),
        ],
    )
    def test_other_quantities_are_refused(self, dynamics_run, nbody, tmp_path, change, message):
        arrays = {k: v for k, v in arrays_of(nbody).items() if k in ("loc0", "vel0", "charge")} | change
        np.savez(tmp_path / "new.npz", **{k: v for k, v in arrays.items() if v is not None})
        with pytest.raises(InputError, match=message):
            predict_file(str(dynamics_run.folder), str(tmp_path / "new.npz"), str(tmp_path / "p.csv"), device="cpu")

    def test_from_python(self, dynamics_run, nbody):
        test = arrays_of(nbody)
        loaded = from_pretrained(dynamics_run.folder / "model")
        pos, vel = dynamics.predict(loaded, test["loc0"], test["vel0"], test["charge"], device="cpu")
        assert pos.shape == vel.shape == (10, 5, 3)
        alone, _ = dynamics.predict(loaded, test["loc0"][3:4], test["vel0"][3:4], test["charge"][3:4], device="cpu")
        np.testing.assert_allclose(alone[0], pos[3], rtol=1e-4, atol=1e-5)
        with pytest.raises(InputError, match=r"charge: got shape \(5,\), expected \(10, 5\)"):
            dynamics.predict(loaded, test["loc0"], test["vel0"], test["charge"][0])
        column, _ = dynamics.predict(loaded, test["loc0"], test["vel0"], test["charge"][..., None], device="cpu")
        np.testing.assert_array_equal(column, pos)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pos": np.zeros((10, 5))}, r"pos: got shape \(10, 5\), expected \[systems, bodies, coordinates\]"),
            ({"pos": np.zeros((0, 5, 3))}, "none of them 0"),
            ({"vel": np.zeros((10, 2, 3))}, r"vel: got shape \(10, 2, 3\), expected \(10, 5, 3\)"),
            ({"vel": np.full((10, 5, 3), np.nan)}, r"vel: got nan at \[0, 0, 0\], expected finite numbers"),
            ({"charge": np.full((10, 5), np.inf)}, r"charge: got inf at \[0, 0\]"),
            ({"charge": "plus"}, "charge: got str, expected an array of numbers"),
            ({"charge": None}, "^charge: there is none, and the model was trained with it. Pass charge="),
            ({"edges": np.zeros((10, 5, 5))}, "^edges: the model was trained without it"),
            ({"edges": np.zeros((10, 5))}, r"edges: got shape \(10, 5\), expected \(10, 5, 5\)"),
            ({"scalars": {"radius": np.zeros((10, 5))}}, "^radius: the model was trained without it"),
            ({"pos": np.zeros((10, 5, 2)), "vel": np.zeros((10, 5, 2))}, "^pos: got 2 coordinates per body, expected"),
        ],
    )
    def test_wrong_arrays_from_python(self, dynamics_run, nbody, change, message):
        test = arrays_of(nbody)
        arguments = {"pos": test["loc0"], "vel": test["vel0"], "charge": test["charge"]} | change
        with pytest.raises(InputError, match=message):
            dynamics.predict(dynamics_run.folder, **arguments, device="cpu")

    def test_frames_of_a_file_without_any_are_refused(self, dynamics_run, nbody, tmp_path, capsys):
        words = ["--model", str(dynamics_run.folder), "--data", str(nbody), "--frame-in", "3"]
        assert main(["dynamics", "predict", *words, "--out", str(tmp_path / "p.csv")]) == 2
        assert "--frame-in: the file holds the moments loc0 and loc1, and no frames" in capsys.readouterr().err
        assert not (tmp_path / "p.csv").exists()

    def test_nothing_is_overwritten(self, dynamics_run, nbody, tmp_path):
        (tmp_path / "p.csv").write_text("precious")
        with pytest.raises(InputError, match="nothing is ever overwritten"):
            predict_file(str(dynamics_run.folder), str(nbody), str(tmp_path / "p.csv"))


class TestKnownProperties:
    """What else is known of bodies and pairs goes to the model from Python as from a file."""

    SHORT = {"model": {"hidden_channels": 8, "num_layers": 1}, "trainer": {"max_epochs": 1}, "quiet": True}

    def test_scalars(self, tmp_path):
        rng = np.random.default_rng(0)
        names = ["x", "y", "vx", "vy", "charge", "radius", "mass"]
        rows = [
            {"id": s, "frame": frame, "entity": k, **dict(zip(names, rng.normal(size=len(names)), strict=True))}
            for s in range(20)
            for frame in range(2)
            for k in range(3)
        ]
        table = pd.DataFrame(rows)
        table.to_csv(tmp_path / "a.csv", index=False)
        data = {"scalar_columns": ["radius"]}
        run = dynamics.fit(tmp_path / "a.csv", out=tmp_path / "run", data=data, **self.SHORT)
        predict_file(str(run.folder), str(tmp_path / "a.csv"), str(tmp_path / "p.csv"), device="cpu", quiet=True)
        now = {name: table.loc[table["frame"] == 0, name].to_numpy().reshape(20, 3) for name in names}
        pos, vel = (np.stack([now[name] for name in pair], axis=2) for pair in (["x", "y"], ["vx", "vy"]))
        arguments = {"charge": now["charge"], "mass": now["mass"], "device": "cpu"}
        found, _ = dynamics.predict(run.folder, pos, vel, scalars={"radius": now["radius"]}, **arguments)
        written = pd.read_csv(tmp_path / "p.csv")
        np.testing.assert_allclose(found.reshape(-1, 2), written[["x_pred", "y_pred"]], rtol=1e-5, atol=1e-6)
        other, _ = dynamics.predict(run.folder, pos, vel, scalars={"radius": 1 + now["radius"]}, **arguments)
        assert np.abs(other - found).max() > 1e-6, "the model looks at it"
        with pytest.raises(InputError, match="^radius: there is none, .* Pass scalars="):
            dynamics.predict(run.folder, pos, vel, **arguments)
        table.drop(columns="charge").to_csv(tmp_path / "b.csv", index=False)
        with pytest.raises(InputError, match="charge: there is none, .* Add the column charge"):
            predict_file(str(run.folder), str(tmp_path / "b.csv"), str(tmp_path / "q.csv"), device="cpu")
        np.savez(tmp_path / "b.npz", loc0=pos, vel0=vel, charge=now["charge"], mass=now["mass"])
        with pytest.raises(InputError, match="radius: there is none, .* Give a table; .npz files cannot hold it"):
            predict_file(str(run.folder), str(tmp_path / "b.npz"), str(tmp_path / "q.csv"), device="cpu")

    def test_edges(self, tmp_path):
        rng = np.random.default_rng(0)
        loc0, vel0, loc1 = rng.normal(size=(3, 20, 4, 3))
        edges = rng.integers(0, 2, (20, 4, 4))
        np.savez(tmp_path / "a.npz", loc0=loc0, vel0=vel0, loc1=loc1, edges=edges)
        run = dynamics.fit(tmp_path / "a.npz", out=tmp_path / "run", **self.SHORT)
        predict_file(str(run.folder), str(tmp_path / "a.npz"), str(tmp_path / "p.csv"), device="cpu", quiet=True)
        found, _ = dynamics.predict(run.folder, loc0, vel0, edges=edges, device="cpu")
        written = pd.read_csv(tmp_path / "p.csv")[["x_pred", "y_pred", "z_pred"]]
        np.testing.assert_allclose(found.reshape(-1, 3), written, rtol=1e-5, atol=1e-6)
        assert np.abs(dynamics.predict(run.folder, loc0, vel0, edges=1 - edges, device="cpu")[0] - found).max() > 1e-6
        with pytest.raises(InputError, match="^edges: there is none, .* Pass edges="):
            dynamics.predict(run.folder, loc0, vel0, device="cpu")


class TestTest:
    def test_the_numbers_of_the_run(self, dynamics_run, nbody, tmp_path, capsys):
        metrics = dynamics.test(
            str(dynamics_run.folder), str(nbody), rows="test", out=str(tmp_path / "out"), device="cpu"
        )
        for name, entry in dynamics_run.metrics["test"].items():
            assert metrics["test"][name]["value"] == pytest.approx(entry["value"], rel=1e-4)
        linear = dynamics_run.metrics["baselines"]["test"]["linear"]["mse"]["value"]
        assert metrics["baselines"]["test"]["linear"]["mse"]["value"] == pytest.approx(linear)
        printed, err = capsys.readouterr()
        assert "30 of 50 systems of the file are in the model's training part, 10 in its validation part" in err
        assert "constant_velocity" in printed and "n = 10" in printed
        names = ["checkpoints", "environment.txt", "metrics.json", "predictions.csv", "rejected.csv", "report.html"]
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names

    def test_all_rows_and_a_turned_copy(self, dynamics_run, nbody, tmp_path, capsys):
        """A training system is known however it lies."""
        train = arrays_of(nbody, "train_")
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].astype(np.float32)
        moved = {k: v @ turn.T + (1.0 if "loc" in k else 0.0) if v.ndim == 3 else v for k, v in train.items()}
        np.savez(tmp_path / "new.npz", **moved)
        metrics = dynamics.test(str(dynamics_run.folder), str(tmp_path / "new.npz"), device="cpu")
        assert metrics["test"]["mse"]["n"] == 30
        known = int(capsys.readouterr().err.split(" of 30 systems")[0])
        assert known >= 25  # now and then a rounding falls between

    def test_another_task(self, dynamics_run, nbody, tmp_path):
        with pytest.raises(InputError, match="is a model for molecules. Use: geoattn molecules"):
            dynamics.test("molecules-esol", str(nbody))


class TestFrames:
    """Tables: the frames of the training file are the default everywhere."""

    @pytest.fixture(scope="class")
    @staticmethod
    def table(tmp_path_factory):
        rng = np.random.default_rng(0)
        rows = [
            {"id": s, "frame": frame, "entity": k, "x": x + frame * v, "y": y}
            for s in range(24)
            for k, (x, y, v) in enumerate(rng.normal(size=(2 + s % 3, 3)))
            for frame in range(4)
        ]
        path = tmp_path_factory.mktemp("table") / "runs.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
        return path

    @pytest.fixture(scope="class")
    @staticmethod
    def trained(table, tmp_path_factory):
        words = ["fit", "--data", str(table), "--data.frame-in", "1", "--data.frame-out=3", "--data.frame-time", "0.5"]
        more = ["--model.hidden_channels", "8", "--model.num_layers=1", "--trainer.max_epochs", "1", "--quiet"]
        out = tmp_path_factory.mktemp("frames") / "run"
        assert main(["dynamics", *words, *more, "--out", str(out)]) == 0
        return out

    def test_fit(self, trained):
        preprocess = from_pretrained(trained / "model").preprocess
        assert (preprocess["frame_in"], preprocess["frame_out"], preprocess["horizon"]) == (1, 3, 1.0)
        metrics = json.loads((trained / "metrics.json").read_text())
        velocity = metrics["baselines"]["test"]["constant_velocity"]["mse"]["value"]
        assert velocity == pytest.approx(0, abs=1e-20), "bodies that go straight on"
        report = (trained / "report.html").read_text()
        assert "The file has no velocities" in report and "does at least as well as this model" in report

    def test_predict_and_test(self, trained, table, tmp_path):
        predict_file(str(trained), str(table), str(tmp_path / "p.csv"), quiet=True, device="cpu")
        known = pd.read_csv(tmp_path / "p.csv")
        assert list(known) == ["id", "entity", "x", "y", "x_pred", "y_pred", "error"], "the later frame is in the file"
        assert known["error"].notna().all()
        moments = pd.read_csv(table)
        moments[moments["frame"] < 3].to_csv(tmp_path / "short.csv", index=False)
        predict_file(str(trained), str(tmp_path / "short.csv"), str(tmp_path / "s.csv"), quiet=True, device="cpu")
        unknown = pd.read_csv(tmp_path / "s.csv")
        assert list(unknown) == ["id", "entity", "x_pred", "y_pred"], "a prediction asks for no later frame"
        np.testing.assert_allclose(unknown["x_pred"], known["x_pred"], rtol=1e-5, atol=1e-6)
        metrics = dynamics.test(str(trained), str(table), quiet=True, device="cpu")
        assert metrics["test"]["mse"]["n"] == 24
        moved = dynamics.test(str(trained), str(table), frame_in=1, frame_out=3, quiet=True, device="cpu")
        assert moved == metrics
        with pytest.raises(InputError, match=r"got a time of 0.5 between the frames, expected 1, for which the model"):
            dynamics.test(str(trained), str(table), frame_out=2, quiet=True)
        with pytest.raises(InputError, match="there is no frame 9"):
            predict_file(str(trained), str(table), str(tmp_path / "q.csv"), frame_in=9)


def test_audit(nbody, tmp_path, capsys):
    assert main(["dynamics", "audit", "--data", str(nbody), "--out", str(tmp_path / "counts.csv")]) == 0
    out = capsys.readouterr().out
    assert "30 train, 10 valid, 10 test; 0 systems repeat an earlier one; 0 rejected" in out
    counts = pd.read_csv(tmp_path / "counts.csv")
    assert set(counts["what"]) == {"identical_states", "near_states"} and len(counts) == 6
    with pytest.raises(InputError, match=r"must be a \.csv file that does not exist yet"):
        dynamics.audit({"file": str(nbody)}, str(tmp_path / "counts.csv"))


def test_demo(tmp_path, monkeypatch, capsys):
    """The whole way, with fewer systems and epochs."""
    monkeypatch.setattr(dynamics, "DEMO_SIZES", (20, 5, 5))
    original, few = _task.fit_config, {"trainer": {"max_epochs": 1}}
    shorter = lambda task, options, command: original(task, merged(options, few), command)
    monkeypatch.setattr(_task, "fit_config", shorter)
    monkeypatch.setattr(
        "geoattn.tasks.dynamics.nbody_arrays",
        lambda protocol, sizes, seed: nbody_arrays(protocol, tuple(min(size, 20) for size in sizes), seed),
    )
    report = dynamics.demo(str(tmp_path / "demo"))
    assert report.is_file()
    assert {"nbody.npz", "new_systems.npz", "predictions.csv", "fit", "test"} <= {
        p.name for p in report.parents[1].iterdir()
    }
    assert str(report) in capsys.readouterr().err


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        main(["dynamics", "fit", "--help"])
    text = capsys.readouterr().out
    for option in ("--data FILE", "--data.frame-in", "--model.name", "--trainer.max-epochs", "dynamics-nbody"):
        assert option in text


@pytest.mark.parametrize("task", ["dynamics", "molecules"])
@pytest.mark.parametrize("verb", ["fit", "audit", "test", "predict"])
def test_help_spells_options_in_one_way(task, verb, capsys):
    with pytest.raises(SystemExit):
        main([task, verb, "--help"])
    assert re.findall(r"(?<![\w-])--[\w.-]*_[\w.-]*", capsys.readouterr().out) == []


def test_the_example_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "dynamics_train.py"))
    assert "MSE on the test part" in capsys.readouterr().out and (tmp_path / "run" / "report.html").is_file()
