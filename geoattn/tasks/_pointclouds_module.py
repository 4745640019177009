"""Training of one model of point clouds: network, loss, optimiser, validation."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from geoattn.datasets.pointclouds import PointCloudData
from geoattn.domains.pointclouds.batch import CloudBatch
from geoattn.domains.pointclouds.metrics import evaluate_classes, evaluate_normals, evaluate_segments
from geoattn.domains.pointclouds.point_transformer_model import PointTransformerModel, Symmetry
from geoattn.domains.pointclouds.risur_model import RISurModel
from geoattn.errors import InputError
from geoattn.layers.risurconv import Attention
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine

ModelName = Literal["risur", "point-transformer"]
WIDTHS = {"classification": (64, 128, 256), "segmentation": (64, 128), "normals": (64, 128)}
TRANSFORMER_WIDTHS = (32, 64, 128, 256)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse numbers that no network and no training can use, whatever the data are.

    Args:
        options: of `PointCloudModule`.

    Raises:
        InputError: names the first such option.
    """
    check_ranges(**{name: (options[name], 0, 1) for name in ("dropout", "label_smoothing", "warmup", "ema_decay")})
    for name, least in (("context", 0), ("num_neighbors", 1), ("weight_decay", 0)):
        if not least <= options[name] < math.inf:
            raise InputError(f"model.{name}: got {options[name]}, expected at least {least}.")
    if not 0 < options["learning_rate"] < math.inf:
        raise InputError(f"model.learning_rate: got {options['learning_rate']}, expected a number above 0.")


class PointCloudModule(lightning.LightningModule):
    """One network with its loss, optimiser and averaged weights.

    Classes are learned with the cross entropy; points without a class count for nothing. Normals are learned with 1
    minus the cosine of the angle. Validation uses the moving average of the weights; ``averaged`` is the model to keep.

    Args:
        data: after ``setup`` and `read_clouds`.
        name: risur (the same answer however a cloud stands) or point-transformer (knows how it stands). For classes
            of clouds risur needs batches of at least 2; if one cloud is left over for the last batch of an epoch, that
            batch is passed over, and it is another cloud each time.
        symmetry: point-transformer: none, frames (its mean over four principal frames), or canonical (a small network
            learns to turn each cloud upright first). risur needs none.
        widths: channels after each level; one number more than levels for classification. By task if left out.
        edge_channels: risur: channels of the features of neighbours.
        attention: risur: among neighbors, centers, both or none.
        num_layers: risur: of the transformer among the centres of the last level.
        context: risur: channels of what a point knows of its whole cloud; 0 leaves it out, as the paper does.
        num_neighbors: point-transformer: points that each point attends to.
        dropout: share of values dropped in training before the last maps.
        label_smoothing: share of each label that is spread over all classes.
        balance: weight classes so that each counts the same in the loss, however frequent it is.
        oriented: normals: false if the sides of the training normals mean nothing.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises; afterwards it falls as a half cosine.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
        keep: best keeps the weights of the lowest validation loss, last those of the end.
    """

    class_weight: Tensor

    def __init__(
        self,
        data: PointCloudData,
        name: ModelName = "risur",
        symmetry: Symmetry = "none",
        widths: list[int] | None = None,
        edge_channels: int = 32,
        attention: Attention = "both",
        num_layers: int = 1,
        context: int = 32,
        num_neighbors: int = 16,
        dropout: float = 0.4,
        label_smoothing: float = 0.1,
        balance: bool = False,
        oriented: bool = True,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        warmup: float = 0.2,
        ema_decay: float = 0.99,
        keep: Literal["best", "last"] = "best",
    ) -> None:
        super().__init__()
        self.needs_two = name == "risur" and data.task == "classification"
        if self.needs_two and data.batch_size < 2:
            raise InputError(
                "data.batch_size: got 1, expected at least 2: risur normalises over the clouds of a batch."
            )
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.ema_decay, self.keep = warmup, ema_decay, keep
        self.task, self.oriented, self.label_smoothing = data.task, oriented, label_smoothing
        outputs = {"classification": len(data.class_names), "segmentation": len(data.segment_names), "normals": 3}
        self.num_outputs = outputs[data.task]
        self.network: nn.Module
        if name == "risur":
            if symmetry != "none":
                raise InputError(f"model.symmetry: got {symmetry!r}, but risur is invariant by itself. Leave it out.")
            chosen = _widths(data, widths)
            _multiples("widths", chosen, 4)
            _multiples("edge_channels", [edge_channels], 4)
            self.network = RISurModel(
                data.task, self.num_outputs, chosen, edge_channels, attention, num_layers, context, dropout
            )
        else:
            chosen = list(TRANSFORMER_WIDTHS) if widths is None else widths
            if len(chosen) < 2:
                raise InputError(f"model.widths: got {chosen}, expected at least two numbers for point-transformer.")
            _multiples("widths", chosen[1:], 8)
            if data.task == "normals":
                raise InputError("model.name: point-transformer learns no normals. Use risur.")
            self.network = PointTransformerModel(data.task, self.num_outputs, symmetry, chosen, num_neighbors, dropout)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.register_buffer("class_weight", class_weights(data, self.num_outputs, balance), persistent=False)
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, Tensor, list[int]]] = []

    def training_step(self, batch: CloudBatch, batch_idx: int) -> Tensor | None:
        if self.needs_two and len(batch.label) < 2:
            return None  # a last batch of one cloud, which is another one in each epoch
        loss = self._loss(self.network(batch), _target(batch, self.task), self.label_smoothing)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: CloudBatch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: CloudBatch, batch_idx: int) -> None:
        self._validation.append((self.averaged(batch), _target(batch, self.task), batch.pyramid.ptr[0].diff().tolist()))

    def on_validation_epoch_end(self) -> None:
        outputs, targets, sizes = zip(*self._validation, strict=True)
        self._validation.clear()
        output, target = torch.cat(outputs), torch.cat(targets)
        self.log("valid_loss", self._loss(output, target))
        for name, value in _scores(output, target, [n for part in sizes for n in part], self.task).items():
            if value is not None:
                self.log(f"valid_{name}", value)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        if self.task == "normals":
            cosine = F.cosine_similarity(output, target)
            return (1 - (cosine if self.oriented else cosine.abs())).mean()
        if not (target >= 0).any():
            return 0 * output.sum()
        return F.cross_entropy(output, target, self.class_weight, ignore_index=-1, label_smoothing=label_smoothing)


