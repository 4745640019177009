"""Training of one model of moving bodies: network, loss, optimiser, validation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from geoattn.datasets.dynamics import DynamicsData
from geoattn.domains.dynamics.batch import Prediction, SystemBatch
from geoattn.domains.dynamics.egnn_model import EGNNDynamics
from geoattn.domains.dynamics.integrator_model import PairForceIntegrator
from geoattn.domains.dynamics.se3_transformer_model import SE3TransformerDynamics
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine

Loss = Literal["mse", "l1", "huber", "log"]

LOG_LOSS_SCALE = 1e-4
"""Mean squared error, in the model's units, above which the log loss grows as the logarithm."""

ONLY_FOR = {
    "num_layers": ("egnn", "se3_transformer"),
    "velocity": ("egnn",),
    "pos_aggr": ("egnn",),
    "lmax": ("se3_transformer",),
    "num_heads": ("se3_transformer",),
    "reflections": ("se3_transformer",),
    "kernel": ("se3_transformer",),
    "steps": ("integrator",),
    "eval_steps": ("integrator",),
}
"""Options that are none of every model -> the models that have them."""


def own_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a fit without those that are none of its model's, which would say nothing about the run."""
    options = config["model"]
    own = {key: value for key, value in options.items() if options["name"] in ONLY_FOR.get(key, (options["name"],))}
    return {**config, "model": own}


class DynamicsModule(lightning.LightningModule):
    """One network with its loss, optimiser and averaged weights.

    Validation uses the moving average of the weights; ``averaged`` is the model to keep.

    Args:
        data: after ``setup``: says which properties bodies and pairs have, and whether velocities are learned.
        name: egnn, se3_transformer, or integrator: a learned law of force between pairs, and small steps in time.
        hidden_channels: width of the bodies' representation; if left out 64 for egnn, 8 per degree for se3_transformer,
            32 for integrator.
        num_layers: egnn, se3_transformer: layers.
        velocity: egnn: the velocity that layers after the first use, the initial one or the updated one.
        pos_aggr: egnn: positions move by the mean or the sum over the other bodies.
        lmax: se3_transformer: highest degree.
        num_heads: se3_transformer: attention heads.
        reflections: se3_transformer: equivariant under reflections too.
        kernel: se3_transformer: full kernels as published, or the cheaper depthwise or so2.
        steps: integrator: steps in time while training.
        eval_steps: integrator: steps in time otherwise.
        loss: mse, l1 or huber of the coordinates, or log, the mean over systems of log(1 + mse / 1e-4), which a few
            chaotic systems cannot rule; in the model's units; velocities count the same.
        learning_rate: of Adam, at its highest.
        weight_decay: of Adam.
        warmup: share of the training in which the learning rate rises; afterwards it falls as a half cosine to zero.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
    """

    def __init__(
        self,
        data: DynamicsData,
        name: Literal["egnn", "se3_transformer", "integrator"] = "egnn",
        hidden_channels: int | None = None,
        num_layers: int = 4,
        velocity: Literal["initial", "updated"] = "initial",
        pos_aggr: Literal["mean", "sum"] = "mean",
        lmax: int = 3,
        num_heads: int = 1,
        reflections: bool = False,
        kernel: Literal["full", "depthwise", "so2"] = "full",
        steps: int = 100,
        eval_steps: int = 1000,
        loss: Loss = "mse",
        learning_rate: float = 5e-4,
        weight_decay: float = 1e-12,
        warmup: float = 0.0,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        check_ranges(warmup=(warmup, 0, 1), ema_decay=(ema_decay, 0, 1))
        self.loss_name, self.learning_rate, self.weight_decay = loss, learning_rate, weight_decay
        self.warmup, self.ema_decay = warmup, ema_decay
        self.to_user_units = data.units.length
        known = data.preprocess["quantities"]
        inputs: dict[str, Any] = dict(
            num_node_scalars=len(known["scalars"]),
            num_edge_scalars=known["charge"] + known["edges"],
            predict_velocity=data.velocities,
        )
        if hidden_channels is not None:
            inputs["hidden_channels"] = hidden_channels
        self.network: nn.Module
        if name == "integrator":
            self.network = PairForceIntegrator(**inputs, steps=steps, eval_steps=eval_steps)
        elif name == "se3_transformer":
            self.network = SE3TransformerDynamics(
                **inputs,
                num_layers=num_layers,
                lmax=lmax,
                num_heads=num_heads,
                reflections=reflections,
                kernel=kernel,
            )
        else:
            self.network = EGNNDynamics(**inputs, num_layers=num_layers, velocity=velocity, pos_aggr=pos_aggr)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, Tensor, int]] = []

    def loss(self, prediction: Prediction, batch: SystemBatch) -> Tensor:
        """Mean over all coordinates of positions, plus that of the velocities where they are learned."""
        total = self._compare(prediction.pos, batch.target_pos, batch)
        return total if prediction.vel is None else total + self._compare(prediction.vel, batch.target_vel, batch)

    def _compare(self, found: Tensor, target: Tensor | None, batch: SystemBatch) -> Tensor:
        assert target is not None
        if self.loss_name == "log":
            errors = (found - target).square().mean(1)
            bodies = torch.bincount(batch.batch, minlength=batch.num_systems).clamp(min=1)
            mse = errors.new_zeros(batch.num_systems).index_add(0, batch.batch, errors) / bodies
            return torch.log1p(mse / LOG_LOSS_SCALE).mean()
        functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "mse": F.mse_loss,
            "l1": F.l1_loss,
            "huber": F.huber_loss,
        }
        return functions[self.loss_name](found, target)

    def training_step(self, batch: SystemBatch, batch_idx: int) -> Tensor:
        loss = self.loss(self.network(batch), batch)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: SystemBatch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: SystemBatch, batch_idx: int) -> None:
        prediction = self.averaged(batch)
        assert batch.target_pos is not None
        mse = F.mse_loss(prediction.pos, batch.target_pos)
        self._validation.append((self.loss(prediction, batch), mse, batch.pos.shape[0]))

    def on_validation_epoch_end(self) -> None:
        losses, errors, bodies = zip(*self._validation, strict=True)
        self._validation.clear()
        weight = torch.tensor(bodies, dtype=torch.float64)
        loss, mse = (
            float((torch.stack(values).double().cpu() * weight).sum() / weight.sum()) for values in (losses, errors)
        )
        self.log("valid_loss", loss)
        self.log("valid_mse", mse * self.to_user_units**2)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
