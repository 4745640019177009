"""``geoattn synergy``: the run folder, resuming, test, predict, screen, audit, command line, bad files, the demo."""

import json
import re
import shutil
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("rdkit", reason="needs geoattn[synergy]")

from geoattn.cli import main
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.synergy import baselines, featurize
from geoattn.domains.synergy import demo as demo_data
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks import _synergy_predict, _synergy_report, _synergy_screen, _task, synergy
from geoattn.tasks._parser import UsageError, expand_arguments, merged, recipe_names, recipe_path
from geoattn.tasks._synergy_fit import fit_parser
from geoattn.tasks._synergy_predict import predict_file
from geoattn.tasks._synergy_screen import screen_files

FILES = [
    "cells.csv", "checkpoints", "config.yaml", "drugs.csv", "environment.txt", "metrics.csv", "metrics.json", "model",
    "predictions.csv", "rejected.csv", "report.html", "split.json",
]  # fmt: skip
MODEL_FILES = ["README.md", "config.json", "metrics.json", "model.safetensors", "preprocess.json", "split.json"]
BASELINES = {
    "mean", "additive_ridge", "one_hot_forest", "one_hot_tissue_forest", "fingerprint_ridge", "fingerprint_forest"
}  # fmt: skip
SMILES = {
    "phenol": "c1ccccc1O", "aspirin": "CC(=O)Oc1ccccc1C(=O)O", "sulfone": "CCS(=O)(=O)C", "amide": "CC(=O)NC",
    "salt": "CCN.Cl", "platin": "[NH2-].[NH2-].[Pt+2]", "pyridine": "c1ccncc1", "ether": "CCOCC",
    "acid": "CCC(=O)O", "indole": "c1ccc2[nH]ccc2c1",
}  # fmt: skip
CELLS = [f"LINE-{i}" for i in range(4)]
BLANK = '<svg xmlns="http://www.w3.org/2000/svg"></svg>'
SMALL = {
    "data": {"split": "random", "val_fraction": 0.2, "test_fraction": 0.2, "batch_size": 32},
    "model": {"channels": 8, "num_heads": 2, "num_layers": 1, "positions": False},
    "trainer": {"max_epochs": 2},
    "quiet": True,
}
SMALL_WORDS = [
    "--split", "random", "--data.val-fraction=0.2", "--data.test-fraction=0.2", "--model.channels", "8",
    "--model.num-heads=2", "--model.num-layers=1", "--model.positions", "false", "--trainer.max-epochs", "1", "--quiet",
]  # fmt: skip


def pairs():
    """All 45 pairs of ten drugs in four cell lines, but for a quarter; with scores that have a rule."""
    strength = {name: len(smiles) % 7 - 3 for name, smiles in SMILES.items()}
    rows = []
    for cell, line in enumerate(CELLS):
        for number, (a, b) in enumerate(combinations(SMILES, 2)):
            if (number + cell) % 4:
                one, other = (a, b) if number % 2 else (b, a)
                rows.append((one, other, line, float(strength[a] * strength[b] + cell)))
    return pd.DataFrame(rows, columns=["drug_a", "drug_b", "cell_line", "score"])


def write(folder, table=None, smiles=SMILES, scale=1.0):
    """pairs.csv, drugs.csv, tpm.csv; where they are."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    tpm = pd.DataFrame(rng.gamma(0.5, 60, size=(4, 12)).round(2) * scale, columns=[f"GEN{i}" for i in range(12)])
    tpm.insert(0, "tissue", ["lung", "skin"] * 2)
    tpm.insert(0, "cell", CELLS)
    names = {name: folder / f"{name}.csv" for name in ("pairs", "drugs", "tpm")}
    (pairs() if table is None else table).to_csv(names["pairs"], index=False)
    pd.DataFrame({"name": list(smiles), "smiles": list(smiles.values())}).to_csv(names["drugs"], index=False)
    tpm.to_csv(names["tpm"], index=False)
    return SimpleNamespace(**names, folder=folder)


def words(files, *more):
    return ["--data", str(files.pairs), "--expression", str(files.tpm), "--drugs", str(files.drugs), *map(str, more)]


def fit(files, out, **options):
    return synergy.fit(files.pairs, files.tpm, files.drugs, out=out, **merged(SMALL, options))


@pytest.fixture(scope="module", autouse=True)
def few_trees():
    """Baselines of a few trees: the forest itself is tested elsewhere."""
    original = baselines._forest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_forest", lambda task, num_trees, seed: original(task, 10, seed))
        yield


@pytest.fixture(scope="module", autouse=True)
def one_process():
    """Conformers of ten drugs are found sooner than worker processes start; these are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(featurize, "available_cores", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    """Drawing takes most of a short run: the runs of the module's fixtures draw, those within a test do not."""
    for name in ("bars", "calibration", "coverage", "parity", "precision_recall", "residuals", "roc"):
        monkeypatch.setattr(_synergy_report, name, lambda *arguments, **options: BLANK)
    monkeypatch.setattr("geoattn.report.page.figure_svg", lambda figure: BLANK)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    return fit(files, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def classes(files, tmp_path_factory):
    """An ensemble of two classifiers of scores, with positions of atoms."""
    options = {"data": {"task": "classification", "positive": 3.0, "negative": 0.0}, "model": {"positions": True}}
    return fit(files, tmp_path_factory.mktemp("run") / "classes", ensemble=2, seed=3, **options)


@pytest.fixture
def tpm(files):
    return pd.read_csv(files.tpm).drop(columns="tissue").set_index("cell")


def predict(trained, files, out, **options):
    given = {"model": trained.folder, "data": files.pairs, "expression": files.tpm, "drugs": files.drugs, "out": out}
    predict_file(**{name: str(value) for name, value in given.items()}, **{"device": "cpu", "quiet": True} | options)
    return pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out)


def screen(trained, files, out, **options):
    given = {"model": trained.folder, "expression": files.tpm, "drugs": files.drugs, "out": out}
    screen_files(**{name: str(value) for name, value in given.items()}, **{"device": "cpu", "quiet": True} | options)
    return pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out, keep_default_na=False)


