"""What training needs beside Lightning, for every task: averaged weights, exact resuming, one line per epoch."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.cli import instantiate_class
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geoattn._files import atomic_path
from geoattn.errors import InputError

SECONDS_BETWEEN_CHECKPOINTS = 5.0
SECONDS_BETWEEN_LINES = 10.0
TRAINER_OPTIONS_SET_HERE = {
    "barebones", "callbacks", "default_root_dir", "enable_checkpointing", "enable_model_summary",
    "enable_progress_bar", "fast_dev_run", "limit_predict_batches", "limit_test_batches", "max_steps", "min_epochs",
    "min_steps", "model_registry", "num_nodes", "num_sanity_val_steps", "overfit_batches", "plugins", "profiler",
    "reload_dataloaders_every_n_epochs", "strategy", "sync_batchnorm", "use_distributed_sampler",
    "val_check_interval", "enable_autolog_hparams",
}  # fmt: skip
"""Options of Lightning's Trainer that are no option of a verb: geoattn decides them, or they make no sense here."""
TRAINER_DEFAULTS: dict[str, Any] = {"max_epochs": 100, "devices": 1, "logger": False, "gradient_clip_val": 5.0}


def make_trainer(options: Mapping[str, Any], callbacks: list[Callback], folder: Path) -> lightning.Trainer:
    """Lightning's Trainer on one device, silent but for our own callbacks.

    Args:
        options: of the Trainer, without those set here.
        callbacks: all that are wanted.
        folder: where a logger writes, if the user wants one.

    Raises:
        InputError: for options that Lightning or this machine does not allow.
    """
    if not options["max_epochs"] or options["max_epochs"] < 1:
        raise InputError(f"trainer.max_epochs: got {options['max_epochs']}, expected at least 1.")
    if options.get("limit_val_batches") == 0:
        raise InputError("trainer.limit_val_batches: got 0, but the best epoch is chosen on the validation part.")
    try:
        trainer = lightning.Trainer(
            **{**options, "logger": _logger(options["logger"])},
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        raise InputError(f"trainer: {error}") from error
    if trainer.num_devices > 1:
        raise InputError(f"trainer.devices: got {options['devices']}; this task trains on one device.")
    return trainer


def _logger(option: Any) -> Any:
    """What ``--trainer.logger`` says, made: a class with its arguments, several of them, or a switch."""
    if isinstance(option, Mapping):
        return instantiate_class((), dict(option))
    return [_logger(one) for one in option] if isinstance(option, list) else option


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are written whole or not at all; a full disk leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


def check_ranges(**options: tuple[float, float, float]) -> None:
    """Refuse an option of the model that lies outside its range: name -> (value, lowest, what it must stay below)."""
    for name, (value, low, high) in options.items():
        if not low <= value < high:
            raise InputError(f"model.{name}: got {value}, expected a number from {low} to below {high}.")


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float) -> LambdaLR:
    """Learning rate that rises linearly over the first ``warmup`` share of the steps, then falls as a half cosine."""
    rising = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, total_steps - rising))))

    return LambdaLR(optimizer, factor)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move ``average`` towards ``model``: exponential moving average of the weights after optimiser step ``step``.

    The decay starts at 0.1 and rises to ``decay``, so that the first weights, which mean nothing, are soon forgotten.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)
    for kept, current in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(current)


class EpochSeed(Callback):
    """Everything drawn in an epoch (dropout) depends on seed and epoch alone, so a resumed run draws the same."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:  # Lightning leaves out on_train_epoch_start in the first epoch after resuming
            torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)


class Keeper(Checkpoint):
    """One file that holds all it takes to go on: the state of training, the best weights so far, and the history.

    Best is by ``valid_loss``, never by the test part; with ``keep_last`` it is the last epoch. Since it is one file,
    written whole, a run that is killed at any moment goes on from an earlier epoch and repeats exactly what it did.

    Args:
        path: the checkpoint.
        weights_of: gives the module whose weights are kept when they are the best.
        on_save: called when the checkpoint was written.

    Attributes:
        keep_last: keep the weights of the last epoch instead of the best.
        best_epoch, best_loss, best_weights: of the lowest ``valid_loss``; epochs count from 1.
        history: one mapping per epoch: what was logged, ``epoch`` and ``seconds``.
    """

    def __init__(
        self,
        path: Path,
        weights_of: Callable[[lightning.LightningModule], nn.Module],
        on_save: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self.weights_of, self.on_save = path, weights_of, on_save
        self.keep_last = False
        self.best_epoch, self.best_loss = 0, math.inf
        self.best_weights: dict[str, torch.Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._saved_at, self._epoch_began, self._validated = time.monotonic(), 0.0, False

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "best_weights": self.best_weights,
            "history": self.history,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update(state_dict)

    def history_table(self, seed: int) -> pd.DataFrame:
        """The history as rows of ``metrics.csv``."""
        table = pd.DataFrame(self.history)
        table.insert(0, "seed", seed)
        return table

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self._epoch_began, self._validated = time.monotonic(), False

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self._validated:  # what is still there is of an earlier epoch
            logged = {name: value for name, value in logged.items() if not name.startswith("valid_")}
        self.history.append({"epoch": epoch, **logged, "seconds": time.monotonic() - self._epoch_began})
        if logged.get("valid_loss", math.inf) < (math.inf if self.keep_last else self.best_loss):
            self.best_epoch, self.best_loss = epoch, logged["valid_loss"]
            weights = self.weights_of(pl_module).state_dict()
            self.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        last = epoch == trainer.max_epochs
        if last or time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
            trainer.save_checkpoint(self.path)
            self.on_save()
            self._saved_at = time.monotonic()


class Progress(Checkpoint):
    """A bar in a terminal; a plain line now and then where standard error is no terminal.

    It is a Checkpoint because Lightning calls those last, when everything about the epoch has been logged.

    Args:
        label: what is trained, before each line.
        shown: the metrics to show, by their logged names.
    """

    def __init__(self, label: str, shown: tuple[str, ...] = ("train_loss", "valid_loss")) -> None:
        self.label, self.shown = label, shown
        self._bar: Any = None
        self._last_line = self._began = 0.0
        self._epochs_before = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._began, self._epochs_before = time.monotonic(), trainer.current_epoch
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            steps = int(trainer.estimated_stepping_batches)
            self._task = self._bar.add_task(self.label, total=steps, completed=trainer.global_step)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=self._text(trainer))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        now, last = time.monotonic(), trainer.current_epoch + 1 == trainer.max_epochs
        if self._bar is None and (last or now - self._last_line >= SECONDS_BETWEEN_LINES):
            self._last_line = now
            done = trainer.current_epoch + 1 - self._epochs_before
            left = (now - self._began) / done * ((trainer.max_epochs or 0) - trainer.current_epoch - 1)
            print(f"{self._text(trainer)}, {_duration(left)} left", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _text(self, trainer: lightning.Trainer) -> str:
        metrics = trainer.callback_metrics
        shown = [f"{name.replace('_', ' ')} {float(metrics[name]):.4g}" for name in self.shown if name in metrics]
        return ", ".join([f"{self.label}: epoch {trainer.current_epoch + 1} of {trainer.max_epochs}", *shown])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
