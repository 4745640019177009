"""The coordinates of a scan, some at a time, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from geoattn._optional import require
from geoattn.datasets.pointcloud_files import TEXT, load_cloud
from geoattn.datasets.pointcloud_raw import CloudError
from geoattn.datasets.pointcloud_text import beginning, columns_of, is_comment, parse

FIRST_LINES = 100


def stream_points(path: Path, chunk_size: int) -> Iterator[np.ndarray]:
    """``[n, 3]`` float64 coordinates, in the order of the file.

    Text, ``.las .laz``, ``.npy`` and ``.bin`` are read ``chunk_size`` points at a time; other formats are read as a
    whole, so that memory grows with them.

    Raises:
        CloudError: as `load_cloud`; a coordinate that is no number is named by its line or place in the file.
    """
    if not path.is_file() or path.stat().st_size == 0:
        load_cloud(path)  # says what is wrong
    suffix = path.suffix.lower()
    if suffix in TEXT:
        yield from _text(path, chunk_size)
        return
    if suffix in (".las", ".laz"):
        chunks = _las(path, chunk_size)
    elif suffix == ".npy":
        chunks = _array(path, chunk_size)
    elif suffix == ".bin" and not path.name.lower().endswith(".pcd.bin"):
        chunks = _kitti(path, chunk_size)
    else:
        cloud, _ = load_cloud(path)
        parts = range(0, len(cloud), chunk_size)
        chunks = (cloud.points[k : k + chunk_size].astype(np.float64) + cloud.origin for k in parts)
    row = 0
    for points in chunks:
        _refuse_gaps(points, np.arange(row, row + len(points)), "point")
        row += len(points)
        yield points


def _text(path: Path, chunk_size: int) -> Iterator[np.ndarray]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            first = list(islice(file, FIRST_LINES))
            header, separator, begin, _ = beginning(first)
            lines = enumerate(chain(first[begin:], file), start=begin + 1)
            kept = ((number, line) for number, line in lines if line.strip() and not is_comment(line))
            width = None if header is None else len(header)
            while some := list(islice(kept, chunk_size)):
                numbers, rows = [number for number, _ in some], [line for _, line in some]
                table = parse(rows, separator, numbers, header)
                width = width or table.shape[1]
                if table.shape[1] != width:
                    raise CloudError(
                        "line", rows[0], f"{table.shape[1]} numbers where others have {width}", line=numbers[0]
                    )
                points = columns_of(table, header).points
                _refuse_gaps(points, np.array(numbers), "line")
                yield points
        except UnicodeDecodeError as error:
            raise CloudError("file", path.suffix, f"not text ({error.reason})", place="text") from error


def _las(path: Path, chunk_size: int) -> Iterator[np.ndarray]:
    laspy = require("laspy", "pointclouds")
    try:
        with laspy.open(path) as reader:
            count = 0
            for points in reader.chunk_iterator(chunk_size):
                count += len(points)
                yield np.stack([np.asarray(points[axis], dtype=np.float64) for axis in ("x", "y", "z")], axis=1)
            promised = reader.header.point_count
    except CloudError:
        raise
    except Exception as error:  # laspy and its decompressor raise whatever a broken file leads them to
        raise CloudError(
            "file", path.name, f"laspy cannot read it ({type(error).__name__}: {error})", place="points"
        ) from error
    if count < promised:
        raise CloudError("points", count, f"the header says {promised}", "Is it complete?", place="points")


def _array(path: Path, chunk_size: int) -> Iterator[np.ndarray]:
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise CloudError("file", path.name, f"numpy cannot read it ({error})", place="header") from error
    if table.ndim != 2 or table.shape[1] < 3:
        raise CloudError("array", f"shape {table.shape}", "expected [N, 3]", place="header")
    num_rows = len(table)
    del table
    for begin in range(0, num_rows, chunk_size):  # mapped anew each time: pages that were read are given back
        part = np.load(path, mmap_mode="r")[begin : begin + chunk_size, :3]
        yield np.array(part, dtype=np.float64)


def _kitti(path: Path, chunk_size: int) -> Iterator[np.ndarray]:
    if path.stat().st_size % 16:
        raise CloudError("file", f"{path.stat().st_size} bytes", "expected four float32 per point", place="file")
    with path.open("rb") as file:
        while len(part := np.fromfile(file, dtype="<f4", count=4 * chunk_size)):
            yield part.reshape(-1, 4)[:, :3].astype(np.float64)


def _refuse_gaps(points: np.ndarray, numbers: np.ndarray, what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        axis = int(np.argmin(np.isfinite(points[bad[0]])))
        number = int(numbers[bad[0]])
        raise CloudError(
            "xyz"[axis],
            points[bad[0], axis],
            "not a number",
            line=number if what == "line" else 0,
            place=f"{what} {number}",
        )
