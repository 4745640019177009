"""Training of one model of receptor-epitope pairs: network, loss, optimiser, validation."""

from __future__ import annotations

import copy
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from geoattn.datasets.tcr import TCRData
from geoattn.domains.tcr.batch import PairBatch
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.metrics import evaluate_pairs
from geoattn.domains.tcr.smiles_tokens import STOP
from geoattn.domains.tcr.titan_masked_model import TitanMasked
from geoattn.domains.tcr.titan_model import Titan
from geoattn.tasks._training import check_ranges, update_average, warmup_cosine

ModelName = Literal["titan-masked", "titan"]


class TCRModule(lightning.LightningModule):
    """One network with its loss, optimiser and averaged weights.

    Where negatives are drawn anew in every epoch, the two classes are weighted so that binders are as frequent in the
    loss as in the training part itself, whatever the number of fresh negatives. Validation uses the moving average of
    the weights; ``averaged`` is the model to keep.

    Args:
        data: after ``setup``: says how receptors and epitopes are read.
        name: titan-masked (independent of padding, few parameters) or titan (as published, fixed lengths).
        channels: titan-masked: width of the tokens.
        num_heads: heads of the attention.
        num_layers: titan-masked: layers of graph attention over the epitope's atoms, for graph.
        filters: titan: channels of each convolution.
        attention_channels: titan: width in which the attention compares.
        dropout: share of values dropped in training.
        receptor: false leaves the receptor out: what such a network scores needs no receptor to be scored.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW.
        warmup: share of the training in which the learning rate rises; afterwards it falls as a half cosine.
        ema_decay: of the moving average of the weights; 0 keeps the last weights.
    """

    class_weight: Tensor

    def __init__(
        self,
        data: TCRData,
        name: ModelName = "titan-masked",
        channels: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
        filters: int = 512,
        attention_channels: int = 256,
        dropout: float = 0.3,
        receptor: bool = True,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.15,
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__()
        check_ranges(dropout=(dropout, 0, 1), warmup=(warmup, 0, 1), ema_decay=(ema_decay, 0, 1))
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.ema_decay = warmup, ema_decay
        epitope = data.preprocess["epitope"]
        widths: dict[str, Any] = {"epitope": epitope, "num_heads": num_heads, "dropout": dropout, "receptor": receptor}
        widths["num_smiles_tokens"] = 1 + STOP + len(data.preprocess["smiles_vocabulary"])
        if epitope == "graph":
            graph: Any = Featurizer(data.preprocess).epitope(data.pairs[0].epitope)
            widths |= {"atom_channels": graph.x.shape[1], "bond_channels": graph.edge_attr.shape[1]}
        self.network: nn.Module
        if name == "titan":
            longest = data.preprocess["max_length"]
            lengths = {
                f"{side}_length": longest[key] + STOP for side, key in (("receptor", "tcr"), ("epitope", "epitope"))
            }
            self.network = Titan(**widths, **lengths, filters=filters, attention_channels=attention_channels)
        else:
            self.network = TitanMasked(**widths, tcr=data.preprocess["tcr"], channels=channels, num_layers=num_layers)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.register_buffer("class_weight", torch.tensor(_class_weights(data)), persistent=False)
        self._losses: list[Tensor] = []
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._epitopes = [data.pairs[row].epitope.sequence for row in data.split["valid"]]

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        assert batch.label is not None
        weight = self.class_weight[batch.label.long()]
        losses = F.binary_cross_entropy_with_logits(self.network(batch), batch.label, weight, reduction="sum")
        loss = losses / weight.sum()
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        update_average(self.averaged, self.network, self.trainer.global_step, self.ema_decay)

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", torch.stack(self._losses).mean())
        self.log("learning_rate", float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self._losses.clear()

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        assert batch.label is not None
        self._validation.append((self.averaged(batch), batch.label))

    def on_validation_epoch_end(self) -> None:
        logit, label = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log("valid_loss", F.binary_cross_entropy_with_logits(logit, label))
        y, score = label.cpu().numpy(), logit.double().sigmoid().cpu().numpy()
        for name, entry in evaluate_pairs(y, score, self._epitopes[: len(y)], num_bootstrap=0).items():
            if entry["value"] is not None:
                self.log(f"valid_{name}", entry["value"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        fused = not self.trainer.precision.endswith("mixed")  # Lightning clips no gradients of fused ones in mixed
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        schedule = warmup_cosine(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _class_weights(data: TCRData) -> list[float]:
    """Weights of class 0 and 1 that give what is trained on the share of binders of the training part."""
    drawn, own = data.share_of_binders(), float(np.mean([pair.label == 1 for pair in data.part("train")]))
    return [(1 - own) / (1 - drawn), own / drawn]