class TestFit:
    def test_the_folder_holds_what_the_design_says(self, trained):
        assert sorted(path.name for path in trained.folder.iterdir()) == FILES
        assert sorted(path.name for path in (trained.folder / "model").iterdir()) == MODEL_FILES
        torch.load(trained.folder / "checkpoints" / "seed-0.ckpt", weights_only=True)

    def test_metrics(self, trained):
        metrics = json.loads((trained.folder / "metrics.json").read_text())
        assert metrics == trained.metrics and set(metrics) == {"valid", "test", "baselines"}
        for part in ("valid", "test"):
            assert set(metrics["baselines"][part]) == BASELINES
        for name in ("mae", "rmse", "r2", "pearson", "spearman", "macro_pearson"):
            assert all(name in one for one in (metrics["test"], *metrics["baselines"]["test"].values()))

    def test_predictions_give_the_metrics(self, trained):
        table = pd.read_csv(trained.folder / "predictions.csv").query("split == 'test'")
        error = table["predicted_score"] - table["score"]
        assert trained.metrics["test"]["rmse"]["value"] == pytest.approx(np.sqrt((error**2).mean()))
        r = np.corrcoef(table["predicted_score"], table["score"])[0, 1]
        assert trained.metrics["test"]["pearson"]["value"] == pytest.approx(r)
        by_cell = table.assign(square=error**2).groupby("cell_line")["square"].mean() ** 0.5
        cells = pd.read_csv(trained.folder / "cells.csv").set_index("cell_line")
        np.testing.assert_allclose(cells.loc[by_cell.index, "rmse"], by_cell)
        drugs = pd.read_csv(trained.folder / "drugs.csv").set_index("drug")
        assert drugs["n"].sum() == 2 * len(table) and drugs["seen"].all()

    def test_the_learning_curve(self, trained):
        curve = pd.read_csv(trained.folder / "metrics.csv")
        assert curve["epoch"].tolist() == [1, 2]
        assert {"train_loss", "valid_loss", "valid_pearson", "valid_rmse", "learning_rate", "seconds"} <= set(curve)

    def test_preprocess_is_of_the_training_part(self, trained, files):
        preprocess = json.loads((trained.folder / "model" / "preprocess.json").read_text())
        split = json.loads((trained.folder / "split.json").read_text())
        table = pd.read_csv(files.pairs)
        scores = table["score"][[int(line) - 2 for line in split["train"]]]
        assert preprocess["target"] == pytest.approx({"mean": scores.mean(), "sd": scores.std(ddof=0)})
        assert set(preprocess["drug_features"]["drugs"]) == set(preprocess["train_drugs"])

    def test_report_and_card(self, trained, classes):
        headings = (
            "Result", "Predictions", "Cell line by cell line", "Drug by drug", "Ranked pairs", "Attention", "Training",
            "Data", "Symmetry",
        )  # fmt: skip
        for run in (trained, classes):
            text = (run.folder / "report.html").read_text()
            for heading in headings:
                assert f">{heading}</h2>" in text, heading
            assert "(split random), which took part in no decision. In " in text
            assert "pairs both drugs and the cell line are in the training part too" in text
            assert "--model.molecule-dropout 1" in text
            assert "one_hot_forest" in text and "<script" not in text and "times an even share" in text
        card = (trained.folder / "model" / "README.md").read_text()
        assert "use ranks within one screen" in card and "identical 0" in card
        assert "--expression expression.csv" in card

    @pytest.mark.parametrize("name", ["trained", "classes"])
    def test_symmetry_is_measured_and_small(self, name, request):
        card = (request.getfixturevalue(name).folder / "model" / "README.md").read_text()
        found = re.search(r"Measured error.*\n(.*) in float32; (.*) in float64", card)
        sizes = [
            0.0 if text == "0" else 10.0 ** int(re.search("⁻(.*)", text)[1].translate(DIGITS))
            for text in found.groups()
        ]
        assert sizes[0] == 0.0 or sizes[0] >= 1e5
        assert sizes[1] == 0.0 or sizes[1] >= 1e12

    def test_classes(self, classes):
        assert isinstance(classes.model, Ensemble)
        assert {"roc_auc", "pr_auc", "accuracy", "macro_roc_auc"} <= set(classes.metrics["test"])
        table = pd.read_csv(classes.folder / "predictions.csv")
        assert set(table["label"]) == {0.0, 1.0} and table["probability"].between(0, 1).all()
        assert (table["probability_std"] > 0).all()

    def test_config_runs_again_and_gives_the_same(self, trained, files, tmp_path):
        again = synergy.fit(
            files.pairs, files.tpm, files.drugs, recipe=str(trained.folder / "config.yaml"), out=tmp_path / "again",
            quiet=True,
        )  # fmt: skip
        assert again.metrics == trained.metrics

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": {"chanels": 8}}, "model.chanels.*Did you mean 'model.channels'"),
            ({"model": {"drug_encoder": "gcn"}}, "model.drug_encoder: got 'gcn', expected 'egat', 'gin', 'polynormer'"),
            ({"model": {"identity_dropout": 1.5}}, "identity_dropout: got 1.5"),
            ({"data": {"split": "drugs"}}, "split: got 'drugs'"),
            ({"data": {"positive": 3.0}}, "thresholds are for task=classification"),
            ({"data": {"score": "hsa"}}, "score=hsa needs --response-scale"),
            ({"ensemble": 0}, "ensemble: got 0"),
        ],
    )
    def test_wrong_options(self, files, tmp_path, options, message):
        with pytest.raises((UsageError, InputError), match=message):
            fit(files, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_every_recipe_parses(self):
        names = recipe_names("synergy")
        assert {"synergy-demo", "synergy-egat"} <= set(names)
        for name in names:
            given = [
                "--recipe",
                str(recipe_path("synergy", name)),
                "--data.file",
                "a.csv",
                "--data.expression",
                "b.csv",
            ]
            assert fit_parser().parse_args(given)["card"]["data_licence"] != "not stated"


DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


class TestResume:
    def test_a_finished_run(self, trained, files, capsys):
        finished = synergy.fit(files.pairs, files.tpm, files.drugs, out=trained.folder, resume=True)
        assert finished.metrics == trained.metrics and "nothing to resume" in capsys.readouterr().err

    def test_a_stopped_run_ends_as_one_that_was_not(self, trained, files, tmp_path, monkeypatch):
        def stop(module):
            if module.current_epoch == 1:
                raise KeyboardInterrupt
            original(module)

        original = synergy.SynergyModule.on_train_epoch_end
        monkeypatch.setattr("geoattn.tasks._training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(synergy.SynergyModule, "on_train_epoch_end", stop)
            fit(files, tmp_path / "run")
        assert not (tmp_path / "run" / "report.html").exists()
        resumed = synergy.fit(files.pairs, files.tpm, files.drugs, out=tmp_path / "run", resume=True, quiet=True)
        assert resumed.metrics == trained.metrics
        for one, other in zip(resumed.model.state_dict().values(), trained.model.state_dict().values(), strict=True):
            assert torch.equal(one, other)

    def test_other_options_and_other_data_are_refused(self, trained, files, tmp_path):
        again = {"out": trained.folder, "resume": True, "quiet": True}
        with pytest.raises(InputError, match="--resume: model.channels was 8 .* now it is 16"):
            synergy.fit(files.pairs, files.tpm, files.drugs, model={"channels": 16}, **again)
        other = write(tmp_path / "other", pairs()[5:])
        with pytest.raises(InputError, match=r"--resume: data\.(file|expression|drugs) was"):
            synergy.fit(other.pairs, other.tpm, other.drugs, **again)


class TestTest:
    @pytest.mark.parametrize("name", ["trained", "classes"])
    def test_the_numbers_of_the_run(self, name, request, files, tmp_path, capsys):
        run = request.getfixturevalue(name)
        metrics = synergy.test(
            str(run.folder), str(files.pairs), str(files.tpm), str(files.drugs), out=str(tmp_path / "out"), rows="test",
            device="cpu",
        )  # fmt: skip
        for metric, entry in run.metrics["test"].items():
            wanted = entry["value"] if entry["value"] is None else pytest.approx(entry["value"], rel=1e-4)
            assert metrics["test"][metric]["value"] == wanted, metric
        stored = run.metrics["baselines"]["test"]
        for baseline, row in metrics["baselines"]["test"].items():
            headline = "rmse" if name == "trained" else "roc_auc"
            assert row[headline]["value"] == pytest.approx(stored[baseline][headline]["value"]), baseline
        printed, err = capsys.readouterr()
        assert "pairs of the file are in the model's training part" in err and "one_hot_forest" in printed
        names = {"cells.csv", "drugs.csv", "environment.txt", "metrics.json", "predictions.csv", "report.html"}
        assert names <= {path.name for path in (tmp_path / "out").iterdir()}

    def test_scores_are_needed(self, trained, files, tmp_path):
        bad = write(tmp_path / "bad", pairs().assign(score="n/a"))
        with pytest.raises(InputError, match=r"pairs\.csv:2: score = 'n/a': not a finite number"):
            synergy.test(str(trained.folder), str(bad.pairs), str(bad.tpm), str(bad.drugs), quiet=True)
        same = write(tmp_path / "same", pairs().assign(score=1.0))
        with pytest.raises(InputError, match="all 135 pairs have the score 1; to measure, others are needed"):
            synergy.test(str(trained.folder), str(same.pairs), str(same.tpm), str(same.drugs), quiet=True)

    def test_another_task(self, files):
        with pytest.raises(InputError, match="is a model for molecules. Use: geoattn molecules"):
            synergy.test("molecules-esol", str(files.pairs), str(files.tpm))


class TestPredict:
    def test_a_file_and_python_agree(self, trained, files, tpm, tmp_path):
        table = predict(trained, files, tmp_path / "p.csv")
        assert list(table) == [
            "id", "line", "drug_a", "drug_b", "cell_line", "tissue", "predicted_score", "drugs_seen", "cell_seen"
        ]  # fmt: skip
        assert (table["drugs_seen"] == 2).all() and table["cell_seen"].all()
        stored = pd.read_csv(trained.folder / "predictions.csv").set_index("line")
        here = table.set_index("line").loc[stored.index]
        np.testing.assert_allclose(here["predicted_score"], stored["predicted_score"], rtol=1e-4, atol=1e-5)
        a, b = (table[name].map(SMILES) for name in ("drug_a", "drug_b"))
        found = synergy.predict(trained.folder, b, a, table["cell_line"], tpm, device="cpu")
        assert list(found) == ["smiles_a", "smiles_b", "cell_line", "predicted_score", "drugs_seen", "cell_seen"]
        np.testing.assert_allclose(found["predicted_score"], table["predicted_score"], rtol=1e-4, atol=1e-5)
        loaded = from_pretrained(trained.folder / "model")
        assert synergy.predict(loaded, [], [], [], tpm, device="cpu").empty

    @pytest.mark.parametrize(
        ("a", "b", "cell", "message"),
        [
            (["CCO"], [], [], "smiles_b: got 0 values, expected 1, one per smiles_a"),
            (["CCO", "C1CC"], ["CCN"] * 2, ["LINE-0"] * 2, "pair 1: smiles_a = 'C1CC': "),
            ("CCO", "CCN", "A", "smiles_a: got a str, expected a list"),
            (["CCO"], [None], ["LINE-0"], "pair 0: smiles_b = 'None': a NoneType, not the text of a SMILES"),
            ([float("nan")], ["CCO"], ["LINE-0"], "pair 0: smiles_a = 'nan': a float, not the text"),
            (["CCO"], [""], ["LINE-0"], "pair 0: smiles_b = '': drug '' has no SMILES"),
            (["CCN"], ["CCN.Cl"], ["LINE-0"], "pair 0: smiles_b = 'CCN.Cl': a pair of the same molecule"),
            (["CCO"], ["CCN"], ["A375"], "pair 0: cell_line = 'A375': not in the index of expression"),
        ],
    )
    def test_wrong_values_from_python(self, trained, tpm, a, b, cell, message):
        with pytest.raises(InputError, match=message):
            synergy.predict(trained.folder, a, b, cell, tpm, device="cpu")

    def test_a_table_of_pandas_is_checked_as_a_file_is(self, trained, files, tpm):
        """What is the same table gives the same numbers; what cannot be used is refused with its place."""

        def found(table, **options):
            given = (trained.folder, ["CCO"] * 4, ["CCN"] * 4, CELLS, table)
            return synergy.predict(*given, device="cpu", **options)["predicted_score"].to_numpy()

        expected = found(tpm)
        others = {
            "numbers of Entrez": tpm.rename(columns=lambda gene: f"{gene} (17)"),
            "columns without numbers": tpm.assign(tissue=["lung", None, "skin", "lung"]),
            "text": tpm.astype(str),
            "repeated rows": pd.concat([tpm, tpm[:2]]),
        }
        for what, table in others.items():
            np.testing.assert_allclose(found(table), expected, rtol=1e-5, err_msg=what)
        np.testing.assert_allclose(found(np.log2(1 + tpm), expression_scale="log2"), expected, rtol=1e-4, atol=1e-5)
        wrong = [
            (dict(tpm), "expression: got a dict, expected a pandas DataFrame"),
            (tpm.reset_index(drop=True), "its index does not name cell lines"),
            (tpm.replace(tpm.iloc[1, 2], np.inf), "cell line 'LINE-1', gene 'GEN2': .*inf.* not a finite number"),
            (tpm.astype(object).replace(tpm.iloc[1, 2], "much"), "gene 'GEN2': 'much' is not a finite number"),
            (pd.concat([tpm, 2 * tpm[:1]]), "cell line 'LINE-0' stands twice, with different values"),
            (pd.concat([tpm, 2 * tpm[["GEN3"]]], axis=1), "gene 'GEN3' stands twice"),
            (np.log2(1 + tpm), "expression_scale=tpm|from Python by expression_scale="),
        ]
        for table, message in wrong:
            with pytest.raises(InputError, match=message):
                found(table)
            with pytest.raises(InputError, match=message):
                synergy.screen(trained.folder, {"a": "CCO", "b": "CCN"}, table, device="cpu")

    def test_a_changed_model_folder_is_refused(self, trained, tpm, tmp_path):
        def message(change):
            folder = tmp_path / "model"
            shutil.copytree(trained.folder / "model", folder, dirs_exist_ok=True)
            preprocess = json.loads((trained.folder / "model" / "preprocess.json").read_text())
            change(preprocess)
            (folder / "preprocess.json").write_text(json.dumps(preprocess))
            with pytest.raises(InputError) as error:
                synergy.predict(folder, ["CCO"], ["CCN"], ["LINE-0"], tpm, device="cpu")
            return str(error.value)

        assert "preprocess.json: drug_features, expression, graph, " in message(dict.clear)
        assert "expression: scale missing" in message(lambda p: p["expression"].pop("scale"))
        assert "expression: genes: got 11, but the network has 12" in message(lambda p: p["expression"]["genes"].pop())
        assert "expression: sd: got 11, but the network" in message(lambda p: p["expression"]["sd"].pop())
        assert "drug_features: num_drugs: got " in message(lambda p: p["drug_features"]["drugs"].pop())

    def test_unseen_drugs_and_cells_are_marked(self, trained, tmp_path, capsys):
        table = pairs().drop(columns="score")[:8]
        table.loc[:2, "drug_a"], table.loc[1, "drug_b"], table.loc[3:5, "cell_line"] = "new", "newer", "LINE-9"
        new = write(tmp_path / "new", table, {**SMILES, "new": "CCCCCl", "newer": "C1CC1CBr"})
        tpm = pd.read_csv(new.tpm)
        pd.concat([tpm, tpm[:1].assign(cell="LINE-9")]).to_csv(new.tpm, index=False)
        found = predict(trained, new, tmp_path / "p.parquet", quiet=False)
        assert found["drugs_seen"].tolist() == [1, 0, 1, 2, 2, 2, 2, 2]
        assert found["cell_seen"].tolist() == [True] * 3 + [False] * 3 + [True] * 2
        err = capsys.readouterr().err
        assert (
            "Warning: 2 drugs (new, newer) were not in the training part: 3 of 8 pairs have such a drug, 1 two" in err
        )
        assert re.search(
            r"\d+ of 8 pairs of the file are in the model's training part, \d+ in its validation part", err
        )
        assert "Warning: 1 cell line (LINE-9) was not in the training part: 3 of 8 pairs" in err

    def test_goes_on_after_an_interruption(self, classes, tmp_path, monkeypatch, capsys):
        table = pairs()
        table.loc[[1, 90], "drug_a"] = "nothing"
        files = write(tmp_path / "new", table)
        options = {"chunk_size": 25, "on_error": "skip"}
        whole = predict(classes, files, tmp_path / "whole.csv", **options)
        assert (whole["probability_std"] > 0).all()
        once = predict(classes, files, tmp_path / "once.csv", on_error="skip")
        np.testing.assert_allclose(whole["probability"], once["probability"], rtol=1e-4)
        done = []

        def stop(*arguments):
            done.append(len(arguments[1]))
            if len(done) == 3:
                raise KeyboardInterrupt
            return original(*arguments)

        original = _synergy_predict.predict_pairs
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_synergy_predict, "predict_pairs", stop)
            predict(classes, files, tmp_path / "p.csv", **options)
        assert max(done) <= 25 and not (tmp_path / "p.csv").exists()
        with pytest.raises(InputError, match="holds the beginning of a prediction with another chunk_size"):
            predict(classes, files, tmp_path / "p.csv", **options | {"chunk_size": 7})
        again = predict(classes, files, tmp_path / "p.csv", **options | {"quiet": False})
        assert "Going on after 2 chunks of 25 that are done" in capsys.readouterr().err
        pd.testing.assert_frame_equal(again, whole, check_exact=True)
        assert pd.read_csv(tmp_path / "p.csv.rejected.csv")["line"].tolist() == [3, 92]

    @pytest.mark.parametrize(
        ("out", "options", "message"),
        [
            ("p.txt", {}, "got the suffix '.txt', expected .csv or .parquet"),
            ("p.csv", {"chunk_size": 0}, "--chunk-size: got 0"),
            ("p.csv", {"cell_column": "line"}, "there is no column 'line'"),
        ],
    )
    def test_wrong_options(self, trained, files, tmp_path, out, options, message):
        with pytest.raises(InputError, match=message):
            predict(trained, files, tmp_path / out, **options)


class TestScreen:
    def test_all_pairs_as_predict_has_them(self, trained, files, tmp_path):
        """Every unordered pair in every cell line once, with the predictions of pair by pair."""
        table = screen(trained, files, tmp_path / "s.csv", top=0, chunk_size=13)
        assert len(table) == 45 * 4 and "rank" not in table
        unordered = table.apply(lambda row: (frozenset((row["drug_a"], row["drug_b"])), row["cell_line"]), axis=1)
        assert unordered.nunique() == 45 * 4
        known = predict(trained, files, tmp_path / "p.csv")
        other = known.apply(lambda row: (frozenset((row["drug_a"], row["drug_b"])), row["cell_line"]), axis=1)
        here = table.set_index(unordered)["predicted_score"].loc[list(other)]
        np.testing.assert_allclose(here, known["predicted_score"], rtol=1e-4, atol=1e-4)
        counts = table["measured_in"].value_counts().to_dict()
        split = json.loads((trained.folder / "split.json").read_text())
        assert counts == {"": 45, **{part: len(split[part]) for part in ("train", "valid", "test")}}

    def test_the_best_are_ranked(self, classes, files, tpm, tmp_path):
        everything = screen(classes, files, tmp_path / "all.csv", top=0)
        wanted = everything.sort_values("probability", ascending=False, kind="stable")[:20]
        for chunk_size in (7, 200_000):
            table = screen(classes, files, tmp_path / f"{chunk_size}.parquet", top=20, chunk_size=chunk_size)
            assert table["rank"].tolist() == list(range(1, 21)) and (table["probability_std"] > 0).all()
            np.testing.assert_allclose(table["probability"], wanted["probability"], rtol=1e-5)
            assert table["drug_a"].tolist() == wanted["drug_a"].tolist()
        found = synergy.screen(classes.folder, SMILES, tpm, top=20, device="cpu")
        np.testing.assert_allclose(found["probability"], wanted["probability"], rtol=1e-5)

    def test_some_cells_and_one_drug(self, trained, files, tmp_path, capsys):
        given = ["--model", trained.folder, "--drugs", files.drugs, "--expression", files.tpm, "--device", "cpu"]
        more = ["--cells", "LINE-2,LINE-0", "--against", "aspirin,salt", "--out", tmp_path / "s.csv"]
        assert main(["synergy", "screen", *map(str, [*given, *more])]) == 0
        table = pd.read_csv(tmp_path / "s.csv")
        assert len(table) == 2 * (9 + 8) and set(table["cell_line"]) == {"LINE-0", "LINE-2"}
        assert table[["drug_a", "drug_b"]].isin(["aspirin", "salt"]).any(axis=1).all()
        assert table["predicted_score"].is_monotonic_decreasing
        err = capsys.readouterr().err
        assert "10 drugs, 17 pairs, 2 cell lines: 34 predictions" in err and "a second" in err

    def test_goes_on_after_an_interruption(self, trained, files, tmp_path, monkeypatch):
        options = {"chunk_size": 10, "top": 12}
        whole = screen(trained, files, tmp_path / "whole.csv", **options)
        done = []

        def stop(*arguments):
            done.append(arguments)
            if len(done) == 8:
                raise KeyboardInterrupt
            return original(*arguments)

        original = _synergy_screen._combine
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_synergy_screen, "_combine", stop)
            screen(trained, files, tmp_path / "s.csv", **options)
        with pytest.raises(InputError, match="holds the beginning of a prediction with another top"):
            screen(trained, files, tmp_path / "s.csv", **options | {"top": 3})
        pd.testing.assert_frame_equal(screen(trained, files, tmp_path / "s.csv", **options), whole, check_exact=True)

    def test_bad_drugs(self, trained, files, tmp_path, capsys):
        """A bad SMILES, none, and a salt that is a molecule of another name."""
        smiles = {"bad": "C1CC", **SMILES, "none": "", "again": "CCN.Br"}
        bad = write(tmp_path / "bad", smiles=smiles)
        with pytest.raises(InputError, match=r"drugs\.csv:2: smiles = 'C1CC': .*--on-error skip.*such drugs"):
            screen(trained, bad, tmp_path / "s.csv")
        table = screen(trained, bad, tmp_path / "s.csv", on_error="skip", quiet=False)
        err = capsys.readouterr().err
        assert len(table) == 180 and "'again' is 'salt'" in err and "2 drugs rejected" in err
        assert "metal complexes" in err
        assert pd.read_csv(tmp_path / "s.csv.rejected.csv")["line"].tolist() == [2, 13]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"cells": ["LINE-7"]},
                "--cells = 'LINE-7': no cell line of this name in .*tpm.csv. Did you mean 'LINE-",
            ),
            ({"against": ["asprin"]}, "--against = 'asprin': no drug of this name in .*Did you mean 'aspirin'"),
            ({"top": -1}, "--top: got -1, expected the number of pairs to keep, or 0"),
            ({"chunk_size": 0}, "--chunk-size: got 0, expected at least 1"),
            ({"cells": [""]}, "--cells: got no name"),
            ({"cells": []}, "--cells: got no name"),
            ({"against": [""]}, "--against: got no name"),
        ],
    )
    def test_wrong_options(self, trained, files, tmp_path, options, message):
        with pytest.raises(InputError, match=message):
            screen(trained, files, tmp_path / "s.csv", **options)

    def test_one_name_is_a_list_of_one(self, trained, tpm):
        drugs = {name: SMILES[name] for name in ("phenol", "aspirin", "amide")}
        given = (trained.folder, drugs, tpm)
        one = synergy.screen(*given, cells="LINE-2", against="amide", device="cpu")
        assert set(one["cell_line"]) == {"LINE-2"} and len(one) == 2
        pd.testing.assert_frame_equal(one, synergy.screen(*given, cells=["LINE-2"], against=["amide"], device="cpu"))
        with pytest.raises(InputError, match="drugs: got a list, expected a dict"):
            synergy.screen(trained.folder, list(drugs.values()), tpm)
        with pytest.raises(InputError, match="drug 'x': smiles = 'None': a NoneType, not the text"):
            synergy.screen(trained.folder, {**drugs, "x": None}, tpm, device="cpu")


