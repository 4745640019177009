"""How a potential is trained: the loss on energies, forces and stress, the optimiser, averaged weights."""

from __future__ import annotations

import copy
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from geoattn.datasets.molecule_trajectories import TrajectoryData
from geoattn.domains.molecules.depthwise_potential import EquiformerPotential
from geoattn.domains.molecules.egnn_potential import EGNNPotential
from geoattn.domains.molecules.equiformer_potential import EquiformerV2Potential
from geoattn.domains.molecules.potential import Potential
from geoattn.domains.molecules.structures import StructureBatch
from geoattn.errors import InputError
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine

Loss = Literal["mse", "huber"]
Schedule = Literal["cosine", "plateau"]


class ForcesModule(lightning.LightningModule):
    """One potential with its loss, optimiser and averaged weights.

    The loss of a batch is, with s the scale of the forces,
    ``energy_weight <l(E error / (atoms s))> + force_weight <l(F error / s)> + stress_weight <l(V stress error /
    (atoms s))>``, where ``<>`` is the mean over structures, atoms and structures, and ``l(x)`` is ``|x|^2`` (mse) or
    ``|x|^2 / d`` below and ``2 |x| - d`` above ``|x| = d`` (huber).

    Args:
        data: after ``setup``: says the elements, reference energies, cutoff and scale.
        name: equiformer (features that turn with the structure, fast for few degrees), equiformer-v2 (the same for many
            degrees) or egnn (distances alone, cheap).
        channels: width of the atoms' representation; of each degree.
        num_layers: layers; each looks one cutoff further.
        num_radial: functions of the distance.
        lmax: equiformer, equiformer-v2: largest degree.
        mmax: equiformer-v2: largest order kept in the frame of an edge; lmax if left out.
        num_heads: equiformer, equiformer-v2: attention heads.
        loss: mse, or huber, which is not led by a few large errors.
        huber_delta: d, where huber turns from a square into a line, in units of s.
        energy_weight: of the energy per atom.
        force_weight: of the forces.
        stress_weight: of the stress; needs --data.stress-key.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        schedule: cosine falls to zero over the training; plateau halves the rate when the validation loss stands still.
        warmup: share of the training in which the learning rate rises.
        patience: plateau: epochs without a better validation loss before the rate is halved.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
    """

    def __init__(
        self,
        data: TrajectoryData,
        name: Literal["egnn", "equiformer", "equiformer-v2"] = "equiformer",
        channels: int = 32,
        num_layers: int = 3,
        num_radial: int = 16,
        lmax: int = 2,
        mmax: int | None = None,
        num_heads: int = 4,
        loss: Loss = "huber",
        huber_delta: float = 0.01,
        energy_weight: float = 1.0,
        force_weight: float = 1.0,
        stress_weight: float = 0.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "cosine",
        warmup: float = 0.01,
        patience: int = 50,
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__()
        check_ranges(warmup=(warmup, 0, 1), ema_decay=(ema_decay, 0, 1))
        if not huber_delta > 0:
            raise InputError(f"model.huber_delta: got {huber_delta}, expected a number above 0.")
        if stress_weight and data.keys.stress is None:
            raise InputError("model.stress_weight: no stress was read. Name its info key with --data.stress-key.")
        if min(energy_weight, force_weight, stress_weight) < 0 or energy_weight + force_weight + stress_weight == 0:
            got = f"energy {energy_weight}, force {force_weight}, stress {stress_weight}"
            raise InputError(f"model weights of the loss: got {got}, expected none below 0 and one above.")
        self.loss_name, self.huber_delta = loss, huber_delta
        self.weights = {"energy": energy_weight, "forces": force_weight, "stress": stress_weight}
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.schedule, self.warmup, self.patience, self.ema_decay = schedule, warmup, patience, ema_decay
        shared: dict[str, Any] = dict(
            elements=data.elements,
            references=data.references_of,
            scale=data.scale,
            cutoff=data.cutoff,
            channels=channels,
            num_layers=num_layers,
            num_radial=num_radial,
        )
        self.network: Potential
        if name == "egnn":
            self.network = EGNNPotential(**shared)
        else:
            shared.update(lmax=lmax, num_heads=num_heads, average_degree=data.average_degree)
            if name == "equiformer":
                self.network = EquiformerPotential(**shared)
            else:
                self.network = EquiformerV2Potential(**shared, mmax=mmax)
        self.network.start_at(data.mean_energy)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, ...]] = []

    def loss(self, prediction: dict[str, Tensor], batch: StructureBatch) -> Tensor:
        """Weighted loss of a batch; see the class."""
        scale, num_atoms = self.network.scale, batch.num_atoms
        assert batch.energy is not None and batch.forces is not None
        total = torch.zeros((), device=batch.pos.device)
        if weight := self.weights["energy"]:
            error = (prediction["energy"] - batch.energy) / (num_atoms * scale)
            total = total + weight * self._penalty(error.to(batch.pos.dtype).square()).mean()
        if weight := self.weights["forces"]:
            error = (prediction["forces"] - batch.forces) / scale
            total = total + weight * self._penalty(error.square().sum(-1)).mean()
        if weight := self.weights["stress"]:
            total = total + weight * self._stress_loss(prediction["stress"], batch)
        return total

    def _stress_loss(self, stress: Tensor, batch: StructureBatch) -> Tensor:
        """Over the structures whose stress is known; as virial per atom, an energy like the others."""
        if batch.stress is None or batch.volume is None:
            return stress.new_zeros(())
        known = torch.isfinite(batch.stress).all(-1).all(-1) & torch.isfinite(batch.volume)
        per_atom = (batch.volume / (batch.num_atoms * self.network.scale))[known, None, None]
        error = (stress[known] - batch.stress[known]) * per_atom
        return self._penalty(error.square().sum((1, 2))).sum() / known.sum().clamp(min=1)

    def _penalty(self, squared: Tensor) -> Tensor:
        """Of squared lengths of errors."""
        if self.loss_name == "mse":
            return squared
        delta = self.huber_delta
        inside = squared < delta**2
        length = squared.masked_fill(inside, 1.0).sqrt()  # no root of zero, whose slope is infinite
        return torch.where(inside, squared / delta, 2 * length - delta)

    def training_step(self, batch: StructureBatch, batch_idx: int) -> Tensor:
        prediction = self.network(batch, forces=self.weights["forces"] > 0, stress=self.weights["stress"] > 0)
        loss = self.loss(prediction, batch)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: StructureBatch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: StructureBatch, batch_idx: int) -> None:
        prediction = self.averaged(batch, stress=self.weights["stress"] > 0)
        assert batch.energy is not None and batch.forces is not None
        energy = (prediction["energy"] - batch.energy).abs()
        forces = (prediction["forces"] - batch.forces).abs()
        count = energy.new_tensor([energy.numel(), forces.numel()])
        parts = (self.loss(prediction, batch).double() * energy.numel(), energy.sum(), forces.sum().double())
        self._validation.append((*parts, count))

    def on_validation_epoch_end(self) -> None:
        loss, energy, forces, count = (torch.stack(parts).sum(0) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log("valid_loss", loss / count[0])
        self.log("valid_energy_mae", energy / count[0])
        self.log("valid_force_mae", forces / count[1])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        if self.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=self.patience)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "interval": "epoch", "monitor": "valid_loss"},
            }
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
