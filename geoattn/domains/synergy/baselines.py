"""Baselines that stand beside every result: names alone, and fingerprints with expression; no network.

All see a pair without its order. Names alone match published networks on every public split (Çandır et al.,
Bioinformatics 2026, 42, btag040): a model that reads molecules has shown something if it is better than they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV

from geoattn.domains.molecules.fingerprints import molecules_of, morgan_counts
from geoattn.domains.synergy.records import Combination, Drug
from geoattn.errors import InputError

Task = Literal["regression", "classification"]
NUM_COMPONENTS = 16
"""Principal components of the expression: an O'Neil-sized screen has about 40 cell lines."""
ALPHAS = tuple(10.0**power for power in range(-2, 5))


class Baseline(ABC):
    """One baseline: ``fit`` it to combinations with scores, then ``predict`` others.

    Args:
        task: what the scores are.
        seed: of what is drawn.
    """

    name: str
    description: str

    def __init__(self, task: Task = "regression", seed: int = 0) -> None:
        if task not in ("regression", "classification"):
            raise InputError(f"task: got {task!r}, expected regression or classification.")
        self.task, self.seed = task, seed

    def fit(self, samples: Sequence[Combination]) -> Self:
        """Learn from training combinations.

        Raises:
            InputError: none, or one without a score.
        """
        if not samples:
            raise InputError("a baseline needs at least one combination.")
        scores = [sample.score for sample in samples if sample.score is not None]
        if len(scores) < len(samples):
            raise InputError(
                f"{len(samples) - len(scores)} of {len(samples)} combinations have no score to learn from."
            )
        y = np.array(scores)
        self._constant = float(y[0]) if len(set(scores)) == 1 else None
        self._learn(samples, y)
        return self

    def predict(self, samples: Sequence[Combination]) -> np.ndarray:
        """``[P]`` scores, or probabilities of class 1; the samples' own scores are not looked at."""
        if not samples or self._constant is not None:
            return np.full(len(samples), self._constant or 0.0)
        return self._answer(samples)

    @abstractmethod
    def _learn(self, samples: Sequence[Combination], y: np.ndarray) -> None: ...

    @abstractmethod
    def _answer(self, samples: Sequence[Combination]) -> np.ndarray: ...


class Mean(Baseline):
    """The mean score of training, or the share of class 1."""

    name, description = "mean", "mean of the training part"

    def _learn(self, samples: Sequence[Combination], y: np.ndarray) -> None:
        self._mean = float(y.mean())

    def _answer(self, samples: Sequence[Combination]) -> np.ndarray:
        return np.full(len(samples), self._mean)


class _OnFeatures(Baseline):
    """A model of scikit-learn on features ``[P, F]`` of a pair and its cell line."""

    def _learn(self, samples: Sequence[Combination], y: np.ndarray) -> None:
        self._prepare(samples)
        if self._constant is None:
            self._model = self._new_model().fit(self._features(samples), y)

    def _answer(self, samples: Sequence[Combination]) -> np.ndarray:
        X = self._features(samples)
        if self.task == "classification":
            return np.asarray(self._model.predict_proba(X)[:, 1])
        return np.asarray(self._model.predict(X), dtype=np.float64)

    @abstractmethod
    def _prepare(self, samples: Sequence[Combination]) -> None:
        """Fit what the features need."""

    @abstractmethod
    def _features(self, samples: Sequence[Combination]) -> np.ndarray: ...

    @abstractmethod
    def _new_model(self) -> Any: ...


class _OnNames(_OnFeatures):
    """Features: which drugs (a pair has two), which cell line, and if wished which tissue; unseen ones are zeros."""

    tissue = False

    def _prepare(self, samples: Sequence[Combination]) -> None:
        names = dict.fromkeys(name for sample in samples for name in _names(sample, self.tissue))
        self._column = {name: column for column, name in enumerate(names)}

    def _features(self, samples: Sequence[Combination]) -> np.ndarray:
        X = np.zeros((len(samples), len(self._column)), dtype=np.float32)
        for row, sample in enumerate(samples):
            for name in _names(sample, self.tissue):
                if name in self._column:
                    X[row, self._column[name]] = 1.0
        return X


class OneHotForest(_OnNames):
    """A random forest on names: no chemistry, no biology.

    Args:
        task, seed: as `Baseline`.
        tissue: the tissue is a feature too, which helps for unseen cell lines.
        num_trees: of the forest.
    """

    def __init__(self, task: Task = "regression", seed: int = 0, *, tissue: bool = False, num_trees: int = 300) -> None:
        super().__init__(task, seed)
        self.tissue, self.num_trees = tissue, num_trees
        self.name = "one_hot_tissue_forest" if tissue else "one_hot_forest"
        self.description = f"random forest on names of drugs{', tissue' if tissue else ''} and cell line"

    def _new_model(self) -> Any:
        return _forest(self.task, self.num_trees, self.seed)


