"""From a trained model and clouds to numbers: classes, normals, metrics, protocols, baselines, keys of copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from geoattn.datasets.progress import track
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.metrics import Entry
from geoattn.domains.pointclouds.audit import fingerprint
from geoattn.domains.pointclouds.baselines import (
    ClassBaseline,
    KMeansSegments,
    MajorityClass,
    MajoritySegment,
    OccupancyGrid,
    PointBaseline,
    ShapeDistribution,
)
from geoattn.domains.pointclouds.batch import CloudSample
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.metrics import (
    angles,
    evaluate_classes,
    evaluate_normals,
    evaluate_partitions,
    evaluate_segments,
)
from geoattn.domains.pointclouds.normals import oriented_normals
from geoattn.domains.pointclouds.records import Cloud
from geoattn.domains.pointclouds.rotations import Rotations, random_rotation, rotated
from geoattn.errors import InputError
from geoattn.kernels import knn

TASK = "pointclouds"
HEADLINE = {"classification": "accuracy", "segmentation": "accuracy", "normals": "angle"}
BATCH_SIZE = 32
Protocol = Literal["given", "z", "SO3"]
PROTOCOLS: dict[str, tuple[str, Rotations]] = {
    "given": ("test", "none"),
    "z": ("test_z", "z"),
    "SO3": ("test_so3", "SO3"),
}
"""How test clouds stand -> where the numbers stand in ``metrics.json``, and the rotations."""
POSES = {"given": "as given", "z": "turned about the up axis", "SO3": "turned at random"}
TURN_SEED = 7


@dataclass
class Answers:
    """What a model says of M clouds.

    Attributes:
        probability: classification: ``[K]`` of each cloud; segmentation: ``[N]`` of the class of each point.
        spread: for an ensemble the standard deviation of its members' ``probability``; else empty.
        points: segmentation: ``[N]`` the class of each point of the cloud as it was read; normals: ``[N, 3]``.
    """

    probability: list[np.ndarray] = field(default_factory=list)
    spread: list[np.ndarray] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)

    def classes(self) -> np.ndarray:
        """``[M]`` the most probable class of each cloud."""
        return np.array([values.argmax() for values in self.probability], dtype=np.int64)


def predict_clouds(
    model: nn.Module,
    clouds: Sequence[Cloud],
    featurizer: Featurizer,
    device: str | torch.device = "cpu",
    *,
    label: str = "",
) -> Answers:
    """What the model says of clouds; a point that was not sampled gets what the nearest sampled one has.

    Args:
        model: moved to ``device`` and set to evaluation.
        clouds: labels and segments are not looked at.
        featurizer: without augmentation.
        device: where to compute.
        label: of the progress display; none without it.
    """
    model, found = model.eval().to(device), Answers()
    task = featurizer.preprocess["task"]
    starts = range(0, len(clouds), BATCH_SIZE)
    with torch.inference_mode():
        for start in track(starts, len(starts), label, show=bool(label)):
            part = clouds[start : start + BATCH_SIZE]
            samples = [featurizer(cloud) for cloud in part]
            batch = featurizer.collate(samples).to(device)
            members = model.members(batch) if isinstance(model, Ensemble) else model(batch)[None]
            if task == "normals":
                for cloud, sample, vectors in zip(part, samples, _per_cloud(members.mean(0), samples), strict=True):
                    found.points.append(_unit(vectors[nearest_sampled(cloud, sample)]))
                continue
            probability = members.double().mean(0).softmax(-1)
            spread = members.double().softmax(-1).std(0, correction=0) if len(members) > 1 else None
            if task == "classification":
                found.probability.extend(probability.cpu().numpy())
                found.spread.extend([] if spread is None else spread.cpu().numpy())
                continue
            spreads = [] if spread is None else _per_cloud(spread, samples)
            by_cloud = zip(part, samples, _per_cloud(probability, samples), strict=True)
            for k, (cloud, sample, values) in enumerate(by_cloud):
                classes, rows = values.argmax(1), nearest_sampled(cloud, sample)
                found.points.append(classes[rows])
                found.probability.append(values.max(1)[rows])
                if spreads:
                    found.spread.append(np.take_along_axis(spreads[k], classes[:, None], 1)[:, 0][rows])
    return found


def nearest_sampled(cloud: Cloud, sample: CloudSample) -> np.ndarray:
    """``[N]`` for each point of a cloud the place of the nearest among those that were sampled."""
    assert sample.rows is not None
    points = torch.from_numpy(np.ascontiguousarray(cloud.points))
    return knn(points[torch.from_numpy(sample.rows)], points, 1)[0][:, 0].numpy()


def _per_cloud(values: torch.Tensor, samples: Sequence[CloudSample]) -> list[np.ndarray]:
    sizes = [len(sample.pyramid.pos) for sample in samples]
    return [part.numpy() for part in values.cpu().split(sizes)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)


def measure(
    clouds: Sequence[Cloud], answers: Answers, preprocess: Mapping[str, Any], *, partition: bool = False
) -> dict[str, Entry]:
    """All metrics of clouds with labels, segments or normals.

    Args:
        clouds: that were predicted.
        answers: of the model.
        preprocess: of the model.
        partition: segmentation: the numbers mean nothing, only which points are together.
    """
    if preprocess["task"] == "classification":
        return evaluate_classes(labels_of(clouds), answers.classes())
    if preprocess["task"] == "normals":
        return evaluate_normals([c.normals for c in clouds if c.normals is not None], answers.points)
    truth = [cloud.segment for cloud in clouds if cloud.segment is not None]
    together = {"rand_index": evaluate_partitions(truth, answers.points)["rand_index"]}
    return (
        together if partition else evaluate_segments(truth, answers.points, parts=_parts(clouds, preprocess)) | together
    )


def _parts(clouds: Sequence[Cloud], preprocess: Mapping[str, Any]) -> list[list[int]] | None:
    """The classes of points that each cloud may have; None if the class of a cloud is not known."""
    names, of_class = preprocess["segment_names"], preprocess["segments_of_class"]
    known = [[names.index(name) for name in of_class[kind]] for kind in preprocess["class_names"] if kind in of_class]
    if len(known) != len(preprocess["class_names"]) or not known or any(cloud.label is None for cloud in clouds):
        return None
    return [known[cloud.label] for cloud in clouds if cloud.label is not None]


def labels_of(clouds: Sequence[Cloud]) -> np.ndarray:
    """``[M]`` classes.

    Raises:
        InputError: a cloud has none.
    """
    missing = next((cloud for cloud in clouds if cloud.label is None), None)
    if missing is not None:
        raise InputError(f"{missing.file}: the class of cloud {missing.id!r} is not known.")
    return np.array([cloud.label for cloud in clouds], dtype=np.int64)


def turned(clouds: Sequence[Cloud], kind: Rotations, up: Literal["x", "y", "z"], seed: int = TURN_SEED) -> list[Cloud]:
    """Clouds in poses that are drawn once: the k-th of a list always gets the same."""
    if kind == "none":
        return list(clouds)
    return [rotated(c, random_rotation(np.random.default_rng([seed, k]), kind, up)) for k, c in enumerate(clouds)]


def turned_by(clouds: Sequence[Cloud], degrees: float, seed: int = TURN_SEED) -> list[Cloud]:
    """Clouds turned by an angle, each about a random axis of its own."""
    half, found = np.radians(degrees) / 2, []
    for k, cloud in enumerate(clouds):
        axis = np.random.default_rng([seed, k]).normal(size=3)
        x, y, z = axis / np.linalg.norm(axis)
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        found.append(rotated(cloud, np.eye(3) + np.sin(2 * half) * cross + (1 - np.cos(2 * half)) * cross @ cross))
    return found


Predictor = Callable[[Sequence[Cloud]], Answers]


def fitted_baselines(train: Sequence[Cloud], preprocess: Mapping[str, Any]) -> dict[str, Predictor]:
    """Name -> predictor of the baselines of a task; fitted to clouds in the poses that the model was trained in."""
    train = turned(train, preprocess["rotate"], preprocess["up"])
    if preprocess["task"] == "classification":
        return {
            b.name: _class_predictor(b.fit(train), len(preprocess["class_names"]))
            for b in (MajorityClass(), ShapeDistribution(), OccupancyGrid())
        }
    if preprocess["task"] == "segmentation":
        return {b.name: _point_predictor(b.fit(train)) for b in (MajoritySegment(), KMeansSegments())}
    return {"fitted_planes": _fitted_planes}


PARTITIONS = frozenset({KMeansSegments.name})
"""Baselines whose numbers of segments mean nothing."""


def _class_predictor(baseline: ClassBaseline, num_classes: int) -> Predictor:
    return lambda clouds: Answers(probability=list(np.eye(num_classes)[baseline.predict(clouds)]))


def _point_predictor(baseline: PointBaseline) -> Predictor:
    return lambda clouds: Answers(points=baseline.predict(clouds))


def _fitted_planes(clouds: Sequence[Cloud]) -> Answers:
    """The normals of planes that are fitted to the neighbours of every point: no learning."""
    return Answers(points=[oriented_normals(cloud.points) for cloud in clouds])


def measure_protocols(
    predictors: Mapping[str, Predictor],
    clouds: Sequence[Cloud],
    preprocess: Mapping[str, Any],
    protocols: Sequence[str] = tuple(PROTOCOLS),
    given: Mapping[str, Answers] | None = None,
) -> dict[str, dict[str, dict[str, Entry]]]:
    """Split of ``metrics.json`` -> name -> metrics, for clouds as given and turned.

    Args:
        predictors: name -> predictor.
        clouds: with what is to be predicted.
        preprocess: of the model.
        protocols: keys of `PROTOCOLS`.
        given: name -> answers for the clouds as given, where they are known already.
    """
    found: dict[str, dict[str, dict[str, Entry]]] = {}
    for protocol in protocols:
        split, kind = PROTOCOLS[protocol]
        posed, known = turned(clouds, kind, preprocess["up"]), (given or {}) if kind == "none" else {}
        found[split] = {
            name: measure(posed, known.get(name) or predict(posed), preprocess, partition=name in PARTITIONS)
            for name, predict in predictors.items()
        }
    return found


def cloud_keys(clouds: Sequence[Cloud]) -> list[str]:
    """A short hash per cloud by which a copy is found in another file: of its points, in any order and unit."""
    return [fingerprint(cloud)[:12] for cloud in clouds]


def prediction_table(
    table: pd.DataFrame, clouds: Sequence[Cloud], answers: Answers, preprocess: Mapping[str, Any]
) -> pd.DataFrame:
    """``table`` with what the model says, one row per cloud.

    Classification: ``predicted``, its ``probability`` (and ``probability_std`` of an ensemble) and ``p_CLASS`` of every
    class. Segmentation: the share of the points in each class, ``share_CLASS``, and, where the truth is known, ``hit``,
    the share of the points that are right. Normals: where the truth is known, the mean ``angle`` in degrees of lines.
    """
    columns: dict[str, Any] = {}
    if preprocess["task"] == "classification":
        classes, names = answers.classes(), preprocess["class_names"]
        columns["predicted"] = [names[k] for k in classes]
        columns["probability"] = [p[k] for p, k in zip(answers.probability, classes, strict=True)]
        if answers.spread:
            columns["probability_std"] = [s[k] for s, k in zip(answers.spread, classes, strict=True)]
        columns |= {f"p_{name}": [p[k] for p in answers.probability] for k, name in enumerate(names)}
    elif preprocess["task"] == "segmentation":
        for k, name in enumerate(preprocess["segment_names"]):
            columns[f"share_{name}"] = [float(np.mean(p == k)) for p in answers.points]
        if all(cloud.segment is not None for cloud in clouds):
            columns["hit"] = [_hit(c.segment, p) for c, p in zip(clouds, answers.points, strict=True)]
    elif all(cloud.normals is not None for cloud in clouds):
        columns["angle"] = [_angle(c.normals, p) for c, p in zip(clouds, answers.points, strict=True)]
    return table.assign(**columns)


def _hit(truth: np.ndarray | None, predicted: np.ndarray) -> float:
    assert truth is not None
    known = truth >= 0
    return float(np.mean(truth[known] == predicted[known])) if known.any() else float("nan")


def _angle(truth: np.ndarray | None, predicted: np.ndarray) -> float:
    assert truth is not None
    apart = angles(truth, predicted)
    return float(np.minimum(apart, 180 - apart).mean())