@pytest.mark.parametrize("verb", ["test", "predict", "screen"])
@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_first(tmp_path, verb, device, capsys):
    data = [] if verb == "screen" else ["--data", "none.csv"]
    given = ["--model", "none", *data, "--expression", "none.csv", "--drugs", "none.csv", "--device", device]
    out = tmp_path / ("out" if verb == "test" else "out.csv")
    assert main(["synergy", verb, *given, "--out", str(out)]) == 2
    assert f"--device: got '{device}', expected cpu, cuda or cuda:N; this machine has " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class TestCommandLine:
    def test_short_options(self):
        given = ["--data", "a.csv", "--expression", "b.csv", "--drugs", "c.csv", "--score", "bliss", "--split", "drug"]
        parsed = expand_arguments("synergy", [*given, "--response-scale", "viability", "--drug-a-column=one"])
        data = fit_parser().parse_args(parsed)["data"]
        assert (data["expression"], data["drugs"], data["score"], data["split"]) == ("b.csv", "c.csv", "bliss", "drug")
        assert (data["response_scale"], data["drug_a_column"]) == ("viability", "one")

    def test_the_whole_way_with_smiles_in_the_table(self, files, tmp_path, capsys):
        """Labels, own column names, no table of drugs: fit and predict."""
        table = pairs().assign(y=lambda rows: (rows["score"] > 2).astype(int)).drop(columns="score")
        table = table.rename(columns={"drug_a": "one", "drug_b": "other"})
        table["smiles_one"], table["smiles_other"] = table["one"].map(SMILES), table["other"].map(SMILES)
        table.to_csv(tmp_path / "a.csv", index=False)
        columns = ["--drug-a-column", "one", "--drug-b-column", "other", "--smiles-a-column", "smiles_one"]
        columns += ["--smiles-b-column", "smiles_other"]
        given = ["--data", str(tmp_path / "a.csv"), "--expression", str(files.tpm), *columns]
        more = ["--data.task", "classification", *SMALL_WORDS, "--out", str(tmp_path / "run")]
        assert main(["synergy", "fit", *given, *more]) == 0, capsys.readouterr().err
        more = ["--model", str(tmp_path / "run"), "--out", str(tmp_path / "p.csv"), "--quiet"]
        assert main(["synergy", "predict", *given, *more]) == 0, capsys.readouterr().err
        assert pd.read_csv(tmp_path / "p.csv")["probability"].between(0, 1).all()

    def test_audit(self, files, tmp_path, capsys):
        out = tmp_path / "counts.csv"
        assert main(["synergy", "audit", *words(files, "--split", "combination", "--out", out)]) == 0
        printed = capsys.readouterr().out
        assert "shared_pair" in printed and "0 rows merged, 0 rejected" in printed
        counts = pd.read_csv(out)
        both = counts[(counts["parts"] == "train/test") & (counts["what"] == "shared_pair")]
        assert both["count"].tolist() == [0] and out.with_suffix(".examples.csv").is_file()

    @pytest.mark.parametrize("verb", ["fit", "audit", "test", "predict", "screen", "demo"])
    def test_help_spells_options_in_one_way(self, verb, capsys):
        with pytest.raises(SystemExit):
            main(["synergy", verb, "--help"])
        text = capsys.readouterr().out
        assert re.findall(r"(?<![\w-])--[\w.-]*_[\w.-]*", text) == []

    def test_screen_is_a_verb_of_this_task_alone(self, capsys):
        assert main(["synergy"]) == 0 and "  screen " in capsys.readouterr().out
        assert main(["tcr", "screen"]) == 2 and "tcr has no verb 'screen'" in capsys.readouterr().err


