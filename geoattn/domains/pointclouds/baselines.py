"""Baselines that stand beside every result: the largest class, shape distributions, an occupancy grid; k-means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from geoattn.domains.pointclouds.descriptors import GRID, d2_histogram, in_unit_sphere, occupancy
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError

NUM_POINTS = 2048
"""Points of a cloud to which k-means is fitted."""


class ClassBaseline(ABC):
    """A classifier of clouds: ``fit`` it to clouds with labels, then ``predict`` those of others."""

    name: str
    description: str

    @abstractmethod
    def fit(self, clouds: Sequence[Cloud]) -> Self:
        """Learn from training clouds.

        Raises:
            InputError: no cloud, or one without a label.
        """

    @abstractmethod
    def predict(self, clouds: Sequence[Cloud]) -> np.ndarray:
        """``[M]`` int64 labels; those of the clouds are not looked at."""


class MajorityClass(ClassBaseline):
    """The most frequent class of the training part, whatever the cloud; the first of several."""

    name, description = "majority", "most frequent class of the training part"

    def fit(self, clouds: Sequence[Cloud]) -> Self:
        """As `ClassBaseline.fit`."""
        self._label = int(np.bincount(_labels(clouds)).argmax())
        return self

    def predict(self, clouds: Sequence[Cloud]) -> np.ndarray:
        """As `ClassBaseline.predict`."""
        return np.full(len(clouds), self._label, dtype=np.int64)


class _Described(ClassBaseline):
    """A descriptor and a classifier of scikit-learn."""

    _describe: Callable[[Cloud], np.ndarray]

    @abstractmethod
    def _model(self) -> Any: ...

    def fit(self, clouds: Sequence[Cloud]) -> Self:
        """As `ClassBaseline.fit`."""
        labels = _labels(clouds)
        self._only = int(labels[0]) if len(set(labels.tolist())) == 1 else None
        if self._only is None:
            self._fitted = self._model().fit(self._features(clouds), labels)
        return self

    def predict(self, clouds: Sequence[Cloud]) -> np.ndarray:
        """As `ClassBaseline.predict`."""
        if self._only is not None or not clouds:
            return np.full(len(clouds), self._only or 0, dtype=np.int64)
        return self._fitted.predict(self._features(clouds)).astype(np.int64)

    def _features(self, clouds: Sequence[Cloud]) -> np.ndarray:
        return np.stack([self._describe(cloud) for cloud in clouds])


class ShapeDistribution(_Described):
    """A random forest on D2 histograms: what distances alone say. Rotations and scales change nothing.

    Args:
        num_trees: of the forest.
        seed: of the forest.
    """

    name, description = "d2_forest", "D2 histogram of distances, random forest; rotation invariant"

    def __init__(self, num_trees: int = 300, seed: int = 0) -> None:
        self.num_trees, self.seed = num_trees, seed

    def _describe(self, cloud: Cloud) -> np.ndarray:
        return d2_histogram(cloud)

    def _model(self) -> Any:
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(self.num_trees, random_state=self.seed)


class OccupancyGrid(_Described):
    """Logistic regression on the cells of a 12-cubed grid that hold points: strong if the data share a pose.

    Args:
        strength: of the penalty, the C of scikit-learn.
    """

    name, description = "occupancy_logistic", f"{GRID}-cubed occupancy grid, logistic regression; needs aligned clouds"

    def __init__(self, strength: float = 0.1) -> None:
        self.strength = strength

    def _describe(self, cloud: Cloud) -> np.ndarray:
        return occupancy(cloud)

    def _model(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.strength, max_iter=300)


class PointBaseline(ABC):
    """A class for each point: ``fit`` it to clouds with segments, then ``predict`` those of others."""

    name: str
    description: str

    @abstractmethod
    def fit(self, clouds: Sequence[Cloud]) -> Self:
        """Learn from training clouds.

        Raises:
            InputError: no cloud, or one without segments.
        """

    @abstractmethod
    def predict(self, clouds: Sequence[Cloud]) -> list[np.ndarray]:
        """``[N]`` int64 of each cloud; their segments are not looked at."""


class MajoritySegment(PointBaseline):
    """The most frequent class of points among training clouds of the same label (of all, where it is not known)."""

    name, description = "majority", "most frequent class of points, among clouds of the same class if that is known"

    def fit(self, clouds: Sequence[Cloud]) -> Self:
        """As `PointBaseline.fit`."""
        size = 1 + max(int(segment.max()) for segment in _segments(clouds))
        counts: dict[int | None, np.ndarray] = {None: np.zeros(size, dtype=np.int64)}
        for cloud, segment in zip(clouds, _segments(clouds), strict=True):
            found = np.bincount(segment[segment >= 0], minlength=size)
            for key in {None, cloud.label}:
                counts[key] = counts.get(key, 0) + found
        self._most = {key: int(count.argmax()) for key, count in counts.items()}
        return self

    def predict(self, clouds: Sequence[Cloud]) -> list[np.ndarray]:
        """As `PointBaseline.predict`."""
        return [np.full(len(cloud), self._most.get(cloud.label, self._most[None]), dtype=np.int64) for cloud in clouds]


class KMeansSegments(PointBaseline):
    """k-means of the coordinates, and of the normals where there are any: a partition whose numbers mean nothing.

    k is the median number of segments of training clouds with the same label (of all, where it is not known). The means
    are those of at most 2,048 drawn points of a cloud; all others go to the nearest. To be scored by the Rand index.

    Args:
        normal_weight: of normals beside coordinates in the unit sphere.
        seed: of the starts.
    """

    name, description = "k_means", "k-means of coordinates and normals; numbers of segments mean nothing"

    def __init__(self, normal_weight: float = 0.2, seed: int = 0) -> None:
        self.normal_weight, self.seed = normal_weight, seed

    def fit(self, clouds: Sequence[Cloud]) -> Self:
        """As `PointBaseline.fit`; it counts segments."""
        counts: dict[int | None, list[int]] = {}
        for cloud, segment in zip(clouds, _segments(clouds), strict=True):
            for key in {None, cloud.label}:
                counts.setdefault(key, []).append(len(np.unique(segment[segment >= 0])))
        self._k = {key: max(1, round(float(np.median(count)))) for key, count in counts.items()}
        return self

    def predict(self, clouds: Sequence[Cloud]) -> list[np.ndarray]:
        """As `PointBaseline.predict`."""
        from sklearn.cluster import KMeans

        found = []
        for cloud in clouds:
            features = in_unit_sphere(cloud.points)
            if cloud.normals is not None:
                features = np.hstack([features, self.normal_weight * cloud.normals])
            some = features
            if len(features) > NUM_POINTS:
                rng = np.random.default_rng(self.seed)
                some = features[np.sort(rng.choice(len(features), NUM_POINTS, replace=False))]
            k = min(self._k.get(cloud.label, self._k[None]), len(np.unique(some, axis=0)))
            means = KMeans(k, n_init=3, random_state=self.seed).fit(some)
            found.append(means.predict(features).astype(np.int64))
        return found


def _labels(clouds: Sequence[Cloud]) -> np.ndarray:
    if not clouds:
        raise InputError("clouds: got none, expected at least one training cloud.")
    missing = next((cloud for cloud in clouds if cloud.label is None), None)
    if missing is not None:
        raise InputError(f"clouds: {missing.id!r} has no label; a baseline is fitted to clouds whose class is known.")
    return np.array([cloud.label for cloud in clouds], dtype=np.int64)


def _segments(clouds: Sequence[Cloud]) -> list[np.ndarray]:
    if not clouds:
        raise InputError("clouds: got none, expected at least one training cloud.")
    missing = next((cloud for cloud in clouds if cloud.segment is None or cloud.segment.max() < 0), None)
    if missing is not None:
        raise InputError(f"clouds: {missing.id!r} has no segments; this baseline learns from them.")
    return [cloud.segment for cloud in clouds if cloud.segment is not None]
