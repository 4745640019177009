"""Readers of gene expression: a row per cell line and a column per gene, the same transposed, or ``.npz``."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.tables import Row, open_table
from geoattn.domains.synergy.expression import Expression, gene_kind, kind_of
from geoattn.errors import InputError, nearest_hint

CELLS = ("cell", "cell_line", "cell_line_name", "cellline", "name", "model", "sample", "modelid", "depmap_id")
TISSUES = ("tissue", "tissue_name", "lineage")
GAPS = ("", "NA", "NaN", "nan", "None", "null")
FIRST_ROWS = 100
"""Rows that tell columns of genes from others."""


def read_expression(path: str | Path, cell_column: str | None = None, transposed: bool = False) -> Expression:
    """The expression of cell lines.

    Args:
        path: ``.csv .tsv .txt`` (also ``.gz``), ``.parquet``, or ``.npz`` with ``cells``, ``genes`` and ``expression``.
            Columns without any number (a tissue, a panel) are no genes.
        cell_column: the column with the cell lines, found by its usual names, else the first; where the table is
            transposed, the column with the genes.
        transposed: rows are genes, columns cell lines.

    Raises:
        InputError: with file, line and column of a value that is no number, a gene or cell line that stands twice, or
            genes that are not named by symbol or Ensembl id.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    with open_table(path, Rejections("raise")) as (header, rows):
        name_at = _name_column(path, header, cell_column)
        first = list(islice(rows, FIRST_ROWS))
        numeric = [c for c in range(len(header)) if c != name_at and any(_is_number(row[c]) for _, row in first)]
        if not numeric:
            raise InputError(f"{path}: no column holds numbers.")
        tissue_at = next((c for c, name in enumerate(header) if name.lower() in TISSUES and c not in numeric), None)
        names, tissues, values, unnamed = _values(path, header, name_at, tissue_at, numeric, chain(first, rows))
    columns = [header[c] for c in numeric]
    if not transposed and sum(gene_kind(name) == "ensembl" for name in names) > len(names) / 2:
        raise InputError(f"{path}: rows seem to be genes ({names[0]}). Pass --expression-transposed true.")
    cells, genes = (columns, names) if transposed else (names, columns)
    ids, notes = gene_ids(genes, str(path))
    kept = _distinct(path, cells, values.T if transposed else values, notes)
    others = [name for c, name in enumerate(header) if c not in (name_at, *numeric)]
    if others:
        notes.append(f"Columns of {path} without numbers were not taken for genes: {', '.join(others)}.")
    if unnamed:
        notes.append(f"{unnamed} rows of {path} have no name in column {header[name_at]!r} and were left out.")
    tissue = {} if transposed else dict(zip(names, tissues, strict=True))
    return Expression(
        [cells[i] for i in kept], ids, (values.T if transposed else values)[kept], tissue, str(path), notes
    )


def gene_ids(genes: Sequence[str], file: str) -> tuple[list[str], list[str]]:
    """Ids without versions (``ENSG00000141510.17``) and Entrez numbers (``TP53 (7157)``), and notes about it.

    Raises:
        InputError: two genes of the same id, or ids of a wrong kind.
    """
    ids = [re.sub(r"\s*\(\d+\)$", "", gene.strip()) for gene in genes]
    _, said = kind_of(ids, file)
    ids = [gene.partition(".")[0] if gene_kind(gene) == "ensembl" else gene for gene in ids]
    seen: dict[str, int] = {}
    for place, gene in enumerate(ids):
        if seen.setdefault(gene, place) != place:
            raise InputError(
                f"{file}: gene {gene!r} stands twice, as {genes[seen[gene]]!r} and {genes[place]!r}. Keep one of them."
            )
    changed = [(old, new) for old, new in zip(genes, ids, strict=True) if old != new]
    notes = [said] * bool(said)
    if changed:
        notes.append(f"{len(changed)} gene ids of {file} were shortened, e.g. {changed[0][0]!r} to {changed[0][1]!r}.")
    return ids, notes


def _values(
    path: Path, header: Sequence[str], name_at: int, tissue_at: int | None, numeric: Sequence[int], rows: Iterable[Row]
) -> tuple[list[str], list[str], np.ndarray, int]:
    """Names, tissues and numbers of the rows that have a name, and how many have none."""
    names: list[str] = []
    tissues: list[str] = []
    values: list[np.ndarray] = []
    unnamed = 0
    for line, row in rows:
        if not row[name_at].strip():
            unnamed += 1
            continue
        names.append(row[name_at].strip())
        tissues.append("" if tissue_at is None else row[tissue_at].strip())
        try:
            found = np.array([("nan" if row[c].strip() in GAPS else row[c]) for c in numeric], dtype=np.float64)
        except ValueError:
            found = np.array([np.inf])
        if np.isinf(found).any():
            column = next(c for c in numeric if row[c].strip() not in GAPS and not _is_number(row[c]))
            raise InputError(f"{path}:{line}: {header[column]} = {row[column]!r}: not a number.")
        values.append(found)
    if not names:
        raise InputError(f"{path}: column {header[name_at]!r} names no row.")
    return names, tissues, np.array(values), unnamed


def _read_npz(path: Path) -> Expression:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("cells", "genes", "expression")}
    except KeyError as error:
        raise InputError(f"{path}: expected the arrays cells, genes and expression; {error}.") from error
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({error}). Save arrays of text and numbers, not objects.") from error
    cells, genes = ([str(name) for name in arrays[key]] for key in ("cells", "genes"))
    values = np.asarray(arrays["expression"], dtype=np.float64)
    if values.shape != (len(cells), len(genes)):
        raise InputError(f"{path}: expression has shape {values.shape}, expected ({len(cells)}, {len(genes)}).")
    if np.isinf(values).any():
        cell, gene = np.argwhere(np.isinf(values))[0]
        raise InputError(f"{path}: cell line {cells[cell]!r}, gene {genes[gene]!r}: infinite.")
    ids, notes = gene_ids(genes, str(path))
    kept = _distinct(path, cells, values, notes)
    return Expression([cells[i] for i in kept], ids, values[kept], {}, str(path), notes)


def _name_column(path: Path, header: list[str], wanted: str | None) -> int:
    if wanted is not None:
        if wanted not in header:
            raise InputError(f"{path}: there is no column {wanted!r}. {nearest_hint(wanted, header)}")
        return header.index(wanted)
    known = {name.lower(): place for place, name in reversed(list(enumerate(header)))}
    return next((known[name] for name in CELLS if name in known), 0)


def _distinct(path: Path, cells: Sequence[str], values: np.ndarray, notes: list[str]) -> list[int]:
    """The rows of distinct cell lines; one that stands twice must have the same values twice."""
    seen: dict[str, int] = {}
    for row, name in enumerate(cells):
        if seen.setdefault(name, row) != row and not np.array_equal(values[seen[name]], values[row], equal_nan=True):
            raise InputError(f"{path}: cell line {name!r} stands twice, with different values. Keep one of them.")
    if len(seen) < len(cells):
        notes.append(f"{len(cells) - len(seen)} rows of {path} repeat a cell line with the same values.")
    return list(seen.values())


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
