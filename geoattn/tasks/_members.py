"""The training of the members of a run: each from where its checkpoint stands, its best weights kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from torch import nn

from geoattn.domains.ensemble import Ensemble
from geoattn.errors import InputError
from geoattn.tasks._run import RunFolder, say
from geoattn.tasks._training import EpochSeed, Keeper, Progress, make_trainer

MakeModule = Callable[[], LightningModule]


class TaskData(Protocol):
    """What a fit asks of the data of a task, a ``LightningDataModule``, after ``setup``.

    Attributes:
        table: one row per sample, with its ``id``.
        split: row numbers under train, valid and test.
        split_spec, split_seed: how the parts were made.
        rejected: file, line, column, value and reason of each row that cannot be used.
        preprocess: JSON values, all that is needed to read new samples in the same way.
        notes: sentences about what was done to the data that a report should repeat.
        seed: of the order of the samples.
    """

    table: pd.DataFrame
    split: dict[str, list[int]]
    split_seed: int
    rejected: pd.DataFrame
    preprocess: dict[str, Any]
    notes: list[str]
    seed: int

    @property
    def split_spec(self) -> str | None: ...


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
    data: TaskData,
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
    data: TaskData,
    make_module: MakeModule,
    shown: str,
    seed: int,
    label: str | None,
    write_history: Callable[[pd.DataFrame], None],
) -> tuple[LightningModule, Keeper, torch.device]:
    """Train one member from where its checkpoint stands; its best weights are in ``averaged``."""
    assert isinstance(data, LightningDataModule)
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
