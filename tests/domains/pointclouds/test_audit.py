from dataclasses import replace

import numpy as np
import pytest

from geoattn.domains.pointclouds.audit import NEAR_CHAMFER, audit, audit_rows, chamfer_ratio, fingerprint
from geoattn.domains.pointclouds.demo import demo_clouds
from geoattn.domains.pointclouds.rotations import random_rotation, rotated
from geoattn.tasks.pointclouds import run

RNG = np.random.default_rng(0)


def copy_of(cloud, name, *, noise=0.0, order=True):
    """The same points, turned, scaled and moved."""
    turned = rotated(cloud, random_rotation(RNG))
    rows = RNG.permutation(len(cloud)) if order else np.arange(len(cloud))
    points = turned.points[rows] * 2.5 + RNG.normal(scale=noise, size=cloud.points.shape) * 2.5 + [3, -4, 5]
    return replace(turned, id=name, points=points.astype(np.float32))


@pytest.fixture(scope="module")
def clouds():
    return demo_clouds(42, 300, seed=4)


def test_planted_copies_are_found_and_nothing_else(clouds):
    planted = [
        copy_of(clouds[0], "turned"),
        copy_of(clouds[8], "noisy", noise=0.004),
        replace(clouds[3], id="same", points=clouds[3].points[::-1]),
        replace(copy_of(clouds[5], "mislabelled"), label=0),
    ]
    everything = [*clouds, *planted]
    report = audit(everything, {"train": list(range(21)), "valid": list(range(21, 30)), "test": list(range(30, 46))})
    assert report["pairs"]["train/test"] == {"identical": 1, "near_copy": 4, "other_class": 1}
    assert report["pairs"]["train/valid"] == {"identical": 0, "near_copy": 0, "other_class": 0}
    found = {(example["id"], example["other_id"], example["what"]) for example in report["examples"]}
    assert found == {
        ("turned", clouds[0].id, "near_copy"),
        ("noisy", clouds[8].id, "near_copy"),
        ("same", clouds[3].id, "identical"),
        ("mislabelled", clouds[5].id, "near_copy"),
    }
    assert (report["duplicates"], report["contradictory"], report["left_out"]) == (1, 0, 0)
    rows = audit_rows(report)
    assert rows[1] == {"parts": "train/test", "what": "near_copy", "count": 4, "of": 16, "percent": 25.0}


def test_contradictory_labels(clouds):
    both = [clouds[0], replace(clouds[0], label=3), *clouds[1:4]]
    report = audit(both, {"train": [0, 2], "valid": [3], "test": [1]}, near=False)
    assert report["contradictory"] == 2 and report["left_out"] == 1 and report["duplicates"] == 1
    assert report["pairs"]["train/test"] == {"identical": 1}


def test_fingerprints(clouds):
    cloud = clouds[0]
    assert fingerprint(replace(cloud, points=cloud.points[RNG.permutation(300)])) == fingerprint(cloud)
    assert fingerprint(replace(cloud, points=cloud.points * np.float32(1.01))) == fingerprint(cloud)  # in its size
    assert fingerprint(copy_of(cloud, "turned")) != fingerprint(cloud)
    assert len({fingerprint(cloud) for cloud in clouds}) == len(clouds)


def test_large_clouds_and_other_shapes(clouds):
    large = demo_clouds(7, 3000, seed=5)
    assert all(chamfer_ratio(cloud, copy_of(cloud, "turned")) < 1e-3 for cloud in large)
    others = [chamfer_ratio(a, b) for a, b in zip(clouds, clouds[7:], strict=False)]  # of the same class
    assert min(others) > 2 * NEAR_CHAMFER


def test_points_that_coincide():
    cloud = demo_clouds(1, 64)[0]
    same = replace(cloud, points=np.zeros((4, 3), np.float32))
    report = audit([same, replace(same, id="b"), cloud], {"train": [0], "valid": [2], "test": [1]})
    assert report["pairs"]["train/test"]["identical"] == 1
    assert chamfer_ratio(same, same) == 0 and chamfer_ratio(same, cloud) > 1


def test_a_surface_scanned_twice_is_not_found_and_the_help_says_so(capsys):
    rng = np.random.default_rng(5)
    scans = []
    for _ in range(2):
        points = rng.normal(size=(400, 3))
        points *= [1, 2, 3] / np.linalg.norm(points, axis=1, keepdims=True)
        scans.append(replace(demo_clouds(1, 32)[0], points=points.astype(np.float32), normals=None, segment=None))
    report = audit(scans, {"train": [0], "valid": [], "test": [1]})
    assert report["pairs"]["train/test"] == {"identical": 0, "near_copy": 0, "other_class": 0}
    with pytest.raises(SystemExit):
        run("audit", ["--help"])
    assert "a surface scanned twice is not found" in " ".join(capsys.readouterr().out.split())
