"""From a trained model and pairs to numbers: probabilities, metrics, baselines, keys by which copies are found."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from geoattn.domains.ensemble import Ensemble
from geoattn.domains.tcr.baselines import Baseline, EpitopePrior, LevenshteinKNN
from geoattn.domains.tcr.batch import PairBatch, Sequences
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.metrics import calibration, evaluate_pairs
from geoattn.domains.tcr.records import Pair
from geoattn.errors import InputError
from geoattn.tasks._model import Symmetry

TASK = "tcr"
HEADLINE = "roc_auc"
MACRO = "macro_roc_auc"
BATCH_SIZE = 2048
NEIGHBORS = {"cdr3": 13, "full": 7}
"""Neighbours that vote in the baseline: the strongest numbers on the benchmark of TITAN, of CDR3s and full chains."""
SYMMETRY_SAMPLES = 8


def predict_pairs(
    model: nn.Module, pairs: Sequence[Pair], featurizer: Featurizer, device: str | torch.device = "cpu"
) -> tuple[np.ndarray, np.ndarray | None]:
    """``[P]`` probabilities of binding and, for an ensemble, the standard deviation of its members' probabilities.

    Args:
        model: moved to ``device`` and set to evaluation.
        pairs: read as the model's preprocessing says.
        featurizer: without augmentation; it remembers the epitopes that it has seen.
        device: where to compute.
    """
    model = model.eval().to(device)
    means: list[np.ndarray] = [np.empty(0)]
    spreads: list[np.ndarray] = [np.empty(0)]
    with torch.inference_mode():
        for start in range(0, len(pairs), BATCH_SIZE):
            batch = featurizer.collate(pairs[start : start + BATCH_SIZE]).to(device)
            if isinstance(model, Ensemble):
                logits = model.members(batch).double()
                spreads.append(logits.sigmoid().std(0).cpu().numpy())
                means.append(logits.mean(0).sigmoid().cpu().numpy())
            else:
                means.append(model(batch).double().sigmoid().cpu().numpy())
    return np.concatenate(means), np.concatenate(spreads) if isinstance(model, Ensemble) else None


def measure(pairs: Sequence[Pair], probability: np.ndarray) -> dict[str, Any]:
    """All metrics of a part: pooled, macro per epitope, calibration."""
    label = labels_of(pairs)
    epitope = [pair.epitope.sequence for pair in pairs]
    return evaluate_pairs(label, probability, epitope) | calibration(label, probability)


def labels_of(pairs: Sequence[Pair]) -> np.ndarray:
    """``[P]`` 1 and 0.

    Raises:
        InputError: a pair has no label.
    """
    missing = next((pair for pair in pairs if pair.label is None), None)
    if missing is not None:
        raise InputError(f"{missing.file}:{missing.line}: the pair has no label; name its column with --label-column.")
    return np.array([pair.label for pair in pairs], dtype=np.float64)


def baselines_for(kind: str) -> dict[str, Baseline]:
    """Name -> baseline. Those of the network without the receptor come from its training."""
    found: dict[str, Baseline] = {
        "epitope_prior": EpitopePrior(),
        "knn_cdr3": LevenshteinKNN(NEIGHBORS["cdr3"], "cdr3"),
    }
    if kind == "full":
        found["knn_full"] = LevenshteinKNN(NEIGHBORS["full"], "full")
    return found


def prediction_table(table: pd.DataFrame, probability: np.ndarray, spread: np.ndarray | None) -> pd.DataFrame:
    """``table`` with ``probability`` and, for an ensemble, ``probability_std``."""
    columns = {"probability": probability} | ({} if spread is None else {"probability_std": spread})
    return table.assign(**columns)


def pair_keys(pairs: Sequence[Pair], preprocess: Mapping[str, Any]) -> list[str]:
    """A short hash per pair by which a copy is found in another file: of what the model reads of the receptor, and of
    the epitope."""
    full = preprocess["tcr"] == "full"
    return [
        hashlib.sha256(
            f"{pair.receptor.full if full else pair.receptor.cdr3}|{pair.epitope.sequence}".encode()
        ).hexdigest()[:12]
        for pair in pairs
    ]


def measure_symmetry(model: nn.Module, pairs: Sequence[Pair], featurizer: Featurizer) -> Symmetry:
    """How far the logit of a pair changes with what else is in its batch, and so with the padding, relative to the
    largest; in float32 and float64."""
    chosen = pairs[:SYMMETRY_SAMPLES]
    errors = {}
    for dtype in (torch.float32, torch.float64):
        network = copy.deepcopy(model).to(dtype).eval()
        with torch.inference_mode():
            together = network(_cast(featurizer.collate(chosen), dtype))
            alone = torch.cat([network(_cast(featurizer.collate([pair]), dtype)) for pair in chosen])
        errors[str(dtype).removeprefix("torch.")] = float((together - alone).abs().max() / together.abs().max())
    return Symmetry(errors, "The prediction for a pair does not depend on what else is in the batch.")


def _cast(batch: PairBatch, dtype: torch.dtype) -> PairBatch:
    """With the features of molecular graphs in ``dtype``; tokens have none."""
    if isinstance(batch.epitope, Sequences):
        return batch
    graphs = batch.epitope.clone().apply(lambda x: x.to(dtype) if x.is_floating_point() else x)
    return replace(batch, epitope=graphs)
