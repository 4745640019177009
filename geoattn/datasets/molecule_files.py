"""Readers of molecule files: CSV, TSV and Parquet tables with SMILES, SDF, extended XYZ; one record at a time.

Every reader is a generator with constant memory. It checks nothing about the chemistry; it says where things stand.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from geoattn._optional import require
from geoattn.datasets.rejections import Rejections
from geoattn.domains.molecules.records import Record, RecordError, shorten
from geoattn.errors import InputError, nearest_hint

T = TypeVar("T")
SMILES_NAMES = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "mol_smiles", "structure")
PARQUET_ROWS = 256
"""Rows of a Parquet file that are Python objects at a time."""
ID_NAMES = ("id", "name", "mol_id", "molecule_id", "compound_id", "identifier")


@dataclass(frozen=True)
class Columns:
    """Which columns (info keys, SDF properties) of a file mean what.

    Attributes:
        smiles: the SMILES column; None looks for one of the usual names, whatever their case.
        id: the column that names a molecule; None looks for one of the usual names, else the line number is the id.
        required: columns that must be there: targets, the column of the split.
    """

    smiles: str | None = None
    id: str | None = None
    required: Sequence[str] = ()


def read_records(path: str | Path, rejections: Rejections, columns: Columns | None = None) -> Iterator[Record]:
    """Read a molecule file record by record; the suffix says the format, ``.gz`` behind it is unpacked.

    ==========================  ==============================================================================
    ``.csv .tsv``               a header and one molecule per row, in a SMILES column
    ``.parquet``                the same; ``line`` is the row number, from 1
    ``.sdf``                    V2000 and V3000 mol blocks; properties are the columns
    ``.xyz .extxyz``            extended XYZ; info keys are the columns; ``Lattice`` and ``pbc`` are kept.
                                SMILES among the keys need quotes: ASE drops the backslash of bare ones
    ==========================  ==============================================================================

    Raises:
        InputError: no such file, unknown suffix, missing column (with the nearest name), nothing in the file, or a
            row that cannot be read where ``rejections`` raises.
    """
    path, columns = Path(path), columns or Columns()
    reader, unpack = _reader_of(path)
    yield from _checked(path, reader(path, unpack, rejections, columns), rejections)


def read_frames(path: str | Path, rejections: Rejections) -> Iterator[tuple[int, Any]]:
    """(line number, ``ase.Atoms``) of each frame of an extended XYZ file, which may be gzipped.

    Raises:
        InputError: as `read_records`.
    """
    path = Path(path)
    reader, unpack = _reader_of(path)
    if reader is not _read_xyz:
        raise InputError(f"{path}: got the suffix {path.suffix!r}, expected extended XYZ: .xyz or .extxyz.")
    yield from _checked(path, _read_atoms(path, unpack, rejections), rejections)


def _checked(path: Path, items: Iterator[T], rejections: Rejections) -> Iterator[T]:
    """The items of a file, if there is one that can be read and holds something."""
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file. {nearest_hint(path.name, names) if names else ''}".rstrip())
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    before, count = len(rejections), 0
    try:
        for item in items:
            count += 1
            yield item
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}). Save it as UTF-8.") from error
    if count == 0 and len(rejections) == before:
        raise InputError(f"{path}: there is no molecule in the file.")


def _reader_of(path: Path) -> tuple[Callable[[Path, bool, Rejections, Columns], Iterator[Record]], bool]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    unpack = bool(suffixes) and suffixes[-1] == ".gz"
    suffix = "".join(suffixes[-2:-1] if unpack else suffixes[-1:])
    if suffix not in READERS or (unpack and suffix == ".parquet"):
        known = ", ".join(READERS)
        raise InputError(f"{path}: unknown file format {path.suffix!r}. Known: {known}, all but .parquet also as .gz.")
    return READERS[suffix], unpack


def _open(path: Path, unpack: bool) -> io.TextIOBase:
    opener: Any = gzip.open if unpack else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


# --- tables -----------------------------------------------------------------------------------------------------------


def _read_delimited(path: Path, unpack: bool, rejections: Rejections, columns: Columns) -> Iterator[Record]:
    delimiter = "\t" if ".tsv" in path.suffixes[-2:] else ","
    with _open(path, unpack) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)  # a quote left open must not eat the rest
        try:
            header = [name.strip() for name in next(reader, [])]
            smiles, name = _table_columns(path, header, columns)
            last = reader.line_num
            for row in reader:
                line, last = last + 1, reader.line_num  # a quoted cell may span lines: the record begins on the first
                if not row:
                    continue  # a blank line
                if len(row) != len(header):
                    got = f"{len(row)} cells where the header has {len(header)}"
                    rejections.add(str(path), line, RecordError("row", delimiter.join(row), got))
                    continue
                yield _table_record(path, line, dict(zip(header, row, strict=True)), smiles, name)
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: not a table ({error}).") from error


def _read_parquet(path: Path, unpack: bool, rejections: Rejections, columns: Columns) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file ({error}).") from error
    with file:
        smiles, name = _table_columns(path, file.schema_arrow.names, columns)
        line = 0
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            for row in batch.to_pylist():
                line += 1
                yield _table_record(path, line, row, smiles, name)


def _table_columns(path: Path, header: list[str], columns: Columns) -> tuple[str, str | None]:
    """The SMILES column and the id column (None if there is none) of a header."""
    twice = {name for name in header if name and header.count(name) > 1}
    if twice:
        raise InputError(f"{path}: the header names column {sorted(twice)[0]!r} more than once.")
    smiles = columns.smiles or usual_name(header, SMILES_NAMES)
    if smiles is None:
        raise InputError(
            f"{path}: no SMILES column found among {_listed(header)}. Name it with --data.smiles-column."
            + (" Are the columns separated by ';'? Use ','." if len(header) == 1 and ";" in header[0] else "")
        )
    name = columns.id or usual_name(header, ID_NAMES)
    for column in (smiles, *([name] if name else []), *columns.required):
        if column not in header:
            raise InputError(f"{path}: there is no column {column!r}. {nearest_hint(column, header)}")
    return smiles, name


def _table_record(path: Path, line: int, row: dict[str, Any], smiles: str, name: str | None) -> Record:
    value = row[smiles]
    label = row[name] if name else None
    return Record(
        file=str(path),
        line=line,
        id=str(line) if label in (None, "") else str(label),
        smiles="" if value is None else str(value).strip(),
        fields=row,
    )


# --- structures -------------------------------------------------------------------------------------------------------


def _read_sdf(path: Path, unpack: bool, rejections: Rejections, columns: Columns) -> Iterator[Record]:
    seen: set[str] = set()
    with _open(path, unpack) as file:
        for line, block in _sdf_blocks(file):
            molblock, properties = _split_sdf(block)
            seen.update(properties)
            title = molblock.split("\n", 1)[0].strip()
            name = columns.id or usual_name(list(properties), ID_NAMES)
            label = properties.get(name, "") if name else title
            yield Record(
                file=str(path), line=line, id=label or title or str(line), molblock=molblock, fields=properties
            )
    _check_seen(path, columns, seen)


def _sdf_blocks(file: io.TextIOBase) -> Iterator[tuple[int, list[str]]]:
    """(line number of its first line, lines) of each entry, the ``$$$$`` left out."""
    block: list[str] = []
    start = 1
    for number, text in enumerate(file, start=1):
        text = text.rstrip("\r\n")
        if text.startswith("$$$$"):
            yield start, block
            block, start = [], number + 1
        else:
            block.append(text)
    if any(text.strip() for text in block):
        yield start, block


def _split_sdf(block: list[str]) -> tuple[str, dict[str, Any]]:
    """The mol block and the properties of an SDF entry."""
    end = next((i for i, text in enumerate(block) if text.startswith("M  END")), len(block) - 1) + 1
    properties: dict[str, Any] = {}
    name: str | None = None
    for text in block[end:]:
        if text.startswith(">") and "<" in text:
            name = text[text.index("<") + 1 : text.rindex(">")]
            properties[name] = ""
        elif name is not None and text.strip():
            properties[name] += ("\n" if properties[name] else "") + text
        else:
            name = None
    return "\n".join(block[:end]) + "\n", properties


def _read_xyz(path: Path, unpack: bool, rejections: Rejections, columns: Columns) -> Iterator[Record]:
    seen: set[str] = set()
    for line, atoms in _read_atoms(path, unpack, rejections):
        fields = {**atoms.info, **(atoms.calc.results if atoms.calc else {})}  # ASE moves "energy" to a calculator
        seen.update(fields)
        name = columns.id or usual_name(list(fields), ID_NAMES)
        smiles = fields.get(columns.smiles or usual_name(list(fields), SMILES_NAMES))
        yield Record(
            file=str(path),
            line=line,
            id=str(fields.get(name, line)) if name else str(line),
            smiles=None if smiles is None else str(smiles),
            numbers=atoms.numbers.astype(np.int64),
            positions=atoms.positions,
            cell=np.asarray(atoms.cell) if atoms.pbc.any() else None,
            pbc=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
            fields=fields,
        )
    _check_seen(path, columns, seen)


def _read_atoms(path: Path, unpack: bool, rejections: Rejections) -> Iterator[tuple[int, Any]]:
    """(line number, ``ase.Atoms``) of each frame that ASE can read."""
    ase_io = require("ase.io", "molecules")
    with _open(path, unpack) as file:
        for line, frame in _xyz_frames(path, file):
            try:
                atoms = ase_io.read(io.StringIO("".join(frame)), format="extxyz", index=0)
            except Exception as error:  # ASE raises whatever its parser meets: KeyError, ValueError, XYZError ...
                reason = f"ASE cannot read this frame ({type(error).__name__}: {error})"
                rejections.add(str(path), line, RecordError("frame", frame[1].strip() if frame[1:] else "", reason))
                continue
            yield line, atoms


def _xyz_frames(path: Path, file: io.TextIOBase) -> Iterator[tuple[int, list[str]]]:
    """(line number of the atom count, lines) of each frame; blank lines between frames are passed over."""
    number = 0
    for text in file:
        number += 1
        if not text.strip():
            continue
        if not text.strip().isdecimal():
            raise InputError(
                f"{path}:{number}: got {shorten(text.strip())!r} where the number of atoms of the next frame is "
                "expected. Does the frame before it have more atoms than its first line says?"
            )
        num_atoms = int(text)
        frame = [text, *(next(file, "") for _ in range(num_atoms + 1))]
        if not frame[-1].strip() and num_atoms:
            raise InputError(f"{path}:{number}: the file ends within this frame of {num_atoms} atoms.")
        yield number, frame
        number += num_atoms + 1


# --- shared -----------------------------------------------------------------------------------------------------------


def usual_name(names: list[str], usual: Sequence[str]) -> str | None:
    """The first of ``names`` that is one of the ``usual`` ones, whatever its case."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def _check_seen(path: Path, columns: Columns, seen: set[str]) -> None:
    for name in columns.required:
        if seen and name not in seen:
            raise InputError(f"{path}: no entry has {name!r}. {nearest_hint(name, sorted(seen))}")


def _listed(names: list[str], at_most: int = 12) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(map(repr, names[:at_most])) + more


READERS: dict[str, Callable[[Path, bool, Rejections, Columns], Iterator[Record]]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".parquet": _read_parquet,
    ".sdf": _read_sdf,
    ".xyz": _read_xyz,
    ".extxyz": _read_xyz,
}