def class_weights(data: PointCloudData, num_classes: int, balance: bool) -> Tensor:
    """``[K]`` ones, or weights with which each class of the training part counts the same in sum."""
    if not balance or data.task == "normals":
        return torch.ones(num_classes)
    counts = np.zeros(num_classes)
    for cloud in data.part("train"):
        known = np.asarray([cloud.label] if data.task == "classification" else cloud.segment)
        counts += np.bincount(known[known >= 0], minlength=num_classes)
    there = counts > 0
    weight = np.where(there, counts.sum() / (there.sum() * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weight).float()


def _target(batch: CloudBatch, task: str) -> Tensor:
    if task == "classification":
        return batch.label
    assert batch.target is not None  # data refuse clouds without it
    return batch.target


def _scores(output: Tensor, target: Tensor, sizes: Sequence[int], task: str) -> dict[str, float | None]:
    """Name -> value of the metrics of the validation part."""
    y, p = target.cpu(), output.float().cpu()
    if task == "classification":
        found = evaluate_classes(y.numpy(), p.numpy(), num_bootstrap=0)
    elif task == "segmentation":
        parts = [[part.numpy() for part in values.split(list(sizes))] for values in (y, p.argmax(1))]
        found = evaluate_segments(*parts, num_bootstrap=0)
    else:
        found = evaluate_normals([y.numpy()], [p.numpy()], num_bootstrap=0)
    return {name: entry["value"] for name, entry in found.items()}


def _widths(data: PointCloudData, widths: list[int] | None) -> list[int]:
    """Channels of each level, as many as the task needs."""
    levels = data.preprocess["levels"]
    chosen = list(WIDTHS[data.task]) if widths is None else widths
    expected = len(levels) + (data.task == "classification")
    if len(chosen) != expected:
        raise InputError(
            f"model.widths: got {chosen} for features.levels {levels}, expected {expected} numbers for {data.task}."
        )
    return chosen


def _multiples(name: str, values: Sequence[int], of: int) -> None:
    wrong = [value for value in values if value < of or value % of]
    if wrong:
        raise InputError(f"model.{name}: got {wrong[0]}, expected a multiple of {of}.")
