"""From a trained model and drug pairs to numbers: predictions, metrics, baselines, keys by which copies are found."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geoattn.datasets.progress import track
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.metrics import Entry
from geoattn.domains.synergy.baselines import Task, make_baselines
from geoattn.domains.synergy.batch import PairBatch, PairCollator
from geoattn.domains.synergy.featurize import DrugFeaturizer
from geoattn.domains.synergy.metrics import evaluate_combinations
from geoattn.domains.synergy.records import Combination
from geoattn.errors import InputError
from geoattn.tasks._model import Symmetry
from geoattn.testing import random_orthogonal

TASK = "synergy"
BATCH_SIZE = 2048
SYMMETRY_SAMPLES = 8
HEADLINES: dict[Task, tuple[str, str, str]] = {
    "regression": ("pearson", "macro_pearson", "rmse"),
    "classification": ("roc_auc", "macro_roc_auc", "pr_auc"),
}
"""The metrics that stand first in a report: over all pairs, and the mean over cell lines."""
PREDICTED: dict[Task, str] = {"regression": "predicted_score", "classification": "probability"}
"""The column of predictions; ``_std`` behind it is that of an ensemble's spread."""


def in_units(outputs: Tensor, preprocess: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores or probabilities ``[P]`` from the outputs ``[K, P]`` of K members, and their spread if K > 1."""
    outputs = outputs.double()
    if preprocess["task"] == "classification":
        mean, members = outputs.mean(0).sigmoid(), outputs.sigmoid()
    else:
        members = preprocess["target"]["mean"] + preprocess["target"]["sd"] * outputs
        mean = members.mean(0)
    return mean.cpu().numpy(), members.std(0).cpu().numpy() if len(outputs) > 1 else None


def predict_pairs(
    model: nn.Module,
    samples: Sequence[Combination],
    collate: PairCollator,
    preprocess: Mapping[str, Any],
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, np.ndarray | None]:
    """``[P]`` scores or probabilities and, for an ensemble, the standard deviation of its members.

    Args:
        model: moved to ``device`` and set to evaluation.
        samples: pairs in cell lines.
        collate: makes batches as in training.
        preprocess: of the model.
        device: where to compute.
    """
    members = [member.eval().to(device) for member in members_of(model)]
    outputs = [torch.empty(len(members), 0)]
    with torch.inference_mode():
        for start in range(0, len(samples), BATCH_SIZE):
            batch = collate(samples[start : start + BATCH_SIZE]).to(device)
            outputs.append(torch.stack([member(batch) for member in members]).cpu())
    return in_units(torch.cat(outputs, dim=1), preprocess)


def members_of(model: nn.Module) -> list[Any]:
    """The members of an ensemble, or the model alone."""
    return list(model.models) if isinstance(model, Ensemble) else [model]


def collator(preprocess: Mapping[str, Any], cells: Mapping[str, np.ndarray]) -> PairCollator:
    """What makes batches of pairs in these cell lines, as in the training of a model."""
    return PairCollator(DrugFeaturizer(preprocess["drug_features"], processes=None), cells)


def measure(samples: Sequence[Combination], prediction: np.ndarray, task: Task) -> dict[str, Entry]:
    """All metrics of a part: pooled, and the mean over cell lines."""
    return evaluate_combinations(scores_of(samples), prediction, task, cells=[sample.cell.name for sample in samples])


def scores_of(samples: Sequence[Combination]) -> np.ndarray:
    """``[P]`` scores or labels.

    Raises:
        InputError: a combination has none.
    """
    missing = next((sample for sample in samples if sample.score is None), None)
    if missing is not None:
        raise InputError(f"{missing.file}:{missing.line}: the pair has no score; name its column with --score-column.")
    return np.array([sample.score for sample in samples], dtype=np.float64)


def predict_baselines(
    train: Sequence[Combination],
    others: Mapping[str, Sequence[Combination]],
    cells: Mapping[str, np.ndarray],
    task: Task,
    *,
    show: bool,
) -> dict[str, dict[str, np.ndarray]]:
    """Part -> baseline -> predictions ``[P]``, each fitted to ``train`` once."""
    found: dict[str, dict[str, np.ndarray]] = {part: {} for part in others}
    baselines = make_baselines(train, cells, task)
    for baseline in track(baselines, len(baselines), "Baselines", show=show):
        baseline.fit(train)
        for part, samples in others.items():
            found[part][baseline.name] = baseline.predict(samples)
    return found


def prediction_table(
    table: pd.DataFrame,
    samples: Sequence[Combination],
    prediction: np.ndarray,
    spread: np.ndarray | None,
    preprocess: Mapping[str, Any],
) -> pd.DataFrame:
    """``table`` of the samples without keys, with the prediction, how many of a pair's two drugs were in training
    (``drugs_seen``), and whether the cell line was (``cell_seen``)."""
    name = PREDICTED[preprocess["task"]]
    drugs, cells = set(preprocess["train_drugs"]), set(preprocess["train_cells"])
    columns = {name: prediction} | ({} if spread is None else {f"{name}_std": spread})
    columns["drugs_seen"] = np.array([sum(drug in drugs for drug in sample.pair) for sample in samples], dtype=int)
    columns["cell_seen"] = np.array([sample.cell.name in cells for sample in samples], dtype=bool)
    measured = {"score": "label"} if preprocess["task"] == "classification" else {}
    left_out = [column for column in ("file", "key_a", "key_b") if column in table]
    return table.drop(columns=left_out).rename(columns=measured).assign(**columns)


def pair_keys(samples: Sequence[Combination]) -> list[str]:
    """A short hash of each unordered pair with its cell line, by which a copy is found in another file."""
    return [pair_key(*sample.pair, sample.cell.name) for sample in samples]


def pair_key(first: str, second: str, cell: str) -> str:
    """The hash of two molecules (``Drug.identity``), in either order, with a cell line."""
    low, high = sorted((first, second))
    return hashlib.sha256(f"{low}|{high}|{cell}".encode()).hexdigest()[:12]


def measure_symmetry(model: nn.Module, samples: Sequence[Combination], collate: PairCollator) -> Symmetry:
    """How far the output for a pair changes, relative to the largest, when its drugs change places, when their
    conformers turn and move, and with what else is in its batch; in float32 and float64."""
    chosen = samples[:SYMMETRY_SAMPLES]
    batches = [collate([sample]) for sample in chosen]
    together = collate(chosen)
    turned = replace(together, drugs=_turned(together.drugs))
    errors = {}
    for dtype in (torch.float32, torch.float64):
        network = copy.deepcopy(model).to(dtype).eval()
        with torch.inference_mode():
            expected = network(_cast(together, dtype))
            others = [
                network(_cast(together.swapped(), dtype)),
                network(_cast(turned, dtype)),
                torch.cat([network(_cast(batch, dtype)) for batch in batches]),
            ]
        worst = max(float((other - expected).abs().max()) for other in others)
        errors[str(dtype).removeprefix("torch.")] = worst / (float(expected.abs().max()) or 1.0)
    text = (
        "The prediction does not depend on the order of the two drugs, on how a conformer lies in space, or on what "
        "else is in the batch."
    )
    return Symmetry(errors, text)


def _turned(drugs: Any) -> Any:
    """Each conformer turned and moved by itself, in float64."""
    atoms = torch.diff(drugs.atom_ptr)
    generator = torch.Generator().manual_seed(0)
    rotation = torch.stack([random_orthogonal(3, generator=generator) for _ in range(drugs.num_drugs)])
    drug = torch.repeat_interleave(torch.arange(drugs.num_drugs), atoms)
    moved = torch.randn(drugs.num_drugs, 3, dtype=torch.float64, generator=generator)
    pos = torch.einsum("nij,nj->ni", rotation[drug], drugs.pos.double()) + moved[drug]
    return replace(drugs, pos=torch.where(drugs.has_pos[drug, None], pos, drugs.pos.double()))


def _cast(batch: PairBatch, dtype: torch.dtype) -> PairBatch:
    return replace(batch, drugs=batch.drugs.to(dtype=dtype), cells=batch.cells.to(dtype))
