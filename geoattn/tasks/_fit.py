"""What ``fit`` is in every task: its options, the folder it begins in, and going on with a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jsonargparse import ActionConfigFile
from lightning import LightningModule, Trainer
from torch import nn

from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks._model import metrics_text
from geoattn.tasks._parser import TaskParser, differences, expand_arguments, merged, recipe_names, recipe_path
from geoattn.tasks._run import RunFolder, read_config, say
from geoattn.tasks._training import TRAINER_DEFAULTS, TRAINER_OPTIONS_SET_HERE

ABOUT_THE_CALL = ("recipe", "out", "resume", "quiet")
"""Options that say how to run, not what is trained; they are not written to ``config.yaml``."""


@dataclass
class CardOptions:
    """What the model card says and no number can tell.

    Args:
        title: of the model.
        summary: one sentence: what it predicts.
        data: the data set and where it comes from; the name of the file if left out.
        data_licence: under which the data may be used.
        targets: target -> meaning and unit.
        limits: where the model must not be trusted, one sentence each.
    """

    title: str | None = None
    summary: str | None = None
    data: str | None = None
    data_licence: str = "not stated"
    targets: dict[str, str] | None = None
    limits: list[str] | None = None


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        model: the trained model, or the ensemble of the members.
        metrics: what stands in ``metrics.json``.
    """

    folder: Path
    model: nn.Module
    metrics: dict[str, Any]


def announce(run: Run, quiet: bool) -> None:
    """The last words of a fit: how good the model is on the test part, beside the baselines, and where it is."""
    if run.metrics.get("test"):
        say("\n" + metrics_text(run.metrics, "this model"), quiet=quiet)
    say(f"Done. Report: {run.folder / 'report.html'}   Model: {run.folder / 'model'}", quiet=quiet)


def add_fit_options(parser: TaskParser, task: str, module: type[LightningModule]) -> None:
    """The options that a fit has in every task, beside those of its data."""
    recipes = ", ".join(recipe_names(task))
    parser.add_argument("--recipe", action=ActionConfigFile, help=f"a recipe of geoattn ({recipes}), or a YAML file")
    parser.add_argument("--out", type=str | None, help=f"run folder; runs/{task}-<date>-<time> if left out")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, after a stop or a kill")
    parser.add_argument("--quiet", type=bool, default=False, help="say nothing but errors")
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout and order; member k has seed + k")
    parser.add_argument("--ensemble", type=int, default=1, help="members; their spread is the uncertainty")
    parser.add_class_arguments(module, "model", skip={"data"}, instantiate=False, sub_configs=False)
    parser.add_class_arguments(
        Trainer, "trainer", skip=set(TRAINER_OPTIONS_SET_HERE), instantiate=False, fail_untyped=False
    )
    parser.add_class_arguments(CardOptions, "card", instantiate=False)
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})


def parse_words(parser: TaskParser, task: str, arguments: list[str]) -> dict[str, Any]:
    """The options of a fit from the words of the command line; with --resume those of the run in --out come first."""
    expanded = expand_arguments(task, arguments)
    out, resume = _value_of("--out", expanded), "--resume" in expanded
    if resume and out and read_config(Path(out)) is not None:
        expanded = ["--recipe", str(Path(out) / "config.yaml"), *expanded]
    return parser.parse_args(expanded).as_dict()


def parse_mapping(
    parser: TaskParser,
    task: str,
    file: str | Path,
    recipe: str | None,
    out: str | Path | None,
    resume: bool,
    quiet: bool,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The options of a fit from Python: what ``parse_words`` gives for the same call."""
    base = yaml.safe_load(recipe_path(task, recipe).read_text(encoding="utf-8")) if recipe else {}
    stored = read_config(Path(out)) if resume and out else None
    config = merged(stored or {}, merged(base, options))
    config = merged(config, {"data": {"file": str(file)}, "resume": resume, "quiet": quiet})
    if out is not None:
        config["out"] = str(out)
    return parser.parse_object(config).as_dict()


def check_members(config: Mapping[str, Any]) -> None:
    """Refuse a number of members, a seed or a depth that cannot be trained."""
    if config["ensemble"] < 1:
        raise InputError(f"ensemble: got {config['ensemble']}, expected at least 1.")
    if not 0 <= config["seed"] < 2**32 - config["ensemble"]:
        raise InputError(f"seed: got {config['seed']}, expected a number from 0 to 4294967295.")
    num_layers = config["model"].get("num_layers")  # None where the network decides
    if num_layers is not None and num_layers < 1:
        raise InputError(f"model.num_layers: got {config['model']['num_layers']}, expected at least 1.")


def opened(
    task: str,
    options: Mapping[str, Any],
    files: Sequence[str] = ("file",),
    resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[dict[str, Any], RunFolder, Run | None]:
    """What a fit begins with: checked options, its folder, and with ``resume`` the run if it is finished.

    Args:
        task: names a folder that nobody named.
        options: complete.
        files: the options of the data that are paths; ``config.yaml`` shall work from anywhere.
        resolve: makes the choices that the options leave open, and leaves out what says nothing about the run; also of
            the options of the run that goes on, for one of an earlier version may have stored more.
    """
    config = {name: value for name, value in options.items() if name not in ABOUT_THE_CALL}
    check_members(config)
    given = {name: config["data"][name] for name in files if config["data"][name] is not None}
    config = resolve(merged(config, {"data": {name: str(Path(path).absolute()) for name, path in given.items()}}))
    folder = RunFolder.at(task, options["out"], resume=options["resume"])
    if options["resume"]:
        refuse_other_options(folder.path, config, resolve)
        if (folder.path / "report.html").is_file():
            say(f"The run in {folder.path} is finished: nothing to resume.", quiet=options["quiet"])
            finished = from_pretrained(folder.path / "model")
            return config, folder, Run(folder.path, finished.model, finished.metrics)
    return config, folder, None


def write_beginning(
    folder: RunFolder, config: Mapping[str, Any], split: Mapping[str, Any], rejected: pd.DataFrame, command: str
) -> None:
    """Make the folder and write what is known before the training."""
    folder.make()
    folder.write_config(config)
    folder.write_json("split.json", split)
    folder.write_table("rejected.csv", rejected)
    folder.write_environment(command)


def _value_of(option: str, arguments: list[str]) -> str | None:
    return next((value for word, value in pairwise(arguments) if word == option), None)


def refuse_other_options(
    path: Path, config: Mapping[str, Any], resolve: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """A run goes on with the options that it began with; see `opened`."""
    stored = read_config(path)
    if stored is None:
        return
    stored = resolve(stored)
    changed = differences(stored, config)
    if changed:
        was, now = (_at(options, changed[0]) for options in (stored, config))
        raise InputError(
            f"--resume: {changed[0]} was {was!r} when the run in {path} began, now it is {now!r}. Leave the option "
            "out to go on as before, or start anew with another --out."
        )


def _at(options: Any, key: str) -> Any:
    for part in key.split("."):
        options = options.get(part) if isinstance(options, Mapping) else None
    return options


def refuse_other_data(folder: RunFolder, split: Mapping[str, Any], what: str) -> None:
    """A run goes on with the data and the split that it began with; ``what`` names the samples: molecules, say."""
    stored = folder.read_json("split.json")
    if stored is not None and stored != split:
        raise InputError(
            f"--resume: the {what} of the file, or their split, are no longer those that the run in {folder.path} "
            "began with. Restore the file, or start anew with another --out."
        )
