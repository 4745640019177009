"""Baselines that stand beside every result: the mean, a linear model in composition, random forest, nearest neighbours.

A model that does not beat them has learnt nothing that a few lines of scikit-learn do not know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch_geometric.data import Data

from geoattn._optional import require
from geoattn.domains.molecules.fingerprints import molecules_of, morgan_bits, morgan_counts, tanimoto
from geoattn.domains.molecules.targets import Kind, composition
from geoattn.errors import ShapeError

FOREST_DESCRIPTORS = (
    "MolWt", "MolLogP", "MolMR", "TPSA", "NumHDonors", "NumHAcceptors", "NumRotatableBonds", "RingCount",
    "NumAromaticRings", "FractionCSP3",
)  # fmt: skip


class Baseline(ABC):
    """One baseline: computes its own features of all molecules once, then is fitted to each target.

    Args:
        samples: one graph per molecule, as the model gets them.
        smiles: of the same molecules; empty strings where there are none.
        task: regression, energy or classification.
        seed: of whatever the method draws.
    """

    name: str
    description: str

    def __init__(self, samples: Sequence[Data], smiles: Sequence[str], task: Kind, seed: int = 0) -> None:
        self.samples, self.smiles, self.task, self.seed = samples, smiles, task, seed

    def fit_predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Predictions ``[len(rows), T]`` after fitting the ``train`` rows of ``y [N, T]``; NaN in ``y`` is a gap.

        For classification they are probabilities of class 1. A target without any training value, or with one class
        only, is predicted by its mean (0 if there is none).
        """
        columns = []
        for values in y.T:
            known = train[~np.isnan(values[train])]
            if len(known) == 0 or np.ptp(values[known]) == 0:
                columns.append(np.full(len(rows), values[known[0]] if len(known) else 0.0))
            else:
                columns.append(self._predict(values, known, rows))
        return np.stack(columns, axis=1)

    @abstractmethod
    def _predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """One target: predictions of ``rows`` after fitting ``y[train]``, which has no gap."""


class Mean(Baseline):
    """The mean of the training part; the share of class 1 for classification."""

    name, description = "mean", "mean of the training part"

    def _predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), y[train].mean())


class LinearComposition(Baseline):
    """Least squares (logistic regression) on how many atoms of each element a molecule has, and a constant."""

    name, description = "linear_composition", "linear in the number of atoms of each element"

    def __init__(self, samples: Sequence[Data], smiles: Sequence[str], task: Kind, seed: int = 0) -> None:
        super().__init__(samples, smiles, task, seed)
        self.features = _compositions(samples)

    def _predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if self.task == "classification":
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            return model.fit(self.features[train], y[train]).predict_proba(self.features[rows])[:, 1]
        return Ridge(alpha=1e-6, solver="svd").fit(self.features[train], y[train]).predict(self.features[rows])


class RandomForest(Baseline):
    """500 trees on Morgan counts (radius 2, 2048) and ten RDKit descriptors.

    A split sees a third of the features in regression, the square root of their number in classification.
    """

    name, description = "random_forest", "random forest on Morgan counts and 10 descriptors"

    def __init__(
        self, samples: Sequence[Data], smiles: Sequence[str], task: Kind, seed: int = 0, num_trees: int = 500
    ) -> None:
        super().__init__(samples, smiles, task, seed)
        mols = molecules_of(smiles)
        descriptors = require("rdkit.Chem.Descriptors", "molecules")
        values = np.array([[getattr(descriptors, name)(mol) for name in FOREST_DESCRIPTORS] for mol in mols])
        self.features = np.hstack([morgan_counts(mols), np.nan_to_num(values)]).astype(np.float32)
        self.num_trees = num_trees

    def _predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        options: dict[str, Any] = dict(n_estimators=self.num_trees, random_state=self.seed, n_jobs=-1)
        if self.task == "classification":
            forest = RandomForestClassifier(max_features="sqrt", **options).fit(self.features[train], y[train])
            return _one_thread(forest).predict_proba(self.features[rows])[:, 1]
        forest = RandomForestRegressor(max_features=1 / 3, **options).fit(self.features[train], y[train])
        return _one_thread(forest).predict(self.features[rows])


