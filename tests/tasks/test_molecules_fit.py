import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geoattn import _files
from geoattn.domains.ensemble import Ensemble
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks import molecules
from geoattn.tasks._parser import UsageError, merged
from geoattn.tasks._run import read_config
from geoattn.tasks._training import AtomicCheckpointIO

from .conftest import SMALL, write_table

FILES = [
    "checkpoints", "config.yaml", "environment.txt", "metrics.csv", "metrics.json", "model", "predictions.csv",
    "rejected.csv", "report.html", "split.json",
]  # fmt: skip


def fit(file, out, **options):
    return molecules.fit(file, out=out, **merged(SMALL, options))


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


class TestRunFolder:
    @pytest.fixture(scope="class")
    @staticmethod
    def run(tmp_path_factory):
        folder = tmp_path_factory.mktemp("run")
        file = write_table(folder / "molecules.csv")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GEOATTN_CACHE", str(folder / "cache"))
            return fit(file, folder / "run", ensemble=2, seed=5)

    def test_it_holds_what_the_design_says(self, run):
        assert sorted(p.name for p in run.folder.iterdir()) == FILES
        assert sorted(p.name for p in (run.folder / "checkpoints").iterdir()) == ["seed-5.ckpt", "seed-6.ckpt"]

    def test_config_is_complete_and_runs_again(self, run, tmp_path):
        config = read_config(run.folder)
        assert config["model"]["name"] == "graph-attention" and config["model"]["num_layers"] == 1
        assert Path(config["data"]["file"]).is_absolute()
        again = molecules.fit(
            config["data"]["file"], recipe=str(run.folder / "config.yaml"), out=tmp_path / "again", quiet=True
        )
        assert again.metrics["test"] == run.metrics["test"], "the same options give the same numbers"

    def test_metrics(self, run):
        metrics = metrics_of(run.folder)
        assert metrics == run.metrics
        assert {"valid", "test", "baselines"} == set(metrics)
        assert {"mae", "rmse", "r2", "pearson"} == set(metrics["test"])
        assert {"mean", "linear_composition", "random_forest", "nearest_neighbors"} == set(metrics["baselines"]["test"])
        entry = metrics["test"]["mae"]
        assert entry["n"] == 2 and entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]

    def test_predictions_give_the_metrics(self, run):
        table = pd.read_csv(run.folder / "predictions.csv")
        assert list(table) == ["id", "line", "smiles", "split", "logp", "logp_pred", "logp_std"]
        test = table[table["split"] == "test"]
        assert (test["logp"] - test["logp_pred"]).abs().mean() == pytest.approx(run.metrics["test"]["mae"]["value"])
        assert (table["logp_std"] > 0).all()

    def test_the_model_folder_predicts_the_same(self, run):
        table = pd.read_csv(run.folder / "predictions.csv")
        predicted = molecules.predict(run.folder, table["smiles"].tolist())
        np.testing.assert_allclose(predicted["logp_pred"], table["logp_pred"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(predicted["logp_std"], table["logp_std"], rtol=1e-3, atol=1e-5)
        assert isinstance(from_pretrained(run.folder / "model").model, Ensemble)

    def test_split_is_read_back(self, run, tmp_path):
        split = json.loads((run.folder / "split.json").read_text())
        assert [len(split[part]) for part in ("train", "valid", "test")] == [20, 2, 2]
        config = read_config(run.folder)
        again = fit(config["data"]["file"], tmp_path / "again", data={"split": f"file:{run.folder / 'split.json'}"})
        assert json.loads((again.folder / "split.json").read_text())["test"] == split["test"]

    def test_learning_curve(self, run):
        curve = pd.read_csv(run.folder / "metrics.csv")
        assert curve[["seed", "epoch"]].to_numpy().tolist() == [[5, 1], [5, 2], [6, 1], [6, 2]]
        assert {"train_loss", "valid_loss", "valid_rmse", "learning_rate", "seconds"} <= set(curve)
        assert not curve.isna().any().any()

    def test_checkpoints_hold_nothing_that_can_run(self, run):
        for path in (run.folder / "checkpoints").iterdir():
            assert torch.load(path, weights_only=True)["epoch"] == 1

    def test_report_shows_what_was_measured(self, run):
        text = (run.folder / "report.html").read_text()
        for heading in ("Result", "Predictions", "Training", "Worst cases", "Data", "Symmetry", "Command and versions"):
            assert f">{heading}</h2>" in text, heading
        assert text.count("<svg") >= 6 and "<script" not in text
        assert "random forest" in text.replace("_", " ") and "torch" in text

    def test_card(self, run):
        text = (run.folder / "model" / "README.md").read_text()
        assert "logp" in text and "Seeds: 5, 6" in text and "seed 0" in text


def test_structures_and_energies(structures, tmp_path):
    """Without a recipe, a file of structures gets EGNN; energies get references per element."""
    run = fit(structures, tmp_path / "run", data={"task": "energy", "units": "eV"}, trainer={"max_epochs": 30})
    assert read_config(run.folder)["model"]["name"] == "egnn"
    preprocess = from_pretrained(run.folder / "model").preprocess
    assert preprocess["elements"] == [1, 6, 7, 8] and preprocess["targets"] == ["energy_ev"]
    assert preprocess["target_transform"]["reference"]["8"][0] == pytest.approx(-80, abs=5)
    assert run.metrics["test"]["mae"]["value"] < 0.1 * run.metrics["baselines"]["test"]["mean"]["mae"]["value"]
    config = json.loads((run.folder / "model" / "config.json").read_text())
    assert config["class"] == "molecules/egnn" and config["arguments"]["pooling"] == "sum"
    assert "under rotations, reflections and translations" in (run.folder / "report.html").read_text()


def test_egnn_on_smiles(tmp_path):
    run = fit(write_table(tmp_path / "a.csv", 12), tmp_path / "run", model={"name": "egnn"}, data={"processes": 1})
    assert from_pretrained(run.folder / "model").preprocess["graph"] == "3d"


def test_classes_with_gaps(tmp_path):
    file = write_table(tmp_path / "a.csv", 40)
    table = pd.read_csv(file).drop(columns="logp")
    table["active"] = [k % 2 for k in range(40)]
    table["toxic"] = [None if k % 3 == 0 else int(k % 5 == 0) for k in range(40)]
    table.to_csv(file, index=False)
    data = {"task": "classification", "targets": ["active", "toxic"], "val_fraction": 0.2, "test_fraction": 0.3}
    run = fit(file, tmp_path / "run", data=data)
    assert {"roc_auc", "pr_auc", "accuracy"} == set(run.metrics["test"])
    assert run.metrics["targets"]["test"]["active"]["roc_auc"]["n"] == 12
    assert run.metrics["targets"]["test"]["toxic"]["roc_auc"]["n"] < 12
    predictions = pd.read_csv(run.folder / "predictions.csv")
    assert predictions["toxic_pred"].between(0, 1).all() and predictions["toxic"].isna().any()


def test_ten_molecules_are_learned_by_heart(tmp_path):
    """Both networks, from the options to a loss near zero."""
    run = fit(
        write_table(tmp_path / "a.csv", 12),
        tmp_path / "run",
        model={"hidden_channels": 32, "num_layers": 2, "learning_rate": 0.01, "ema_decay": 0.0, "weight_decay": 0.0},
        trainer={"max_epochs": 60},
    )
    curve = pd.read_csv(run.folder / "metrics.csv")
    assert curve["train_loss"].iloc[-1] < 0.02 < curve["train_loss"].iloc[0]


class TestBadInput:
    def test_an_existing_folder_is_never_overwritten(self, table, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "precious.txt").write_text("mine")
        with pytest.raises(InputError, match="--resume .* or choose another --out"):
            fit(table, tmp_path / "run")
        assert os.listdir(tmp_path / "run") == ["precious.txt"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"data": {"targets": ["lgp"]}}, "there is no column 'lgp'. Did you mean 'logp'"),
            ({"data": {"split": "scafold"}}, "Did you mean 'scaffold'"),
            ({"data": {"cutoff": None}, "model": {"name": "egnn"}}, "data.cutoff: egnn needs a cutoff"),
            ({"data": {"descriptors": True}, "model": {"name": "egnn"}}, "egnn takes no descriptors"),
            ({"model": {"dropout": 1.5}}, "model.dropout: got 1.5, expected a number from 0 to below 1"),
            ({"model": {"widht": 3}}, "Unknown key 'model.widht'"),
            ({"ensemble": 0}, "ensemble: got 0, expected at least 1"),
            ({"trainer": {"max_epochs": 0}}, "trainer.max_epochs: got 0"),
            ({"recipe": "molecules-eso"}, "Did you mean 'molecules-esol'"),
        ],
    )
    def test_errors_show_before_anything_is_written(self, table, tmp_path, options, message):
        with pytest.raises(InputError, match=message):
            fit(table, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_bad_rows_are_listed(self, tmp_path):
        file = write_table(tmp_path / "a.csv", 20)
        lines = file.read_text().splitlines()
        lines[3] = "x1,C1CC,1.0"
        lines[7] = "x2,,1.0"
        lines[9] = "x3,CCO,soluble"
        file.write_text("\n".join(lines))
        with pytest.raises(InputError, match=r"a\.csv:10: logp = 'soluble'"):
            fit(file, tmp_path / "run", data={"targets": ["logp"]})
        run = fit(file, tmp_path / "run", data={"targets": ["logp"], "on_error": "skip"})
        rejected = pd.read_csv(run.folder / "rejected.csv", keep_default_na=False)
        assert rejected["line"].tolist() == [4, 8, 10]
        assert rejected["value"].tolist() == ["C1CC", "", "soluble"]
        split = json.loads((run.folder / "split.json").read_text())
        assert sum(len(split[part]) for part in ("train", "valid", "test")) == 17

    def test_a_training_that_diverges_says_so(self, table, tmp_path):
        with pytest.raises(InputError, match="the training diverged. Lower --model.learning-rate"):
            fit(table, tmp_path / "run", model={"learning_rate": 1e30}, trainer={"gradient_clip_val": None})

    def test_a_full_disk_leaves_a_run_that_can_be_resumed(self, table, tmp_path, monkeypatch):
        replace = os.replace

        def full(source, target):
            if Path(target).name == "predictions.csv":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(source, target)

        message = r"predictions\.csv cannot be written: No space left on device. Free some"
        with monkeypatch.context() as patch, pytest.raises(InputError, match=message):
            patch.setattr(_files.os, "replace", full)
            fit(table, tmp_path / "run")
        assert not (tmp_path / "run" / "predictions.csv").exists()
        assert not list((tmp_path / "run").rglob(".part-*"))
        resumed = fit(table, tmp_path / "run", resume=True)
        assert resumed.metrics == fit(table, tmp_path / "whole").metrics


class TestResume:
    def test_a_finished_run_is_left_alone(self, table, tmp_path, capsys):
        run = fit(table, tmp_path / "run")
        before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
        again = molecules.fit(
            table, out=tmp_path / "run", resume=True, **{k: v for k, v in SMALL.items() if k != "quiet"}
        )
        assert "is finished: nothing to resume" in capsys.readouterr().err
        assert again.metrics == run.metrics
        assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before

    def test_other_options_are_refused(self, table, tmp_path):
        fit(table, tmp_path / "run")
        with pytest.raises(InputError, match=r"--resume: model\.num_layers was 1 when the run .* began, now it is 3"):
            fit(table, tmp_path / "run", resume=True, model={"num_layers": 3})

    def test_another_file_of_that_name_is_refused(self, table, tmp_path):
        run = fit(table, tmp_path / "run")
        (run.folder / "report.html").unlink()
        write_table(table, 30)
        with pytest.raises(InputError, match="the molecules of the file, or their split, are no longer those"):
            fit(table, tmp_path / "run", resume=True)

    def test_nothing_to_resume_begins(self, table, tmp_path):
        assert fit(table, tmp_path / "run", resume=True).metrics == fit(table, tmp_path / "other").metrics

    @pytest.mark.parametrize("after", [1, 2])
    def test_stopped_between_epochs_or_members(self, table, tmp_path, monkeypatch, after):
        """Stopped when the checkpoint has been written for the ``after``-th time; there are two members."""
        options = {"ensemble": 2, "model": {"dropout": 0.3}, "trainer": {"max_epochs": 3}}
        whole = fit(table, tmp_path / "whole", **options)
        saved = []

        def stop(self, checkpoint, path, storage_options=None, save=AtomicCheckpointIO.save_checkpoint):
            save(self, checkpoint, path)
            saved.append(path)
            if len(saved) == after * 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("geoattn.tasks._training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
            patch.setattr(AtomicCheckpointIO, "save_checkpoint", stop)
            fit(table, tmp_path / "run", **options)
        assert_same(fit(table, tmp_path / "run", resume=True, **options).folder, whole.folder)


def assert_same(folder: Path, expected: Path) -> None:
    """Everything measured is the same to the last digit, the learning curve included."""
    for name in ("metrics.json", "predictions.csv", "split.json", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    first, second = (pd.read_csv(path / "metrics.csv").drop(columns="seconds") for path in (folder, expected))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("checkpoints", [0, 1, 4])
def test_kill_9_then_resume(table, tmp_path, checkpoints):
    """The command, killed before its first checkpoint, and after some, ends with the same numbers."""
    words = ["molecules", "fit", "--data", str(table), "--quiet", "--ensemble", "2", "--seed", "3"]
    words += ["--trainer.max_epochs", "6", "--model.dropout", "0.2", "--model.hidden_channels", "16"]

    def command(out: str, *more: str) -> list[str]:
        script = "import sys, geoattn.tasks._training as t; t.SECONDS_BETWEEN_CHECKPOINTS = 0.0; "
        script += "from geoattn.cli import main; sys.exit(main(sys.argv[1:]))"
        return [sys.executable, "-c", script, *words, "--out", str(tmp_path / out), *more]

    subprocess.run(command("whole"), check=True, timeout=240)
    process = subprocess.Popen(command("run"))
    seen: set[tuple[str, int]] = set()
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        seen |= {(p.name, p.stat().st_mtime_ns) for p in (tmp_path / "run" / "checkpoints").glob("seed-*")}
        if len(seen) > checkpoints or (checkpoints == 0 and (tmp_path / "run" / "config.yaml").exists()):
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "run" / "report.html").exists()
    subprocess.run(command("run", "--resume"), check=True, timeout=240)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_kill_before_the_configuration_was_written(table, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / ".part-1-config.yaml").write_text("half")
    fit(table, tmp_path / "run", resume=True)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == FILES


def test_torch_random_state_is_left_alone(table, tmp_path):
    before = torch.get_rng_state()
    fit(table, tmp_path / "run")
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_keyword(table, tmp_path):
    with pytest.raises(UsageError, match="Unknown key 'modle"):
        molecules.fit(table, out=tmp_path / "run", modle={"num_layers": 1})


def test_test_part_decides_nothing(tmp_path):
    """Other targets in the test part: the same model, digit by digit."""
    file = write_table(tmp_path / "a.csv")
    first = fit(file, tmp_path / "first")
    test = json.loads((first.folder / "split.json").read_text())["test"]
    table = pd.read_csv(file)
    table.loc[table["id"].isin(test), "logp"] += 100.0
    table.to_csv(file, index=False)
    second = fit(file, tmp_path / "second")
    weights = [(run.folder / "model" / "model.safetensors").read_bytes() for run in (first, second)]
    assert weights[0] == weights[1]
    assert second.metrics["test"]["mae"]["value"] > 90
    assert math.isclose(second.metrics["valid"]["mae"]["value"], first.metrics["valid"]["mae"]["value"])


def test_a_logger_writes_into_the_run_folder(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "lightning_logs", ignore_errors=True)
    run = fit(
        table,
        tmp_path / "run",
        trainer={
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": str(tmp_path / "logs")},
            }
        },
    )
    assert not (tmp_path / "lightning_logs").exists()
    assert list((tmp_path / "logs").rglob("metrics.csv"))
    assert run.metrics