BAD_CELLS = {
    "cell line": ("pairs", "cell_line", "LINE_1", "no cell line of this name in"),
    "no cell line": ("pairs", "cell_line", "", "empty"),
    "drug": ("pairs", "drug_a", "asprin", "Did you mean 'aspirin'"),
    "score": ("pairs", "score", "inf", "not a finite number"),
    "same drug": ("pairs", "drug_b", "=drug_a", "a pair of the same drug"),
}


class TestBadFiles:
    @pytest.mark.parametrize("name", BAD_CELLS)
    def test_a_bad_cell(self, tmp_path, name, capsys):
        """One line that names file, line and column."""
        _, column, value, reason = BAD_CELLS[name]
        table = pairs().astype(object)
        value = table.loc[6, value[1:]] if value.startswith("=") else value
        table.loc[6, column] = value
        bad = write(tmp_path / "bad", table)
        assert main(["synergy", "fit", *words(bad, "--out", tmp_path / "run")]) == 2
        message = capsys.readouterr().err.strip()
        assert f"pairs.csv:8: {column} = {value!r}: " in message and reason in message
        assert "--on-error skip" in message and "\n" not in message and not (tmp_path / "run").exists()

    def test_skipped_rows_are_listed_in_the_run(self, tmp_path):
        table = pairs()
        table.loc[6, "cell_line"] = "LINE-77"
        bad = write(tmp_path / "bad", table, {**SMILES, "amide": "C1CC"})
        given = words(bad, "--on-error", "skip", *SMALL_WORDS, "--out", tmp_path / "run")
        assert main(["synergy", "fit", *given]) == 0
        rejected = pd.read_csv(tmp_path / "run" / "rejected.csv")
        assert 8 in set(rejected["line"]) and "RDKit cannot read" in " ".join(rejected["reason"])
        with_amide = (table[["drug_a", "drug_b"]] == "amide").any(axis=1)
        assert len(rejected) == with_amide.sum() + (not with_amide[6])

    @pytest.mark.parametrize(
        ("smiles", "message"),
        [
            ({"acid": ""}, r"drugs\.csv:10: smiles = '': drug 'acid' has no SMILES"),
            ({"acid": "C1CC"}, r"drugs\.csv:10: smiles = 'C1CC': "),
            ({"acid": "CCN"}, "a pair of the same molecule as 'salt'|a pair of the same molecule as 'acid'"),
        ],
    )
    def test_bad_drugs(self, tmp_path, smiles, message, capsys):
        bad = write(tmp_path / "bad", smiles={**SMILES, **smiles})
        assert main(["synergy", "fit", *words(bad, "--out", tmp_path / "run")]) == 2
        err = capsys.readouterr().err
        assert re.search(r"pairs\.csv:\d+: drug_[ab] = ", err) and re.search(message, err)

    def test_metal_complexes_have_no_positions(self, files, tmp_path, capsys):
        assert main(["synergy", "fit", *words(files, "--data.graph", "3d", "--out", tmp_path / "run")]) == 2
        assert "drug_a = 'platin': a metal complex" in capsys.readouterr().err.replace("drug_b", "drug_a")

    @pytest.mark.parametrize("verb", ["fit", "test", "predict", "screen"])
    def test_expression_on_another_scale_or_with_other_genes(self, trained, tmp_path, verb, capsys):
        def message(tpm):
            pd.DataFrame(tpm).to_csv(bad.tpm, index=False)
            data = [] if verb == "screen" else ["--data", str(bad.pairs)]
            model = [] if verb == "fit" else ["--model", str(trained.folder)]
            out = ["--out", str(tmp_path / ("run" if verb in ("fit", "test") else "p.csv"))]
            given = ["--expression", str(bad.tpm), "--drugs", str(bad.drugs)]
            assert main(["synergy", verb, *data, *model, *given, *out]) == 2
            return capsys.readouterr().err

        bad = write(tmp_path / "bad")
        table = pd.read_csv(bad.tpm)
        genes = [name for name in table if name.startswith("GEN")]
        logs = message(table.assign(**np.log2(1 + table[genes])))
        assert "tpm.csv: " in logs and ("Say the scale: log2" in logs or "expression_scale=tpm" in logs)
        entrez = message(table.rename(columns={gene: str(100 + k) for k, gene in enumerate(genes)}))
        assert "tpm.csv: gene '100' is a number, like an Entrez id" in entrez
        if verb != "fit":
            ensembl = message(table.rename(columns={gene: f"ENSG{k:011}" for k, gene in enumerate(genes)}))
            assert "genes are named by Ensembl ids" in ensembl and "trained with symbols" in ensembl

    @pytest.mark.parametrize("verb", ["fit", "test", "predict"])
    def test_a_missing_column(self, trained, tmp_path, verb, capsys):
        bad = write(tmp_path / "bad", pairs().rename(columns={"cell_line": "where"}))
        model = [] if verb == "fit" else ["--model", str(trained.folder)]
        out = ["--out", str(tmp_path / "p.csv")] if verb == "predict" else []
        assert main(["synergy", verb, *words(bad), *model, *out]) == 2
        assert "pairs.csv: no cell_line column found among 'drug_a'" in (err := capsys.readouterr().err)
        assert "Name it with --cell-column" in err

    def test_without_drugs(self, files, tmp_path, capsys):
        assert main(["synergy", "fit", "--data", str(files.pairs), "--expression", str(files.tpm)]) == 2
        assert "no smiles_a column found" in capsys.readouterr().err
        assert main(["synergy", "fit", "--data", str(files.pairs)]) == 2
        assert "Missing: --expression." in capsys.readouterr().err


