"""The target cells of a record: numbers, gaps, and what is neither."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from geoattn.domains.molecules.records import Record, RecordError
from geoattn.domains.molecules.targets import Kind
from geoattn.errors import InputError

GAPS = {"", "nan", "na", "n/a", "#n/a", "null", "none"}
LABELS = {"true": 1.0, "false": 0.0}


def target_value(column: str, value: Any, kind: Kind) -> float:
    """One cell as a float; NaN for a gap (an empty cell, ``NaN``, ``NA``, ``null`` ...).

    Raises:
        RecordError: text, infinity, more than one number; for classification anything but 0, 1, true, false.
    """
    if value is None:
        return math.nan
    text = str(value).strip().lower()
    if text in GAPS:
        return math.nan
    if kind == "classification" and text in LABELS:
        return LABELS[text]
    try:
        number = float(text) if "_" not in text else None  # Python reads 1_000 as a number, nobody else does
    except ValueError:
        number = None
    if number is None:
        raise RecordError(column, value, "not a number", "Write a number, or leave the cell empty for a gap.")
    if math.isinf(number):
        raise RecordError(column, value, "infinite", "Write a finite number, or leave the cell empty for a gap.")
    if kind == "classification" and number not in (0.0, 1.0):
        raise RecordError(column, value, "a class must be 0 or 1", "For other numbers use task=regression.")
    return number


def read_targets(record: Record, targets: Sequence[str], kind: Kind) -> np.ndarray:
    """``[T]`` float64 of the named columns of a record; NaN where there is no value."""
    return np.array([target_value(name, record.fields.get(name), kind) for name in targets], dtype=np.float64)


def choose_targets(records: Sequence[Record], exclude: Iterable[str]) -> list[str]:
    """The one column that holds only numbers and gaps, when the user named no target.

    Raises:
        InputError: if there is none or more than one; the message lists them.
    """
    names: dict[str, None] = {name: None for record in records for name in record.fields}
    candidates = [name for name in names if name and name not in set(exclude) and _is_numeric(records, name)]
    if len(candidates) == 1:
        return candidates
    if candidates:
        raise InputError(f"several columns hold numbers: {candidates}. Name the ones to learn with --data.targets.")
    raise InputError(f"no column holds numbers; the columns are {list(names)}. Name one with --data.targets.")


def _is_numeric(records: Sequence[Record], name: str) -> bool:
    try:
        values = [target_value(name, record.fields.get(name), "regression") for record in records]
    except RecordError:
        return False
    return not all(math.isnan(value) for value in values)


def stated_units(records: Sequence[Record], targets: Sequence[str], units: str | None) -> str | None:
    """The units of the targets: the user's option, or what a column named ``unit`` says.

    Columns ``unit``, ``units``, ``energy_unit(s)`` and ``<target>_unit(s)`` are looked at, whatever their case.

    Raises:
        InputError: if the file states more than one unit, or another one than the option.
    """
    named = {"unit", "units", "energy_unit", "energy_units"}
    named |= {f"{target}_{word}".lower() for target in targets for word in ("unit", "units")}
    first: dict[str, Record] = {}
    for record in records:
        for name, value in record.fields.items():
            if str(name).lower() in named and str(value or "").strip():
                first.setdefault(str(value).strip(), record)
    if len(first) > 1:
        places = ", ".join(f"{unit!r} ({record.file}:{record.line})" for unit, record in first.items())
        raise InputError(f"the file mixes units: {places}. Convert the targets to one unit first.")
    if not first:
        return units
    stated = next(iter(first))
    if units is not None and units != stated:
        raise InputError(f"units: got {units!r}, but the file states {stated!r}.")
    return stated
