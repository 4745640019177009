import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoattn.datasets import pointcloud_blocks
from geoattn.datasets.pointcloud_blocks import BlockedScan, stitched
from geoattn.errors import InputError

ORIGIN = np.array([500_000.0, 5_600_000.0, 100.0])


def terrain(num_points, seed=0):
    """A strip of land with a dense corner, far from zero, in any order; as dense, however many points."""
    rng = np.random.default_rng(seed)
    ground = rng.random((num_points, 2)) * [100, 60]
    ground[: num_points // 4] *= 0.1
    ground *= np.sqrt(num_points / 200_000)
    height = np.sin(ground[:, :1] / 7) + rng.normal(scale=0.1, size=(num_points, 1))
    return np.round(np.hstack([ground, height]) + ORIGIN, 3)[rng.permutation(num_points)]


@pytest.fixture(scope="module")
def points():
    return terrain(200_000)


def write(path: Path, points: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".xyz":
        np.savetxt(path, points, fmt="%.3f", header="x y z\n")
    elif path.suffix == ".csv":
        np.savetxt(path, points[:, ::-1], fmt="%.3f", header="z,y,x", delimiter=",", comments="")
    elif path.suffix == ".bin":
        np.hstack([points, points[:, :1]]).astype("<f4").tofile(path)
    elif path.suffix == ".npz":
        np.savez(path, points=points)
    else:
        laspy = pytest.importorskip("laspy", reason="needs geoattn[pointclouds]")
        header = laspy.LasHeader(point_format=3, version="1.2")
        header.scales, header.offsets = [0.001] * 3, ORIGIN
        las = laspy.LasData(header)
        las.xyz = points
        las.write(path)
    return path


def in_file(block):
    return block.cloud.points.astype(np.float64) + block.cloud.origin


@pytest.mark.parametrize("suffix", [".npy", ".xyz", ".csv", ".las", ".laz", ".npz"])
def test_every_point_is_in_the_core_of_one_block(tmp_path, points, suffix, monkeypatch):
    monkeypatch.setattr(pointcloud_blocks, "CHUNK", 7_001)
    some = points[: 200_000 if suffix == ".npy" else 20_000]
    path = write(tmp_path / f"scan{suffix}", some)
    seen = np.zeros(len(some), dtype=int)
    with BlockedScan(path, size=20, margin=2) as scan:
        assert scan.num_points == len(some)
        for block in scan:
            np.add.at(seen, block.rows[block.core], 1)
            np.testing.assert_allclose(in_file(block), some[block.rows], atol=1e-4)
            assert (np.diff(block.rows) > 0).all() and block.core.any()
    assert (seen == 1).all()


@pytest.mark.parametrize(("size", "max_points"), [(20, 500_000), (50, 1_500)])
def test_the_margin_holds_all_neighbours_of_the_core(tmp_path, points, size, max_points):
    from scipy.spatial import cKDTree

    some = points[::50]
    tree = cKDTree(some[:, :2])
    with BlockedScan(write(tmp_path / "a.npy", some), size, margin=2, max_points=max_points) as scan:
        for block in scan:
            assert len(block.rows) <= max_points
            core = block.rows[block.core]
            near = {row for found in tree.query_ball_point(some[core, :2], 1.999) for row in found}
            assert near <= set(block.rows.tolist())
            outside = np.setdiff1d(block.rows, core)
            box = some[core, :2].min(axis=0) - 2.001 - size, some[core, :2].max(axis=0) + 2.001 + size
            assert (some[outside, :2] >= box[0]).all() and (some[outside, :2] <= box[1]).all()
        assert scan.num_blocks == len(list(scan)) > 3


def test_dense_squares_are_cut(tmp_path, points):
    path = write(tmp_path / "a.npy", points)
    with BlockedScan(path, 100, 0.5, max_points=20_000) as scan:
        blocks = list(scan)
        rows = np.concatenate([block.rows[block.core] for block in blocks])
        assert max(len(block.rows) for block in blocks) <= 20_000 and len(blocks) > 10
    assert np.array_equal(np.sort(rows), np.arange(len(points)))
    with pytest.raises(InputError, match="more than max_points 10"), BlockedScan(path, 100, 5, max_points=10):
        pass


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_columns_stand_along_the_up_axis(tmp_path, points, up):
    path = write(tmp_path / "a.npy", points[:5000] - ORIGIN)
    with BlockedScan(path, 10, 0, up=up) as scan:
        ground = [axis for axis in range(3) if "xyz"[axis] != up]
        for block in scan:
            assert np.ptp(in_file(block)[block.core][:, ground], axis=0).max() <= 10.001


def test_results_come_back_in_the_order_of_the_file(tmp_path, points):
    path = write(tmp_path / "a.npy", points)
    with BlockedScan(path, 20, 2) as scan, stitched(tmp_path / "out.npy", scan) as result:
        for block in scan:
            result.add(block, in_file(block)[:, ::-1])
            assert not (tmp_path / "out.npy").exists()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), points[:, ::-1], atol=1e-4)


