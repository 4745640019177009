"""Training of one model of scenes: network, loss, optimiser, validation."""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F

from geoattn.datasets.multiview import MultiviewData
from geoattn.domains.multiview.batch import ViewBatch
from geoattn.domains.multiview.transformer_model import MultiViewModel
from geoattn.errors import InputError
from geoattn.models.multiview import STRIDE, PoseEncoding
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine


class MultiviewModule(lightning.LightningModule):
    """One network with its loss, optimiser and averaged weights.

    The loss is the mean squared error of the colours of the drawn rays. Validation uses the moving average of the
    weights on whole images; ``averaged`` is the model to keep.

    Args:
        data: after ``setup``.
        pose: how cameras enter the network: gta (how they stand to each other acts on queries, keys and values),
            absolute (embedded rays), or rope (embedded rays that also turn queries and keys).
        channels: of a token.
        num_heads: of each attention; a head has a multiple of 16 channels.
        num_layers: blocks of attention among the tokens of the given views.
        decoder_layers: blocks from the asked rays to the tokens.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises; afterwards it falls as a half cosine.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
    """

    def __init__(
        self,
        data: MultiviewData,
        pose: PoseEncoding = "gta",
        channels: int = 128,
        num_heads: int = 4,
        num_layers: int = 3,
        decoder_layers: int = 2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__()
        check_ranges(warmup=(warmup, 0, 1), ema_decay=(ema_decay, 0, 1))
        for name, value, lowest in (("num_heads", num_heads, 1), ("decoder_layers", decoder_layers, 1)):
            if value < lowest:
                raise InputError(f"model.{name}: got {value}, expected at least {lowest}.")
        if channels < 1 or channels % (16 * num_heads):
            raise InputError(
                f"model.channels: got {channels} for {num_heads} heads, expected a multiple of {16 * num_heads}."
            )
        if not 0 < learning_rate < math.inf:
            raise InputError(f"model.learning_rate: got {learning_rate}, expected a number above 0.")
        if not 0 <= weight_decay < math.inf:
            raise InputError(f"model.weight_decay: got {weight_decay}, expected at least 0.")
        height, width = data.scenes[0].size
        if height % STRIDE or width % STRIDE:
            raise InputError(
                f"data.image_size: images have {width} x {height} pixels, expected multiples of {STRIDE}. "
                f"Choose one with --data.image-size."
            )
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.ema_decay = warmup, ema_decay
        lens = float(np.median([scene.intrinsics[:, 0, 0] / width for scene in data.scenes]))
        self.network = MultiViewModel(pose, channels, num_heads, num_layers, decoder_layers, lens)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._losses: list[Tensor] = []
        self._errors: list[Tensor] = []

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        loss = F.mse_loss(self.network(batch), batch.colors)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: ViewBatch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self._errors.append((self.averaged(batch) - batch.colors).square().flatten(1).mean(1))

    def on_validation_epoch_end(self) -> None:
        error = torch.cat(self._errors)
        self._errors.clear()
        self.log("valid_loss", error.mean())
        self.log("valid_psnr", (-10 * torch.log10(error.clamp_min(1e-10))).mean())

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        parameters = self.network.parameters()
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
