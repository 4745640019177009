"""What parts of a split share."""

import numpy as np

from geoattn.domains.sphere.audit import audit, audit_regions
from geoattn.geometry.sphere import lat_lon_grid


def counted(times, targets, split, group=None, keys=None):
    last = max([*targets, *(k for row in times for k in row)])
    group = np.zeros(last + 1, dtype=int) if group is None else np.array(group)
    keys = keys or [str(row) for row in times]
    return audit(keys, times, targets, group, split)["pairs"]["train/test"]


def test_identical_inputs_are_counted():
    found = counted([[0], [2]], [0, 2], {"train": [0], "valid": [], "test": [1]}, keys=["a", "a"])
    assert found == {"identical": 1, "same_moment": 0, "near_in_time": 0}


def test_shared_moment_of_a_series():
    # the target of training is the state that the test sample begins with
    found = counted([[0], [1]], [1, 2], {"train": [0], "valid": [], "test": [1]})
    assert found == {"identical": 0, "same_moment": 1, "near_in_time": 1}


def test_nearer_than_the_lead_time():
    split = {"train": [0], "valid": [], "test": [1]}
    assert counted([[0], [6]], [3, 9], split)["near_in_time"] == 0  # three states apart, as far as the lead
    assert counted([[0], [5]], [3, 8], split)["near_in_time"] == 1


def test_other_trajectories_are_never_near():
    found = counted([[0], [2]], [1, 3], {"train": [0], "valid": [], "test": [1]}, group=[0, 0, 1, 1])
    assert found == {"identical": 0, "same_moment": 0, "near_in_time": 0}


def test_places_count_within_a_trajectory():
    # rows of two trajectories that stand interleaved in the file
    found = counted([[0], [4]], [2, 6], {"train": [0], "valid": [], "test": [1]}, group=[0, 1, 0, 1, 0, 1, 0])
    assert found["near_in_time"] == 0
    found = counted([[0], [2]], [2, 4], {"train": [0], "valid": [], "test": [1]}, group=[0, 1, 0, 1, 0])
    assert found["same_moment"] == 1


def test_empty_parts():
    found = audit(["a"], [[0]], [1], np.zeros(2, dtype=int), {"train": [0], "valid": [], "test": []})
    assert found["pairs"]["train/test"] == {"identical": 0, "same_moment": 0, "near_in_time": 0}
    assert {row["percent"] for row in found["rows"]} == {0.0}


def test_share_of_area_near_the_training_part():
    points = lat_lon_grid(18, 36, "cells")  # ten degrees
    column = np.arange(36)[None].repeat(18, 0).reshape(-1)
    used = {"train": column < 10, "valid": column > 33, "test": (column >= 10) & (column < 12)}
    found = audit_regions(points, used)
    shares = {row["what"]: row["percent"] for row in found["rows"] if row["parts"] == "train/test"}
    assert found["sizes"]["test"] == 36
    assert shares["within_2_degrees"] < shares["within_5_degrees"] < shares["within_10_degrees"]
    nearest = points.weight.numpy()[used["test"] & (column == 10)].sum() / points.weight.numpy()[used["test"]].sum()
    # the column beside the training part is within ten degrees; near the poles the other one is too
    assert shares["within_10_degrees"] >= 100 * nearest - 0.1


def test_no_training_area_is_near_nothing():
    points = lat_lon_grid(4, 8, "cells")
    used = {"train": np.zeros(32, bool), "valid": np.zeros(32, bool), "test": np.ones(32, bool)}
    assert audit_regions(points, used)["pairs"]["train/test"]["within_10_degrees"] == 0
