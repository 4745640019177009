"""``geoattn dynamics fit``: the run folder, options, models, resuming."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from geoattn.errors import InputError
from geoattn.tasks import dynamics
from geoattn.tasks._dynamics_fit import fit_parser
from geoattn.tasks._dynamics_module import ONLY_FOR, DynamicsModule
from geoattn.tasks._parser import UsageError, recipe_names, recipe_path
from geoattn.tasks._run import read_config

from .dynamics_runs import arrays_of, fit

FILES = [
    "checkpoints", "config.yaml", "environment.txt", "metrics.csv", "metrics.json", "model", "predictions.csv",
    "rejected.csv", "report.html", "split.json",
]  # fmt: skip
POSITION_METRICS = {"mse", "rmse", "median_system_mse", "median_coordinate_se"}


class TestFit:
    def test_the_folder_holds_what_the_design_says(self, dynamics_run):
        assert sorted(p.name for p in dynamics_run.folder.iterdir()) == FILES
        assert sorted(p.name for p in (dynamics_run.folder / "checkpoints").iterdir()) == ["seed-5.ckpt", "seed-6.ckpt"]

    def test_metrics(self, dynamics_run):
        metrics = json.loads((dynamics_run.folder / "metrics.json").read_text())
        assert metrics == dynamics_run.metrics and set(metrics) == {"valid", "test", "baselines"}
        assert set(metrics["test"]) == POSITION_METRICS | {f"velocity_{name}" for name in POSITION_METRICS}
        assert set(metrics["baselines"]["test"]) == {"constant", "constant_velocity", "linear"}
        entry = metrics["test"]["mse"]
        assert entry["n"] == 10 and entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]

    def test_baselines_against_their_definitions(self, dynamics_run, nbody):
        train, test = arrays_of(nbody, "train_"), arrays_of(nbody)
        t = (train["vel0"] * (train["loc1"] - train["loc0"])).sum() / (train["vel0"] ** 2).sum()
        found = dynamics_run.metrics["baselines"]["test"]
        for name, time in (("constant", 0), ("constant_velocity", 1), ("linear", t)):
            mse = ((test["loc0"] + time * test["vel0"] - test["loc1"]) ** 2).mean()
            assert found[name]["mse"]["value"] == pytest.approx(mse, rel=1e-5)
            velocity = ((test["vel0"] - test["vel1"]) ** 2).mean()
            assert found[name]["velocity_mse"]["value"] == pytest.approx(velocity, rel=1e-5)

    def test_predictions_give_the_metrics(self, dynamics_run):
        table = pd.read_csv(dynamics_run.folder / "predictions.csv")
        assert list(table) == [
            "id", "entity", "split", "x", "y", "z", "x_pred", "y_pred", "z_pred",
            "vx", "vy", "vz", "vx_pred", "vy_pred", "vz_pred", "std", "error",
        ]  # fmt: skip
        test = table[table["split"] == "test"]
        assert len(table) == 100 and len(test) == 50 and (table["std"] > 0).all()
        assert (test["error"] ** 2).mean() / 3 == pytest.approx(dynamics_run.metrics["test"]["mse"]["value"])
        velocity = (test[["vx", "vy", "vz"]].to_numpy() - test[["vx_pred", "vy_pred", "vz_pred"]].to_numpy()) ** 2
        assert velocity.mean() == pytest.approx(dynamics_run.metrics["test"]["velocity_mse"]["value"])

    def test_learning_curve(self, dynamics_run):
        curve = pd.read_csv(dynamics_run.folder / "metrics.csv")
        assert curve[["seed", "epoch"]].to_numpy().tolist() == [[5, 1], [5, 2], [6, 1], [6, 2]]
        assert {"train_loss", "valid_loss", "valid_mse", "learning_rate", "seconds"} <= set(curve)
        assert not curve.isna().any().any() and curve["learning_rate"].iloc[1] == 0

    def test_config_is_complete_and_runs_again(self, dynamics_run, tmp_path):
        config = read_config(dynamics_run.folder)
        again = dynamics.fit(
            config["data"]["file"], recipe=str(dynamics_run.folder / "config.yaml"), out=tmp_path / "again", quiet=True
        )
        assert again.metrics["test"] == dynamics_run.metrics["test"], "the same options give the same numbers"

    def test_config_and_report_hold_the_options_of_the_model_alone(self, dynamics_run):
        own = set(read_config(dynamics_run.folder)["model"])
        assert {"name", "hidden_channels", "num_layers", "velocity", "pos_aggr", "loss"} <= own
        assert not own & {"lmax", "num_heads", "reflections", "steps", "eval_steps"}
        report = (dynamics_run.folder / "report.html").read_text()
        assert "pos_aggr" in report and "eval_steps" not in report

    def test_report(self, dynamics_run):
        text = (dynamics_run.folder / "report.html").read_text()
        for heading in (
            "Result",
            "Predictions",
            "Trajectories",
            "Training",
            "Data",
            "Symmetry",
            "Command and versions",
        ):
            assert f">{heading}</h2>" in text, heading
        assert text.count("<svg") >= 3 + 10 and "<script" not in text
        assert "constant_velocity" in text and "Rotations, reflections and translations" in text

    def test_card_and_split(self, dynamics_run):
        card = (dynamics_run.folder / "model" / "README.md").read_text()
        assert "Seeds: 5, 6" in card and "near states 0" in card and "given, seed 0" in card
        split = json.loads((dynamics_run.folder / "split.json").read_text())
        assert [len(split[part]) for part in ("train", "valid", "test")] == [30, 10, 10]
        assert len(set(split["keys"]["train"])) == 30

    def test_checkpoints_hold_nothing_that_can_run(self, dynamics_run):
        for path in (dynamics_run.folder / "checkpoints").iterdir():
            assert torch.load(path, weights_only=True)["epoch"] == 1


class TestOptions:
    def test_the_models_of_an_option_are_those_that_its_help_names(self):
        """``lmax: se3_transformer: highest degree.`` is an option of that model alone."""
        models = "egnn|se3_transformer|integrator"
        found = re.findall(rf"^ +(\w+): ((?:(?:{models})(?:, )?)+):", DynamicsModule.__doc__, re.MULTILINE)
        assert {option: tuple(names.split(", ")) for option, names in found} == ONLY_FOR

    def test_every_recipe_parses(self):
        names = recipe_names("dynamics")
        assert {"dynamics-demo", "dynamics-nbody", "dynamics-nbody-egnn", "dynamics-nbody-se3"} <= set(names)
        for name in names:
            config = fit_parser().parse_args(["--recipe", str(recipe_path("dynamics", name)), "--data.file", "a.npz"])
            assert config["model"]["name"] in ("egnn", "se3_transformer", "integrator")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": {"nme": "egnn"}}, "model.nme.*Did you mean 'model.name'"),
            ({"model": {"name": "egn"}}, "model.name: got 'egn'.*Did you mean 'egnn'"),
            ({"model": {"ema_decay": 1.0}}, "model.ema_decay: got 1.0"),
            ({"ensemble": 0}, "ensemble: got 0"),
            ({"data": {"velocites": True}}, "Did you mean 'data.velocities'"),
        ],
    )
    def test_wrong_ones(self, nbody, tmp_path, options, message):
        with pytest.raises((UsageError, InputError), match=message):
            fit(nbody, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("egnn", {"velocity": "updated", "pos_aggr": "sum"}),
            ("se3_transformer", {"hidden_channels": 2, "num_layers": 1, "lmax": 1, "reflections": True}),
            ("integrator", {"steps": 4, "eval_steps": 6}),
        ],
    )
    def test_every_model_goes_the_whole_way(self, nbody, tmp_path, name, options):
        trained = fit(nbody, tmp_path / "run", model={"name": name, **options}, trainer={"max_epochs": 1})
        config = json.loads((trained.folder / "model" / "config.json").read_text())
        assert config["class"] == f"dynamics/{name}"
        assert config["arguments"].items() >= options.items()
        test = arrays_of(nbody)
        pos, vel = dynamics.predict(trained.folder, test["loc0"], test["vel0"], test["charge"], device="cpu")
        assert ((pos - test["loc1"]) ** 2).mean() == pytest.approx(trained.metrics["test"]["mse"]["value"], rel=1e-4)
        assert vel is None

    @pytest.mark.parametrize("loss", ["l1", "huber", "log"])
    def test_losses(self, nbody, tmp_path, loss):
        trained = fit(nbody, tmp_path / "run", model={"loss": loss, "ema_decay": 0.9}, trainer={"max_epochs": 1})
        curve = pd.read_csv(trained.folder / "metrics.csv")
        assert math.isfinite(curve["valid_loss"][0]) and curve["valid_loss"][0] != curve["valid_mse"][0]

    def test_validation_every_few_epochs(self, nbody, tmp_path):
        """The epoch is chosen among those that were validated."""
        trained = fit(nbody, tmp_path / "run", trainer={"max_epochs": 4, "check_val_every_n_epoch": 2})
        curve = pd.read_csv(trained.folder / "metrics.csv")
        assert curve["valid_loss"].isna().tolist() == [True, False, True, False]
        assert (trained.folder / "report.html").is_file()


def test_training_lowers_the_error(nbody, tmp_path):
    """Below what straight lines give on the training part itself."""
    file = tmp_path / "same.npz"
    train = arrays_of(nbody, "train_")
    np.savez(file, **{f"{part}_{key}": train[key][:12] for part in ("train", "valid", "test") for key in train})
    options = {"model": {"learning_rate": 0.02}, "trainer": {"max_epochs": 60}, "data": {"batch_size": 12}}
    trained = fit(file, tmp_path / "run", **options)
    assert (
        trained.metrics["test"]["mse"]["value"] < 0.7 * trained.metrics["baselines"]["test"]["linear"]["mse"]["value"]
    )
    assert "begin nearly as one of the training part" in (trained.folder / "report.html").read_text()


class TestResume:
    def test_a_stopped_run_ends_as_one_that_was_not(self, nbody, tmp_path, monkeypatch):
        options = {"trainer": {"max_epochs": 4}, "model": {"ema_decay": 0.5}}
        whole = fit(nbody, tmp_path / "whole", **options)
        epochs = []

        def stop(module):
            epochs.append(module.current_epoch)
            if len(epochs) == 3:
                raise KeyboardInterrupt
            original(module)

        original = dynamics.DynamicsModule.on_train_epoch_end
        monkeypatch.setattr("geoattn.tasks._training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(dynamics.DynamicsModule, "on_train_epoch_end", stop)
            fit(nbody, tmp_path / "run", **options)
        assert not (tmp_path / "run" / "report.html").exists()
        resumed = dynamics.fit(nbody, out=tmp_path / "run", resume=True, quiet=True)
        assert resumed.metrics == whole.metrics
        columns = ["train_loss", "valid_loss"]
        first, second = (pd.read_csv(r.folder / "metrics.csv")[columns] for r in (whole, resumed))
        pd.testing.assert_frame_equal(first, second, check_exact=True)
        assert dynamics.fit(nbody, out=tmp_path / "run", resume=True, quiet=True).metrics == whole.metrics

    def test_a_run_whose_config_has_the_options_of_all_models(self, nbody, tmp_path):
        """As earlier versions wrote it."""
        run = fit(nbody, tmp_path / "run", trainer={"max_epochs": 1})
        config = read_config(run.folder)
        config["model"] |= {"lmax": 3, "steps": 100}
        (run.folder / "config.yaml").write_text(yaml.safe_dump(config))
        (run.folder / "report.html").unlink()
        resumed = dynamics.fit(nbody, out=run.folder, resume=True, quiet=True)
        assert resumed.metrics == run.metrics
        with pytest.raises(InputError, match="--resume: model.pos_aggr was 'mean'"):
            dynamics.fit(nbody, out=run.folder, resume=True, quiet=True, model={"pos_aggr": "sum"})

    def test_other_options_and_other_data_are_refused(self, nbody, dynamics_run, tmp_path):
        with pytest.raises(InputError, match="--resume: model.num_layers was 2 .* now it is 3"):
            dynamics.fit(nbody, out=dynamics_run.folder, resume=True, quiet=True, model={"num_layers": 3})
        fit(nbody, tmp_path / "run", trainer={"max_epochs": 1})
        (tmp_path / "run" / "report.html").unlink()
        record = json.loads((tmp_path / "run" / "split.json").read_text())
        record["keys"]["train"][0] = "other"
        (tmp_path / "run" / "split.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match="the systems of the file, or their split, are no longer those"):
            dynamics.fit(nbody, out=tmp_path / "run", resume=True, quiet=True)
