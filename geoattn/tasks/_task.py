"""What ``fit`` does in every task, and what a task says of itself for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd
import torch
from lightning import LightningModule

from geoattn.hub import Card, save_pretrained
from geoattn.report import Block
from geoattn.tasks._fit import (
    Run,
    announce,
    opened,
    parse_mapping,
    parse_words,
    refuse_other_data,
    write_beginning,
)
from geoattn.tasks._members import TaskData, Trained, calm_lightning, train_members
from geoattn.tasks._model import Symmetry, split_record
from geoattn.tasks._parser import TaskParser
from geoattn.tasks._report import Page, training_section, write_page
from geoattn.tasks._run import RunFolder, command_line, say
from geoattn.tasks._training import make_trainer

MEASURED = ("valid", "test")
D = TypeVar("D", bound=TaskData)


@dataclass(frozen=True)
class FitTask(Generic[D]):
    """A task, as its ``fit`` sees it.

    Attributes:
        name: its word on the command line.
        samples: what its samples are called, in the plural.
        parser: makes the parser of its options; see `geoattn.tasks._fit.add_fit_options`.
        read: the options, and whether to show progress -> the data, after ``setup``.
        module: the data, and the options ``model`` by their names -> a new network with its training, which has the
            network to keep as ``averaged``.
        keys: one per row of the data's table, the same for samples that are the same.
        shown: the logged metric that is shown beside the losses.
        measure: what is found out about the trained model.
        resolve: makes the choices that the options leave open; see `geoattn.tasks._fit.opened`.
        files: the options ``data`` that are paths.
        count: how many samples there are, in words; their number and name if left out.
        prepare: computes what is computed once for all members; also gets whether to be quiet.
    """

    name: str
    samples: str
    parser: Callable[[], TaskParser]
    read: Callable[[Mapping[str, Any], bool], D]
    module: Callable[..., LightningModule]
    keys: Callable[[D], Sequence[str]]
    shown: Callable[[D], str]
    measure: Callable[[Fitted[D]], Measured]
    resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict
    files: Sequence[str] = ("file",)
    count: Callable[[D], str] | None = None
    prepare: Callable[[D, bool], None] | None = None


@dataclass(frozen=True)
class Fitted(Generic[D]):
    """A run whose members are trained: what there is to measure.

    Attributes:
        folder: of the run.
        config: the resolved options.
        data: after ``setup``.
        trained: the model where it was trained, with its history.
        split: what stands in ``split.json``.
        quiet: say nothing.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    data: D
    trained: Trained
    split: Mapping[str, Any]
    quiet: bool


@dataclass(frozen=True)
class About:
    """What the model card says where the user says nothing.

    Attributes:
        title, summary: of the model.
        targets: target -> meaning and unit; what the user says of one of them comes first.
        input: the kind of file that it reads.
        limits: where it must not be trusted, after what the user says.
    """

    title: str
    summary: str
    targets: Mapping[str, str]
    input: str
    limits: Sequence[str] = ()


@dataclass(frozen=True)
class Measured:
    """What was found out about a trained model.

    Attributes:
        metrics: what stands in ``metrics.json``.
        tables: file name -> table; ``predictions.csv`` and what else the task writes.
        overlap: of train and test: what they share -> how many.
        symmetry: of the model, for its card.
        about: the rest of the card.
        page: of the report.
        data: what the report says of the data before the rejected rows.
        loss: what the axis of the learning curve says.
    """

    metrics: dict[str, Any]
    tables: Mapping[str, pd.DataFrame]
    overlap: Mapping[str, int]
    symmetry: Symmetry
    about: About
    page: Page
    data: Sequence[Block]
    loss: str


def fit_words(task: FitTask[Any], arguments: list[str]) -> Run:
    """``fit``, from the words of the command line behind it."""
    command = command_line([task.name, "fit", *arguments])
    return fit_config(task, parse_words(task.parser(), task.name, arguments), command)