def test_demo(tmp_path, monkeypatch, capsys):
    """The whole way, with fewer cell lines and epochs."""
    monkeypatch.setattr(synergy, "DEMO_CELLS", 2)
    original = _task.fit_config
    shorter = {"trainer": {"max_epochs": 1}, "model": {"channels": 8, "num_heads": 2}}
    less = lambda task, options, command: original(task, merged(options, shorter), command)
    monkeypatch.setattr(_task, "fit_config", less)
    report = synergy.demo(str(tmp_path / "demo"))
    err = capsys.readouterr().err
    assert report.is_file() and str(report) in err and "pairs ranked first are of the synergistic kind" in err
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"responses.csv", "drugs.csv", "expression.csv", "new", "ranked.csv", "fit", "test"} <= names
    old, new = (pd.read_csv(tmp_path / "demo" / name / "drugs.csv") for name in (".", "new"))
    assert len(old) == 42 and len(new) == len(demo_data.demo_screen(2).drugs) == 48


@pytest.mark.slow
def test_the_demo_learns_which_kinds_act_together(tmp_path):
    synergy.demo(str(tmp_path / "demo"), quiet=True)
    metrics = json.loads((tmp_path / "demo" / "test" / "metrics.json").read_text())
    assert metrics["test"]["pearson"]["value"] > 0.9
