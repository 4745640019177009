import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    adjusted_rand_score,
    balanced_accuracy_score,
    confusion_matrix,
    jaccard_score,
)

from geoattn.domains.pointclouds.metrics import (
    angles,
    confusion,
    evaluate_classes,
    evaluate_normals,
    evaluate_partitions,
    evaluate_segments,
)
from geoattn.errors import ShapeError

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 5, 300)
P = np.where(RNG.random(300) < 0.7, Y, RNG.integers(0, 5, 300))


def segments(num_clouds=20, classes=4, seed=1):
    rng = np.random.default_rng(seed)
    truth = [rng.integers(0, classes, rng.integers(30, 60)) for _ in range(num_clouds)]
    return truth, [np.where(rng.random(len(y)) < 0.8, y, rng.integers(0, classes, len(y))) for y in truth]


def test_classes_agree_with_scikit_learn():
    found = evaluate_classes(Y, P)
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(Y, P))
    assert found["macro_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(Y, P))
    assert (found["accuracy"]["n"], found["macro_accuracy"]["n"]) == (300, 5)
    np.testing.assert_array_equal(confusion(Y, P, list("abcde")).to_numpy(), confusion_matrix(Y, P))
    assert evaluate_classes(Y, np.eye(5)[P]) == found  # scores
    assert confusion([0], [0], ["a", "b"]).loc["b"].tolist() == [0, 0]  # a class that does not occur


def test_intervals_are_those_of_a_share():
    low, high = evaluate_classes(Y, P)["accuracy"]["ci95"]
    share = np.mean(Y == P)
    half = 1.96 * np.sqrt(share * (1 - share) / 300)
    np.testing.assert_allclose([low, high], [share - half, share + half], atol=0.015)


def test_intervals_where_all_clouds_are_right_or_wrong():
    for hits, n in ((5, 5), (0, 5), (40, 40)):
        found = evaluate_classes(np.zeros(n, int), np.full(n, int(hits == 0)))["accuracy"]
        wilson = binomtest(hits, n).proportion_ci(method="wilson")
        assert found["ci95"] == pytest.approx([wilson.low, wilson.high], abs=1e-6) and found["value"] == hits / n
    low, high = evaluate_classes([0, 0, 0, 0, 1], [0, 0, 0, 1, 1])["accuracy"]["ci95"]
    assert 0 < low < 0.8 < high <= 1


def test_segments_agree_with_scikit_learn():
    truth, predicted = segments()
    found = evaluate_segments(truth, predicted)
    y, p = np.concatenate(truth), np.concatenate(predicted)
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(y, p))
    assert found["miou"]["value"] == pytest.approx(jaccard_score(y, p, average="macro"))
    per_shape = [jaccard_score(a, b, average="macro") for a, b in zip(truth, predicted, strict=True)]
    assert found["shape_miou"]["value"] == pytest.approx(np.mean(per_shape))
    assert [found[name]["n"] for name in ("accuracy", "miou", "shape_miou")] == [len(y), 4, 20]
    low, high = found["miou"]["ci95"]
    assert low < found["miou"]["value"] < high < low + 0.2


def test_points_without_a_class_count_for_nothing():
    truth, predicted = segments()
    found = evaluate_segments(truth, predicted)
    more = [np.append(y, [-1, -1]) for y in truth], [np.append(p, [0, 3]) for p in predicted]
    assert evaluate_segments(*more) == found
    assert evaluate_segments([np.array([-1])], [np.array([0])])["miou"]["value"] is None
    assert evaluate_partitions(*more) == evaluate_partitions(truth, predicted)


def test_parts_that_are_neither_there_nor_predicted_count_one():
    truth, predicted = [np.array([0, 0, 1, 1])], [np.array([0, 0, 0, 1])]
    assert evaluate_segments(truth, predicted, parts=[[0, 1, 2]])["shape_miou"]["value"] == pytest.approx(
        (2 / 3 + 1 / 2 + 1) / 3
    )
    wrong = [np.array([0, 0, 2, 1])]  # a part that is predicted and not there counts 0
    assert evaluate_segments(truth, wrong, parts=[[0, 1, 2]])["shape_miou"]["value"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert evaluate_segments(truth, wrong)["shape_miou"]["value"] == pytest.approx((1 + 0.5) / 2)


def test_partitions_do_not_depend_on_numbers():
    truth, predicted = segments()
    found = evaluate_partitions(truth, predicted)
    renamed = [7 - 2 * p for p in predicted]
    assert evaluate_partitions(truth, renamed) == found
    y, p = truth[0], predicted[0]
    pairs = [(a, b) for a in range(len(y)) for b in range(a)]
    agree = np.mean([(y[a] == y[b]) == (p[a] == p[b]) for a, b in pairs])
    alone = evaluate_partitions([y], [p])
    assert alone["rand_index"]["value"] == pytest.approx(agree)
    assert alone["rand_error"]["value"] == pytest.approx(1 - agree)
    assert adjusted_rand_score(y, p) < alone["rand_index"]["value"]
    assert evaluate_partitions([np.array([1])], [np.array([0])])["rand_index"]["value"] is None


def test_angles_of_normals():
    truth = np.tile([0.0, 0.0, 1.0], (4, 1))
    turned = np.radians([0, 5, 20, 170])
    predicted = np.stack([np.sin(turned), np.zeros(4), np.cos(turned)], axis=1) * [[1], [2], [3], [4]]
    np.testing.assert_allclose(angles(truth, predicted), [0, 5, 20, 170], atol=1e-9)
    found = evaluate_normals([truth[:1], truth[1:]], [predicted[:1], predicted[1:]])
    expected = {"angle": 35 / 4, "below_10": 0.5, "below_30": 1, "oriented_angle": 195 / 4, "oriented_below_30": 0.75}
    assert {name: entry["value"] for name, entry in found.items()} == pytest.approx(expected)
    assert found["angle"]["n"] == 4 and evaluate_normals([], [])["angle"]["value"] is None


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeError):
        evaluate_classes([0, 1], [0])
    with pytest.raises(ShapeError, match="1 clouds"):
        evaluate_segments([Y, Y], [P])
    with pytest.raises(ShapeError, match="of cloud 0"):
        evaluate_normals([np.zeros((2, 3))], [np.zeros((3, 3))])
    assert evaluate_classes([], [])["accuracy"]["value"] is None
