"""Trained models on files: predict, test, audit, demo, and the same from Python."""

import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geoattn.cli import main
from geoattn.domains.molecules.demo import make_demo_table
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks import _molecules_predict, molecules
from geoattn.tasks._molecules_predict import predict_file

from .conftest import SMALL, write_table, write_xyz


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run on 24 demo molecules, an ensemble of two; ``molecules.csv`` stands beside it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOATTN_CACHE", str(folder / "cache"))
        run = molecules.fit(write_table(folder / "molecules.csv"), out=folder / "run", ensemble=2, **SMALL)
    return run.folder


@pytest.fixture(scope="module")
def trained_3d(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained_3d")
    return molecules.fit(write_xyz(folder / "s.xyz"), out=folder / "run", data={"task": "energy"}, **SMALL).folder


def predict(model, data, out, **options) -> pd.DataFrame:
    predict_file(str(model), str(data), str(out), quiet=True, **options)
    return pd.read_parquet(out) if Path(out).suffix == ".parquet" else pd.read_csv(out)


class TestPredict:
    def test_chunks_make_no_difference(self, trained, tmp_path):
        file = write_table(tmp_path / "new.csv", 30)
        one = predict(trained, file, tmp_path / "one.csv")
        many = predict(trained, file, tmp_path / "many.csv", chunk_size=7)
        assert list(one) == ["id", "line", "smiles", "logp_pred", "logp_std"]
        assert one["id"].tolist() == pd.read_csv(file)["id"].tolist() and one["line"].tolist() == list(range(2, 32))
        pd.testing.assert_frame_equal(one, many, rtol=1e-5)
        by_hand = molecules.predict(trained, one["smiles"].tolist())
        np.testing.assert_allclose(by_hand["logp_pred"], one["logp_pred"], rtol=1e-5)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["many.csv", "new.csv", "one.csv"]

    def test_parquet(self, trained, tmp_path):
        file = write_table(tmp_path / "new.csv", 10)
        table = predict(trained, file, tmp_path / "p.parquet", chunk_size=4)
        pd.testing.assert_frame_equal(table, predict(trained, file, tmp_path / "p.csv"), rtol=1e-5)

    def test_targets_are_not_needed(self, trained, tmp_path):
        file = write_table(tmp_path / "new.csv", 10)
        pd.read_csv(file).drop(columns=["logp", "id"]).to_csv(file, index=False)
        assert len(predict(trained, file, tmp_path / "p.csv")) == 10

    def test_another_smiles_column(self, trained, tmp_path):
        file = write_table(tmp_path / "new.csv", 10)
        pd.read_csv(file).rename(columns={"smiles": "drawing"}).to_csv(file, index=False)
        with pytest.raises(InputError, match="no SMILES column found"):
            predict(trained, file, tmp_path / "p.csv")
        assert len(predict(trained, file, tmp_path / "q.csv", smiles_column="drawing")) == 10

    def test_bad_rows(self, trained, tmp_path):
        file = tmp_path / "new.csv"
        file.write_text("smiles\nCCO\nC1CC\nCCN\n\n,\nCCC\n".replace(",\n", '""\n'))
        with pytest.raises(InputError, match=r"new\.csv:3: "):
            predict(trained, file, tmp_path / "p.csv")
        table = predict(trained, file, tmp_path / "q.csv", on_error="skip", chunk_size=2)
        assert table["smiles"].tolist() == ["CCO", "CCN", "CCC"]
        rejected = pd.read_csv(tmp_path / "q.csv.rejected.csv", keep_default_na=False)
        assert rejected["line"].tolist() == [3, 6] and rejected["value"].tolist() == ["C1CC", ""]

    def test_all_rows_bad(self, trained, tmp_path):
        file = tmp_path / "new.csv"
        file.write_text("smiles\nC1CC\nxyz\n")
        table = predict(trained, file, tmp_path / "p.csv", on_error="skip")
        assert len(table) == 0 and "logp_pred" in table

    def test_an_element_that_the_model_does_not_know(self, trained_3d, tmp_path):
        file = write_xyz(tmp_path / "new.xyz", 8)
        file.write_text(file.read_text().replace("\nO ", "\nSi ", 1))
        with pytest.raises(InputError, match="element = 'Si': the model knows only H C N O"):
            predict(trained_3d, file, tmp_path / "p.csv")
        assert len(predict(trained_3d, file, tmp_path / "q.csv", on_error="skip")) == 7

    @pytest.mark.parametrize("stop_at", [0, 1, 3])
    def test_goes_on_after_an_interruption(self, trained, tmp_path, monkeypatch, capsys, stop_at):
        file = write_table(tmp_path / "new.csv", 40)
        file.write_text(file.read_text() + "bad,C1CC,0\n")
        whole = predict(trained, file, tmp_path / "whole.csv", chunk_size=10, on_error="skip")
        calls = []

        def counted(*arguments, wanted=_molecules_predict.predict_samples):
            calls.append(len(arguments[1]))
            if len(calls) > stop_at:
                raise KeyboardInterrupt
            return wanted(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_molecules_predict, "predict_samples", counted)
            predict(trained, file, tmp_path / "p.csv", chunk_size=10, on_error="skip")
        assert not (tmp_path / "p.csv").exists()
        (tmp_path / "p.csv.parts" / ".part-0-00000001.parquet").write_text("half")  # as a kill leaves it
        stop_at, calls = 99, []
        with monkeypatch.context() as patch:
            patch.setattr(_molecules_predict, "predict_samples", counted)
            again = predict(trained, file, tmp_path / "p.csv", chunk_size=10, on_error="skip")
        pd.testing.assert_frame_equal(again, whole, check_exact=True)
        assert (tmp_path / "p.csv.rejected.csv").read_text() == (tmp_path / "whole.csv.rejected.csv").read_text()
        assert not (tmp_path / "p.csv.parts").exists()

    def test_finished_chunks_are_not_done_again(self, trained, tmp_path, monkeypatch):
        file = write_table(tmp_path / "new.csv", 30)
        done = []

        def counted(model, samples, *more, wanted=_molecules_predict.predict_samples):
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(len(samples))
            return wanted(model, samples, *more)

        monkeypatch.setattr(_molecules_predict, "predict_samples", counted)
        with pytest.raises(KeyboardInterrupt):
            predict(trained, file, tmp_path / "p.csv", chunk_size=10)
        done.clear()
        predict(trained, file, tmp_path / "p.csv", chunk_size=10)
        assert done == [10]

    def test_parts_of_something_else_are_not_mixed_in(self, trained, tmp_path, monkeypatch):
        file = write_table(tmp_path / "new.csv", 10)

        whole, calls = _molecules_predict.predict_samples, []

        def stopped(*arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return whole(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_molecules_predict, "predict_samples", stopped)
            predict(trained, file, tmp_path / "p.csv", chunk_size=5)
        with pytest.raises(
            InputError, match=r"p\.csv\.parts holds the beginning .* another chunk_size \(5, now 1000\)"
        ):
            predict(trained, file, tmp_path / "p.csv")

    @pytest.mark.parametrize(
        ("out", "options", "message"),
        [
            ("p.txt", {}, r"got the suffix '.txt', expected .csv or .parquet"),
            ("there.csv", {}, "exists; nothing is ever overwritten"),
            ("nowhere/p.csv", {}, "the folder .*nowhere does not exist"),
            ("p.csv", {"chunk_size": 0}, "--chunk-size: got 0"),
        ],
    )
    def test_out(self, trained, tmp_path, out, options, message):
        (tmp_path / "there.csv").write_text("precious")
        with pytest.raises(InputError, match=message):
            predict(trained, write_table(tmp_path / "new.csv", 5), tmp_path / out, **options)
        assert (tmp_path / "there.csv").read_text() == "precious"

    def test_a_model_of_another_task(self, trained, tmp_path):
        model = tmp_path / "model"
        model.mkdir()
        for path in (trained / "model").iterdir():
            (model / path.name).write_bytes(path.read_bytes())
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "task": "weather"}))
        with pytest.raises(InputError, match="is a model for weather"):
            predict(model, write_table(tmp_path / "new.csv", 5), tmp_path / "p.csv")

    def test_from_any_folder(self, trained, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_table(tmp_path / "new.csv", 5)
        words = ["--model", os.path.relpath(trained), "--data", "new.csv", "--out", "p.csv", "--on-error", "skip"]
        assert main(["molecules", "predict", *words]) == 0
        assert len(pd.read_csv("p.csv")) == 5


def test_what_stands_in_the_same_batch_changes_nothing(trained):
    smiles = make_demo_table(20, seed=3)["smiles"].tolist()
    together = molecules.predict(trained, smiles)["logp_pred"]
    alone = [molecules.predict(trained, [one])["logp_pred"][0] for one in smiles]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_predict_from_python(trained):
    table = molecules.predict(from_pretrained(trained / "model"), ["CCO", "", "C1CC", "c1ccccc1"], device="cpu")
    assert list(table) == ["smiles", "logp_pred", "logp_std", "reason"]
    assert table["logp_pred"].isna().tolist() == [False, True, True, False]
    assert table["reason"].ne("").tolist() == [False, True, True, False]
    assert molecules.predict(trained, []).empty


class TestTest:
    def test_the_numbers_of_the_run(self, trained, capsys):
        """The stored test part, found again in the file, with the run's metrics and baselines."""
        metrics = molecules.test(str(trained), str(trained.parent / "molecules.csv"), rows="test")
        stored = json.loads((trained / "metrics.json").read_text())
        for name, entry in stored["test"].items():
            assert metrics["test"][name]["value"] == pytest.approx(entry["value"], rel=1e-5)
        assert set(metrics["baselines"]["test"]) == set(stored["baselines"]["test"])
        mean = metrics["baselines"]["test"]["mean"]["mae"]["value"]
        assert mean == pytest.approx(stored["baselines"]["test"]["mean"]["mae"]["value"])
        out, err = capsys.readouterr()
        assert "20 of 24 molecules of the file are in the model's training part, 2 in its validation part" in err
        assert "random_forest" in out and "RMSE" in out and "n = 2" in out

    def test_all_rows(self, trained, tmp_path):
        metrics = molecules.test(str(trained), str(write_table(tmp_path / "new.csv", 22)), quiet=True)
        assert metrics["test"]["mae"]["n"] == 22 and "baselines" not in metrics

    def test_new_molecules_are_not_called_known(self, trained, tmp_path, capsys):
        make_demo_table(10, seed=9).to_csv(tmp_path / "new.csv", index=False)
        molecules.test(str(trained), str(tmp_path / "new.csv"))
        assert "0 of 10 molecules" in capsys.readouterr().err

    def test_another_writing_of_a_molecule_is_known(self, trained, tmp_path, capsys):
        from rdkit import Chem

        table = pd.read_csv(trained.parent / "molecules.csv")
        table["smiles"] = [
            Chem.MolToSmiles(Chem.MolFromSmiles(s), canonical=False, rootedAtAtom=1) for s in table["smiles"]
        ]
        table.to_csv(tmp_path / "new.csv", index=False)
        molecules.test(str(trained), str(tmp_path / "new.csv"))
        assert "20 of 24 molecules" in capsys.readouterr().err

    def test_structures_are_known_however_they_lie(self, trained_3d, tmp_path, capsys):
        lines = (trained_3d.parent / "s.xyz").read_text().splitlines()
        moved = [
            f"{w[0]} {w[2]} {-float(w[1]) + 3:.6f} {w[3]}" if len(w := line.split()) == 4 else line for line in lines
        ]
        (tmp_path / "moved.xyz").write_text("\n".join(moved) + "\n")
        molecules.test(str(trained_3d), str(tmp_path / "moved.xyz"))
        assert "20 of 24 molecules" in capsys.readouterr().err

    def test_writes_a_folder(self, trained, tmp_path):
        file = trained.parent / "molecules.csv"
        metrics = molecules.test(str(trained), str(file), out=str(tmp_path / "out"), quiet=True)
        names = ["checkpoints", "environment.txt", "metrics.json", "predictions.csv", "rejected.csv", "report.html"]
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
        assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
        predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
        assert (predictions["logp"] - predictions["logp_pred"]).abs().mean() == pytest.approx(
            metrics["test"]["mae"]["value"]
        )
        with pytest.raises(InputError, match="exists and is not empty"):
            molecules.test(str(trained), str(file), out=str(tmp_path / "out"), quiet=True)

    def test_no_row_of_the_test_part(self, trained, tmp_path):
        make_demo_table(5, seed=9).to_csv(tmp_path / "new.csv", index=False)
        with pytest.raises(InputError, match="no molecule of .* is in the test part of the model"):
            molecules.test(str(trained), str(tmp_path / "new.csv"), rows="test", quiet=True)

    def test_the_target_is_missing(self, trained, tmp_path):
        (tmp_path / "new.csv").write_text("smiles,logP\nCCO,1\n")
        with pytest.raises(InputError, match="there is no column 'logp'. Did you mean 'logP'"):
            molecules.test(str(trained), str(tmp_path / "new.csv"), quiet=True)

    def test_one_row(self, trained, tmp_path):
        (tmp_path / "new.csv").write_text("smiles,logp\nCCO,1\n")
        metrics = molecules.test(str(trained), str(tmp_path / "new.csv"), out=str(tmp_path / "out"), quiet=True)
        assert metrics["test"]["mae"]["n"] == 1 and metrics["test"]["r2"]["value"] is None


class TestAudit:
    def test_counts_copies(self, tmp_path, capsys):
        table = make_demo_table(20)
        table["part"] = ["train"] * 14 + ["valid"] * 2 + ["test"] * 4
        table.loc[17, "smiles"] = table.loc[3, "smiles"]
        table.to_csv(tmp_path / "a.csv", index=False)
        words = ["--data", str(tmp_path / "a.csv"), "--data.targets", "logp", "--data.split", "column:part", "--quiet"]
        assert main(["molecules", "audit", *words, "--out", str(tmp_path / "overlap.csv")]) == 0
        out = capsys.readouterr().out
        assert "14 train, 2 valid, 4 test; 1 rows repeat an earlier row" in out
        counts = pd.read_csv(tmp_path / "overlap.csv").set_index(["parts", "what"])["count"]
        assert counts["train/test", "identical"] == 1 and counts["train/valid", "identical"] == 0
        examples = pd.read_csv(tmp_path / "overlap.examples.csv")
        assert examples.loc[0, ["id", "other_id", "similarity"]].tolist() == ["demo-00017", "demo-00003", 1.0]
        assert main(["molecules", "audit", *words, "--out", str(tmp_path / "overlap.csv")]) == 2

    def test_structures(self, structures, capsys):
        molecules.audit({"file": str(structures), "cutoff": 6.0}, quiet=True)
        assert "shared_composition" in capsys.readouterr().out


def test_demo(tmp_path, monkeypatch, capsys):
    """The whole way, on fewer molecules and with a smaller model than the recipe has."""
    monkeypatch.setattr(molecules, "DEMO_MOLECULES", 30)
    monkeypatch.setattr(molecules, "DEMO_NEW_MOLECULES", 10)
    fit = molecules.fit
    monkeypatch.setattr(molecules, "fit", lambda *args, **options: fit(*args, **{**SMALL, **options}))
    report = molecules.demo(str(tmp_path / "demo"))
    assert report.is_file() and report.parent.name == "fit"
    names = ["fit", "molecules.csv", "new_molecules.csv", "predictions.csv", "test"]
    assert set(names) <= {p.name for p in (tmp_path / "demo").iterdir()}
    assert 1 <= len(pd.read_csv(tmp_path / "demo" / "predictions.csv")) <= 10
    err = capsys.readouterr().err
    assert f"Open the report: {report}" in err.splitlines()[-1]
    with pytest.raises(InputError, match="exists and is not empty"):
        molecules.demo(str(tmp_path / "demo"))


@pytest.mark.slow
def test_demo_as_shipped(tmp_path):
    """The real one learns: it beats every baseline on molecules that it has not seen."""
    assert main(["molecules", "demo", "--out", str(tmp_path / "demo"), "--quiet"]) == 0
    metrics = json.loads((tmp_path / "demo" / "fit" / "metrics.json").read_text())
    own = metrics["test"]["mae"]["value"]
    assert all(own < row["mae"]["value"] for row in metrics["baselines"]["test"].values())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(trained, tmp_path):
    """Peak memory for ten times the rows is within 20 %."""
    smiles = make_demo_table(200)["smiles"]

    def peak(n: int) -> int:
        file = tmp_path / f"{n}.csv"
        pd.DataFrame({"smiles": np.resize(smiles.to_numpy(), n)}).to_csv(file, index=False)
        words = ["molecules", "predict", "--model", str(trained), "--data", str(file), "--out", f"{file}.out.csv"]
        script = "import sys, resource; from geoattn.cli import main; assert main(sys.argv[1:]) == 0; "
        script += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        command = [sys.executable, "-c", script, *words, "--quiet", "--chunk-size", "500"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=280)
        return int(done.stdout.split()[-1])

    assert resource.RUSAGE_SELF == 0
    assert peak(20_000) < 1.2 * peak(2_000)


@pytest.mark.parametrize("example", ["molecules_train.py", "forces_train.py"])
def test_examples_run(example, tmp_path):
    """From another folder, as a user runs them."""
    path = Path(__file__).parents[2] / "examples" / example
    assert len(path.read_text().splitlines()) <= 30
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "RMSE" in done.stdout


def test_settings_are_left_alone(trained):
    assert torch.is_grad_enabled() and not math.isnan(molecules.predict(trained, ["CCO"])["logp_pred"][0])
