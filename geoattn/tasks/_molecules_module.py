"""Training of one molecular property model: network, loss, optimiser, validation."""

from __future__ import annotations

import copy
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch

from geoattn.datasets.molecules import MoleculesData
from geoattn.domains.metrics import evaluate
from geoattn.domains.molecules.egnn_model import EGNNModel
from geoattn.domains.molecules.graph_attention_model import GraphAttentionModel
from geoattn.domains.molecules.pooling import Pooling
from geoattn.tasks._molecules_evaluate import in_units
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine

Loss = Literal["mse", "l1", "huber"]


class MoleculesModule(lightning.LightningModule):
    """One network with its loss, optimiser and averaged weights.

    Validation uses the moving average of the weights; ``averaged`` is the model to keep.

    Args:
        data: after ``setup``: says the width of the input, the elements, the targets and their transform.
        name: egnn (atoms in space) or graph-attention (atoms and bonds).
        hidden_channels: width of the atoms' representation.
        num_layers: layers; each looks one edge further.
        num_heads: graph-attention: attention heads.
        num_rbf: egnn: Gaussians of the distance.
        dropout: share of values dropped in training.
        pooling: sum for targets that grow with the molecule, mean for others; by the task if left out: sum for energy.
        loss: mse, l1 or huber on normalised targets; classification always uses the cross entropy. Gaps do not count.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises; afterwards it falls as a half cosine.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
    """

    def __init__(
        self,
        data: MoleculesData,
        name: Literal["egnn", "graph-attention"] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 4,
        num_heads: int = 4,
        num_rbf: int = 32,
        dropout: float = 0.0,
        pooling: Pooling | None = None,
        loss: Loss = "mse",
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        warmup: float = 0.05,
        ema_decay: float = 0.999,
    ) -> None:
        super().__init__()
        check_ranges(dropout=(dropout, 0, 1), warmup=(warmup, 0, 1), ema_decay=(ema_decay, 0, 1))
        self.task = data.task
        self.transform = data.target_transform
        self.loss_name, self.learning_rate, self.weight_decay = loss, learning_rate, weight_decay
        self.warmup, self.ema_decay = warmup, ema_decay
        shared: dict[str, Any] = dict(
            out_channels=data.num_targets,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            dropout=dropout,
            pooling=pooling or ("sum" if data.task == "energy" else "mean"),
        )
        self.network: nn.Module
        if data.preprocess["graph"] == EGNNModel.graph:
            cutoff = data.preprocess["cutoff"]
            self.network = EGNNModel(**shared, elements=data.elements, cutoff=cutoff, num_rbf=num_rbf)
        else:
            self.network = GraphAttentionModel(**shared, **_graph_dimensions(data), num_heads=num_heads)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def loss(self, prediction: Tensor, target: Tensor, reduction: Literal["sum", "mean"] = "mean") -> Tensor:
        """Loss over the known values; NaN in ``target [B, T]`` is a gap."""
        known = ~torch.isnan(target)
        prediction, target = prediction[known], target[known]
        if self.task == "classification":
            total = F.binary_cross_entropy_with_logits(prediction, target, reduction="sum")
        elif self.loss_name == "mse":
            total = F.mse_loss(prediction, target, reduction="sum")
        elif self.loss_name == "l1":
            total = F.l1_loss(prediction, target, reduction="sum")
        else:
            total = F.huber_loss(prediction, target, reduction="sum")
        return total if reduction == "sum" else total / max(1, target.numel())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(self.network(batch), batch.target)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        prediction = self.averaged(batch)
        y = batch.target if self.task == "classification" else in_units(batch.target, batch, self.transform)
        self._validation.append((prediction, batch.target, in_units(prediction, batch, self.transform), y))

    def on_validation_epoch_end(self) -> None:
        prediction, target, values, y = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        known = int((~torch.isnan(target)).sum())
        self.log("valid_loss", self.loss(prediction, target, "sum") / max(1, known))
        for name, entry in evaluate(y.cpu().numpy(), values.cpu().numpy(), self.task, num_bootstrap=0).items():
            if entry["value"] is not None:
                self.log(f"valid_{name}", entry["value"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _graph_dimensions(data: MoleculesData) -> dict[str, Any]:
    sample, descriptors = data.samples[0], data.preprocess["descriptors"]
    return {
        "in_channels": sample["x"].shape[1],
        "edge_channels": sample["edge_attr"].shape[1],
        "num_descriptors": 0 if descriptors is None else len(descriptors["names"]),
    }
