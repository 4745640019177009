"""Readers of receptor files: AIRR, VDJdb, IEDB, McPAS-TCR, 10x and plain tables; one pair at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import pandas as pd

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.tables import open_table
from geoattn.datasets.tcr_columns import Anchors, Layout, TCRColumns, find_layout
from geoattn.datasets.tcr_rows import RowReader, changes_rows, check_first_rows, checked_protein
from geoattn.domains.records import RecordError
from geoattn.domains.tcr.records import Epitope, Pair
from geoattn.errors import InputError

FIRST_ROWS = 200
"""Rows that are looked at before the first one is used."""


class PairReader:
    """Reads a file of receptors pair by pair, with constant memory; iterate once.

    ==================  ====================================================================================
    AIRR                Rearrangement TSV: ``junction_aa`` (with anchors) or ``cdr3_aa`` (without), ``v_call``,
                        ``j_call``; ``locus`` must be TRB, ``productive`` T
    VDJdb               exports with ``CDR3, V, J, Epitope, Gene`` (TRB) or ``cdr3.beta, v.beta``
    IEDB                receptor export: chain 2, calculated CDR3 (without anchors)
    McPAS-TCR           ``CDR3.beta.aa, TRBV, TRBJ, Epitope.peptide``
    10x                 contig annotations: ``chain`` TRB, productive
    table               own columns
    ==================  ====================================================================================

    Rows that a column of chains says to be of alpha, gamma or delta chains are left out and counted in ``notes``.

    Args:
        path: ``.csv .tsv .txt .parquet``, text formats also as ``.gz``.
        rejections: what becomes of bad rows.
        columns: names by the user.
        anchors: do the CDR3s have the conserved C and F or W; the known formats imply it, for others it is asked.
        epitopes: peptides that stand instead of those of the file: each receptor is paired with each of them.
        labels: read labels, for training and tests; every row of VDJdb, IEDB and McPAS-TCR is a binder, and so is every
            row of a table without labels.
        full: the whole variable domain is wanted: built from V gene, CDR3 and J gene if it has no column.

    Attributes (once rows have been read):
        layout: the columns of the file.

    Raises:
        InputError: a file that cannot be read, missing or swapped columns, and a bad row where ``rejections`` raises.
    """

    layout: Layout

    def __init__(
        self,
        path: str | Path,
        rejections: Rejections,
        columns: TCRColumns | None = None,
        *,
        anchors: Anchors | None = None,
        epitopes: Sequence[str] = (),
        labels: bool = False,
        full: bool = False,
    ) -> None:
        if anchors not in (None, "yes", "no", "none"):
            raise InputError(f"--anchors: got {anchors!r}, expected yes, no or none.")
        self.path, self.rejections, self.columns = Path(path), rejections, columns or TCRColumns()
        self.anchors, self.labels, self.full = anchors, labels, full
        self.epitopes = [_epitope(text) for text in epitopes]
        self._rows: RowReader | None = None
        self._other_chains = 0

    def __iter__(self) -> Iterator[Pair]:
        with open_table(self.path, self.rejections) as (header, rows):
            needed = ["tcr"] + ["epitope"] * (not self.epitopes)
            self.layout = find_layout(self.path, header, self.columns, needed)
            if self.full and "full" not in self.layout.index:
                find_layout(self.path, header, self.columns, ["v", "j"])  # what the chain is built from
            first = list(islice(rows, FIRST_ROWS))
            self.anchors = check_first_rows(self.path, self.layout, self.anchors, [cells for _, cells in first])
            self._rows = RowReader(self.layout, self.anchors, labels=self.labels, full=self.full)
            file = str(self.path)
            beta = 0
            for line, cells in chain(first, rows):
                if self._rows.is_other_chain(cells):
                    self._other_chains += 1
                    continue
                beta += 1
                try:
                    yield from self._pairs(file, line, cells)
                except RecordError as error:
                    self.rejections.add(file, line, error)
            if self._other_chains and not beta:
                raise InputError(
                    f"{file}: all {self._other_chains} rows are of alpha, gamma or delta chains, by column "
                    f"{header[self.layout.chain or 0]!r}; beta chains are needed."
                )

    def _pairs(self, file: str, line: int, cells: Sequence[str]) -> Iterator[Pair]:
        assert self._rows is not None
        for epitope in self.epitopes or (None,):
            yield self._rows.pair(file, line, cells, epitope)

    @property
    def changes(self) -> pd.DataFrame:
        """Gene names that IMGT writes otherwise: column, value, became, count of rows."""
        rows = changes_rows(self._rows.changes if self._rows else {})
        return pd.DataFrame(rows, columns=["column", "value", "became", "count"])

    @property
    def notes(self) -> list[str]:
        """Sentences about what was done to the rows, for a report."""
        if self._rows is None:
            return []
        notes = []
        if self._other_chains:
            notes.append(f"{self._other_chains} rows of alpha, gamma or delta chains were left out: only beta is used.")
        if self.anchors == "no":
            notes.append(
                f"The CDR3s of column {self.layout.name['tcr']!r} stand without anchors: C was put before each, and F "
                "(or the conserved residue of its J gene) behind it."
            )
        if self.anchors == "none":
            notes.append("Whether CDR3s begin with C and end with F or W was not checked (--anchors none).")
        if self.labels and not self._rows.read_labels:
            why = f"a {self.layout.format.name} file lists binders" if self.layout.format.binders else "no label column"
            notes.append(f"Every row counts as a binder: {why}.")
        changes = self.changes
        if len(changes):
            row = changes.iloc[0]
            notes.append(
                f"{len(changes)} gene names were written as IMGT has them, in {changes['count'].sum()} cells, e.g. "
                f"{row['value']} as {row['became']}."
            )
        if self.full and "full" not in self.layout.index:
            notes.append("Full sequences were built from IMGT's germline sequences of the V and J genes.")
        return notes


def _epitope(text: str) -> Epitope:
    try:
        return Epitope(checked_protein("epitope", text, "epitope"))
    except RecordError as error:
        raise InputError(f"--epitopes: {error}") from error
