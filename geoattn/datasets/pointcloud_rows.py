"""From clouds as they were read to those that are learned from: what is missing, names of classes, notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.datasets.pointcloud_raw import CloudError
from geoattn.datasets.pointcloud_sets import Entry
from geoattn.datasets.rejections import Rejections
from geoattn.domains.pointclouds.records import Cloud

UNITS_APART = 100.0
"""Sizes that differ by more than this may be metres beside millimetres."""


@dataclass
class Usable:
    """Clouds that can be used, their rows, and how often each note came up."""

    clouds: list[Cloud] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


def usable(
    stream: Iterable[tuple[int, Cloud | CloudError, list[str]]],
    entries: Sequence[Entry],
    task: str | None,
    min_points: int,
    rejections: Rejections,
) -> Usable:
    """The clouds that were read and have what the task learns from (None asks for nothing)."""
    kept = Usable()
    for row, cloud, notes in stream:
        try:
            if isinstance(cloud, CloudError):
                raise cloud
            _check(cloud, task, min_points)
        except CloudError as error:
            entry = entries[row]
            if entry.table is not None and not Path(entry.file).is_file():
                rejections.add(entry.table, entry.line or 0, error)
            else:
                rejections.add(entry.file, error.line, error, "" if error.line else error.place)
            continue
        kept.clouds.append(cloud)
        kept.rows.append(row)
        kept.notes.update(notes)
    return kept


def _check(cloud: Cloud, task: str | None, min_points: int) -> None:
    if len(cloud) < min_points:
        raise CloudError("points", len(cloud), f"at least {min_points} are needed", place="points")
    if task == "classification" and cloud.label is None:
        hint = "Put it into the folder of its class, or list the files in a table with a column 'label'."
        raise CloudError("label", cloud.id, "the class of the cloud is not known", hint)
    if task == "segmentation" and (cloud.segment is None or cloud.segment.max() < 0):
        hint = "Give x y z nx ny nz label, or a header line with a column 'label'."
        raise CloudError("segment", cloud.id, "the classes of the points are not known", hint)
    if task == "normals" and cloud.normals is None:
        raise CloudError("normals", cloud.id, "there are no normals to learn", "Give x y z nx ny nz, or meshes.")


def label_names(clouds: Sequence[Cloud]) -> list[str]:
    """Numbers as names, for labels that stand in the files themselves."""
    labels = [cloud.label for cloud in clouds if cloud.label is not None]
    return [str(k) for k in range(max(labels) + 1)] if labels else []


def numbered_segments(clouds: Sequence[Cloud], names: list[str] | None) -> tuple[list[Cloud], list[str]]:
    """Clouds whose segments are places in the names that come with them: as given, or the numbers that occur."""
    if names is not None:
        return list(clouds), names
    found = [np.unique(cloud.segment) for cloud in clouds if cloud.segment is not None]
    values = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
    values = values[values >= 0]
    if np.array_equal(values, np.arange(len(values))):
        return list(clouds), [str(value) for value in values]
    return [
        cloud if cloud.segment is None else replace(cloud, segment=_places(values, cloud.segment)) for cloud in clouds
    ], [str(value) for value in values]


def _places(values: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """The place of each number among the sorted ``values``; -1 for negative ones."""
    return np.where(segment < 0, -1, np.searchsorted(values, segment)).astype(np.int64)


def table_of(
    clouds: Sequence[Cloud], entries: Sequence[Entry], class_names: Sequence[str], columns: Sequence[str] = ()
) -> pd.DataFrame:
    """One row per cloud: id, file, line, label (a name), points, and those of ``columns`` that the entries have.

    ``label`` is empty if there are no ``class_names``.
    """
    rows = pd.DataFrame(
        {
            "id": [cloud.id for cloud in clouds],
            "file": [cloud.file for cloud in clouds],
            "line": pd.array([cloud.line for cloud in clouds], dtype="Int64"),
            "label": [class_names[c.label] if class_names and c.label is not None else None for c in clouds],
            "points": [len(cloud) for cloud in clouds],
        }
    )
    for name in dict.fromkeys(columns):
        if name not in rows and any(name in entry.fields for entry in entries):
            rows[name] = [entry.fields.get(name, "") for entry in entries]
    return rows


def noted(notes: Counter[str], total: int) -> list[str]:
    """Notes of single files, each once, with how many files it is about."""
    return [f"In {count} of {total} clouds, {note}." for note, count in notes.items()]


def size_note(clouds: Sequence[Cloud]) -> list[str]:
    """A sentence if sizes differ so much that the files may have different units."""
    sizes = np.array([np.ptp(cloud.points, axis=0).max() for cloud in clouds])
    some = np.flatnonzero(sizes > 0)
    if not len(some):
        return []
    small, large = (some[int(choose(sizes[some]))] for choose in (np.argmin, np.argmax))
    if sizes[large] <= UNITS_APART * sizes[small]:
        return []
    factor = sizes[large] / sizes[small]
    return [
        f"Sizes differ by a factor of {factor:.0f}: {clouds[small].id} is {sizes[small]:.3g} long, "
        f"{clouds[large].id} {sizes[large]:.3g}. Are some in metres and some in millimetres?"
    ]
