"""``geoattn tcr``: the run folder, resuming, test, predict, audit, the command line, bad files, the demo."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("tidytcells", reason="needs geoattn[tcr]")

from geoattn.cli import main
from geoattn.domains.tcr.demo import demo_pairs, write_demo
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks import _task, _tcr_predict, tcr
from geoattn.tasks._parser import UsageError, expand_arguments, merged, recipe_names, recipe_path
from geoattn.tasks._tcr_fit import fit_parser
from geoattn.tasks._tcr_predict import predict_file

FILES = [
    "checkpoints", "config.yaml", "environment.txt", "epitopes.csv", "metrics.csv", "metrics.json", "model",
    "predictions.csv", "rejected.csv", "report.html", "split.json",
]  # fmt: skip
MODEL_FILES = ["README.md", "config.json", "metrics.json", "model.safetensors", "preprocess.json", "split.json"]
BASELINES = {"epitope_prior", "knn_cdr3", "epitope_only_network"}
SMALL = {
    "data": {"anchors": "yes", "val_fraction": 0.2, "test_fraction": 0.2, "batch_size": 32},
    "model": {"channels": 8, "num_heads": 2},
    "trainer": {"max_epochs": 2},
    "quiet": True,
}
SMALL_WORDS = [
    "--data.val-fraction=0.2", "--data.test-fraction=0.2", "--model.channels", "8", "--model.num-heads=2",
    "--trainer.max-epochs", "1", "--quiet",
]  # fmt: skip
UNSEEN = "GILGFVFTL"


def fit(file, out, **options):
    return tcr.fit(file, out=out, **merged(SMALL, options))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """60 receptors, each with one of 4 epitopes that it binds and one that it does not."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    write_demo(path, demo_pairs(60, num_epitopes=4))
    return path


@pytest.fixture(scope="module")
def trained(file, tmp_path_factory):
    return fit(file, tmp_path_factory.mktemp("run") / "run")


def predict(trained, data, out, **options):
    predict_file(
        str(trained.folder), str(data), str(out), **{"device": "cpu", "quiet": True, "anchors": "yes"} | options
    )
    return pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out)


