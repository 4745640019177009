"""Clouds for a trained model, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn.datasets.pointcloud_raw import CloudError
from geoattn.datasets.pointcloud_rows import noted, table_of, usable
from geoattn.datasets.pointcloud_sets import CloudColumns, CloudSet, list_clouds
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError, nearest_hint


@dataclass
class Chunk:
    """Some clouds that are read for prediction or testing.

    Attributes:
        number: of the chunk, from 0.
        clouds: the usable ones. ``label`` and ``segment`` are places in the names of the model, and None unless labels
            were asked for.
        table: the same rows: id, file, line, label (a name), points.
        rejected: file, line, column, value and reason of each cloud of this chunk that cannot be used.
        notes: sentences about the files of this chunk; those about the whole set stand with the first.
    """

    number: int
    clouds: list[Cloud]
    table: pd.DataFrame
    rejected: pd.DataFrame
    notes: list[str]


def read_chunks(
    file: str | Path,
    preprocess: dict[str, Any],
    *,
    chunk_size: int = 256,
    skip: int = 0,
    need_labels: bool = False,
    columns: CloudColumns | None = None,
    on_error: OnError = "raise",
    processes: int | None = None,
) -> Iterator[Chunk]:
    """Read a folder, table, ``.npz`` or single file for a trained model, chunk by chunk; a chunk of files is in memory.

    Args:
        file: as for `geoattn.datasets.pointclouds.PointCloudData`.
        preprocess: of the model.
        chunk_size: clouds per chunk.
        skip: pass over so many chunks, which an interrupted run has already done.
        need_labels: read what the task of the model learns from; a cloud without it, or with a class that the model
            does not know, is then rejected.
        columns: names of columns that are not found by the usual ones.
        on_error: ``"raise"`` at the first bad file, or ``"skip"`` and list it in ``rejected``.
        processes: that read large files; None takes one per available core.

    Raises:
        InputError: for data that cannot be read; for classes that the model does not know and a bad file when
            ``on_error="raise"``.
    """
    rejections = Rejections(on_error, "clouds")
    found = list_clouds(file, columns, rejections)
    if need_labels and preprocess["task"] == "classification" and on_error == "raise":
        _check_classes(file, found.class_names, preprocess["class_names"])
    notes = list(found.notes)
    for number, begin in enumerate(range(0, len(found.entries), chunk_size)):
        rows = range(begin, min(begin + chunk_size, len(found.entries)))
        if number >= skip:
            stream = _for_model(found.read(rows, preprocess["num_samples"], processes), found, preprocess, need_labels)
            task = preprocess["task"] if need_labels else None
            kept = usable(stream, found.entries, task, preprocess["min_points"], rejections)
            entries = [found.entries[row] for row in kept.rows]
            table = table_of(kept.clouds, entries, []).assign(label=[entry.label for entry in entries])
            notes.extend(noted(kept.notes, len(kept.clouds)))
            yield Chunk(number, kept.clouds, table, rejections.table(), notes)
        notes = []
        rejections.clear()


def _check_classes(file: str | Path, found: Sequence[str], known: Sequence[str]) -> None:
    for name in found:
        if name not in known:
            raise InputError(f"{file}: the model does not know the class {name!r}. {nearest_hint(name, known)}")


def _for_model(
    stream: Iterable[tuple[int, Cloud | CloudError, list[str]]],
    found: CloudSet,
    preprocess: dict[str, Any],
    need_labels: bool,
) -> Iterator[tuple[int, Cloud | CloudError, list[str]]]:
    """Clouds whose numbers are places in the names of the model, or that have none."""
    for row, cloud, notes in stream:
        if isinstance(cloud, CloudError):
            yield row, cloud, notes
            continue
        try:
            label = _label(cloud, found.class_names, preprocess["class_names"]) if need_labels else None
            segment = _segment(cloud, found.segment_names, preprocess["segment_names"]) if need_labels else None
            yield row, replace(cloud, label=label, segment=segment), notes
        except CloudError as error:
            yield row, error, notes


def _label(cloud: Cloud, names: Sequence[str], known: Sequence[str]) -> int | None:
    if cloud.label is None or not known:
        return None
    name = names[cloud.label] if names else str(cloud.label)
    if name not in known:
        raise CloudError("label", name, "the model does not know this class", nearest_hint(name, known))
    return known.index(name)


def _segment(cloud: Cloud, names: Sequence[str] | None, known: Sequence[str]) -> np.ndarray | None:
    if cloud.segment is None or not known:
        return None
    values, places = np.unique(cloud.segment, return_inverse=True)
    numbers = np.empty(len(values), dtype=np.int64)
    for k, value in enumerate(values.tolist()):
        name = str(value) if names is None or value < 0 else names[value]
        if value >= 0 and name not in known:
            raise CloudError("segment", name, "the model does not know this class of points", nearest_hint(name, known))
        numbers[k] = known.index(name) if value >= 0 else -1
    return numbers[places]
