"""The times of samples: rows in their order, and series broken where the step is another than the usual one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from geoattn.datasets.sphere_files import FieldFile
from geoattn.errors import InputError

TOLERANCE = 0.1
"""Of the usual step: months and years are as long as each other."""
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


def seconds_of(values: np.ndarray, units: str = "") -> np.ndarray | None:
    """Seconds of moments, time spans, ISO texts, or numbers in ``days since ...``; None of what says no time.

    Example:
        >>> seconds_of(np.array(["2001-01-01T06", "2001-01-02"])) - seconds_of(np.array(["2001-01-01"]))
        array([21600., 86400.])
        >>> seconds_of(np.array([0, 6]), "hours since 1900-01-01"), seconds_of(np.array([0, 6]))
        (array([    0., 21600.]), None)
    """
    try:
        if values.dtype.kind == "m":
            found = values / np.timedelta64(1, "s")
        elif values.dtype.kind == "M" or (values.dtype.kind in "US" and all("-" in str(each)[4:5] for each in values)):
            found = (values.astype("datetime64[ns]") - np.datetime64(0, "ns")) / np.timedelta64(1, "s")
        elif values.dtype.kind == "O":  # calendars of their own
            found = np.array([(each - type(each)(1, 1, 1)).total_seconds() for each in values])
        else:
            word = units.strip().lower().split(" ")[0].rstrip("s")
            if values.dtype.kind not in "fiu" or word not in _SECONDS:
                return None
            found = values.astype(np.float64) * _SECONDS[word]
    except (ValueError, TypeError, AttributeError):
        return None
    return np.asarray(found, dtype=np.float64) if np.isfinite(found).all() else None


def in_order(source: FieldFile) -> FieldFile:
    """Samples of each trajectory by time, with a note if they were not; a file without times as it is."""
    if source.times is None:
        return source
    order = np.lexsort((source.times, source.group))
    if (order == np.arange(len(order))).all():
        return source
    rows: list[int] = order.tolist()

    def of(values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in rows]

    return replace(
        source,
        variables={name: values if len(values) == 1 else values[order] for name, values in source.variables.items()},
        labels=of(source.labels),
        group=source.group[order],
        times=source.times[order],
        columns={name: of(texts) for name, texts in source.columns.items()},
        paths=of(source.paths),
        notes=[*source.notes, "Samples were not in the order of time; they were sorted."],
    )


def in_series(source: FieldFile, usual: float | None = None) -> tuple[FieldFile, float | None]:
    """Samples by time, and in series that end at gaps; and the usual step in seconds, None without times.

    Args:
        source: the file.
        usual: the step of the training data; the median step of the file if left out.

    Raises:
        InputError: a time that one trajectory has twice, or another step than the usual one.
    """
    source = in_order(source)
    if source.times is None:
        return source, usual
    step, same = np.diff(source.times), np.diff(source.group) == 0
    twice = np.flatnonzero((step == 0) & same)
    if len(twice):
        shown = ", ".join(source.labels[row] for row in twice[:3])
        raise InputError(
            f"{source.file}: times are given twice: {shown}{' ...' if len(twice) > 3 else ''}; a forecast needs each "
            "once. Leave out one, or give members as an axis of their own, before that of time."
        )
    if not same.any():
        return source, usual
    found = float(np.median(step[same]))
    if usual is not None and abs(found - usual) > TOLERANCE * usual:
        raise InputError(
            f"{source.file}: its states are {_long(found)} apart, those that the model was trained with "
            f"{_long(usual)}. Resample the file to steps of {_long(usual)}."
        )
    usual = usual or found
    gap = same & (np.abs(step - usual) > TOLERANCE * usual)
    notes = list(source.notes)
    if gap.any():
        count = int(gap.sum())
        notes.append(
            f"Times are {_long(usual)} apart, but not at {count} {'place' if count == 1 else 'places'} (first after "
            f"{source.labels[int(np.flatnonzero(gap)[0])]}); no sample goes across."
        )
    series = np.cumsum(np.append(0, gap | ~same))
    return replace(source, series=series, notes=notes), usual


def _long(seconds: float) -> str:
    for word, size in reversed(_SECONDS.items()):
        if seconds >= size:
            return f"{seconds / size:g} {word}{'' if seconds == size else 's'}"
    return f"{seconds:g} seconds"
