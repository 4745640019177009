import errno
import math
import os
import warnings
from itertools import pairwise

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from geoattn.errors import InputError
from geoattn.tasks._training import (
    AtomicCheckpointIO,
    EpochSeed,
    Keeper,
    Progress,
    _duration,
    make_trainer,
    update_average,
    warmup_cosine,
)


def test_the_learning_rate_rises_and_falls():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=100, warmup=0.1)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.2) and rates[9] == pytest.approx(2.0) == max(rates)
    assert rates[10 + 45] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_moving_average_against_its_definition():
    model, average = nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    expected = model.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.add_(torch.randn_like(model.weight))
        update_average(average, model, step, decay=0.6)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(average.weight, expected)
    update_average(average, model, 30, decay=0.0)
    torch.testing.assert_close(average.weight, model.weight)


def test_moving_average_takes_buffers_as_they_are():
    model, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    model(torch.randn(8, 2))
    update_average(average, model, 1, decay=0.9)
    torch.testing.assert_close(average.running_mean, model.running_mean)
    assert average.num_batches_tracked == 1


def test_disk_full_during_a_checkpoint_keeps_the_old_one(tmp_path, monkeypatch):
    path, plugin = tmp_path / "a.ckpt", AtomicCheckpointIO()
    plugin.save_checkpoint({"epoch": 1}, path)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("geoattn._files.os.fsync", full)
    with pytest.raises(InputError, match=r"a\.ckpt cannot be written: No space left on device"):
        plugin.save_checkpoint({"epoch": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["a.ckpt"]


class Toy(lightning.LightningModule):
    """Draws a number each epoch, and has the validation losses that it is told."""

    def __init__(self, losses):
        super().__init__()
        self.layer, self.losses, self.drawn = nn.Linear(1, 1), losses, []

    def training_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.drawn.append(float(torch.rand(1)))
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("valid_loss", self.losses[self.current_epoch])

    def on_train_epoch_end(self):
        self.log("train_loss", float(self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


OPTIONS = {"max_epochs": 4, "devices": 1, "logger": False, "accelerator": "cpu"}


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.filterwarnings("ignore::FutureWarning:lightning")
class TestKeeper:
    def fit(self, tmp_path, losses, **options):
        module, loader = Toy(losses), DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
        keeper = Keeper(tmp_path / "a.ckpt", lambda module: module.layer)
        trainer = make_trainer({**OPTIONS, **options}, [EpochSeed(3), keeper], tmp_path)
        checkpoint = str(keeper.path) if keeper.path.exists() else None
        trainer.fit(module, loader, loader, ckpt_path=checkpoint, weights_only=True)
        return module, keeper

    def test_best_is_by_validation_loss(self, tmp_path):
        module, keeper = self.fit(tmp_path, [3.0, 1.0, 2.0, 1.5])
        assert (keeper.best_epoch, keeper.best_loss) == (2, 1.0)
        assert not torch.equal(keeper.best_weights["weight"], module.layer.weight)
        assert [row["epoch"] for row in keeper.history] == [1, 2, 3, 4]
        assert [row["valid_loss"] for row in keeper.history] == [3.0, 1.0, 2.0, 1.5]
        assert [row["train_loss"] for row in keeper.history] == [0.0, 1.0, 2.0, 3.0]

    def test_nan_is_never_best(self, tmp_path):
        _, keeper = self.fit(tmp_path, [math.nan] * 4)
        assert keeper.best_weights == {}

    def test_epochs_without_validation(self, tmp_path):
        _, keeper = self.fit(tmp_path, [9.0, 3.0, 0.0, 2.0], check_val_every_n_epoch=2)
        assert (keeper.best_epoch, keeper.best_loss) == (4, 2.0)
        assert ["valid_loss" in row for row in keeper.history] == [False, True, False, True]

    def test_a_finished_checkpoint_gives_back_its_state(self, tmp_path):
        _, first = self.fit(tmp_path, [3.0, 1.0, 2.0, 1.5])
        module, second = self.fit(tmp_path, [0.0] * 4)
        assert module.drawn == []
        assert second.history == first.history and second.best_epoch == 2

    def test_what_is_drawn_depends_on_seed_and_epoch(self, tmp_path):
        module, _ = self.fit(tmp_path, [1.0] * 4)
        assert len(set(module.drawn)) == 4
        torch.manual_seed(99)
        (tmp_path / "a.ckpt").unlink()
        assert self.fit(tmp_path, [1.0] * 4)[0].drawn == module.drawn


def test_progress_lines(capsys, tmp_path):
    module, loader = Toy([1.0] * 4), DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    options = {**OPTIONS, "enable_checkpointing": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(options, [Progress("Toy")], tmp_path)
        trainer.fit(module, loader, loader)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert not out, "talk goes to standard error"
    assert lines[0].startswith("Toy: epoch 1 of 4, train loss 0, valid loss 1, ")
    assert lines[-1].startswith("Toy: epoch 4 of 4, train loss 3") and lines[-1].endswith("0:00 left")


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"max_epochs": None}, {"devices": 2}])
def test_options_that_cannot_be_used(options, tmp_path):
    with pytest.raises(InputError, match=f"trainer.{next(iter(options))}: got"):
        make_trainer({**OPTIONS, **options}, [], tmp_path)


def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="trainer: "):
        make_trainer({**OPTIONS, "accelerator": "tpu"}, [], tmp_path)


def test_duration():
    assert [_duration(s) for s in (0.4, 61, 3599.6, 7322)] == ["0:00", "1:01", "1:00:00", "2:02:02"]
