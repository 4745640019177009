"""Fields of new files, read as the training data were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoattn.datasets.sphere_coverage import check_coverage
from geoattn.datasets.sphere_files import FieldFile, read_fields
from geoattn.datasets.sphere_samples import FieldSamples, windows
from geoattn.datasets.sphere_statistics import check_units
from geoattn.datasets.sphere_times import in_series
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError


def fields_like(path: str | Path, preprocess: Mapping[str, Any]) -> tuple[FieldFile, FieldSamples, list[str]]:
    """The samples of a file for a trained model; their targets too, where the file has them.

    Args:
        path: as for `read_fields`.
        preprocess: of `SphereData`.

    Returns:
        The file, its samples (of a forecast all states that have a past, whether the future is known or not), and
        sentences about it.

    Raises:
        InputError: a variable that is not there (with the nearest name), one in another unit, too few samples,
            points that do not cover the globe, times that are given twice or another step of time.
    """
    names = [*preprocess["inputs"], *preprocess["static"]]
    source = read_fields(path, names, preprocess["targets"])
    check_coverage(str(path), source.grid)
    forecast = preprocess["task"] == "forecast"
    if forecast:
        source, _ = in_series(source, preprocess.get("step_seconds"))
    notes = [*source.notes, *check_units(source, names, preprocess)]
    known = SphereGrid.from_dict(preprocess["grid"])
    if not known.same(source.grid):
        notes.append(f"The points are {source.grid}; the model was trained on {known}.")
    there = set(preprocess["targets"]) <= set(source.variables)
    specs = windows(
        source, preprocess["task"], preprocess["history"], preprocess["steps"], targets=not forecast and there
    )
    if not specs:
        raise InputError(
            f"{path}: {source.num_samples} samples are too few: the model reads {preprocess['history']} states each."
        )
    classes = preprocess["task"] == "segmentation"
    samples = FieldSamples(source, specs, preprocess["inputs"], preprocess["static"], preprocess["targets"], classes)
    return source, samples, notes