class NearestMolecules(Baseline):
    """The mean of the 5 training molecules of largest Tanimoto similarity (Morgan bits), weighted by it."""

    name, description = "nearest_neighbors", "5 nearest training molecules by Tanimoto similarity"
    num_neighbors = 5

    def __init__(self, samples: Sequence[Data], smiles: Sequence[str], task: Kind, seed: int = 0) -> None:
        super().__init__(samples, smiles, task, seed)
        self.bits = morgan_bits(molecules_of(smiles))

    def fit_predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """As `Baseline.fit_predict`; similarities are computed once for all targets."""
        references, values = [self.bits[row] for row in train], y[train]
        known = ~np.isnan(values)
        predictions = np.zeros((len(rows), y.shape[1]))
        for i, row in enumerate(rows):
            similarity = tanimoto(self.bits[row], references)
            order = np.argsort(-similarity, kind="stable")
            for t in np.flatnonzero(known.any(axis=0)):
                nearest = order[known[order, t]][: self.num_neighbors]
                predictions[i, t] = np.average(values[nearest, t], weights=similarity[nearest] + 1e-6)
        return predictions

    def _predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self.fit_predict(y[:, None], train, rows)[:, 0]


class NearestStructures(Baseline):
    """The mean of the 5 training structures with the most similar histograms of distances, weighted by closeness.

    A structure is described by how many pairs of each two elements lie at each distance along the edges of its graph
    (bins of 0.25 angstrom up to 8, linearly smeared over two bins), and by its composition. For energies the
    neighbours predict what a linear model in composition leaves over.
    """

    name, description = "nearest_neighbors", "5 nearest training structures by distances between elements"
    num_neighbors = 5
    bin_width, num_bins = 0.25, 32

    def __init__(self, samples: Sequence[Data], smiles: Sequence[str], task: Kind, seed: int = 0) -> None:
        super().__init__(samples, smiles, task, seed)
        self.linear = LinearComposition(samples, smiles, task, seed) if task == "energy" else None
        self.features = self._distance_histograms()

    def _predict(self, y: np.ndarray, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        base = np.zeros(len(y)) if self.linear is None else self.linear._predict(y, train, np.arange(len(y)))
        neighbors = NearestNeighbors(n_neighbors=min(self.num_neighbors, len(train)), metric="manhattan")
        distance, nearest = neighbors.fit(self.features[train]).kneighbors(self.features[rows])
        weights = 1 / (distance + 1e-3)
        rest = (y - base)[train][nearest]
        return base[rows] + (weights * rest).sum(axis=1) / weights.sum(axis=1)

    def _distance_histograms(self) -> np.ndarray:
        elements = sorted({int(z) for sample in self.samples for z in sample["z"].unique()})
        index = np.zeros(max(elements) + 1, dtype=np.int64)
        index[elements] = np.arange(len(elements))
        rows = [self._histogram(sample, index, len(elements)) for sample in self.samples]
        histograms = np.array(rows, dtype=np.float32)
        used = histograms.any(axis=0)
        return np.hstack([histograms[:, used], _compositions(self.samples)]).astype(np.float32)

    def _histogram(self, sample: Data, index: np.ndarray, num_elements: int) -> np.ndarray:
        source, target = sample["edge_index"].numpy()
        vector = sample["pos"].numpy()[source] - sample["pos"].numpy()[target]
        if "edge_shift" in sample:
            vector = vector + sample["edge_shift"].numpy()
        position = np.clip(np.linalg.norm(vector, axis=1) / self.bin_width, 0, self.num_bins - 1.001)
        lower = position.astype(np.int64)
        z = index[sample["z"].numpy()]
        first, second = np.minimum(z[source], z[target]), np.maximum(z[source], z[target])
        cell = (first * num_elements + second) * self.num_bins + lower
        size = num_elements**2 * self.num_bins
        share = position - lower
        return (np.bincount(cell, 1 - share, size) + np.bincount(cell + 1, share, size)[:size]) / 2


def baselines_for(
    samples: Sequence[Data], smiles: Sequence[str], task: Kind, seed: int = 0, num_trees: int = 500
) -> list[Baseline]:
    """The baselines that a data set allows: random forest and fingerprint neighbours need SMILES of every molecule."""
    if len(samples) != len(smiles):
        raise ShapeError("smiles", f"{len(smiles)} rows", f"{len(samples)}, one per sample")
    baselines: list[Baseline] = [Mean(samples, smiles, task, seed), LinearComposition(samples, smiles, task, seed)]
    if all(smiles):
        baselines.append(RandomForest(samples, smiles, task, seed, num_trees))
        baselines.append(NearestMolecules(samples, smiles, task, seed))
    elif all("pos" in sample for sample in samples):
        baselines.append(NearestStructures(samples, smiles, task, seed))
    return baselines


def _one_thread(forest: Any) -> Any:
    """Threads would sum the trees in the order in which they finish: the last digit would be left to chance."""
    return forest.set_params(n_jobs=1)


def _compositions(samples: Sequence[Data]) -> np.ndarray:
    """``[N, elements that occur]`` float64."""
    counts = torch.cat([composition(sample["z"]) for sample in samples]).numpy()
    return counts[:, counts.any(axis=0)]
