"""Baselines that stand beside every result: persistence, climatology, linear models, nearest points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.spatial import cKDTree

from geoattn.domains.sphere.records import FieldSample
from geoattn.errors import InputError
from geoattn.geometry.sphere import SpherePoints


class FieldBaseline(ABC):
    """A predictor of fields: ``fit`` it to samples with targets, then ``predict`` those of others."""

    name: str
    description: str

    @abstractmethod
    def fit(self, samples: Sequence[FieldSample]) -> Self:
        """Learn from training samples, at the points that are used.

        Raises:
            InputError: no sample, or one without targets.
        """

    @abstractmethod
    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """``[Ct, N]`` of each, float32 or int64 classes; targets are not looked at."""


class Persistence(FieldBaseline):
    """The field as it is.

    Args:
        last: the input channel that each target continues.
    """

    name, description = "persistence", "the last state again"

    def __init__(self, last: Sequence[int]) -> None:
        self.last = list(last)

    def fit(self, samples: Sequence[FieldSample]) -> Self:
        """As `FieldBaseline.fit`."""
        _targets(samples)
        return self

    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """As `FieldBaseline.predict`."""
        return [sample.inputs[self.last] for sample in samples]


class Climatology(FieldBaseline):
    """The mean of the training targets at each point; over all points where a point has none."""

    name, description = "climatology", "mean of the training targets at each point"

    def fit(self, samples: Sequence[FieldSample]) -> Self:
        """As `FieldBaseline.fit`."""
        self.mean = _pointwise_mean([(targets, sample.known) for sample, targets in _targets(samples)])
        return self

    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """As `FieldBaseline.predict`."""
        return [self.mean] * len(samples)


class MeanChange(Persistence):
    """The last state and the mean change that followed it in training, at each point."""

    name, description = "mean_change", "the last state plus the mean change of the training part"

    def fit(self, samples: Sequence[FieldSample]) -> Self:
        """As `FieldBaseline.fit`."""
        changes = [(targets - sample.inputs[self.last], sample.known) for sample, targets in _targets(samples)]
        self._change = _pointwise_mean([(change, known & np.isfinite(change)) for change, known in changes])
        return self

    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """As `FieldBaseline.predict`."""
        return [field + self._change for field in super().predict(samples)]


class LinearExtrapolation(Persistence):
    """The straight line through the last two states.

    Args:
        last: the input channel that each target continues.
        before: the channel of the state before.
        steps: to the target, in the distance of those two.
    """

    name, description = "linear", "straight line through the last two states"

    def __init__(self, last: Sequence[int], before: Sequence[int], steps: int = 1) -> None:
        super().__init__(last)
        self.before, self.steps = list(before), steps

    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """As `FieldBaseline.predict`."""
        return [
            sample.inputs[self.last] + self.steps * (sample.inputs[self.last] - sample.inputs[self.before])
            for sample in samples
        ]


class PointwiseRidge(FieldBaseline):
    """A linear function of all inputs of a point and its position (x, y, z), the same at all points.

    Args:
        points: with positions and weights.
        strength: of the penalty, against the variance of an input.
    """

    name, description = "ridge", "linear in the inputs of a point and its position"

    def __init__(self, points: SpherePoints, strength: float = 1e-3) -> None:
        self.xyz, self.weight, self.strength = points.xyz.numpy(), points.weight.numpy(), strength

    def fit(self, samples: Sequence[FieldSample]) -> Self:
        """As `FieldBaseline.fit`."""
        pairs = _targets(samples)
        stacked = np.stack([sample.inputs for sample, _ in pairs]).astype(np.float64)
        there = np.isfinite(stacked).sum(axis=(0, 2)).clip(min=1)
        self._mean = np.nansum(stacked, axis=(0, 2)) / there
        self._std = np.sqrt(np.nansum((stacked - self._mean[:, None]) ** 2, axis=(0, 2)) / there)
        self._std[self._std == 0] = 1.0
        size = len(self._mean) + 4
        coefficients = []
        for t in range(len(pairs[0][1])):
            gram, right, total = np.zeros((size, size)), np.zeros(size), 0.0
            for sample, targets in pairs:
                known = sample.known[t]
                x, w = self._features(sample)[known], self.weight[known]
                gram += x.T @ (x * w[:, None])
                right += x.T @ (w * targets[t, known])
                total += w.sum()
            penalty = self.strength * max(total, 1e-12) * np.eye(size)
            penalty[-1, -1] *= 1e-9  # the constant is free, but for a part without any value
            coefficients.append(np.linalg.solve(gram + penalty, right))
        self._coefficients = np.stack(coefficients)
        return self

    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """As `FieldBaseline.predict`."""
        return [(self._coefficients @ self._features(sample).T).astype(np.float32) for sample in samples]

    def _features(self, sample: FieldSample) -> np.ndarray:
        inputs = (sample.inputs - self._mean[:, None]) / self._std[:, None]
        return np.concatenate([np.nan_to_num(inputs).T, self.xyz, np.ones((len(self.xyz), 1))], axis=1)


class NearestPoints(FieldBaseline):
    """What the nearest known points have: the mean of values, the most frequent class.

    Args:
        points: with positions.
        count: of neighbours.
    """

    name, description = "nearest_points", "the nearest points whose target is known"

    def __init__(self, points: SpherePoints, count: int = 5) -> None:
        self.xyz, self.count = points.xyz.numpy(), count

    def fit(self, samples: Sequence[FieldSample]) -> Self:
        """As `FieldBaseline.fit`."""
        pairs = _targets(samples)
        fields = []
        for t in range(len(pairs[0][1])):
            place = np.concatenate([self.xyz[sample.known[t]] for sample, _ in pairs])
            value = np.concatenate([targets[t, sample.known[t]] for sample, targets in pairs])
            if not len(value):
                raise InputError("samples: no target is known; nearest points need some.")
            _, near = cKDTree(place).query(self.xyz, k=min(self.count, len(value)))
            fields.append(_vote(value[near.reshape(len(self.xyz), -1)]))
        self._fields = np.stack(fields)
        return self

    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """As `FieldBaseline.predict`."""
        return [self._fields] * len(samples)


class LatitudePrior(FieldBaseline):
    """The class that has the largest area in a band of latitude, over all where a band has none.

    Args:
        points: with positions and weights.
        bands: of latitude.
    """

    name, description = "latitude", "largest class of a band of latitude"

    def __init__(self, points: SpherePoints, bands: int = 18) -> None:
        self.band = (points.colatitude.numpy() / np.pi * bands).astype(np.int64).clip(max=bands - 1)
        self.weight, self.bands = points.weight.numpy(), bands

    def fit(self, samples: Sequence[FieldSample]) -> Self:
        """As `FieldBaseline.fit`."""
        pairs = _targets(samples)
        size = max(1 + max(int(targets.max(initial=-1)) for _, targets in pairs), 1)
        area = np.zeros((self.bands, size))
        for sample, targets in pairs:
            known = sample.known[0]
            np.add.at(area, (self.band[known], targets[0, known]), self.weight[known])
        self._classes = np.where(area.sum(axis=1) > 0, area.argmax(axis=1), area.sum(axis=0).argmax())
        return self

    def predict(self, samples: Sequence[FieldSample]) -> list[np.ndarray]:
        """As `FieldBaseline.predict`."""
        return [self._classes[self.band][None]] * len(samples)


def usual_baselines(preprocess: Mapping[str, Any], points: SpherePoints, region: bool = False) -> list[FieldBaseline]:
    """The baselines that fit a task.

    Args:
        preprocess: of the data module.
        points: of the grid.
        region: is a part of the globe held out? Then what other points have is known, and not what this one has.
    """
    if preprocess["task"] == "segmentation":
        return [LatitudePrior(points), NearestPoints(points)]
    inputs, history = preprocess["inputs"], preprocess["history"]
    found: list[FieldBaseline] = []
    last = continued_channels(preprocess)
    if last:
        found.append(Persistence(last))
        if not region:
            found.append(MeanChange(last))
    if history > 1:
        found.append(LinearExtrapolation(last, [k - len(inputs) for k in last], preprocess["steps"]))
    return [*found, NearestPoints(points) if region else Climatology(), PointwiseRidge(points)]


def continued_channels(preprocess: Mapping[str, Any]) -> list[int]:
    """The input channel that each target continues: its last known state, or an input of the same unit; else none."""
    inputs, targets = preprocess["inputs"], preprocess["targets"]
    if preprocess["task"] == "forecast":
        offset = (preprocess["history"] - 1) * len(inputs)
        return [offset + inputs.index(name) for name in targets]
    units = preprocess["units"]
    alike = len(inputs) == len(targets) and all(
        units.get(a) == units.get(b) is not None for a, b in zip(inputs, targets, strict=True)
    )
    return list(range(len(targets))) if alike and preprocess["task"] == "regression" else []


def _targets(samples: Sequence[FieldSample]) -> list[tuple[FieldSample, np.ndarray]]:
    if not len(samples):
        raise InputError("samples: got none, expected at least one training sample.")
    pairs = []
    for sample in samples:
        if sample.targets is None:
            raise InputError(f"samples: {sample.id!r} has no targets; a baseline is fitted to samples that have them.")
        pairs.append((sample, sample.targets))
    return pairs


def _pointwise_mean(fields: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """``[Ct, N]`` float32: of ``[Ct, N]`` values and marks where they count; where none does, the mean of all."""
    total, count = np.zeros(fields[0][0].shape), np.zeros(fields[0][0].shape)
    for values, known in fields:
        total += np.where(known, values, 0.0)
        count += known
    overall = total.sum(axis=1, keepdims=True) / count.sum(axis=1, keepdims=True).clip(min=1)
    return np.where(count > 0, total / count.clip(min=1), overall).astype(np.float32)


def _vote(values: np.ndarray) -> np.ndarray:
    """``[N]`` of ``[N, k]``: the mean of numbers, the most frequent of classes (the lowest of several)."""
    if values.dtype.kind != "i":
        return values.mean(axis=1)
    counts = (values[:, :, None] == values[:, None, :]).sum(axis=2)
    order = np.lexsort((values, -counts), axis=1) if values.size else values
    return np.take_along_axis(values, order[:, :1], axis=1)[:, 0]
