"""The smallest task there can be: what a new one has to write, and what all tasks get for that."""

import json
from dataclasses import replace

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from geoattn.datasets.splits import split_rows
from geoattn.errors import InputError
from geoattn.hub import from_pretrained, registry
from geoattn.report import KeyValues, Section, Text
from geoattn.tasks._fit import add_fit_options
from geoattn.tasks._model import Symmetry, overlap_text
from geoattn.tasks._parser import data_parser
from geoattn.tasks._report import TEST_PART, Page, symmetry_sections
from geoattn.tasks._run import RunFolder
from geoattn.tasks._task import MEASURED, About, FitTask, Measured, fit_files, fit_words
from geoattn.tasks._test import chosen_rows, training_rows, write_test

SYMMETRY = Symmetry({"float32": 0.0}, "Nothing is turned.")


class LineData(lightning.LightningDataModule):
    """Pairs x, y of a table."""

    def __init__(self, file: str, split: str = "random", split_seed: int = 0, seed: int = 0) -> None:
        """:param file: CSV. :param split: of it."""
        super().__init__()
        self.file, self.split_spec, self.split_seed, self.seed = file, split, split_seed, seed

    def setup(self, stage: str | None = None) -> None:
        self.table = pd.read_csv(self.file)
        self.split = split_rows(self.split_spec, self.table, seed=self.split_seed, val_fraction=0.2, test_fraction=0.2)
        self.rejected, self.preprocess, self.notes = pd.DataFrame({"line": []}), {"columns": ["x", "y"]}, ["A note."]

    def part(self, name: str) -> torch.Tensor:
        return torch.tensor(self.table.iloc[self.split[name]][["x", "y"]].to_numpy(np.float32))

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.part("train"), batch_size=4)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.part("valid"), batch_size=4)


