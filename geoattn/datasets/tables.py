"""Tables of text cells: CSV, TSV, text and Parquet, row by row, with constant memory."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geoattn.datasets.rejections import Rejections
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
PARQUET_ROWS = 4096
"""Rows of a Parquet file that are Python objects at a time."""
Row = tuple[int, list[str]]


@contextmanager
def open_table(path: Path, rejections: Rejections) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """The header of a table, and (line, cells as text) of each row; rows of another length are rejected.

    A ``.txt`` file is separated by tabs if its header has one, else by commas. A Parquet file counts rows from 1. The
    two header lines of IEDB's export become one: ``Chain 2 - CDR3 Curated``.

    Raises:
        InputError: no such file, unknown suffix, not text, not a table, no row.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    unpack = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if unpack else suffixes[-1:])
    if suffix not in SUFFIXES or (unpack and suffix == ".parquet"):
        known = ", ".join(SUFFIXES)
        raise InputError(f"{path}: unknown file format {path.suffix!r}. Known: {known}, all but .parquet also as .gz.")
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file. {nearest_hint(path.name, names) if names else ''}".rstrip())
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    opened = _open_parquet(path) if suffix == ".parquet" else _open_text(path, unpack, suffix, rejections)
    with opened as (header, rows):
        yield header, _some(path, rows, rejections)


def _some(path: Path, rows: Iterator[Row], rejections: Rejections) -> Iterator[Row]:
    before, count = len(rejections), 0
    for row in rows:
        count += 1
        yield row
    if count == 0 and len(rejections) == before:
        raise InputError(f"{path}: there is no row in the file.")


@contextmanager
def _open_text(
    path: Path, unpack: bool, suffix: str, rejections: Rejections
) -> Iterator[tuple[list[str], Iterator[Row]]]:
    opener: Any = gzip.open if unpack else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield _delimited(path, file, suffix, rejections)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read as text ({error}). Save it as UTF-8, or download it again."
        ) from error


def _delimited(path: Path, file: io.TextIOBase, suffix: str, rejections: Rejections) -> tuple[list[str], Iterator[Row]]:
    first = file.readline()
    delimiter = "\t" if suffix == ".tsv" or (suffix == ".txt" and "\t" in first) else ","
    reader = csv.reader(_again(first, file), delimiter=delimiter, strict=True)  # an open quote must not eat the rest
    try:
        header = [name.strip() for name in next(reader, [])]
        if header[:2] == ["Receptor", "Receptor"]:
            header = [f"{group} - {name.strip()}" for group, name in zip(header, next(reader, []), strict=False)]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not a table ({error}).") from error
    if len(header) == 1 and ";" in header[0]:
        raise InputError(f"{path}: the columns seem to be separated by ';'. Use ',' or tabs (.tsv).")
    return header, _rows(path, reader, len(header), delimiter, rejections)


def _again(first: str, file: io.TextIOBase) -> Iterator[str]:
    yield first
    yield from file


def _rows(path: Path, reader: Any, width: int, delimiter: str, rejections: Rejections) -> Iterator[Row]:
    last = reader.line_num
    try:
        for row in reader:
            line, last = last + 1, reader.line_num  # a quoted cell may span lines: the row begins on the first
            if len(row) == width:
                yield line, row
            elif row:  # a blank line has no cell
                got = f"{len(row)} cells where the header has {width}"
                rejections.add(str(path), line, RecordError("row", delimiter.join(row), got))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not a table ({error}).") from error


@contextmanager
def _open_parquet(path: Path) -> Iterator[tuple[list[str], Iterator[Row]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file ({error}).") from error
    with file:
        yield file.schema_arrow.names, _parquet_rows(file)


def _parquet_rows(file: Any) -> Iterator[Row]:
    line = 0
    for batch in file.iter_batches(batch_size=PARQUET_ROWS):
        columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in batch.columns]
        for cells in zip(*columns, strict=True):
            line += 1
            yield line, list(cells)
