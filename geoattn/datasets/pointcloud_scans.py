"""Arrays and scans: ``.npz .npy``, KITTI's ``.bin``, ``.las .laz`` by laspy and ``.pcd`` by Open3D."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from geoattn._optional import require
from geoattn.datasets.pointcloud_raw import CloudError, Raw
from geoattn.datasets.pointcloud_text import columns_of

POINT_KEYS = ("points", "pos", "xyz")
UNLABELLED = (0, 1)
"""Codes of las files for points that were never classified."""
BROKEN = "Is it complete, and of the format that its name says?"


def read_array(path: Path) -> Raw:
    """``.npy``: ``[N, C]`` with the columns of a text file; ``.npz``: ``points`` (or ``pos``, ``xyz``) ``[N, 3]``, and
    if there are any ``normals [N, 3]``, ``label`` (one number, or one per point) and ``segment [N]``."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise CloudError("file", path.name, f"numpy cannot read it ({error})", BROKEN, place="header") from error
    if isinstance(loaded, np.ndarray):
        return columns_of(_table(loaded, "array"))
    with loaded:
        key = next((key for key in POINT_KEYS if key in loaded.files), None)
        if key is None:
            raise CloudError("keys", ", ".join(loaded.files), f"none is {', '.join(POINT_KEYS)}", place="keys")
        try:
            arrays = {name: loaded[name] for name in {key, "normals", "segment", "label"} & set(loaded.files)}
        except (ValueError, zipfile.BadZipFile) as error:
            raise CloudError("file", path.name, f"numpy cannot read it ({error})", BROKEN, place="keys") from error
    points = _table(arrays[key], key)
    if points.shape[1] != 3:
        raise CloudError(key, f"shape {points.shape}", "expected [N, 3]", place="keys")
    label, segment = arrays.get("label"), arrays.get("segment")
    if label is not None and label.size > 1:
        segment, label = label if segment is None else segment, None
    for name, values, shape in (
        ("normals", arrays.get("normals"), (len(points), 3)),
        ("segment", segment, (len(points),)),
    ):
        if values is not None and values.shape != shape:
            raise CloudError(
                name, f"shape {values.shape}", f"expected {shape} beside {len(points)} points", place="keys"
            )
    return Raw(points, arrays.get("normals"), segment, None if label is None else int(label.reshape(-1)[0]))


def _table(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise CloudError(name, f"shape {values.shape} of {values.dtype}", "expected [N, 3] numbers", place="keys")
    return values


def read_kitti(path: Path) -> Raw:
    """float32 x, y, z and reflectance of each point; five numbers (and a ring) in ``.pcd.bin``, as nuScenes has it."""
    width = 5 if path.name.lower().endswith(".pcd.bin") else 4
    size = path.stat().st_size
    if size % (4 * width):
        raise CloudError("file", f"{size} bytes", f"expected {width} float32 per point, so a multiple of {4 * width}")
    points = np.fromfile(path, dtype="<f4").reshape(-1, width)[:, :3]
    return Raw(points, notes=["reflectance was not read"])


def read_las(path: Path) -> Raw:
    """Coordinates in float64 with the scale and offset of the file; the classification is the class of each point."""
    laspy = require("laspy", "pointclouds")
    if path.suffix.lower() == ".laz":
        require("lazrs", "pointclouds")
    try:
        las = laspy.read(path)
    except Exception as error:  # laspy and its decompressor raise whatever a broken file leads them to
        raise CloudError(
            "file", path.name, f"laspy cannot read it ({type(error).__name__}: {error})", BROKEN, place="header"
        ) from error
    if len(las.points) < las.header.point_count:
        raise CloudError("points", len(las.points), f"the header says {las.header.point_count}", BROKEN, place="points")
    codes = np.asarray(las.classification, dtype=np.int64)
    segment = np.where(np.isin(codes, UNLABELLED), -1, codes)
    return Raw(
        np.asarray(las.xyz, dtype=np.float64).reshape(-1, 3),
        segment=segment if (segment >= 0).any() else None,
        origin=np.floor(np.asarray(las.header.mins, dtype=np.float64)) if len(codes) else None,
    )


def read_pcd(path: Path) -> Raw:
    """Open3D reads positions, normals and, if there are any, labels; places of an organised cloud that hold no point
    (NaN) are left out."""
    fields, count, organised = _pcd_header(path)
    open3d = require("open3d", "pointclouds")
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        cloud = open3d.t.io.read_point_cloud(str(path))
    found = cloud.point["positions"].numpy() if "positions" in cloud.point else np.empty((0, 3))
    if len(found) != count:  # Open3D prints what is wrong, and goes on
        raise CloudError(
            "points", len(found), f"the header says {count} points, and Open3D reads {len(found)}", BROKEN,
            place="points",
        )  # fmt: skip
    raw = Raw(found, normals=cloud.point["normals"].numpy() if "normals" in cloud.point else None)
    label = next((name for name in ("label", "segment") if name in cloud.point and name in fields), None)
    if label is not None:
        raw.segment = cloud.point[label].numpy().reshape(-1)
    seen = np.isfinite(found).all(axis=1)
    if organised and not seen.all():
        raw.notes.append("places without a point (NaN) of organised clouds were left out")
        raw.points = raw.points[seen]
        raw.normals = None if raw.normals is None else raw.normals[seen]
        raw.segment = None if raw.segment is None else raw.segment[seen]
    return raw


def _pcd_header(path: Path) -> tuple[list[str], int, bool]:
    """Names of the fields, number of points, and whether they stand in rows and columns."""
    known: dict[str, list[str]] = {}
    with path.open("rb") as file:
        for _ in range(40):
            words = re.split(r"\s+", file.readline(1000).decode("ascii", errors="replace").strip())
            known.setdefault(words[0].upper(), words[1:])
            if words[0].upper() == "DATA":
                break
        rows = sum(not line.isspace() for line in file) if known.get("DATA") == ["ascii"] else None
    if not {"FIELDS", "POINTS", "DATA"} <= known.keys() or not "".join(known["POINTS"]).isdigit():
        raise CloudError("header", path.name, "there are no lines FIELDS, POINTS and DATA", BROKEN, place="header")
    count = int(known["POINTS"][0])
    if rows is not None and rows < count:  # Open3D would fill the rest with whatever is in memory
        raise CloudError("points", rows, f"the header says {count} points", BROKEN, place="end of the file")
    fields = [name.lower() for name in known["FIELDS"]]
    if not {"x", "y", "z"} <= set(fields):
        reason = "there is no x, y and z" + ("; colours are no points" if "rgb" in fields or "rgba" in fields else "")
        raise CloudError("FIELDS", " ".join(fields), reason, place="header")
    return fields, count, known.get("HEIGHT", ["1"]) != ["1"]
