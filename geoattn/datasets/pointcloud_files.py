"""A file of points, whatever its format, as a checked `Cloud`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from geoattn.datasets.pointcloud_meshes import read_mesh
from geoattn.datasets.pointcloud_raw import UNIT_LENGTH, CloudError, Raw, whole_numbers
from geoattn.datasets.pointcloud_scans import read_array, read_kitti, read_las, read_pcd
from geoattn.datasets.pointcloud_text import read_text
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError, nearest_hint

TEXT = (".xyz", ".txt", ".asc", ".csv", ".tsv", ".pts")
MESHES = (".ply", ".off", ".obj", ".stl", ".glb")
ARRAYS = (".npz", ".npy")
SUFFIXES = (*TEXT, *MESHES, *ARRAYS, ".bin", ".las", ".laz", ".pcd")
NUM_SAMPLES = 2048
_FAR = 64.0  # extents from zero: float32 would lose six bits


def read_cloud(path: str | Path, num_samples: int = NUM_SAMPLES, notes: list[str] | None = None) -> Cloud:
    """Read one file of points; its suffix says the format.

    ==================================  ===============================================================================
    ``.xyz .txt .asc .csv .tsv .pts``   text; `geoattn.datasets.pointcloud_text.read_text` says which columns mean what
    ``.ply .off .obj .stl .glb``        a mesh, of which ``num_samples`` points are drawn uniformly by area with the
                                        normals of their faces, or a cloud (trimesh)
    ``.npz .npy``                       arrays: ``points [N, 3]``, ``normals``, ``label``, ``segment``
    ``.bin``                            KITTI: float32 x, y, z, reflectance
    ``.las .laz``                       laspy; the classification is the class of each point
    ``.pcd``                            Open3D
    ==================================  ===============================================================================

    Coordinates far from zero for their extent, such as those of maps, lose what stands in ``origin`` in float64.

    Args:
        path: the file.
        num_samples: points that are drawn of a mesh; files without faces are read as they are.
        notes: sentences about what was not read are appended here.

    Raises:
        InputError: no such file, an unknown suffix, an empty or broken file, a coordinate that is no number, points
            that all coincide, colours in the place of points; with the line or point.
        ImportError: the package that reads the format is missing; the message names the extra.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.xyz"
        >>> _ = file.write_text("0 0 0\\n1 0 0\\n")
        >>> read_cloud(file).points.tolist()
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    try:
        cloud, found = load_cloud(Path(path), num_samples)
    except CloudError as error:
        where = error.line or f" {error.place}"
        raise InputError(f"{path}:{where}: {error}") from error
    if notes is not None:
        notes.extend(found)
    return cloud


def load_cloud(path: Path, num_samples: int = NUM_SAMPLES) -> tuple[Cloud, list[str]]:
    """As `read_cloud`, with its notes, and with a `CloudError` for all that is wrong with the file."""
    if num_samples < 1:
        raise InputError(f"num_samples: got {num_samples}, expected at least 1 point per mesh.")
    reader = _reader_of(path, num_samples)
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise CloudError("file", path.name, "no such file", nearest_hint(path.name, names) if names else "")
    if path.stat().st_size == 0:
        raise CloudError("file", path.name, "the file is empty")
    raw = reader(path)
    return checked(raw, path.name, str(path)), raw.notes


def _reader_of(path: Path, num_samples: int) -> Callable[[Path], Raw]:
    suffix = path.suffix.lower()
    if suffix in TEXT:
        return read_text
    if suffix in MESHES:
        return partial(read_mesh, num_samples=num_samples)
    if suffix in ARRAYS:
        return read_array
    others: dict[str, Callable[[Path], Raw]] = {
        ".bin": read_kitti,
        ".las": read_las,
        ".laz": read_las,
        ".pcd": read_pcd,
    }
    if suffix not in others:
        raise CloudError("suffix", path.suffix, "unknown file format", f"Known: {', '.join(SUFFIXES)}.")
    return others[suffix]


def checked(raw: Raw, name: str, file: str, line: int | None = None) -> Cloud:
    """The record of what a reader found.

    Normals get the length 1; a cloud in which one is missing has none, and a note says so.

    Raises:
        CloudError: no point, a coordinate that is no number, all points equal, a class that is no whole number.
    """
    points = np.asarray(raw.points, dtype=np.float64)
    if not len(points):
        raise CloudError("points", 0, "there is no point in it", place="points")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        axis = int(np.argmin(np.isfinite(points[bad[0]])))
        raise raw.error(
            int(bad[0]), "xyz"[axis], points[bad[0], axis], f"not a number; {len(bad)} points are like this"
        )
    low, high = points.min(axis=0), points.max(axis=0)
    if len(points) > 1 and (low == high).all():
        raise CloudError("points", low.tolist(), f"all {len(points)} points are equal", place="points")
    origin = raw.origin
    if origin is None:
        far = np.abs(points).max() > _FAR * (high - low).max() and len(points) > 1
        origin = np.floor((low + high) / 2) if far else np.zeros(3)
    return Cloud(
        id=name,
        points=(points - origin).astype(np.float32),
        normals=_normals(raw),
        label=raw.label,
        segment=_segment(raw),
        origin=np.asarray(origin, dtype=np.float64),
        file=file,
        line=line,
    )


def _normals(raw: Raw) -> np.ndarray | None:
    if raw.normals is None:
        return None
    normals = np.asarray(raw.normals, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        length = np.linalg.norm(normals, axis=1)
    bad = np.flatnonzero(~(length > 0) | ~np.isfinite(length))
    if len(bad):
        raw.notes.append("normals were not read, because some are missing (length 0 or not a number)")
        return None
    if np.mean(np.abs(length - 1) <= UNIT_LENGTH) < 0.99:
        raw.notes.append("normals were brought to the length 1")
    return (normals / length[:, None]).astype(np.float32)


def _segment(raw: Raw) -> np.ndarray | None:
    if raw.segment is None:
        return None
    segment = np.asarray(raw.segment)
    if not whole_numbers(segment):
        row = int(np.argmax(~np.isfinite(segment) | (segment != np.round(segment))))
        raise raw.error(row, "segment", segment[row], "the class of a point is no whole number")
    return np.maximum(segment.astype(np.int64), -1)