def test_blocks_that_are_missing_or_come_twice(tmp_path, points):
    with BlockedScan(write(tmp_path / "a.npy", points[:5000]), 20, 2) as scan:
        with (
            pytest.raises(InputError, match="of 5000 points got a value"),
            stitched(tmp_path / "out.npy", scan) as result,
        ):
            result.add(next(iter(scan)), np.zeros(len(next(iter(scan)).rows)))
        with pytest.raises(InputError, match="twice"), stitched(tmp_path / "out.npy", scan) as result:
            for block in [*scan, *scan]:
                result.add(block, np.zeros(len(block.rows)))
        with pytest.raises(InputError, match="3 values of"), stitched(tmp_path / "out.npy", scan) as result:
            result.add(next(iter(scan)), np.zeros(3))
    assert not (tmp_path / "out.npy").exists()


def test_temporary_files_go(tmp_path, points):
    path = write(tmp_path / "a.npy", points[:5000])
    (tmp_path / "work").mkdir()
    with BlockedScan(path, 20, 2, folder=tmp_path / "work"):
        assert any((tmp_path / "work").iterdir())
    with pytest.raises(InputError), BlockedScan(path, 50, 5, max_points=3, folder=tmp_path / "work"):
        pass
    assert not any((tmp_path / "work").iterdir())


BAD = {
    "none.npy": (None, "no such file"),
    "empty.xyz": ("", "empty"),
    "comments.xyz": ("# x y z\n\n", "no point"),
    "nan.xyz": ("# a\n1 2 3\n\n1 nan 3\n", "nan.xyz:4: y = 'nan'"),
    "ragged.xyz": ("1 2 3\n4 5\n", "ragged.xyz:2"),
    "flat.npy": (np.zeros(4), "shape (4,)"),
    "inf.npy": (np.array([[0, 0, 0], [0, np.inf, 0]]), "point 1: y = 'inf'"),
    "odd.bin": ("12345", "5 bytes"),
    "words.npy": ("hello", "numpy cannot read it"),
    "words.las": ("hello", "laspy cannot read it"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    if name.endswith("las"):
        pytest.importorskip("laspy", reason="needs geoattn[pointclouds]")
    content, said = BAD[name]
    if isinstance(content, np.ndarray):
        np.save(tmp_path / name, content)
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught, BlockedScan(tmp_path / name, 1, 0):
        pass
    assert str(tmp_path / name) in str(caught.value) and said in str(caught.value)


def test_sizes_that_cannot_be(tmp_path):
    for size, margin in ((0, 0), (1, 2), (1, -1), (float("nan"), 0)):
        with pytest.raises(InputError, match="0 <= margin <= size"):
            BlockedScan(tmp_path / "a.npy", size, margin)
    with pytest.raises(InputError, match="'x', 'y' or 'z'"):
        BlockedScan(tmp_path / "a.npy", 1, 0, up="w")


PEAK = """
import re, sys
from geoattn.datasets.pointcloud_blocks import BlockedScan, stitched
with BlockedScan(sys.argv[1], 20, 2, max_points=50_000, folder=sys.argv[2]) as scan:
    with stitched(sys.argv[2] + "/out.npy", scan) as result:
        for block in scan:
            result.add(block, block.cloud.points)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # ru_maxrss would be the parent's
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("suffix", [".npy", ".xyz", ".las"])
def test_memory_does_not_grow_with_the_scan(tmp_path, suffix):
    peaks = []
    for num_points in (200_000, 2_000_000):
        path = write(tmp_path / f"{num_points}{suffix}", terrain(num_points))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), str(tmp_path)], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout) / 1024)
        path.unlink()
    assert peaks[1] < peaks[0] + 30  # MB; the coordinates of the larger scan alone have 48