class AdditiveRidge(_OnNames):
    """Drug + drug + cell line: each has an effect of its own, and nothing interacts."""

    name, description = "additive_ridge", "linear model of names: an effect of each drug and of each cell line"

    def _new_model(self) -> Any:
        return _linear(self.task)


class _OnFingerprints(_OnFeatures):
    """Features: sum and absolute difference of the drugs' Morgan bits, principal components of the expression.

    Args:
        cells: name of a cell line -> ``[G]`` standardised expression.
        task, seed: as `Baseline`.
    """

    def __init__(self, cells: Mapping[str, np.ndarray], task: Task = "regression", seed: int = 0) -> None:
        super().__init__(task, seed)
        self.cells = cells
        self._bits: dict[Drug, np.ndarray] = {}

    def _prepare(self, samples: Sequence[Combination]) -> None:
        names = list(dict.fromkeys(sample.cell.name for sample in samples))
        values = np.stack([self.cells[name] for name in names]).astype(np.float64)
        kept = min(NUM_COMPONENTS, len(names) - 1, values.shape[1])
        self._pca = PCA(kept, random_state=self.seed).fit(values) if kept > 0 else None
        drugs = list(dict.fromkeys(drug for sample in samples for drug in (sample.drug_a, sample.drug_b)))
        bits = self._of(drugs)
        self._used = np.flatnonzero(bits.any(axis=0) & ~bits.all(axis=0))  # the others tell no drugs of training apart

    def _features(self, samples: Sequence[Combination]) -> np.ndarray:
        a, b = (self._of(drugs)[:, self._used] for drugs in zip(*((s.drug_a, s.drug_b) for s in samples), strict=True))
        parts = [a + b, np.abs(a - b)]
        if self._pca is not None:
            names = list(dict.fromkeys(sample.cell.name for sample in samples))
            found = self._pca.transform(np.stack([self.cells[name] for name in names]).astype(np.float64))
            found /= np.sqrt(self._pca.explained_variance_[0])  # of the size of a bit, so that one penalty suits both
            place = {name: row for row, name in enumerate(names)}
            parts.append(found[[place[sample.cell.name] for sample in samples]])
        return np.hstack(parts).astype(np.float32)

    def _of(self, drugs: Sequence[Drug]) -> np.ndarray:
        new = list(dict.fromkeys(drug for drug in drugs if drug not in self._bits))
        if new:
            counts = morgan_counts(molecules_of([drug.smiles for drug in new]))
            self._bits.update(zip(new, (counts > 0).astype(np.float32), strict=True))
        return np.stack([self._bits[drug] for drug in drugs])


class FingerprintRidge(_OnFingerprints):
    """A linear model of fingerprints and expression."""

    name, description = "fingerprint_ridge", "linear model of Morgan bits and expression"

    def _new_model(self) -> Any:
        return _linear(self.task)


class FingerprintForest(_OnFingerprints):
    """A random forest on fingerprints and expression."""

    name, description = "fingerprint_forest", "random forest on Morgan bits and expression"
    num_trees = 300

    def _new_model(self) -> Any:
        return _forest(self.task, self.num_trees, self.seed)


def make_baselines(
    samples: Sequence[Combination], cells: Mapping[str, np.ndarray], task: Task, seed: int = 0
) -> list[Baseline]:
    """All baselines; that of tissues only if every sample names one."""
    found: list[Baseline] = [Mean(task, seed), AdditiveRidge(task, seed), OneHotForest(task, seed)]
    if all(sample.cell.tissue for sample in samples):
        found.append(OneHotForest(task, seed, tissue=True))
    return [*found, FingerprintRidge(cells, task, seed), FingerprintForest(cells, task, seed)]


def _names(sample: Combination, tissue: bool) -> list[tuple[str, str]]:
    names = [("drug", identity) for identity in sample.pair]
    return [*names, ("cell", sample.cell.name), *([("tissue", sample.cell.tissue)] * tissue)]


def _forest(task: Task, num_trees: int, seed: int) -> Any:
    """One thread: several would sum the trees in the order in which they finish."""
    kind = RandomForestClassifier if task == "classification" else RandomForestRegressor
    return kind(num_trees, max_features="sqrt" if task == "classification" else 0.3, random_state=seed, n_jobs=1)


def _linear(task: Task) -> Any:
    return LogisticRegression(max_iter=2000) if task == "classification" else RidgeCV(ALPHAS)
