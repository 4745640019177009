"""Training of one model of fields on the sphere: network, loss, optimiser, validation."""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F

from geoattn.datasets.sphere import SphereData
from geoattn.domains.sphere.baselines import continued_channels
from geoattn.domains.sphere.batch import FieldBatch
from geoattn.domains.sphere.transformer_model import Network, SphereModel
from geoattn.errors import InputError
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine

WIDTHS = {"transformer": (64,), "unet": (32, 64, 96)}
LAYERS = {"transformer": 4, "unet": 1}


class SphereModule(lightning.LightningModule):
    """One network with its loss, optimiser and averaged weights.

    Points count by their area, and only where the target is known. Values are learned with the squared error, of a
    forecast in units of each variable's usual change; classes with the cross entropy. Validation uses the moving
    average of the weights; ``averaged`` is the model to keep.

    Args:
        data: after ``setup``.
        network: transformer (blocks on one coarser level; forecasts, regression) or unet (several levels;
            segmentation). By task if left out.
        channels: width of the transformer, or on each level of the unet, from the finest; by network if left out.
        num_heads: of each attention.
        num_layers: blocks of the transformer, or of each level of the unet; by network if left out.
        window: width of the disk at which a point looks, in cells of its level.
        planar: take the map for a plane, with windows of pixels that all count the same, for comparison.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises; afterwards it falls as a half cosine.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
    """

    area: Tensor

    def __init__(
        self,
        data: SphereData,
        network: Network | None = None,
        channels: list[int] | None = None,
        num_heads: int = 4,
        num_layers: int | None = None,
        window: float = 7.0,
        planar: bool = False,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__()
        check_ranges(warmup=(warmup, 0, 1), ema_decay=(ema_decay, 0, 1))
        if not 0 < learning_rate < math.inf:
            raise InputError(f"model.learning_rate: got {learning_rate}, expected a number above 0.")
        if not 0 <= weight_decay < math.inf:
            raise InputError(f"model.weight_decay: got {weight_decay}, expected at least 0.")
        if not 1 <= window < math.inf:
            raise InputError(f"model.window: got {window}, expected at least 1: a point's own cell.")
        kind: Network = network or ("unet" if data.task == "segmentation" else "transformer")
        widths = list(WIDTHS[kind]) if channels is None else channels
        _check_widths(kind, widths, num_heads)
        if planar and data.grid.shape is None:
            raise InputError(f"model.planar: {data.grid} are no map. Leave it out.")
        self.task, settings = data.task, data.preprocess
        inputs, targets = settings["inputs"], settings["targets"]
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.ema_decay = warmup, ema_decay
        base = continued_channels(settings)
        self.network = SphereModel(
            settings["grid"],
            settings["history"] * len(inputs) + len(settings["static"]),
            len(settings["class_names"]) if data.task == "segmentation" else len(targets),
            base,
            kind,
            widths,
            num_heads,
            LAYERS[kind] if num_layers is None else num_layers,
            window,
            planar,
        )
        points = data.grid.points
        self.register_buffer("area", points.weight.float() / points.weight.mean().float(), persistent=False)
        if data.task == "forecast":
            known = [settings["statistics"][name] for name in targets]
            self.network.change.copy_(torch.tensor([one["change_std"] / one["std"] for one in known]))
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._losses: list[Tensor] = []
        self._validation: list[Tensor] = []

    def training_step(self, batch: FieldBatch, batch_idx: int) -> Tensor:
        loss = self._loss(self.network(batch), batch)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: FieldBatch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: FieldBatch, batch_idx: int) -> None:
        output = self.averaged(batch)
        error, area = self._errors(output, batch), self.area * batch.known
        if self.task == "segmentation":
            score = (output.argmax(1, keepdim=True) == batch.targets).to(error.dtype)
        else:
            score = (output - batch.targets).square()
        self._validation.append(torch.stack([(error * area).sum(), (score * area).sum(), area.sum()]).double())

    def on_validation_epoch_end(self) -> None:
        loss, score, area = torch.stack(self._validation).sum(0)
        self._validation.clear()
        self.log("valid_loss", (loss / area).float())
        if self.task == "segmentation":
            self.log("valid_area_accuracy", (score / area).float())
        else:
            self.log("valid_nrmse", (score / area).sqrt().float())

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        parameters = self.network.parameters()
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, output: Tensor, batch: FieldBatch) -> Tensor:
        error, area = self._errors(output, batch), self.area * batch.known
        return (error * area).sum() / area.sum().clamp_min(torch.finfo(error.dtype).tiny)

    def _errors(self, output: Tensor, batch: FieldBatch) -> Tensor:
        """``[B, Ct, N]`` of a batch, whether the target is known or not."""
        if self.task == "segmentation":
            return F.cross_entropy(output, batch.targets[:, 0], reduction="none")[:, None]
        return ((output - batch.targets) / self.network.change[:, None]).square()


def _check_widths(network: str, widths: list[int], num_heads: int) -> None:
    if num_heads < 1:
        raise InputError(f"model.num_heads: got {num_heads}, expected at least 1.")
    if network == "transformer" and len(widths) != 1:
        raise InputError(f"model.channels: got {widths}, expected one number for the transformer.")
    wrong = [width for width in widths if width < 1 or width % num_heads]
    if wrong or not widths:
        raise InputError(f"model.channels: got {widths}, expected multiples of num_heads = {num_heads}.")
