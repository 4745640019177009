"""From a trained model and molecules to numbers: predictions in the user's units, metrics, baselines, overlap."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
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
from geoattn.tasks._model import Symmetry
from geoattn.testing import equivariance_error

BATCH_SIZE = 128
SYMMETRY_SAMPLES = 8


def headline_metric(task: str) -> str:
    """The metric that stands first: for the progress line and the report."""
    return {"classification": "roc_auc", "energy": "mae"}.get(task, "rmse")


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


def measure_symmetry(model: nn.Module, samples: Sequence[Data]) -> Symmetry:
    """How far the predictions for some molecules are from invariant, in float32 and float64."""
    batch = collate(samples[:SYMMETRY_SAMPLES])
    if "pos" not in batch:
        # the nodes of a graph are relabelled together with the ends of its edges
        specs = {"x": "invariant/node", "edge_index": "edge_index", "edge_attr": "invariant/edge", "batch": "batch"}
        text = "Invariant by construction to any motion: no coordinates enter. Measured: renumbering of the atoms."
        group = "permutation"
    else:
        specs = {"pos": "position"}
        if "edge_shift" in batch:
            specs["edge_shift"] = "vector"
        text = "The prediction stays the same under rotations, reflections and translations of the structure."
        group = "E(3)"
    errors = {}
    for dtype in (torch.float32, torch.float64):
        inputs = {name: _cast(batch[name], dtype) for name in specs}
        predict = _function_of(copy.deepcopy(model).to(dtype).eval(), batch, list(specs), dtype)
        report = equivariance_error(predict, inputs, in_specs=specs, out_specs={"prediction": "invariant"}, group=group)
        errors[str(dtype).removeprefix("torch.")] = float(report)
    return Symmetry(errors, text)


def _function_of(model: nn.Module, batch: Batch, names: list[str], dtype: torch.dtype) -> Callable[..., Tensor]:
    """The model as a function of some tensors of a batch, the others held fixed."""
    fixed = {name: _cast(value, dtype) for name, value in batch.to_dict().items() if name not in names}

    def predict(**changed: Tensor) -> Tensor:
        with torch.no_grad():
            return model(Batch(**fixed, **changed))

    return predict


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def molecule_keys(samples: Sequence[Data], smiles: Sequence[str]) -> list[str]:
    """A short hash per molecule by which a copy is found in another file.

    Of the canonical SMILES where there is one; else of the element numbers and the distances along the edges, to a
    thousandth of an angstrom, which finds most copies that were moved or rotated.
    """
    pairs = zip(samples, smiles, strict=True)
    return [hashlib.sha256(_canonical(text) if text else _shape(sample)).hexdigest()[:12] for sample, text in pairs]


def _canonical(smiles: str) -> bytes:
    chem = require("rdkit.Chem", "molecules")
    return chem.MolToSmiles(chem.MolFromSmiles(smiles)).encode()


def _shape(sample: Data) -> bytes:
    z = sample["z"].numpy()
    source, target = sample["edge_index"].numpy()
    shift = sample["edge_shift"].numpy() if "edge_shift" in sample else 0.0
    length = np.linalg.norm(sample["pos"].numpy()[source] + shift - sample["pos"].numpy()[target], axis=1)
    pair = np.minimum(z[source], z[target]) * 1000 + np.maximum(z[source], z[target])
    rounded = np.round(1000 * length).astype(np.int64)
    order = np.lexsort((rounded, pair))
    return np.concatenate([np.sort(z), pair[order], rounded[order]]).tobytes()
