"""Featurised clouds: what is kept, what is drawn, what a change of pose, size or batch does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from geoattn.domains.pointclouds.featurize import LARGEST, Featurizer
from geoattn.domains.pointclouds.records import Cloud

SETTINGS: dict[str, Any] = {
    "task": "classification",
    "num_points": 64,
    "levels": [[16, 8], [8, 6]],
    "up_neighbors": [],
    "normals": "estimated",
    "normal_neighbors": 12,
    "scale": "unit",
}


def cloud(n: int = 150, scale: float = 1.0, turn: np.ndarray | None = None) -> Cloud:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n, 3)) * [1, 0.6, 0.3]
    points = scale * (points if turn is None else points @ turn.T) + 5
    normals = rng.normal(size=(n, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Cloud("a", points.astype(np.float32), normals, 2, np.arange(n) % 3, np.zeros(3), "a.xyz", None)


def test_pose_and_size_change_nothing_where_size_does_not_matter() -> None:
    turn = Rotation.random(rng=1).as_matrix()
    here, there = Featurizer(SETTINGS)(cloud()), Featurizer(SETTINGS)(cloud(scale=40, turn=turn))
    assert torch.equal(here.pyramid.index, there.pyramid.index)
    for a, b in zip(here.pyramid.features, there.pyramid.features, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
    assert here.pyramid.pos.norm(dim=1).max() == pytest.approx(1, abs=1e-5)
    kept = Featurizer(SETTINGS | {"scale": "keep"})(cloud(scale=40))
    assert kept.pyramid.pos.norm(dim=1).max() > 40


@pytest.mark.parametrize("task", ["segmentation", "normals"])
def test_targets_follow_the_sampled_points(task: str) -> None:
    one = cloud()
    sample = Featurizer(SETTINGS | {"task": task, "up_neighbors": [4, 4]})(one)
    values = one.segment if task == "segmentation" else one.normals
    assert sample.target is not None
    assert values is not None
    assert torch.equal(sample.target, torch.from_numpy(values[sample.pyramid.index.numpy()]))


def test_given_normals_are_used_when_told_so() -> None:
    one = cloud()
    assert one.normals is not None
    sample = Featurizer(SETTINGS | {"normals": "given"})(one)
    assert np.array_equal(sample.pyramid.normal.numpy(), one.normals[sample.pyramid.index.numpy()])


def test_variants_are_few_kept_and_the_same_again() -> None:
    one = cloud()
    options: dict[str, Any] = {"variants": 3, "dropout": 0.3, "jitter": 0.02}
    rng = np.random.default_rng(0)
    featurizer = Featurizer(SETTINGS, **options, keep=True)
    samples = [featurizer(one, rng) for _ in range(20)]
    assert len({id(sample) for sample in samples}) == 3
    again = Featurizer(SETTINGS, **options)(one, np.random.default_rng(0))
    assert torch.equal(again.pyramid.pos, samples[0].pyramid.pos)
    assert torch.equal(featurizer(one).pyramid.pos, Featurizer(SETTINGS)(one).pyramid.pos)  # without rng: itself


def test_stretching_draws_a_size() -> None:
    one, featurizer = cloud(), Featurizer(SETTINGS, stretch=0.2, keep=True)
    rng = np.random.default_rng(0)
    sizes = [float(featurizer(one, rng).pyramid.pos.norm(dim=1).max()) for _ in range(30)]
    assert 1 / 1.2 - 1e-5 <= min(sizes) < 0.9
    assert 1.1 < max(sizes) <= 1.2 + 1e-5


def test_batches() -> None:
    featurizer = Featurizer(SETTINGS)
    batch = featurizer.batch([cloud(), cloud(20)])
    assert batch.label.tolist() == [2, 2]
    assert batch.pyramid.num_clouds == 2
    pos, mask = batch.dense()
    assert pos.shape == (2, 64, 3)
    assert mask is not None
    assert mask.sum(1).tolist() == [64, 20]
    assert batch.to(torch.float64).pyramid.pos.dtype == torch.float64
    assert batch.to(torch.float64).label.dtype == torch.int64


def test_large_clouds_are_thinned_whatever_their_order_name_and_pose() -> None:
    large = cloud(LARGEST + 500)
    order = np.random.default_rng(2).permutation(len(large))
    shuffled = replace(cloud(LARGEST + 500, turn=Rotation.random(rng=3).as_matrix()), id="another")
    shuffled = replace(shuffled, points=shuffled.points[order])
    first, second = Featurizer(SETTINGS)(large), Featurizer(SETTINGS)(shuffled)
    for a, b in zip(first.pyramid.features, second.pyramid.features, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)
