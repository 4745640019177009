"""Gene expression from a table of pandas, with the checks of the reader of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn.datasets.synergy_expression import GAPS, TISSUES, _distinct, gene_ids
from geoattn.domains.synergy.expression import Expression, gene_kind
from geoattn.errors import InputError


def expression_of(table: pd.DataFrame, name: str = "expression") -> Expression:
    """The expression of cell lines, from a table with a row per cell line and a column per gene.

    As in a file, columns without any number (a tissue, a panel) are no genes, a missing value is a gap, genes may bear
    versions and Entrez numbers, and a cell line that stands twice has the same values twice.

    Args:
        table: its index names the cell lines.
        name: of the argument, for messages.

    Raises:
        InputError: not such a table, a value that is no number or infinite, a gene or cell line that stands twice, or
            genes that are not named by symbol or Ensembl id.
    """
    expected = "a pandas DataFrame with a row per cell line and a column per gene"
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"{name}: got a {type(table).__name__}, expected {expected}.")
    for axis, what in ((table.index, "index"), (table.columns, "columns")):
        if isinstance(axis, pd.MultiIndex):
            raise InputError(f"{name}: its {what} has {axis.nlevels} levels, expected one.")
    if isinstance(table.index, pd.RangeIndex) or not len(table):
        raise InputError(
            f"{name}: its index does not name cell lines. Set it: {name}.set_index('cell_line'), with your column."
        )
    if table.index.isna().any() or (cells := [str(cell).strip() for cell in table.index]).count(""):
        raise InputError(f"{name}: a row has no name in the index, expected names of cell lines.")
    if sum(gene_kind(cell) == "ensembl" for cell in cells) > len(cells) / 2:
        raise InputError(f"{name}: rows seem to be genes ({cells[0]}). Pass {name}.T.")
    columns = [str(column).strip() for column in table.columns]
    values, genes = _numbers(table, cells, columns, name)
    if not genes:
        raise InputError(f"{name}: no column holds numbers.")
    ids, notes = gene_ids([columns[c] for c in genes], name)
    kept = _distinct(Path(name), cells, values, notes)
    others = [c for c in range(len(columns)) if c not in set(genes)]
    if others:
        shown = ", ".join(columns[c] for c in others)
        notes.append(f"Columns of {name} without numbers were not taken for genes: {shown}.")
    tissue_at = next((c for c in others if columns[c].lower() in TISSUES), None)
    tissue = {}
    if tissue_at is not None:
        tissue = {
            cell: "" if pd.isna(value) else str(value).strip()
            for cell, value in zip(cells, table.iloc[:, tissue_at], strict=True)
        }
    return Expression([cells[i] for i in kept], ids, values[kept], tissue, name, notes)


def _numbers(table: pd.DataFrame, cells: list[str], columns: list[str], name: str) -> tuple[np.ndarray, list[int]]:
    """The columns that hold numbers, ``[C, G]`` float64, and their places."""
    ready = [pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) for kind in table.dtypes]
    values = np.full(table.shape, np.nan)
    values[:, ready] = table.loc[:, ready].to_numpy(np.float64, na_value=np.nan)
    wrong = np.isinf(values)
    for c in (c for c, number in enumerate(ready) if not number):
        for row, value in enumerate(table.iloc[:, c]):
            values[row, c], wrong[row, c] = _number(value)
    genes = [c for c in range(len(columns)) if np.isfinite(values[:, c]).any()]
    for c in genes:
        if wrong[:, c].any():
            row = int(wrong[:, c].argmax())
            value = table.iloc[row, c]
            raise InputError(
                f"{name}: cell line {cells[row]!r}, gene {columns[c]!r}: {value!r} is not a finite number."
            )
    return values[:, genes], genes


def _number(value: Any) -> tuple[float, bool]:
    """A value of a column of any kind as a number, and whether it is neither a number nor a gap."""
    if isinstance(value, str) and value.strip() in GAPS:
        return np.nan, False
    try:
        if isinstance(value, bool | np.bool_):
            return np.nan, True
        number = np.nan if value is pd.NA or value is None else float(value)
    except (TypeError, ValueError):
        return np.nan, True
    return number, bool(np.isinf(number))