class Line(nn.Linear):
    """A registered model."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)
        self.config = {"width": width}


class LineModule(lightning.LightningModule):
    """One line with its loss; the weights of the end are kept."""

    def __init__(self, data: LineData, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.averaged, self.learning_rate = Line(1), learning_rate

    def training_step(self, batch, batch_idx):
        return self._logged("train_loss", batch)

    def validation_step(self, batch, batch_idx):
        self._logged("valid_loss", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)

    def _logged(self, name, batch):
        loss = nn.functional.mse_loss(self.averaged(batch[:, :1]), batch[:, 1:])
        self.log(name, loss, on_step=False, on_epoch=True)
        return loss


def parser():
    found = data_parser("line", "fit", "Train a line.", "--data FILE", LineData, {"seed"})
    add_fit_options(found, "line", LineModule)
    return found


def read(config, show):
    data = LineData(**config["data"], seed=config["seed"])
    data.setup()
    return data


def page_of(mse, which):
    return Page(
        f"Measured {which}", {"test MSE": mse}, [Section("Result", [Text("A line.")])], symmetry_sections(SYMMETRY)
    )


def measure(fitted):
    model = fitted.trained.model.cpu().requires_grad_(False)
    parts = {part: fitted.data.part(part) for part in MEASURED}
    errors = {part: float((model(xy[:, :1]) - xy[:, 1:]).square().mean()) for part, xy in parts.items()}
    metrics = {part: {"mse": {"value": error, "n": len(parts[part])}} for part, error in errors.items()}
    return Measured(
        metrics=metrics,
        tables={"predictions.csv": fitted.data.table.iloc[fitted.data.split["test"]]},
        overlap={"same_x": 0},
        symmetry=SYMMETRY,
        about=About("A line", "Predicts y from x", {"y": "of the file"}, "pairs.csv", ["Knows lines alone."]),
        page=page_of(errors["test"], TEST_PART),
        data=[KeyValues({"rows": len(fitted.data.table)})],
        loss="squared error",
    )


LINE = FitTask(
    name="line",
    samples="points",
    parser=parser,
    read=read,
    module=LineModule,
    keys=lambda data: data.table["x"].map(str).tolist(),
    shown=lambda data: "valid_loss",
    measure=measure,
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.MODEL_CLASSES, "line/line", f"{Line.__module__}:{Line.__qualname__}")


@pytest.fixture
def file(tmp_path):
    x = np.linspace(-1, 1, 20)
    pd.DataFrame({"id": [f"p{k}" for k in range(20)], "x": x, "y": 2 * x + 1}).to_csv(
        tmp_path / "line.csv", index=False
    )
    return tmp_path / "line.csv"


def fit(file, out, *, task=LINE, resume=False, quiet=True, **options):
    return fit_files(task, file, recipe=None, out=out, resume=resume, quiet=quiet, options=options)


def test_fit(file, tmp_path, capsys):
    run = fit(
        file, tmp_path / "run", ensemble=2, trainer={"max_epochs": 30}, card={"targets": {"y": "metres"}}, quiet=False
    )
    assert run.metrics["test"]["mse"]["value"] < 0.1
    loaded = from_pretrained(run.folder / "model")
    assert len(loaded.model.models) == 2 and loaded.preprocess == {"columns": ["x", "y"]}
    card = (run.folder / "model" / "README.md").read_text()
    for text in ("A line", "metres", "Knows lines alone", "same x", "random, seed 0"):
        assert text in card
    report = (run.folder / "report.html").read_text()
    for text in ("Result", "Learning curve", "A note.", "Nothing is turned", "took part in no decision"):
        assert text in report
    err = capsys.readouterr().err
    assert "20 points: 12 train, 4 valid, 4 test; 0 rejected. Run folder:" in err and "Done. Report:" in err


def test_from_words(file, tmp_path):
    run = fit_words(LINE, ["--data", str(file), "--out", str(tmp_path / "run"), "--trainer.max_epochs", "1", "--quiet"])
    assert "geoattn line fit --data" in (run.folder / "environment.txt").read_text()


def test_other_data_are_refused_before_anything_is_written(file, tmp_path):
    fit(file, tmp_path / "run", trainer={"max_epochs": 1})
    (tmp_path / "run" / "report.html").unlink()
    before = (tmp_path / "run" / "split.json").read_text()
    pd.read_csv(file).assign(x=lambda table: table["x"] + 1).to_csv(file, index=False)
    with pytest.raises(InputError, match="the points of the file, or their split, are no longer those"):
        fit(file, tmp_path / "run", trainer={"max_epochs": 1}, resume=True)
    assert (tmp_path / "run" / "split.json").read_text() == before


def test_other_options_are_refused_unless_the_task_resolves_them(file, tmp_path):
    options = {"trainer": {"max_epochs": 1}, "model": {"learning_rate": 0.2}}
    fit(file, tmp_path / "run", trainer={"max_epochs": 1})
    (tmp_path / "run" / "report.html").unlink()
    with pytest.raises(InputError, match=r"model\.learning_rate was 0\.1 when the run"):
        fit(file, tmp_path / "run", resume=True, **options)
    task = replace(LINE, resolve=lambda config: {**config, "model": {}})
    assert fit(file, tmp_path / "run", task=task, resume=True, **options).metrics["test"]


class TestOfAFile:
    def test_rows(self):
        known = {"train": ["a", "b"], "test": ["c"]}
        assert chosen_rows("all", ["c", "d"], known, "f", "point") == [0, 1]
        assert chosen_rows("test", ["d", "c"], known, "f", "point") == [1]
        with pytest.raises(InputError, match="no point of f is in the test part"):
            chosen_rows("test", ["d"], known, "f", "point")

    def test_training_rows_are_all_or_none(self):
        assert training_rows(["b", "x", "a", "b"], {"train": ["a", "b"]}) == [0, 2, 3]
        assert training_rows(["b", "x"], {"train": ["a", "b"]}) == [] == training_rows(["b"], {})

    def test_the_folder(self, tmp_path, capsys):
        note = overlap_text(["a"], {"train": ["a"], "valid": []}, "points")
        write_test(
            RunFolder(tmp_path / "out"),
            "line",
            {"model": "m", "data": "f.csv", "rows": None},
            page_of(0.5, f"of the file. {note}"),
            title="A line",
            metrics={"test": {}},
            tables={"predictions.csv": pd.DataFrame({"y": [1]})},
            rejected=pd.DataFrame({"line": []}),
            notes=[note],
            quiet=False,
        )
        assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == {"test": {}}
        text = (tmp_path / "out" / "environment.txt").read_text()
        assert "geoattn line test --model m --data f.csv\n" in text and "--rows" not in text
        report = (tmp_path / "out" / "report.html").read_text()
        assert "1 of 1 points of the file are in" in report and "Learning curve" not in report
        assert "Report:" in capsys.readouterr().err
