"""From a trained model and molecules to numbers: predictions in the user's units, metrics, baselines, overlap."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geoattn._optional import require
from geoattn.datasets.collate import collate
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.molecules.baselines import baselines_for
from geoattn.domains.molecules.targets import TargetTransform, composition

BATCH_SIZE = 128


def in_units(output: Tensor, batch: Batch, transform: TargetTransform) -> Tensor:
    """``[B, T]`` float64 in the units of the file from a model's output; probabilities of class 1 from logits."""
    if transform.kind == "classification":
        return torch.sigmoid(output.double())
    counts = composition(batch.z, batch.batch, batch.num_graphs) if transform.reference is not None else None
    return transform.denormalize(output, counts)


def predict_samples(
    model: nn.Module, samples: Sequence[Data], transform: TargetTransform, device: str | torch.device = "cpu"
) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions of a model or ensemble.

    Args:
        model: moved to ``device`` and set to evaluation.
        samples: one graph per molecule.
        transform: to the units of the file.
        device: where to compute.

    Returns:
        ``[n, T]`` predictions and, for an ensemble, the standard deviation of its members ``[n, T]``, else None.
    """
    model = model.eval().to(device)
    means: list[Tensor] = []
    spreads: list[Tensor] = []
    with torch.inference_mode():
        for batch in _batches(samples):
            batch = batch.to(device)
            if isinstance(model, Ensemble):
                outputs = model.members(batch)
                means.append(in_units(outputs.mean(0), batch, transform).cpu())
                spreads.append(torch.stack([in_units(o, batch, transform) for o in outputs]).std(0).cpu())
            else:
                means.append(in_units(model(batch), batch, transform).cpu())
    empty = torch.empty(0, len(transform.mean), dtype=torch.float64)
    mean = torch.cat(means or [empty]).numpy()
    return mean, torch.cat(spreads or [empty]).numpy() if isinstance(model, Ensemble) else None


def _batches(samples: Sequence[Data]) -> Iterator[Batch]:
    for start in range(0, len(samples), BATCH_SIZE):
        yield collate(samples[start : start + BATCH_SIZE])


def prediction_table(
    table: pd.DataFrame, targets: Sequence[str], mean: np.ndarray, std: np.ndarray | None
) -> pd.DataFrame:
    """``table`` with ``<target>_pred`` and, for an ensemble, ``<target>_std`` behind each target."""
    columns = {name: table[name] for name in table if name not in targets}
    for t, name in enumerate(targets):
        if name in table:
            columns[name] = table[name]
        columns[f"{name}_pred"] = mean[:, t]
        if std is not None:
            columns[f"{name}_std"] = std[:, t]
    return pd.DataFrame(columns, index=table.index)


def baseline_predictions(
    samples: Sequence[Data],
    smiles: Sequence[str],
    y: np.ndarray,
    task: Any,
    train: Sequence[int],
    rows: Sequence[int],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Name -> predictions ``[len(rows), T]`` of each baseline, fitted to the ``train`` rows."""
    baselines = baselines_for(samples, smiles, task, seed)
    return {b.name: b.fit_predict(y, np.asarray(train), np.asarray(rows)) for b in baselines}


def molecule_keys(samples: Sequence[Data], smiles: Sequence[str]) -> list[str]:
    """A short hash per molecule by which a copy is found in another file.

    Of the canonical SMILES where there is one; else of the element numbers and the distances along the edges, to a
    thousandth of an angstrom, which finds most copies that were moved or rotated.
    """
    return [_hash(_canonical(text) if text else _shape(sample)) for sample, text in zip(samples, smiles, strict=True)]


def _canonical(smiles: str) -> str:
    mol = require("rdkit.Chem", "molecules").MolFromSmiles(smiles)
    return smiles if mol is None else require("rdkit.Chem", "molecules").MolToSmiles(mol)


def _shape(sample: Data) -> str:
    z = sample["z"].numpy()
    source, target = sample["edge_index"].numpy()
    shift = sample["edge_shift"].numpy() if "edge_shift" in sample else 0.0
    length = np.linalg.norm((sample["pos"].numpy()[source] + shift - sample["pos"].numpy()[target]), axis=1)
    pair = np.minimum(z[source], z[target]) * 1000 + np.maximum(z[source], z[target])
    rounded = np.round(length, 3)
    order = np.lexsort((rounded, pair))
    return " ".join(
        [*map(str, np.sort(z)), *(f"{p}:{d:.3f}" for p, d in zip(pair[order], rounded[order], strict=True))]
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def split_record(
    split: Mapping[str, Sequence[int]], ids: Sequence[str], keys: Sequence[str], spec: str, seed: int
) -> dict[str, Any]:
    """``split.json``: ids under train, valid and test (which ``--data.split file:`` reads), and the molecules' keys."""
    return {
        **{part: [ids[row] for row in rows] for part, rows in split.items()},
        "keys": {part: [keys[row] for row in rows] for part, rows in split.items()},
        "split": spec,
        "split_seed": seed,
    }
