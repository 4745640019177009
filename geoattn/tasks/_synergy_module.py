"""Training of one model of drug pairs: what reads drugs, network, loss, optimiser, validation."""

from __future__ import annotations

import copy
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F

from geoattn.datasets.synergy import SynergyData
from geoattn.domains.synergy.batch import PairBatch
from geoattn.domains.synergy.drug_encoder import AtomEncoder
from geoattn.domains.synergy.egat_model import SynergyEGAT
from geoattn.domains.synergy.featurize import DrugFeaturizer, make_preprocess, sizes
from geoattn.domains.synergy.metrics import evaluate_combinations
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine

HUBER_DELTA = 2.0
"""Scores further than so many standard deviations off count linearly: screens have a few scores that no model can
explain (Loewe scores of O'Neil's go down to -326, 14 standard deviations); squared, little else would matter."""


class SynergyModule(lightning.LightningModule):
    """One network with its loss, optimiser and averaged weights.

    Scores are learned in units of their standard deviation in the training part, with Huber's loss; labels with the
    cross entropy. Where labels were made of scores, a second output learns the scores, also of pairs between the
    classes: they say how synergistic a pair is. Validation is by the first output alone, with the moving average of
    the weights; ``averaged`` is the model to keep.

    Args:
        data: after ``setup``; is told how drugs are read, if it does not know.
        channels: width of atoms, drugs and cell lines.
        num_heads: heads of the attention.
        num_layers: of the encoder of drugs.
        drug_encoder: egat (attention over bonds and distances, then over motifs), gin or polynormer.
        positions: join atoms within 5 angstrom too, with their distances, in a conformer of each drug, which takes
            about half a second to find; false reads bonds alone.
        dropout: share of values dropped in training.
        input_dropout: share of fingerprint and expression dropped in training.
        identity_dropout: share of drugs whose identity is hidden in training, so that their molecules are read.
        molecule_dropout: share of drugs whose molecule is hidden in training; 1 reads names alone, a baseline.
        cell_dropout: share of cell lines that are hidden in training, so that tens of them are not learned by heart.
        score_weight: labels that were made of scores: weight of the loss of the scores; 0 learns labels alone.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises; afterwards it falls as a half cosine.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
        keep: best keeps the weights of the lowest validation loss; last those of the end, where the validation part is
            too small to choose by: a few drugs or tissues.
    """

    def __init__(
        self,
        data: SynergyData,
        channels: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
        drug_encoder: AtomEncoder = "egat",
        positions: bool = True,
        dropout: float = 0.3,
        input_dropout: float = 0.2,
        identity_dropout: float = 0.3,
        molecule_dropout: float = 0.3,
        cell_dropout: float = 0.0,
        score_weight: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        ema_decay: float = 0.99,
        keep: Literal["best", "last"] = "best",
    ) -> None:
        super().__init__()
        check_ranges(
            dropout=(dropout, 0, 1),
            input_dropout=(input_dropout, 0, 1),
            identity_dropout=(identity_dropout, 0, 1.0000001),
            molecule_dropout=(molecule_dropout, 0, 1.0000001),
            cell_dropout=(cell_dropout, 0, 1),
            warmup=(warmup, 0, 1),
            ema_decay=(ema_decay, 0, 1),
            score_weight=(score_weight, 0, 1000),
        )
        read_drugs(data, positions=positions)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.ema_decay, self.keep = warmup, ema_decay, keep
        self.task = data.task
        self.mean, self.sd = data.preprocess["target"]["mean"], data.preprocess["target"]["sd"]
        self.score_weight = score_weight if data.positive is not None else 0.0
        self.network = SynergyEGAT(
            num_genes=len(data.preprocess["expression"]["genes"]),
            **sizes(data.preprocess["drug_features"]),
            channels=channels,
            num_heads=num_heads,
            num_layers=num_layers,
            drug_encoder=drug_encoder,
            dropout=dropout,
            input_dropout=input_dropout,
            identity_dropout=identity_dropout,
            molecule_dropout=molecule_dropout,
            cell_dropout=cell_dropout,
            num_outputs=2 if self.score_weight else 1,
        )
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._cells = [sample.cell.name for sample in data.part("valid")]

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        outputs = self.network.outputs(batch)
        loss = self._loss(outputs[:, 0], batch.target)
        if self.score_weight:
            assert batch.measured is not None
            loss = loss + self.score_weight * self._score_loss(outputs[:, 1], batch.measured)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        assert batch.target is not None
        self._validation.append((self.averaged(batch), batch.target))

    def on_validation_epoch_end(self) -> None:
        output, target = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log("valid_loss", self._loss(output, target))
        output = output.double()
        prediction = output.sigmoid() if self.task == "classification" else self.mean + self.sd * output
        found = evaluate_combinations(
            target.cpu().numpy(), prediction.cpu().numpy(), self.task, cells=self._cells[: len(target)], num_bootstrap=0
        )
        for name, entry in found.items():
            if entry["value"] is not None:
                self.log(f"valid_{name}", entry["value"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, output: Tensor, target: Tensor | None) -> Tensor:
        """Of what is asked for; rows without a target, which lie between the classes, count for nothing."""
        if target is None or target.isnan().all():
            return 0 * output.sum()
        output, target = output[~target.isnan()], target[~target.isnan()]
        if self.task == "regression":
            return self._score_loss(output, target)
        return F.binary_cross_entropy_with_logits(output, target)

    def _score_loss(self, output: Tensor, score: Tensor) -> Tensor:
        return F.huber_loss(output, (score - self.mean) / self.sd, delta=HUBER_DELTA)


def read_drugs(data: SynergyData, *, positions: bool) -> None:
    """Fit to the training part what reads drugs and the constants of the scores; nothing the second time.

    Both become part of ``data.preprocess``, under ``drug_features`` and ``target``; ``data`` makes batches with them.
    """
    if "drug_features" in data.preprocess:
        return
    features = make_preprocess(data.train_drugs(), positions=positions)
    mean, sd = 0.0, 1.0
    if data.task == "regression" or data.positive is not None:
        samples = data.trained_on()
        scores = np.array([s.score if data.task == "regression" else s.measured for s in samples], dtype=np.float64)
        mean, sd = float(scores.mean()), float(scores.std()) or 1.0
    target = {"mean": mean, "sd": sd}
    data.preprocess |= {"drug_features": features, "target": target, "response_scale": data.response_scale}
    data.drug_features = DrugFeaturizer(features, processes=None)
