"""Clouds with what a model says of their points, as files that other programs open: ply, npz, csv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from geoattn._files import atomic_path
from geoattn.datasets.pointcloud_files import SUFFIXES
from geoattn.domains.pointclouds.pictures import PALETTE
from geoattn.domains.pointclouds.records import Cloud
from geoattn.domains.pointclouds.rotations import AXES

CloudFormat = Literal["ply", "npz", "csv"]
COLOURS = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in PALETTE], dtype=np.uint8)


RESERVED = ("predictions", "predictions.csv.rejected")
"""What stands beside the clouds in their folder."""


def file_names(cloud_ids: Sequence[str], suffix: str) -> list[str]:
    """A file name for each cloud of a set, all different: its id without folders and with another suffix.

    Clouds whose names would be the same, on whatever disk, are numbered in their order; ``predictions`` is kept free.

    Args:
        cloud_ids: of all clouds of the set, equal ones too.
        suffix: of the files.

    >>> file_names(["chair/a.ply", "chair_a.xyz", "scan.v2", "predictions"], "ply")
    ['chair_a.ply', 'chair_a_2.ply', 'scan.v2.ply', 'predictions_2.ply']
    """
    stems = [_stem(cloud_id) for cloud_id in cloud_ids]
    wanted = {stem.casefold() for stem in stems} | set(RESERVED)
    taken, latest = set(RESERVED), dict.fromkeys(wanted, 1)
    names = []
    for stem in stems:
        name, key = stem, stem.casefold()
        while name.casefold() in taken or (name != stem and name.casefold() in wanted):
            latest[key] += 1
            name = f"{stem}_{latest[key]}"
        taken.add(name.casefold())
        names.append(f"{name}.{suffix}")
    return names


def _stem(cloud_id: str) -> str:
    path = PurePosixPath(cloud_id)
    known = path.suffix.lower() in SUFFIXES
    return re.sub(r"[^\w.+-]+", "_", cloud_id[: -len(path.suffix)] if known else cloud_id).strip("_.") or "cloud"


def point_table(
    cloud: Cloud,
    names: Sequence[str],
    classes: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    normals: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per point, in the order and the coordinates of the file.

    Args:
        cloud: as it was read.
        names: of the classes of points.
        classes: ``[N]``, places in ``names``.
        probability: ``[N]`` of these.
        normals: ``[N, 3]``.

    Returns:
        ``x, y, z``, then ``segment`` (a name) and ``probability``, or ``nx, ny, nz``.
    """
    points = _coordinates(cloud)
    columns: dict[str, np.ndarray] = {axis: points[:, k] for k, axis in enumerate(AXES)}
    if classes is not None:
        columns["segment"] = np.array(names, dtype=object)[classes]
    if probability is not None:
        columns["probability"] = probability.astype(np.float32)
    if normals is not None:
        columns |= {f"n{axis}": normals[:, k] for k, axis in enumerate(AXES)}
    return pd.DataFrame(columns)


def write_points(
    path: Path,
    cloud: Cloud,
    names: Sequence[str],
    classes: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    normals: np.ndarray | None = None,
) -> None:
    """One file with the points of a cloud and what is known of them; its suffix says the format.

    ``.ply`` (binary): x y z, nx ny nz, label (a number), probability, red green blue. ``.npz``: points, normals,
    segment, probability, segment_names. ``.csv``: as `point_table`.

    Args:
        path: of the file; appears whole.
        cloud, names, classes, probability, normals: as `point_table`.
    """
    shown = cloud.normals if normals is None else normals
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            point_table(cloud, names, classes, probability, shown).to_csv(temporary, index=False, float_format="%.7g")
            return
        with temporary.open("wb") as file:
            if path.suffix == ".npz":
                arrays: dict[str, Any] = {"points": _coordinates(cloud), "normals": shown, "segment": classes}
                arrays |= {"probability": probability, "segment_names": None if classes is None else np.array(names)}
                np.savez(file, **{name: values for name, values in arrays.items() if values is not None})
                return
            records = _records(cloud, classes, probability, shown)
            file.write(_header(records).encode())
            file.write(records.tobytes())


def write_arrays(path: Path, clouds: Sequence[Cloud], class_names: Sequence[str], segment_names: Sequence[str]) -> None:
    """Many clouds as one ``.npz``, which `geoattn.datasets.pointcloud_arrays.CloudArrays` reads.

    Args:
        path: of the file; appears whole.
        clouds: all with normals, label and segment.
        class_names, segment_names: what the numbers of labels and segments mean.
    """
    arrays: dict[str, Any] = {
        "points": np.concatenate([_coordinates(cloud) for cloud in clouds]),
        "ptr": np.cumsum([0, *map(len, clouds)]),
        "normals": np.concatenate([cloud.normals for cloud in clouds if cloud.normals is not None]),
        "segment": np.concatenate([cloud.segment for cloud in clouds if cloud.segment is not None]),
        "label": np.array([cloud.label for cloud in clouds]),
        "id": np.array([cloud.id for cloud in clouds]),
        "class_names": np.array(class_names),
        "segment_names": np.array(segment_names),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _coordinates(cloud: Cloud) -> np.ndarray:
    """``[N, 3]`` as they stand in the file, with as many bits as they need."""
    return cloud.points + cloud.origin if cloud.origin.any() else cloud.points


def _records(
    cloud: Cloud, classes: np.ndarray | None, probability: np.ndarray | None, normals: np.ndarray | None
) -> np.ndarray:
    points = _coordinates(cloud)
    columns: list[tuple[str, np.ndarray, str]] = [(axis, points[:, k], points.dtype.str) for k, axis in enumerate(AXES)]
    if normals is not None:
        columns += [(f"n{axis}", normals[:, k], "<f4") for k, axis in enumerate(AXES)]
    if classes is not None:
        colour = COLOURS[classes % len(COLOURS)]
        columns += [("label", classes, "<i4")]
        columns += [(name, colour[:, k], "|u1") for k, name in enumerate(("red", "green", "blue"))]
    if probability is not None:
        columns.append(("probability", probability, "<f4"))
    records = np.empty(len(points), dtype=[(name, kind) for name, _, kind in columns])
    for name, values, _ in columns:
        records[name] = values
    return records


def _header(records: np.ndarray) -> str:
    kinds = {"<f4": "float", "<f8": "double", "<i4": "int", "|u1": "uchar"}
    names = records.dtype.names or ()
    properties = [f"property {kinds[records.dtype[name].str]} {name}" for name in names]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(records)}", *properties, "end_header"]
    return "\n".join(lines) + "\n"
