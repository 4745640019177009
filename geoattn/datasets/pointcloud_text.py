"""Text files of points: ``.xyz .txt .asc .csv .tsv .pts``, with or without a header."""

from __future__ import annotations

import re
import warnings
from itertools import islice
from pathlib import Path

import numpy as np

from geoattn.datasets.pointcloud_raw import CloudError, Raw, has_unit_length, whole_numbers

POINT = ("x", "y", "z")
NORMAL = ("nx", "ny", "nz")
NORMAL_NAMES = {"normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}
SEGMENT = ("segment", "label", "part", "class", "classification", "scalar_label", "scalar_classification")
"""Columns with the class of each point; the first that is there is read."""
COLOURS = ("r", "g", "b", "red", "green", "blue", "rgb")
_COMMENT = ("#", "//")
_MOST_COLOUR = 255
_SOME_LINES = 100
_LOCAL_NUMBER = re.compile(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?")
_REPEATED = 0.01  # share of rows that repeat another one: colours do, cells of a grid do not


def read_text(path: Path) -> Raw:
    """Points of a text file, one per line.

    Cells are separated by commas, semicolons, tabs or spaces; lines that begin with ``#`` or ``//`` and empty ones do
    not count, nor does a first line that holds the number of points (``.pts``). A header, which may stand behind
    ``#``, names the columns ``x y z``, ``nx ny nz`` and one of ``segment label part class`` for the class of each
    point; others are not read. Without a header,

    ==========  ======================================================================================
    3 columns   x y z
    6 columns   x y z nx ny nz if the last three have length 1
    7 columns   the same, then the class of the point if those are whole numbers (as in ShapeNet's parts)
    ==========  ======================================================================================

    and whatever else stands there (colours, intensity) is not read, which a note says.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CloudError(
            "file", path.suffix, f"not text ({error.reason})", "Rename it by its real format.", place="header"
        ) from error
    header, separator, begin, count = beginning(lines)
    numbers = [k for k in range(begin, len(lines)) if lines[k].strip() and not is_comment(lines[k])]
    if not numbers:
        raise CloudError("file", path.name, "there is no point in it", place="end of the file")
    table = parse([lines[k] for k in numbers], separator, [k + 1 for k in numbers], header)
    if count is not None and count != len(table):
        raise CloudError(
            "points", len(table), f"the first line says {count} points", "Was it cut off? Make it again.", line=1
        )
    raw = columns_of(table, header)
    raw.line_of = lambda row: numbers[row] + 1
    return raw


def begins_with_points(path: Path) -> bool:
    """Whether the first lines look like points, as those of lists and readme files do not: x, y and z are in the
    header, if there is one, and three numbers in the first line behind it. An empty file counts as a cloud."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = list(islice(file, _SOME_LINES))
    header, separator, begin, _ = beginning(lines)
    if header is not None and not set(POINT) <= set(header):
        return False
    if begin == len(lines):
        return not any(line.strip() for line in lines) or header is not None
    try:
        return len([float(cell) for cell in lines[begin].rstrip().split(separator)]) >= len(POINT)
    except ValueError:
        return False


def is_comment(line: str) -> bool:
    """Whether the line is left out."""
    return line.lstrip().startswith(_COMMENT)


def columns_of(table: np.ndarray, header: list[str] | None = None) -> Raw:
    """The points of ``table [N, C]`` with or without names of the columns, as `read_text` says."""
    width = table.shape[1]
    if header is not None:
        return _by_name(table, [NORMAL_NAMES.get(name, name) for name in header])
    if width < 3:
        raise CloudError("columns", width, "expected at least x, y and z", place="header")
    raw = Raw(table[:, :3])
    refuse_colours(raw)
    read = 3
    if width >= 6 and has_unit_length(table[:, 3:6]):
        raw.normals, read = table[:, 3:6], 6
        if width == 7 and whole_numbers(table[:, 6]):
            raw.segment, read = table[:, 6], 7
    if read < width:
        which = f"columns {read + 1} to {width} were" if width > read + 1 else f"column {width} was"
        why = " (columns 4 to 6 are no normals of length 1)" if read == 3 and width >= 6 else ""
        raw.notes.append(
            f"{which} not read{why}; name columns in a header line to have them read: x y z nx ny nz label"
        )
    return raw


def refuse_colours(raw: Raw) -> None:
    """Whole numbers from 0 to 255 that repeat are colours, not coordinates; those that do not may be cells of a grid.

    Raises:
        CloudError: for colours.
    """
    points = raw.points
    if len(points) < 2 or not whole_numbers(points) or points.min() < 0 or points.max() > _MOST_COLOUR:
        return
    repeated = 1 - len(np.unique(points, axis=0)) / len(points)
    if repeated > _REPEATED and points.max() > 1 and np.ptp(points, axis=0).any():
        raise CloudError(
            "x y z",
            " ".join(f"{value:g}" for value in points[0]),
            f"the first three columns are whole numbers from 0 to 255, and {100 * repeated:.0f} % of the rows repeat "
            "others: these look like colours",
            "Put x, y and z first, or name the columns in a header line.",
            place="point 0",
        )


def _by_name(table: np.ndarray, header: list[str]) -> Raw:
    missing = [name for name in POINT if name not in header]
    if missing:
        colours = [name for name in header if name in COLOURS]
        reason = f"there is no column {missing[0]}"
        reason += f"; colours ({', '.join(colours)}) are no points" if colours else ""
        raise CloudError("header", " ".join(header), reason, "Name the coordinates x, y and z.", place="header")

    def some(names: tuple[str, ...]) -> np.ndarray:
        return table[:, [header.index(name) for name in names]]

    raw = Raw(some(POINT), normals=some(NORMAL) if set(NORMAL) <= set(header) else None)
    segment = next((name for name in SEGMENT if name in header), None)
    if segment is not None:
        raw.segment = table[:, header.index(segment)]
    read = {*POINT, *((segment,) if segment else ()), *(NORMAL if raw.normals is not None else ())}
    unread = [name for name in header if name not in read]
    if unread:
        raw.notes.append(f"columns that were not read: {', '.join(unread)}")
    return raw


def beginning(lines: list[str]) -> tuple[list[str] | None, str | None, int, int | None]:
    """Names of the columns, the separator (None for spaces), the first line that may hold a point, and the number of
    points if the file says it."""
    header, count, begin = None, None, len(lines)
    for k, line in enumerate(lines):
        text = line.strip()
        if text.startswith(_COMMENT):
            named = _names(text.lstrip("#/ "))
            header = named if header is None and set(POINT) <= set(named) else header
        elif text and header is None and count is None and re.fullmatch(r"\d+", text):
            count = int(text)
        elif text and header is None and count is None and _is_name(text):
            header = _names(text)
        elif text:
            begin = k
            break
    separator = next((mark for mark in (",", ";", "\t") if begin < len(lines) and mark in lines[begin]), None)
    return header, separator, begin, count


def _names(text: str) -> list[str]:
    return [name.strip("\"' ").lower() for name in re.split(r"[,;\s]+", text) if name]


def _is_name(text: str) -> bool:
    """Does the line begin with a name, which nan and inf are not: they are refused later, as numbers?"""
    return re.match(r"[\"']?[A-Za-z_]", text) is not None and re.match(r"(nan|inf)\b", text, re.IGNORECASE) is None


def has_decimal_commas(line: str) -> bool:
    """Whether the line is numbers between semicolons, tabs or spaces, with a comma within one of them."""
    cells = re.split(r"[;\s]+", line.strip())
    return len(cells) > 1 and "," in line and all(_LOCAL_NUMBER.fullmatch(cell) for cell in cells)


def parse(lines: list[str], separator: str | None, numbers: list[int], header: list[str] | None) -> np.ndarray:
    """``[N, C]`` float64; what cannot be parsed is looked for line by line, to name it."""
    width = len(header) if header else len(lines[0].rstrip().split(separator))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = np.loadtxt(lines, delimiter=separator, comments=None, ndmin=2)
        if table.shape[1] == width:
            return table
    except (ValueError, UserWarning):
        pass
    for line, number in zip(lines, numbers, strict=True):
        if has_decimal_commas(line):
            raise CloudError("line", line.strip(), "the numbers have decimal commas", "Write 0.5 for 0,5.", line=number)
        cells = line.rstrip().split(separator)
        if len(cells) != width:
            where = "the header" if header else f"line {numbers[0]}"
            raise CloudError("line", line, f"{len(cells)} numbers where {where} has {width}", line=number)
        for k, cell in enumerate(cells):
            name = header[k] if header else f"column {k + 1}"
            try:
                float(cell)
            except ValueError:
                hint = "Is it a file of molecules?" if re.fullmatch(r"[A-Z][a-z]?", cell.strip()) else ""
                raise CloudError(name, cell, "not a number", hint, line=number) from None
    raise CloudError("file", lines[0], "cannot be read as a table of numbers", line=numbers[0])
