from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import KMeans

from geoattn.domains.pointclouds.baselines import (
    KMeansSegments,
    MajorityClass,
    MajoritySegment,
    OccupancyGrid,
    ShapeDistribution,
)
from geoattn.domains.pointclouds.demo import demo_clouds
from geoattn.domains.pointclouds.descriptors import d2_histogram, occupancy
from geoattn.domains.pointclouds.metrics import evaluate_partitions
from geoattn.domains.pointclouds.rotations import random_rotation, rotated
from geoattn.errors import InputError


@pytest.fixture(scope="module")
def aligned():
    return demo_clouds(210, 256, seed=2, rotations="none", scales=False)


def turned(clouds, seed=0):
    rng = np.random.default_rng(seed)
    return [rotated(cloud, random_rotation(rng)) for cloud in clouds]


def accuracy(baseline, clouds):
    return np.mean(baseline.predict(clouds) == [cloud.label for cloud in clouds])


def test_descriptors_and_what_changes_them(aligned):
    cloud = aligned[0]
    moved = replace(cloud, points=cloud.points * 4 + 7)
    np.testing.assert_allclose(d2_histogram(cloud).sum(), 1)
    assert np.abs(d2_histogram(moved) - d2_histogram(cloud)).sum() < 1e-3
    np.testing.assert_allclose(d2_histogram(turned([cloud])[0]), d2_histogram(cloud), atol=1e-3)
    assert np.mean(occupancy(moved) != occupancy(cloud)) < 2e-3
    assert np.mean(occupancy(turned([cloud])[0]) != occupancy(cloud)) > 0.02
    line = replace(cloud, points=np.array([[0, 0, 0], [2, 0, 0]], np.float32))
    assert d2_histogram(line)[21] == 1  # the only distance is the mean one, a third of the range
    assert d2_histogram(replace(cloud, points=line.points[:1])).sum() == 1


def test_the_forest_knows_rotated_shapes_and_the_grid_does_not(aligned):
    train, test = aligned[:140], aligned[140:]
    forest, grid = ShapeDistribution(num_trees=50).fit(train), OccupancyGrid().fit(train)
    assert accuracy(forest, test) > 0.85 and accuracy(forest, turned(test)) > 0.85
    assert accuracy(grid, test) > 0.9 and accuracy(grid, turned(test)) < 0.6
    assert forest.predict(test).dtype == np.int64


def test_the_largest_class(aligned):
    chosen = [cloud for cloud in aligned if cloud.label == 3] + aligned[:14]
    assert set(MajorityClass().fit(chosen).predict(aligned)) == {3}


@pytest.mark.parametrize("make", [MajorityClass, ShapeDistribution, OccupancyGrid])
def test_what_cannot_be_fitted(aligned, make):
    with pytest.raises(InputError, match="got none"):
        make().fit([])
    with pytest.raises(InputError, match="has no label"):
        make().fit([replace(aligned[0], label=None)])
    one = make().fit([cloud for cloud in aligned[:40] if cloud.label == 2])
    assert one.predict(aligned[:3]).tolist() == [2, 2, 2] and one.predict([]).tolist() == []


def test_segments_of_the_majority(aligned):
    baseline = MajoritySegment().fit(aligned)
    for cloud, found in zip(aligned[:7], baseline.predict(aligned[:7]), strict=True):
        same = np.concatenate([other.segment for other in aligned if other.label == cloud.label])
        assert set(found) == {np.bincount(same).argmax()}
    everything = np.bincount(np.concatenate([cloud.segment for cloud in aligned])).argmax()
    assert set(baseline.predict([replace(aligned[0], label=None)])[0]) == {everything}
    with pytest.raises(InputError, match="no segments"):
        MajoritySegment().fit([replace(aligned[0], segment=np.full(256, -1))])


def test_k_means_cuts_better_than_nothing(aligned):
    train, test = aligned[:70], [cloud for cloud in aligned[70:140] if len(np.unique(cloud.segment)) > 2]
    truth = [cloud.segment for cloud in test]
    found = KMeansSegments().fit(train).predict(test)
    cut = evaluate_partitions(truth, found)["rand_index"]["value"]
    uncut = evaluate_partitions(truth, MajoritySegment().fit(train).predict(test))["rand_index"]["value"]
    assert cut > uncut + 0.1
    few = replace(aligned[0], points=aligned[0].points[:2], normals=None, segment=aligned[0].segment[:2])
    assert len(KMeansSegments().fit(train).predict([few])[0]) == 2


def test_k_means_is_fitted_to_some_points_of_a_large_cloud(aligned, monkeypatch):
    rows = []
    fit = KMeans.fit
    monkeypatch.setattr(KMeans, "fit", lambda self, x, *rest, **named: rows.append(len(x)) or fit(self, x))
    cloud = aligned[0]
    shaken = np.random.default_rng(0).normal(scale=1e-3, size=(5000, 3)).astype(np.float32)
    points = np.resize(cloud.points, (5000, 3)) + shaken
    large = replace(cloud, points=points, normals=None, segment=np.resize(cloud.segment, 5000))
    baseline = KMeansSegments().fit(aligned[:70])
    (found,) = baseline.predict([large])
    assert rows == [2048] and len(found) == 5000
    middles = np.stack([points[found == k].mean(axis=0) for k in np.unique(found)])
    nearest = np.linalg.norm(points[:, None] - middles, axis=-1).argmin(axis=1)
    assert np.mean(np.unique(found)[nearest] == found) > 0.97
    np.testing.assert_array_equal(found, baseline.predict([large])[0])