class TestFit:
    def test_the_folder_holds_what_the_design_says(self, trained):
        assert sorted(path.name for path in trained.folder.iterdir()) == FILES
        assert sorted(path.name for path in (trained.folder / "model").iterdir()) == MODEL_FILES
        names = sorted(path.name for path in (trained.folder / "checkpoints").iterdir())
        assert names == ["epitope-only-0.ckpt", "seed-0.ckpt"]
        for path in (trained.folder / "checkpoints").iterdir():
            torch.load(path, weights_only=True)

    def test_metrics(self, trained):
        metrics = json.loads((trained.folder / "metrics.json").read_text())
        assert metrics == trained.metrics and set(metrics) == {"valid", "test", "baselines"}
        assert set(metrics["baselines"]["test"]) == BASELINES
        for name in ("roc_auc", "pr_auc", "macro_roc_auc", "brier", "ece"):
            assert all(name in one for one in (metrics["test"], *metrics["baselines"]["test"].values()))
        entry = metrics["test"]["roc_auc"]
        assert entry["n"] == 24 and entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]

    def test_predictions_give_the_metrics(self, trained):
        table = pd.read_csv(trained.folder / "predictions.csv").query("split == 'test'")
        positive, negative = (table["probability"][table["label"] == label].to_numpy() for label in (1, 0))
        wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
        assert trained.metrics["test"]["roc_auc"]["value"] == pytest.approx(wins)
        brier = ((table["probability"] - table["label"]) ** 2).mean()
        assert trained.metrics["test"]["brier"]["value"] == pytest.approx(brier)

    def test_the_table_by_epitope(self, trained, file):
        table = pd.read_csv(trained.folder / "epitopes.csv")
        assert set(table["epitope"]) <= set(pd.read_csv(file)["epitope"]) and table["seen"].all()

    def test_the_learning_curve(self, trained):
        curve = pd.read_csv(trained.folder / "metrics.csv")
        assert curve["epoch"].tolist() == [1, 2]
        assert {"train_loss", "valid_loss", "valid_roc_auc", "learning_rate", "seconds"} <= set(curve)

    def test_report_and_card(self, trained):
        text = (trained.folder / "report.html").read_text()
        for heading in ("Result", "Predictions", "Epitope by epitope", "Attention", "Training", "Data", "Symmetry"):
            assert f">{heading}</h2>" in text, heading
        assert "epitope_only_network" in text and "<script" not in text
        card = (trained.folder / "model" / "README.md").read_text()
        assert "Nothing shows that ranks are better than chance" in card and "identical receptor 0" in card

    def test_config_runs_again_and_gives_the_same(self, trained, file, tmp_path):
        again = tcr.fit(file, recipe=str(trained.folder / "config.yaml"), out=tmp_path / "again", quiet=True)
        assert again.metrics == trained.metrics

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": {"nme": "titan"}}, "model.nme.*Did you mean 'model.name'"),
            ({"model": {"name": "titen"}}, "model.name: got 'titen'.*Did you mean 'titan'"),
            ({"model": {"dropout": 1.0}}, "dropout: got 1.0"),
            ({"data": {"anchors": "maybe"}}, "data.anchors: got 'maybe', expected 'yes', 'no', 'none'"),
            ({"data": {"fresh_negative": 1}}, "Did you mean 'data.fresh_negatives'"),
            ({"data": {"split": "random"}}, "split: got 'random'"),
            ({"ensemble": 0}, "ensemble: got 0"),
        ],
    )
    def test_wrong_options(self, file, tmp_path, options, message):
        with pytest.raises((UsageError, InputError), match=message):
            fit(file, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_every_recipe_parses(self):
        names = recipe_names("tcr")
        assert {"tcr-demo", "tcr-titan"} <= set(names)
        for name in names:
            config = fit_parser().parse_args(["--recipe", str(recipe_path("tcr", name)), "--data.file", "a.csv"])
            assert config["card"]["data_licence"] != "not stated"


class TestResume:
    def test_a_finished_run(self, trained, file, capsys):
        finished = tcr.fit(file, out=trained.folder, resume=True)
        assert finished.metrics == trained.metrics and "nothing to resume" in capsys.readouterr().err
        for one, other in zip(finished.model.state_dict().values(), trained.model.state_dict().values(), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize("stop_at", [2, 3], ids=["of the model", "of the network without receptors"])
    def test_a_stopped_run_ends_as_one_that_was_not(self, trained, file, tmp_path, monkeypatch, stop_at):
        """Epochs 1 and 2 are those of the model, the third that of the network without receptors."""
        epochs = []

        def stop(module):
            epochs.append(module.current_epoch)
            if len(epochs) == stop_at:
                raise KeyboardInterrupt
            original(module)

        original = tcr.TCRModule.on_train_epoch_end
        monkeypatch.setattr("geoattn.tasks._training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(tcr.TCRModule, "on_train_epoch_end", stop)
            fit(file, tmp_path / "run")
        assert not (tmp_path / "run" / "report.html").exists()
        resumed = tcr.fit(file, out=tmp_path / "run", resume=True, quiet=True)
        assert resumed.metrics == trained.metrics
        for one, other in zip(resumed.model.state_dict().values(), trained.model.state_dict().values(), strict=True):
            assert torch.equal(one, other)

    def test_other_options_are_refused(self, trained, file):
        with pytest.raises(InputError, match="--resume: model.channels was 8 .* now it is 16"):
            tcr.fit(file, out=trained.folder, resume=True, quiet=True, model={"channels": 16})


class TestTest:
    def test_the_numbers_of_the_run(self, trained, file, tmp_path, capsys):
        metrics = tcr.test(
            str(trained.folder), str(file), rows="test", anchors="yes", out=str(tmp_path / "out"), device="cpu"
        )
        for name, entry in trained.metrics["test"].items():
            wanted = entry["value"] if entry["value"] is None else pytest.approx(entry["value"], rel=1e-5)
            assert metrics["test"][name]["value"] == wanted, name
        for name in ("epitope_prior", "knn_cdr3"):
            stored = trained.metrics["baselines"]["test"][name]["roc_auc"]["value"]
            assert metrics["baselines"]["test"][name]["roc_auc"]["value"] == pytest.approx(stored)
        printed, err = capsys.readouterr()
        assert "72 of 120 pairs of the file are in the model's training part, 24 in its validation part" in err
        assert (
            "epitope_prior" in printed
            and "n = 24 (macro ROC AUC: n = " in printed
            and "; in brackets the 95 % interval" in printed
        )
        names = {"environment.txt", "epitopes.csv", "metrics.json", "predictions.csv", "rejected.csv", "report.html"}
        assert names <= {path.name for path in (tmp_path / "out").iterdir()}
        stored = pd.read_csv(trained.folder / "predictions.csv").query("split == 'test'").set_index("id")
        table = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("id")
        np.testing.assert_allclose(table["probability"], stored.loc[table.index, "probability"], rtol=1e-5)

    def test_from_the_command_line_on_new_pairs(self, trained, tmp_path, capsys):
        write_demo(tmp_path / "new.csv", demo_pairs(80, num_epitopes=4)[120:])
        words = ["--model", str(trained.folder), "--data", str(tmp_path / "new.csv"), "--anchors", "yes"]
        assert main(["tcr", "test", *words, "--device", "cpu"]) == 0
        printed = capsys.readouterr().out
        assert "n = 40 (macro ROC AUC: n = " in printed and "epitope_prior" not in printed

    def test_labels_are_needed(self, trained, file, tmp_path):
        table = pd.read_csv(file)
        table["label"] = table["label"].astype(str).where(table.index > 0, "perhaps")
        table.to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match=r"a\.csv:2: label = 'perhaps': a label must be 0 or 1"):
            tcr.test(str(trained.folder), str(tmp_path / "a.csv"), anchors="yes", quiet=True)

    def test_binders_alone(self, trained, file, tmp_path):
        pd.read_csv(file).query("label == 1").drop(columns="label").to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match=r"all 60 pairs are of label 1.*--label-column.*tcr fit --negatives freq"):
            tcr.test(str(trained.folder), str(tmp_path / "a.csv"), anchors="yes", quiet=True)

    def test_another_task(self, file):
        with pytest.raises(InputError, match="is a model for molecules. Use: geoattn molecules"):
            tcr.test("molecules-esol", str(file), anchors="yes")


class TestPredict:
    def test_a_file_and_python_agree(self, trained, file, tmp_path):
        table = predict(trained, file, tmp_path / "p.csv")
        assert list(table) == ["id", "line", "cdr3", "v", "j", "epitope", "epitope_seen", "probability"]
        given = pd.read_csv(file)
        found = tcr.predict(trained.folder, given["cdr3"], given["epitope"], device="cpu")
        assert list(found) == ["cdr3", "epitope", "epitope_seen", "probability"]
        np.testing.assert_allclose(table["probability"], found["probability"], rtol=1e-5)
        assert tcr.predict(trained.folder, [], [], device="cpu").empty
        loaded = from_pretrained(trained.folder / "model")
        alone = tcr.predict(loaded, given["cdr3"][:1], given["epitope"][:1], device="cpu")
        np.testing.assert_allclose(alone["probability"], found["probability"][:1], rtol=1e-5)
        stored = pd.read_csv(trained.folder / "predictions.csv").set_index("line")
        here = table.set_index("line").loc[stored.index]
        np.testing.assert_allclose(here["probability"], stored["probability"], rtol=1e-5)

    @pytest.mark.parametrize(
        ("cdr3", "epitope", "message"),
        [
            (["CASSF"], [], "epitope: got 0 values, expected 1, one per cdr3"),
            (["CASSF", "cassf"], [UNSEEN] * 2, "pair 1: cdr3 = 'cassf': lower case"),
            (["CASS"], [UNSEEN], "pair 0: cdr3 = 'CASS': ends with S"),
            (["CASSF"], ["GILX"], "pair 0: epitope = 'GILX': 'X' is none of the 20 amino acids"),
            (["CASSF"], [""], "pair 0: epitope = '': empty"),
        ],
    )
    def test_wrong_values_from_python(self, trained, cdr3, epitope, message):
        with pytest.raises(InputError, match=message):
            tcr.predict(trained.folder, cdr3, epitope, device="cpu")

    def test_unseen_epitopes_are_marked(self, trained, file, tmp_path, capsys):
        table = pd.read_csv(file)[:10]
        table.loc[:3, "epitope"] = UNSEEN
        table.drop(columns="label").to_csv(tmp_path / "new.csv", index=False)
        found = predict(trained, tmp_path / "new.csv", tmp_path / "p.csv", quiet=False)
        assert found["epitope_seen"].tolist() == [False] * 4 + [True] * 6
        assert f"Warning: 1 epitope was not in the training part ({UNSEEN}; 4 pairs)" in capsys.readouterr().err

    def test_each_receptor_with_each_epitope(self, trained, file, tmp_path):
        receptors = pd.read_csv(file).drop_duplicates("cdr3")[:5]
        known = pd.read_csv(file)["epitope"][0]
        receptors[["cdr3", "v", "j"]].to_csv(tmp_path / "new.csv", index=False)
        words = ["--model", str(trained.folder), "--data", str(tmp_path / "new.csv"), "--anchors", "yes"]
        more = ["--epitopes", f"{known},{UNSEEN}", "--out", str(tmp_path / "p.parquet"), "--device", "cpu", "--quiet"]
        assert main(["tcr", "predict", *words, *more]) == 0
        table = pd.read_parquet(tmp_path / "p.parquet")
        assert table["cdr3"].tolist() == [cdr3 for cdr3 in receptors["cdr3"] for _ in range(2)]
        assert table["epitope"].tolist() == [known, UNSEEN] * 5
        assert table["epitope_seen"].tolist() == [True, False] * 5
        one = predict(trained, tmp_path / "new.csv", tmp_path / "one.csv", epitopes=[UNSEEN])
        np.testing.assert_allclose(one["probability"], table["probability"][1::2], rtol=1e-5)

    def test_a_bad_epitope_on_the_command_line(self, trained, file, tmp_path, capsys):
        words = ["--model", str(trained.folder), "--data", str(file), "--anchors", "yes", "--epitopes", "GILX"]
        assert main(["tcr", "predict", *words, "--out", str(tmp_path / "p.csv")]) == 2
        assert "--epitopes: epitope = 'GILX': 'X' is none of the 20 amino acids" in capsys.readouterr().err

    def test_goes_on_after_an_interruption(self, trained, file, tmp_path, monkeypatch, capsys):
        lines = file.read_text().splitlines()
        lines[3] = lines[3].replace("C", "X", 1)
        lines[90] = lines[90].replace("C", "X", 1)
        (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
        options = {"chunk_size": 25, "on_error": "skip"}
        whole = predict(trained, tmp_path / "new.csv", tmp_path / "whole.csv", **options)
        once = predict(trained, tmp_path / "new.csv", tmp_path / "once.csv", on_error="skip")
        np.testing.assert_allclose(whole["probability"], once["probability"], rtol=1e-5)
        done = []

        def stop(*arguments):
            done.append(len(arguments[1]))
            if len(done) == 3:
                raise KeyboardInterrupt
            return original(*arguments)

        original = _tcr_predict.predict_pairs
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_tcr_predict, "predict_pairs", stop)
            predict(trained, tmp_path / "new.csv", tmp_path / "p.csv", **options)
        assert max(done) <= 25 and not (tmp_path / "p.csv").exists()
        with pytest.raises(InputError, match="holds the beginning of a prediction with another chunk_size"):
            predict(trained, tmp_path / "new.csv", tmp_path / "p.csv", **options | {"chunk_size": 7})
        again = predict(trained, tmp_path / "new.csv", tmp_path / "p.csv", **options | {"quiet": False})
        assert "Going on after 2 chunks of 25 that are done" in capsys.readouterr().err
        pd.testing.assert_frame_equal(again, whole, check_exact=True)
        rejected = pd.read_csv(tmp_path / "p.csv.rejected.csv")
        assert rejected["line"].tolist() == [4, 91]
        assert rejected.equals(pd.read_csv(tmp_path / "whole.csv.rejected.csv"))

    @pytest.mark.parametrize(
        ("out", "options", "message"),
        [
            ("p.txt", {}, "got the suffix '.txt', expected .csv or .parquet"),
            ("p.csv", {"chunk_size": 0}, "--chunk-size: got 0"),
            ("p.csv", {"anchors": None}, "Pass --anchors yes"),
        ],
    )
    def test_wrong_options(self, trained, file, tmp_path, out, options, message):
        with pytest.raises(InputError, match=message):
            predict(trained, file, tmp_path / out, **options)


class TestCommandLine:
    def test_short_options(self):
        words = ["--data", "a.csv", "--tcr", "full", "--epitope", "smiles", "--split", "both", "--anchors", "no"]
        parsed = expand_arguments(
            "tcr", [*words, "--tcr-column", "beta", "--epitope-column=peptide", "--negatives", "uniform"]
        )
        data = fit_parser().parse_args(parsed)["data"]
        assert (data["tcr"], data["epitope"], data["split"], data["anchors"]) == ("full", "smiles", "both", "no")
        assert (data["tcr_column"], data["epitope_column"], data["negatives"]) == ("beta", "peptide", "uniform")

    def test_fit_of_full_chains_and_graphs(self, file, tmp_path):
        """Own column names, negatives drawn, an ensemble: the whole way from the command line and to a prediction."""
        pytest.importorskip("rdkit")
        table = pd.read_csv(file).query("label == 1").drop(columns="label")
        table.rename(columns={"cdr3": "beta", "epitope": "target"}).to_csv(tmp_path / "a.csv", index=False)
        columns = ["--tcr-column", "beta", "--epitope-column", "target", "--anchors", "yes"]
        words = ["--data", str(tmp_path / "a.csv"), "--tcr", "full", "--epitope", "graph", "--negatives", "frequency"]
        more = ["--ensemble", "2", "--out", str(tmp_path / "run"), "--data.fresh-negatives", "1"]
        assert main(["tcr", "fit", *words, *columns, *SMALL_WORDS, *more]) == 0
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert set(metrics["baselines"]["test"]) == BASELINES | {"knn_full"}
        written = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype={"line": "Int64"})
        assert (written["line"].isna() == (written["label"] == 0)).all(), "drawn negatives stand on no line"
        given = ["--model", str(tmp_path / "run"), "--data", str(tmp_path / "a.csv"), *columns]
        assert main(["tcr", "predict", *given, "--out", str(tmp_path / "p.csv"), "--quiet"]) == 0
        found = pd.read_csv(tmp_path / "p.csv")
        assert len(found) == 60 and (found["probability_std"] > 0).all()
        arguments = (table[name] for name in ("cdr3", "epitope", "v", "j"))
        same = tcr.predict(tmp_path / "run", *arguments, device="cpu")
        np.testing.assert_allclose(same["probability"], found["probability"], rtol=1e-4)
        with pytest.raises(InputError, match="pair 0: "):
            tcr.predict(tmp_path / "run", table["cdr3"], table["epitope"], device="cpu")

    def test_audit(self, file, tmp_path, capsys):
        out = tmp_path / "counts.csv"
        assert main(["tcr", "audit", "--data", str(file), "--anchors", "yes", "--split", "tcr", "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        assert "0 pairs repeat an earlier pair; 0 have both labels" in printed
        assert "what the negatives give away" in printed
        counts = pd.read_csv(out)
        both = counts[(counts["parts"] == "train/test") & (counts["what"] == "identical_receptor")]
        assert both["count"].tolist() == [0] and out.with_suffix(".examples.csv").is_file()
        with pytest.raises(InputError, match=r"must be a \.csv file that does not exist yet"):
            tcr.audit({"file": str(file), "anchors": "yes"}, str(out))

    @pytest.mark.parametrize("verb", ["fit", "audit", "test", "predict"])
    def test_help_spells_options_in_one_way(self, verb, capsys):
        with pytest.raises(SystemExit):
            main(["tcr", verb, "--help"])
        text = capsys.readouterr().out
        assert re.findall(r"(?<![\w-])--[\w.-]*_[\w.-]*", text) == [] and "--tcr-column" in text.replace("data.", "")


BAD_CELLS = {
    "lower case": ("cdr3", str.lower, "lower case"),
    "letter": ("cdr3", lambda text: f"{text[:3]}X{text[3:]}", "'X' is none of the 20 amino acids"),
    "stop codon": ("cdr3", lambda text: f"{text[:3]}*{text[3:]}", "'*' is a stop codon"),
    "gap": ("epitope", lambda text: f"{text[:3]}-{text[3:]}", "'-' is a gap"),
    "empty": ("epitope", lambda text: "", "empty"),
    "first anchor": ("cdr3", lambda text: f"A{text[1:]}", "begins with A, not with the conserved C"),
    "last anchor": ("cdr3", lambda text: f"{text[:-1]}A", "ends with A, not with the conserved F or W"),
    "gene": ("v", lambda text: "TRBV99", "no name of a human T-cell receptor gene"),
    "other gene": ("v", lambda text: "TRBJ2-7", "is no TRBV gene"),
    "label": ("label", lambda text: "2", "a label must be 0 or 1"),
}


class TestBadFiles:
    @pytest.mark.parametrize("name", BAD_CELLS)
    def test_a_bad_cell(self, file, tmp_path, name, capsys):
        """One line that names file, line and column; with skip the row is in the list of rejected ones."""
        column, change, reason = BAD_CELLS[name]
        table = pd.read_csv(file, dtype=str)
        value = table.loc[6, column] = change(table.loc[6, column])
        table.to_csv(tmp_path / "bad.csv", index=False)
        words = ["--data", str(tmp_path / "bad.csv"), "--anchors", "yes"]
        assert main(["tcr", "fit", *words, "--out", str(tmp_path / "run")]) == 2
        message = capsys.readouterr().err.strip()
        assert f"bad.csv:8: {column} = {value!r}: " in message and reason in message
        assert "--on-error skip" in message and "\n" not in message
        assert not (tmp_path / "run").exists()
        data = tcr.TCRData(str(tmp_path / "bad.csv"), anchors="yes", on_error="skip")
        data.setup()
        assert len(data.pairs) == 119
        assert data.rejected[["line", "column"]].to_numpy().tolist() == [[8, column]]
        assert reason in data.rejected["reason"][0]

    def test_skipped_rows_are_listed_in_the_run(self, file, tmp_path):
        table = pd.read_csv(file, dtype=str)
        table.loc[6, "cdr3"] = "cassf"
        table = pd.concat([table, table.iloc[:1].assign(label="1" if table.loc[0, "label"] == "0" else "0")])
        table.to_csv(tmp_path / "bad.csv", index=False)
        words = ["--data", str(tmp_path / "bad.csv"), "--anchors", "yes", "--on-error", "skip", *SMALL_WORDS]
        assert main(["tcr", "fit", *words, "--out", str(tmp_path / "run")]) == 0
        rejected = pd.read_csv(tmp_path / "run" / "rejected.csv")
        assert sorted(rejected["line"]) == [2, 8, 122]
        assert "lower case" in " ".join(rejected["reason"])

    def test_contradictions(self, file, tmp_path, capsys):
        table = pd.read_csv(file)
        pd.concat([table, table.iloc[:1].assign(label=1 - table["label"][0])]).to_csv(tmp_path / "a.csv", index=False)
        assert main(["tcr", "fit", "--data", str(tmp_path / "a.csv"), "--anchors", "yes"]) == 2
        message = capsys.readouterr().err
        assert "a.csv:2: label = " in message and "line 122 has the same receptor and epitope" in message

    def test_swapped_columns(self, file, tmp_path, capsys):
        table = pd.read_csv(file).rename(columns={"cdr3": "epitope", "epitope": "cdr3"})
        table.to_csv(tmp_path / "a.csv", index=False)
        assert main(["tcr", "fit", "--data", str(tmp_path / "a.csv"), "--anchors", "yes"]) == 2
        message = capsys.readouterr().err
        assert "a.csv: the columns look swapped: 'epitope' holds C...F like a CDR3" in message

    def test_anchors_are_asked_for(self, file, capsys):
        assert main(["tcr", "fit", "--data", str(file)]) == 2
        message = capsys.readouterr().err
        assert "pairs.csv: do the CDR3s of column 'cdr3'" in message and "anchors yes if they do" in message
        assert main(["tcr", "fit", "--data", str(file), "--anchors", "no"]) == 2
        assert "begin with C and end with F or W already" in capsys.readouterr().err

    def test_a_column_that_is_not_there(self, file, capsys):
        assert main(["tcr", "fit", "--data", str(file), "--anchors", "yes", "--tcr-column", "cdr4"]) == 2
        assert "there is no column 'cdr4'. Did you mean 'cdr3'" in capsys.readouterr().err


def test_demo(tmp_path, monkeypatch, capsys):
    """The whole way, with fewer receptors and epochs."""
    monkeypatch.setattr(tcr, "DEMO_RECEPTORS", 80)
    monkeypatch.setattr(tcr, "DEMO_NEW_RECEPTORS", 20)
    original, few = _task.fit_config, {"trainer": {"max_epochs": 1}}
    shorter = lambda task, options, command: original(task, merged(options, few), command)
    monkeypatch.setattr(_task, "fit_config", shorter)
    report = tcr.demo(str(tmp_path / "demo"))
    assert report.is_file() and str(report) in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"pairs.csv", "new_pairs.csv", "predictions.csv", "fit", "test"} <= names


@pytest.mark.slow
def test_the_demo_learns_its_motifs(tmp_path):
    report = tcr.demo(str(tmp_path / "demo"), quiet=True)
    metrics = json.loads((tmp_path / "demo" / "test" / "metrics.json").read_text())
    assert report.is_file() and metrics["test"]["roc_auc"]["value"] > 0.8
