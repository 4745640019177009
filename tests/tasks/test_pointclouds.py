"""``geoattn pointclouds``: the run folder, resuming, test, predict, audit, the command line, bad files, the demo."""

import json
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from geoattn.cli import main
from geoattn.domains.pointclouds.audit import audit
from geoattn.domains.pointclouds.baselines import ShapeDistribution
from geoattn.domains.pointclouds.demo import CLASS_NAMES, SEGMENT_NAMES, demo_clouds, write_demo
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.rotations import random_rotation
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.report.lines import line_figure
from geoattn.tasks import _pointclouds_fit, _pointclouds_report, pointclouds
from geoattn.tasks._parser import expand_arguments, merged, recipe_names, recipe_path
from geoattn.tasks._pointclouds_evaluate import predict_clouds
from geoattn.tasks._pointclouds_fit import fit_parser
from geoattn.tasks._pointclouds_predict import predict_file, unit_notes
from geoattn.tasks._pointclouds_view import view_file

FILES = [
    "checkpoints", "config.yaml", "environment.txt", "metrics.csv", "metrics.json", "model", "predictions.csv",
    "rejected.csv", "report.html", "split.json",
]  # fmt: skip
MODEL_FILES = ["README.md", "config.json", "metrics.json", "model.safetensors", "preprocess.json", "split.json"]
NUM_CLOUDS, NUM_TEST = 42, 7
SPLITS = {"test", "test_z", "test_so3"}
SMALL = {
    "data": {"val_fraction": 0.2, "batch_size": 8},
    "features": {"num_points": 32, "levels": [[12, 6], [6, 6]], "normal_neighbors": 8},
    "model": {"widths": [8, 8, 16], "edge_channels": 8, "context": 8},
    "trainer": {"max_epochs": 2},
    "quiet": True,
}
PARTS = {
    "data": {"task": "segmentation"},
    "features": {"up_neighbors": [4, 4]},
    "model": {"widths": [8, 8]},
    "trainer": {"max_epochs": 1},
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Baselines of a few trees, no search for near copies (tested elsewhere), two angles."""
    patch = pytest.MonkeyPatch()
    patch.setattr(ShapeDistribution.__init__, "__defaults__", (5, 0))
    patch.setattr(_pointclouds_fit, "audit", partial(audit, near=False))
    patch.setattr(_pointclouds_report, "ANGLES", (0, 180))
    yield
    patch.undo()


def fit(file, out, **options):
    return pointclouds.fit(file, out=out, **merged(SMALL, options))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """42 small shapes as files, a folder per class; the table says what is train and test."""
    return write_demo(tmp_path_factory.mktemp("data") / "shapes", demo_clouds(NUM_CLOUDS, 64))


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    return fit(table, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def parts(table, tmp_path_factory):
    return fit(table, tmp_path_factory.mktemp("run") / "run", **PARTS)


def predict(run, data, out, **options):
    predict_file(str(run.folder), str(data), str(out), **{"device": "cpu", "quiet": True} | options)
    return pd.read_csv(out) if out.suffix == ".csv" else None


class TestFit:
    def test_the_folder_holds_what_the_design_says(self, trained):
        assert sorted(path.name for path in trained.folder.iterdir()) == FILES
        assert sorted(path.name for path in (trained.folder / "model").iterdir()) == MODEL_FILES
        torch.load(trained.folder / "checkpoints" / "seed-0.ckpt", weights_only=True)

    def test_metrics_in_three_poses(self, trained):
        metrics = json.loads((trained.folder / "metrics.json").read_text())
        assert metrics == trained.metrics and set(metrics) == {"valid", "baselines"} | SPLITS
        assert set(metrics["baselines"]) == SPLITS
        for split in SPLITS:
            assert set(metrics["baselines"][split]) == {"majority", "d2_forest", "occupancy_logistic"}
            assert metrics[split]["accuracy"]["n"] == NUM_TEST
        assert metrics["test"]["accuracy"] == metrics["test_so3"]["accuracy"]  # invariant

    def test_predictions_give_the_metrics(self, trained):
        table = pd.read_csv(trained.folder / "predictions.csv").query("split == 'test'")
        assert (table["predicted"] == table["label"]).mean() == trained.metrics["test"]["accuracy"]["value"]
        probabilities = table[[f"p_{name}" for name in CLASS_NAMES]].to_numpy()
        assert np.allclose(probabilities.sum(axis=1), 1) and np.allclose(
            probabilities.max(axis=1), table["probability"]
        )

    def test_report_and_card(self, trained):
        text = (trained.folder / "report.html").read_text()
        for heading in (
            "Result",
            "Turned clouds",
            "Confusion",
            "Worst cases",
            "Training",
            "Data",
            "Symmetry",
            "Batches",
        ):
            assert f">{heading}</h2>" in text, heading
        assert "symmetry is broken" not in text and "<script" not in text
        assert "1, the mean of every cloud" in text
        assert "turned at random" in text and "in the attention among the centres" in text
        assert "Knows the classes of its training part" in (trained.folder / "model" / "README.md").read_text()

    def test_lines_over_angles(self):
        figure = line_figure({"a": [0.01, 1.0], "b": [1, 1]}, [0, 180], xlabel="degrees", ylabel="accuracy", top=1)
        (axes,) = figure.axes
        assert axes.get_yscale() == "linear" and axes.get_ylim() == (0, 1) and list(axes.get_xticks()) == [0, 180]
        assert axes.get_legend() is None and [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]

    def test_copies_and_doubtful_labels_are_warned_of(self):
        pair = {"identical": 1, "near_copy": 3, "other_class": 1}
        overlap = {"pairs": {"train/test": pair}, "contradictory": 2}
        found = _pointclouds_report.overlap_warnings(overlap, "classification")
        assert [text.split(" of the")[0] for text in found[:3]] == ["1 cloud", "2 clouds", "1 cloud"]
        assert "2 clouds stand in the data with several classes" in found[3]
        assert len(_pointclouds_report.overlap_warnings(overlap, "normals")) == 2
        none = {"pairs": {"train/test": {"identical": 0}}, "contradictory": 0}
        assert not _pointclouds_report.overlap_warnings(none, "classification")

    def test_even_attention_has_one_colour_in_the_middle(self):
        from geoattn.domains.pointclouds.pictures import shaded
        from geoattn.tasks._pointclouds_pictures import ATTENTION

        values = np.array([0.0, 1.0, 1 + 1e-6, ATTENTION])
        low, middle, almost, high = ([int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in shaded(values, high=ATTENTION))
        assert np.abs(np.subtract(middle, almost)).max() <= 1
        assert np.allclose(middle, np.add(low, high) / 2, atol=1)

    def test_a_stopped_run_goes_on_to_the_same_weights(self, trained, table, tmp_path, monkeypatch):
        from geoattn.tasks import _training

        monkeypatch.setattr(_training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        saved = _training.AtomicCheckpointIO.save_checkpoint

        def stop(self, checkpoint, path, storage_options=None):
            saved(self, checkpoint, path, storage_options)
            if checkpoint["epoch"] == 0:
                raise RuntimeError("killed")

        monkeypatch.setattr(_training.AtomicCheckpointIO, "save_checkpoint", stop)
        with pytest.raises(RuntimeError, match="killed"):
            fit(table, tmp_path / "run")
        monkeypatch.setattr(_training.AtomicCheckpointIO, "save_checkpoint", saved)
        again = fit(table, tmp_path / "run", resume=True)
        for mine, other in zip(again.model.parameters(), trained.model.parameters(), strict=True):
            assert torch.equal(mine, other)

    def test_resume_refuses_other_options(self, trained, table):
        with pytest.raises(InputError, match="features.num_points was 32"):
            fit(table, trained.folder, resume=True, features={"num_points": 40})

    @pytest.mark.parametrize("symmetry", ["none", "frames", "canonical"])
    def test_point_transformer(self, table, tmp_path, symmetry):
        small = {"name": "point-transformer", "symmetry": symmetry, "widths": [8, 8, 8], "num_neighbors": 4}
        run = fit(
            table,
            tmp_path / "run",
            model=small,
            features={"rotate": "SO3" if symmetry == "none" else "none", "levels": None},
            trainer={"max_epochs": 1},
        )
        config = json.loads((run.folder / "model" / "config.json").read_text())
        assert config["class"] == "pointclouds/point-transformer" and config["arguments"]["symmetry"] == symmetry
        assert "symmetry is broken" not in (run.folder / "report.html").read_text()

    def test_normals_turn_with_the_cloud(self, table, tmp_path):
        run = fit(table, tmp_path / "run", **merged(PARTS, {"data": {"task": "normals"}}))
        assert set(run.metrics["baselines"]["test"]) == {"fitted_planes"}
        clouds = [cloud.points for cloud in demo_clouds(2, 64)]
        turn = random_rotation(np.random.default_rng(0))
        found, turned = (
            pointclouds.predict(run.folder, some)[["nx", "ny", "nz"]].to_numpy()
            for some in (clouds, [points @ turn.T.astype(np.float32) for points in clouds])
        )
        assert np.allclose(found @ turn.T, turned, atol=1e-3)
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": {"nme": "risur"}}, "Did you mean 'model.name'"),
            ({"model": {"widths": [8, 8]}}, "expected 3 numbers for classification"),
            ({"model": {"widths": [8, 8, 10]}}, "got 10, expected a multiple of 4"),
            ({"model": {"symmetry": "frames"}}, "risur is invariant by itself"),
            ({"data": {"batch_size": 1}}, "data.batch_size: got 1, expected at least 2"),
            ({"features": {"normals": "givn"}}, "features.normals: got 'givn'"),
            ({"features": {"levels": [[12, 6, 2]]}}, "expected pairs of centres and neighbours"),
            ({"features": {"variants": 0}}, "features.variants: got 0, expected at least 1"),
            ({"data": {"task": "clasification"}}, "Did you mean 'classification'"),
            ({"data": {"task": "normals"}, "features": {"normals": "given"}}, "normals are what this task learns"),
        ],
    )
    def test_options_that_cannot_be_used(self, table, tmp_path, options, message):
        with pytest.raises(InputError, match=message):
            fit(table, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_single_clouds_are_learned_from_where_they_can_be(self, table, tmp_path):
        """Batches of one cloud: the training loss is there and the weights move."""
        small = {"name": "point-transformer", "widths": [8, 8], "num_neighbors": 4}
        options = {"data": {"batch_size": 1}, "features": {"levels": None}, "trainer": {"max_epochs": 1}}
        fit(table, tmp_path / "run", model=small, **options)
        assert pd.read_csv(tmp_path / "run" / "metrics.csv")["train_loss"].notna().all()

    @pytest.mark.parametrize(
        ("name", "value"),
        [("context", -1), ("num_neighbors", 0), ("learning_rate", 0.0), ("weight_decay", -0.1), ("dropout", 1.0)],
    )
    def test_numbers_of_the_model_are_looked_at_before_the_data(self, tmp_path, name, value):
        with pytest.raises(InputError, match=rf"model.{name}: got {value}"):
            fit(tmp_path / "there_are_no_data", tmp_path / "run", model={name: value})

    def test_a_class_counts_the_same_when_balanced(self, table):
        from geoattn.datasets.pointclouds import PointCloudData
        from geoattn.tasks._pointclouds_module import class_weights

        data = PointCloudData(str(table), progress=False)
        data.setup()
        data.split["train"] = data.split["train"][:-3]
        counts = np.bincount([cloud.label for cloud in data.part("train")])
        assert len(set(counts)) > 1
        assert np.allclose(class_weights(data, 7, True).numpy() * counts, counts.sum() / 7)


class TestSame:
    """What is said of a cloud depends on it alone."""

    def test_in_every_batch(self, trained):
        loaded = from_pretrained(trained.folder / "model")
        clouds, featurizer = demo_clouds(5, 64), Featurizer(loaded.preprocess)
        together = predict_clouds(loaded.model, clouds, featurizer).probability
        alone = [predict_clouds(loaded.model, [cloud], featurizer).probability[0] for cloud in clouds]
        assert np.allclose(together, alone, atol=1e-6)

    def test_in_every_pose_and_unit(self, trained):
        clouds = [cloud.points for cloud in demo_clouds(5, 64)]
        turn = random_rotation(np.random.default_rng(1)).astype(np.float32)
        first = pointclouds.predict(trained.folder, clouds)
        second = pointclouds.predict(trained.folder, [1000 * points @ turn.T + 50 for points in clouds])
        pd.testing.assert_frame_equal(first, second, atol=1e-3)


class TestPredict:
    def test_a_folder_without_labels(self, trained, tmp_path):
        folder = tmp_path / "clouds"
        folder.mkdir()
        for k, cloud in enumerate(demo_clouds(5, 64)):
            np.savetxt(folder / f"{k}.xyz", cloud.points)
        table = predict(trained, folder, tmp_path / "out.csv", chunk_size=2)
        assert table["id"].tolist() == [f"{k}.xyz" for k in range(5)] and set(table["predicted"]) <= set(CLASS_NAMES)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clouds", "out.csv"]

    def test_it_goes_on_where_it_was_stopped(self, trained, table, tmp_path, monkeypatch):
        from geoattn.tasks._parts import Parts

        write = Parts.write

        def stop(self, number, *rest):
            if number == 2:
                raise KeyboardInterrupt
            write(self, number, *rest)

        monkeypatch.setattr(Parts, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            predict(trained, table, tmp_path / "out.csv", chunk_size=15)
        with pytest.raises(InputError, match="another chunk_size"):
            predict(trained, table, tmp_path / "out.csv", chunk_size=16)
        monkeypatch.setattr(Parts, "write", write)
        whole = predict(trained, table, tmp_path / "whole.csv")
        pd.testing.assert_frame_equal(predict(trained, table, tmp_path / "out.csv", chunk_size=15), whole)

    def test_a_folder_that_changed_is_not_gone_on_with(self, trained, tmp_path, monkeypatch):
        from geoattn.tasks._parts import Parts

        folder = tmp_path / "clouds"
        folder.mkdir()
        for k, cloud in enumerate(demo_clouds(3, 40)):
            np.savetxt(folder / f"{k}.xyz", cloud.points)
        monkeypatch.setattr(Parts, "join", lambda self: None)
        predict(trained, folder, tmp_path / "out.parquet", chunk_size=2)
        (folder / "0.xyz").rename(folder / "3.xyz")
        with pytest.raises(InputError, match="another list of clouds"):
            predict(trained, folder, tmp_path / "out.parquet", chunk_size=2)

    def test_every_point_of_the_file_gets_a_class(self, parts, table, tmp_path):
        """More points than the model samples, in the order of the file."""
        rows = predict(parts, table, tmp_path / "points.csv")
        assert len(rows) == NUM_CLOUDS * 64 and set(rows["segment"].astype(str)) <= {
            str(k) for k in range(len(SEGMENT_NAMES))
        }
        clouds = demo_clouds(NUM_CLOUDS, 64)
        assert np.allclose(rows[["x", "y", "z"]], np.concatenate([c.points for c in clouds]), atol=1e-4)

    @pytest.mark.parametrize("kind", ["ply", "npz", "csv"])
    def test_a_file_per_cloud(self, parts, table, tmp_path, kind):
        from geoattn.datasets.pointcloud_files import read_cloud

        if kind == "ply":
            pytest.importorskip("trimesh", reason="needs geoattn[pointclouds]")
        out = tmp_path / "out"
        predict(parts, table, out, format=kind)
        shares = pd.read_csv(out / "predictions.csv")
        assert len(shares) == NUM_CLOUDS and "hit" not in shares  # labels are not looked at
        names = sorted(path.name for path in out.iterdir())
        assert len(names) == NUM_CLOUDS + 1 and f"airplane_0000.{kind}" in names
        if kind != "csv":
            again, first = read_cloud(out / f"airplane_0000.{kind}"), demo_clouds(1, 64)[0]
            assert np.allclose(again.points, first.points, atol=1e-4) and again.segment.max() < 17

    def test_no_cloud_is_written_over_another(self, parts, tmp_path):
        """Names that would be the same, in several chunks and after a stop; predictions.csv is the table."""
        ids = ["a/1.xyz", "a_1.xyz", "a/1.csv", "scan.v2", "scan.v3", "predictions.csv", "A_1.txt"]
        clouds = demo_clouds(len(ids), 40)
        for k, cloud in enumerate(clouds):
            np.savetxt(tmp_path / f"{k}.xyz", cloud.points)
        files = [f"{k}.xyz" for k in range(len(ids))]
        pd.DataFrame({"file": files, "id": ids}).to_csv(tmp_path / "list.csv", index=False)
        predict(parts, tmp_path / "list.csv", tmp_path / "out", format="csv", chunk_size=2)
        table = pd.read_csv(tmp_path / "out" / "predictions.csv")
        names = ["a_1", "a_1_2", "a_1_3", "scan.v2", "scan.v3", "predictions_2", "A_1_4"]
        assert table["id"].tolist() == ids and table["written"].tolist() == [f"{name}.csv" for name in names]
        for name, cloud in zip(table["written"], clouds, strict=True):
            assert np.allclose(pd.read_csv(tmp_path / "out" / name)[["x", "y", "z"]], cloud.points, atol=1e-4)

    def test_a_large_scan_in_blocks(self, parts, tmp_path):
        rng = np.random.default_rng(0)
        np.save(tmp_path / "scan.npy", rng.random((600, 3)))
        predict_file(str(parts.folder), str(tmp_path / "scan.npy"), str(tmp_path / "o.npy"), block=0.5, quiet=True)
        found = np.load(tmp_path / "o.npy")
        assert found.shape == (600,) and found.dtype == np.int32 and found.min() >= 0 and found.max() < 17

    def test_blocks_are_for_models_of_points(self, trained, tmp_path):
        with pytest.raises(InputError, match="classifies whole clouds"):
            predict_file(str(trained.folder), "scan.npy", str(tmp_path / "o.npy"), block=0.5, quiet=True)

    @pytest.mark.parametrize(
        ("out", "options"),
        [
            ("o.csv", {"margin": 0.1}),
            ("o.csv", {"format": "npz"}),
            ("o.npy", {"block": 0.5, "format": "ply"}),
            ("o.npy", {"block": 0.5, "chunk_size": 8}),
            ("o.npy", {"block": 0.5, "on_error": "skip"}),
        ],
    )
    def test_options_without_effect(self, parts, table, tmp_path, out, options):
        name = [*options][-1].replace("_", "-")
        with pytest.raises(InputError, match=f"--{name}: .*no effect"):
            predict(parts, table, tmp_path / out, **options)
        assert not list(tmp_path.iterdir())

    def test_no_cloud_that_can_be_used(self, trained, tmp_path):
        np.savetxt(tmp_path / "a.xyz", np.ones((3, 3)))
        for _ in range(2):
            with pytest.raises(InputError, match=r"1 was rejected. The first: .*all 3 points are equal"):
                predict(trained, tmp_path / "a.xyz", tmp_path / "out.csv", on_error="skip")

    def test_more_neighbours_than_points(self, trained):
        found = pointclouds.predict(trained.folder, [np.eye(3), np.zeros((1, 3))])
        assert np.isfinite(found["probability"]).all()

    @pytest.mark.parametrize(
        ("points", "message"),
        [
            (np.zeros((5, 3)), "all 5 points are equal"),
            (np.full((5, 3), np.nan), "not a number"),
            (np.zeros((0, 3)), "no point"),
            (np.zeros((5, 2)), "expected numbers"),
        ],
    )
    def test_arrays_that_cannot_be_used(self, trained, points, message):
        with pytest.raises(InputError, match=message):
            pointclouds.predict(trained.folder, [np.eye(3), points])

    def test_files_that_cannot_be_used(self, trained, tmp_path):
        folder = tmp_path / "bad"
        folder.mkdir()
        np.savetxt(folder / "good.xyz", demo_clouds(1, 64)[0].points)
        (folder / "empty.xyz").write_text("")
        (folder / "nan.xyz").write_text("0 0 0\nnan 0 0\n")
        (folder / "equal.xyz").write_text("1 1 1\n1 1 1\n")
        (folder / "colours.csv").write_text("red,green,blue\n1,2,3\n4,5,6\n")
        with pytest.raises(InputError, match=r"colours.csv"):
            predict(trained, folder, tmp_path / "out.csv")
        table = predict(trained, folder, tmp_path / "skipped.csv", on_error="skip")
        rejected = pd.read_csv(tmp_path / "skipped.csv.rejected.csv")
        assert table["id"].tolist() == ["good.xyz"] and len(rejected) == 4

    def test_a_broken_header(self, trained, tmp_path):
        pytest.importorskip("trimesh", reason="needs geoattn[pointclouds]")
        (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 5\nend_header\n0 0 0\n")
        with pytest.raises(InputError, match=r"a\.ply"):
            predict(trained, tmp_path / "a.ply", tmp_path / "out.csv")

    @pytest.mark.parametrize(("factor", "notes"), [(1, 0), (1000, 1)])
    def test_sizes_in_another_unit(self, factor, notes):
        clouds = [replace(cloud, points=factor * cloud.points) for cloud in demo_clouds(3, 64)]
        found = unit_notes(clouds, {"scale": "keep", "size": 1.0})
        assert len(found) == notes and all("in the same unit?" in note for note in found)
        assert not unit_notes(clouds, {"scale": "unit", "size": 1.0})


class TestTest:
    def test_own_test_part_with_baselines(self, trained, table, tmp_path, capsys):
        metrics = pointclouds.test(str(trained.folder), str(table), str(tmp_path / "t"), rows="test", device="cpu")
        assert metrics["test"] == trained.metrics["test"] and metrics["baselines"] == trained.metrics["baselines"]
        seen = NUM_CLOUDS - NUM_TEST - trained.metrics["valid"]["accuracy"]["n"]
        said = capsys.readouterr().err
        assert f"{seen} of {NUM_CLOUDS} clouds of the file are in the model's training part" in said
        assert "see --rows test" not in said
        assert (tmp_path / "t" / "report.html").is_file()

    def test_one_protocol(self, trained, table, capsys):
        metrics = pointclouds.test(str(trained.folder), str(table), protocol="SO3", device="cpu", quiet=True)
        assert set(metrics) == {"test_so3"} and "turned at random" in capsys.readouterr().out

    def test_a_class_that_the_model_does_not_know(self, trained, tmp_path):
        (tmp_path / "x" / "chairs").mkdir(parents=True)
        np.savetxt(tmp_path / "x" / "chairs" / "a.xyz", np.eye(3))
        with pytest.raises(InputError, match=r"does not know the class 'chairs'. Did you mean 'chair'"):
            pointclouds.test(str(trained.folder), str(tmp_path / "x"), quiet=True)

    def test_clouds_of_unknown_classes_are_skipped(self, trained, tmp_path):
        for name, cloud in zip(("chairs", "chair"), demo_clouds(2, 40), strict=True):
            (tmp_path / "x" / name).mkdir(parents=True)
            np.savetxt(tmp_path / "x" / name / "a.xyz", cloud.points)
        ask = partial(pointclouds.test, str(trained.folder), on_error="skip", device="cpu", quiet=True)
        assert ask(str(tmp_path / "x"), protocol="given")["test"]["accuracy"]["n"] == 1
        (tmp_path / "x" / "chair" / "a.xyz").unlink()
        with pytest.raises(InputError, match=r"1 was rejected. The first: .*does not know this class"):
            ask(str(tmp_path / "x"))


class TestCommandLine:
    def test_fit_audit_and_predict(self, table, tmp_path, capsys):
        words = [
            "--data", str(table), "--features.num-points", "16", "--features.levels", "[[6,4]]",
            "--model.widths", "[8,8]", "--model.edge-channels=8", "--trainer.max-epochs", "1", "--quiet",
        ]  # fmt: skip
        assert main(["pointclouds", "fit", *words, "--out", str(tmp_path / "run")]) == 0
        assert main(["pointclouds", "audit", "--data", str(table), "--out", str(tmp_path / "a.csv")]) == 0
        assert "near_copy" in capsys.readouterr().out
        out = str(tmp_path / "p.parquet")
        data = ["--data", str(table.parent), "--out", out, "--quiet"]
        assert main(["pointclouds", "predict", "--model", str(tmp_path / "run"), *data]) == 0
        assert len(pd.read_parquet(out)) == NUM_CLOUDS

    @pytest.mark.parametrize("name", recipe_names("pointclouds"))
    def test_recipes_are_understood(self, name):
        arguments = ["--recipe", str(recipe_path("pointclouds", name)), "--data", "x"]
        fit_parser().parse_args(expand_arguments("pointclouds", arguments))

    @pytest.mark.parametrize("verb", ["fit", "test", "predict", "audit", "demo", "view"])
    def test_help(self, verb, capsys):
        with pytest.raises(SystemExit):
            main(["pointclouds", verb, "--help"])
        assert f"geoattn pointclouds {verb}" in capsys.readouterr().out

    def test_view_says_where_there_is_no_screen(self, trained, table, monkeypatch, capsys):
        if os.name != "posix":
            pytest.skip("screens are found by environment variables on Linux alone")
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("sys.platform", "linux")
        with pytest.raises(InputError, match="no screen here"):
            view_file(str(table), str(trained.folder))
        assert "by attention" in capsys.readouterr().err


@pytest.mark.slow
def test_demo(tmp_path):
    """The whole way, smaller."""
    report = pointclouds.demo(str(tmp_path / "demo"), quiet=True)
    assert report.is_file() and (tmp_path / "demo" / "new_parts" / "predictions.csv").is_file()
    for run in ("fit", "parts"):
        metrics = json.loads((tmp_path / "demo" / run / "metrics.json").read_text())
        assert metrics["test_so3"]["accuracy"]["value"] > 0.8