def fit_files(
    task: FitTask[Any],
    *files: str | Path,
    recipe: str | None,
    out: str | Path | None,
    resume: bool,
    quiet: bool,
    options: Mapping[str, Any],
) -> Run:
    """``fit``, from Python: the first of the files is the option ``data.file``."""
    given = ", ".join(repr(str(file)) for file in files)
    command = f"geoattn.tasks.{task.name}.fit({given}, recipe={recipe!r}, ...)"
    parsed = parse_mapping(task.parser(), task.name, files[0], recipe, out, resume, quiet, options)
    return fit_config(task, parsed, command)


def fit_config(task: FitTask[D], options: Mapping[str, Any], command: str) -> Run:
    """Train, measure and write everything, from complete options."""
    config, folder, finished = opened(task.name, options, task.files, task.resolve)
    if finished is not None:
        return finished
    quiet = options["quiet"]
    with calm_lightning(), torch.random.fork_rng():
        make_trainer(config["trainer"], [], folder.path)  # options that cannot be used show now: before the reading
        data = task.read(config, not quiet)
        task.module(data, **config["model"])  # and these before anything is written
    ids = data.table["id"].tolist()
    split = split_record(data.split, ids, task.keys(data), str(data.split_spec), data.split_seed)
    if options["resume"]:
        refuse_other_data(folder, split, task.samples)
    write_beginning(folder, config, split, data.rejected, command)
    count = task.count(data) if task.count else f"{len(data.table)} {task.samples}"
    sizes = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    say(f"{count}: {sizes}; {len(data.rejected)} rejected. Run folder: {folder.path}", quiet=quiet)
    if task.prepare:
        task.prepare(data, quiet)
    trained = train_members(folder, config, data, lambda: task.module(data, **config["model"]), task.shown(data), quiet)
    fitted = Fitted(folder, config, data, trained, split, quiet)
    run = _finish(task.name, fitted, task.measure(fitted), command)
    announce(run, quiet)
    return run


def _finish(task: str, fitted: Fitted[Any], measured: Measured, command: str) -> Run:
    """Tables, metrics, model folder and report; the report is the last file."""
    folder, config, data, trained = fitted.folder, fitted.config, fitted.data, fitted.trained
    for name, table in measured.tables.items():
        folder.write_table(name, table)
    folder.write_table("metrics.csv", trained.history)
    folder.write_json("metrics.json", measured.metrics)
    model, card = trained.model.cpu(), _card(config, data, measured, command)
    save_pretrained(
        folder.path / "model",
        model,
        task=task,
        preprocess=data.preprocess,
        metrics=measured.metrics,
        split=fitted.split,
        card=card,
    )
    seconds, keep = float(trained.history["seconds"].sum()), config["model"].get("keep", "best")
    write_page(
        folder.path,
        card.title,
        measured.page,
        data=measured.data,
        rejected=data.rejected,
        notes=data.notes,
        command=command,
        training=training_section(trained.history, trained.best_epochs, seconds, measured.loss, keep=keep),
        config=config,
    )
    return Run(folder.path, model, measured.metrics)


def _card(config: Mapping[str, Any], data: TaskData, measured: Measured, command: str) -> Card:
    """What the user said about the data, and what was measured."""
    said, about = config["card"], measured.about
    return Card(
        title=said["title"] or about.title,
        summary=said["summary"] or about.summary,
        targets={target: (said["targets"] or {}).get(target, text) for target, text in about.targets.items()},
        data=said["data"] or Path(config["data"]["file"]).name,
        data_licence=said["data_licence"],
        split=f"{data.split_spec}, seed {data.split_seed}",
        overlap={what.replace("_", " "): count for what, count in measured.overlap.items()},
        symmetry=measured.symmetry.text.rstrip("."),
        equivariance_error=measured.symmetry.errors,
        command=command,
        seeds=[config["seed"] + k for k in range(config["ensemble"])],
        limits=[*(said["limits"] or []), *about.limits],
        input=about.input,
    )
