"""What ``fit`` is in every task: its options, going on with a run, and the training of the members."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import yaml
from jsonargparse import ActionConfigFile
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from geoattn.domains.ensemble import Ensemble
from geoattn.errors import InputError
from geoattn.hub import from_pretrained
from geoattn.tasks._model import metrics_text
from geoattn.tasks._parser import TaskParser, differences, expand_arguments, merged, recipe_names, recipe_path
from geoattn.tasks._run import RunFolder, read_config, say
from geoattn.tasks._training import (
    TRAINER_DEFAULTS,
    TRAINER_OPTIONS_SET_HERE,
    EpochSeed,
    Keeper,
    Progress,
    make_trainer,
)

if TYPE_CHECKING:  # a task imports no other task's data
    from geoattn.datasets.dynamics import DynamicsData
    from geoattn.datasets.molecule_trajectories import TrajectoryData
    from geoattn.datasets.molecules import MoleculesData
    from geoattn.datasets.pointclouds import PointCloudData
    from geoattn.datasets.synergy import SynergyData
    from geoattn.datasets.tcr import TCRData

    Data = DynamicsData | MoleculesData | PointCloudData | SynergyData | TrajectoryData | TCRData

ABOUT_THE_CALL = ("recipe", "out", "resume", "quiet")
"""Options that say how to run, not what is trained; they are not written to ``config.yaml``."""
MEASURED = ("valid", "test")
MakeModule = Callable[[], LightningModule]


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
    if config["model"]["num_layers"] < 1:
        raise InputError(f"model.num_layers: got {config['model']['num_layers']}, expected at least 1.")


def opened(
    task: str, options: Mapping[str, Any], files: Sequence[str] = ("file",)
) -> tuple[dict[str, Any], RunFolder, Run | None]:
    """What a fit begins with: checked options, its folder, and with ``resume`` the run if it is finished.

    Args:
        task: names a folder that nobody named.
        options: complete.
        files: the options of the data that are paths; ``config.yaml`` shall work from anywhere.
    """
    config = {name: value for name, value in options.items() if name not in ABOUT_THE_CALL}
    check_members(config)
    given = {name: config["data"][name] for name in files if config["data"][name] is not None}
    config = merged(config, {"data": {name: str(Path(path).absolute()) for name, path in given.items()}})
    folder = RunFolder.at(task, options["out"], resume=options["resume"])
    if options["resume"]:
        refuse_other_options(folder.path, config)
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
    path: Path, config: Mapping[str, Any], compared: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
) -> None:
    """A run goes on with the options that it began with.

    Args:
        path: of the run.
        config: the options now.
        compared: what of the stored options is to be compared; a run of an earlier version may have stored more.
    """
    stored = read_config(path)
    if stored is None:
        return
    stored = compared(stored)
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


@dataclass
class Trained:
    """The model with the best weights of each member, where it was trained, and how that went."""

    model: nn.Module
    device: torch.device
    history: pd.DataFrame
    best_epochs: list[int]


def train_members(
    folder: RunFolder,
    config: Mapping[str, Any],
    data: Data,
    make_module: MakeModule,
    shown: str,
    quiet: bool,
    baseline: str | None = None,
) -> Trained:
    """Train what is not trained yet.

    Args:
        folder: of the run; has a checkpoint for each member that was begun.
        config: the resolved options.
        data: after ``setup``.
        make_module: a new network with its training, from the current random state.
        shown: the metric to show beside the losses, by its logged name.
        quiet: no progress.
        baseline: its name, where the network is one that stands beside the model; its history is not written.
    """
    members: list[nn.Module] = []
    histories: list[pd.DataFrame] = []
    best_epochs: list[int] = []

    def write_history(running: pd.DataFrame) -> None:
        if baseline is None:
            folder.write_table("metrics.csv", pd.concat([*histories, running]))

    for k in range(config["ensemble"]):
        seed = config["seed"] + k
        checkpoint = folder.path / "checkpoints" / f"{baseline or 'seed'}-{seed}.ckpt"
        label = baseline or (f"Member {k + 1} of {config['ensemble']}" if config["ensemble"] > 1 else "Training")
        module, keeper, device = _train_one(
            folder, checkpoint, config, data, make_module, shown, seed, None if quiet else label, write_history
        )
        members.append(_averaged(module))
        histories.append(keeper.history_table(seed))
        best_epochs.append(keeper.best_epoch)
    model = Ensemble(members) if len(members) > 1 else members[0]
    return Trained(model, device, pd.concat(histories, ignore_index=True), best_epochs)


def _averaged(module: LightningModule) -> nn.Module:
    """The network whose weights are kept when they are the best."""
    averaged = module.averaged
    assert isinstance(averaged, nn.Module)
    return averaged


def _train_one(
    folder: RunFolder,
    checkpoint: Path,
    config: Mapping[str, Any],
    data: Data,
    make_module: MakeModule,
    shown: str,
    seed: int,
    label: str | None,
    write_history: Callable[[pd.DataFrame], None],
) -> tuple[LightningModule, Keeper, torch.device]:
    """Train one member from where its checkpoint stands; its best weights are in ``averaged``."""
    keeper = Keeper(checkpoint, _averaged, lambda: write_history(keeper.history_table(seed)))
    callbacks: list[Callback] = [EpochSeed(seed), keeper]
    if label is not None:
        callbacks.append(Progress(label, ("train_loss", "valid_loss", shown)))
    with calm_lightning(), torch.random.fork_rng():
        trainer = make_trainer(config["trainer"], callbacks, folder.path)
        torch.manual_seed(seed)
        module = make_module()
        keeper.keep_last = getattr(module, "keep", "best") == "last"
        data.seed = seed
        try:
            trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            say(f"Stopped. Go on with: --resume --out {folder.path}", quiet=label is None)
            raise KeyboardInterrupt from None
    if not keeper.best_weights:
        raise InputError(
            "the validation loss was never a number: the training diverged. Lower --model.learning-rate, or look for "
            "extreme values among the targets."
        )
    _averaged(module).load_state_dict(keeper.best_weights)
    return module, keeper, trainer.strategy.root_device


@contextmanager
def calm_lightning() -> Iterator[None]:
    """Without Lightning's advice on loaders, loggers and devices, which geoattn has chosen."""
    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
