"""Reader of tables of drug pairs: scores or labels as they stand, or scores computed from doses and responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.synergy_columns import Layout, SynergyColumns, find_layout
from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.datasets.synergy_names import Names
from geoattn.datasets.synergy_rows import RowReader
from geoattn.datasets.tables import open_table
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.records import Combination
from geoattn.domains.synergy.responses import Response, ResponseScale, direction_note, excess
from geoattn.errors import InputError, nearest_hint

Source = Literal["column", "hsa", "bliss"]
SOURCES = ("column", "hsa", "bliss")


class CombinationReader:
    """Reads a table of drug pairs row by row, with constant memory; iterate once.

    Scores from responses need all rows of a pair, so that such a table is read whole.

    Args:
        path: ``.csv .tsv .txt .parquet``, text formats also as ``.gz``.
        rejections: what becomes of bad rows.
        drugs: molecules by name; a table without a file of drugs needs columns of SMILES.
        cells: cell lines that may occur.
        tissue: cell line -> tissue.
        columns: names by the user.
        labels: the score is a label, 0 or 1.
        scores: read scores; False for prediction.
        source: a column holds the score, or it is the excess over HSA or Bliss of doses and responses.
        response_scale: of the responses.

    Attributes (once rows have been read):
        layout: the columns of the file.

    Raises:
        InputError: a file that cannot be read, missing columns, and a bad row where ``rejections`` raises.
    """

    layout: Layout

    def __init__(
        self,
        path: str | Path,
        rejections: Rejections,
        drugs: DrugTable,
        cells: Names,
        tissue: Mapping[str, str],
        columns: SynergyColumns | None = None,
        *,
        labels: bool = False,
        scores: bool = True,
        source: Source = "column",
        response_scale: ResponseScale | None = None,
    ) -> None:
        if source not in SOURCES:
            raise InputError(f"score: got {source!r}. {nearest_hint(source, SOURCES)}")
        if source != "column" and response_scale is None:
            raise InputError(
                f"score={source} needs --response-scale: inhibition (0 to 1, more for higher doses), "
                "inhibition_percent, viability or viability_percent (100 without drug)."
            )
        self.path, self.rejections, self.drugs, self.cells, self.tissue = Path(path), rejections, drugs, cells, tissue
        self.columns, self.labels, self.scores = columns or SynergyColumns(), labels, scores
        self.source, self.response_scale = source, response_scale
        self._num_responses, self._direction = 0, ""

    def __iter__(self) -> Iterator[Combination]:
        computed = self.source != "column" and self.scores
        needed = ["drug_a", "drug_b", "cell_line"]
        needed += ["dose_a", "dose_b", "response"] if computed else ["score"] * self.scores
        needed += ["smiles_a", "smiles_b"] * (self.drugs.path is None)
        with open_table(self.path, self.rejections) as (header, lines):
            self.layout = find_layout(self.path, header, self.columns, needed, labels=self.labels)
            rows = RowReader(
                self.layout,
                self.drugs,
                self.cells,
                self.tissue,
                labels=self.labels,
                scores=self.scores and not computed,
            )
            yield from self._computed(rows, lines) if computed else self._as_they_stand(rows, lines)

    def _as_they_stand(self, rows: RowReader, lines: Iterator[tuple[int, list[str]]]) -> Iterator[Combination]:
        file = str(self.path)
        for line, cells in lines:
            try:
                yield rows.combination(file, line, cells)
            except RecordError as error:
                self.rejections.add(file, line, error)

    def _computed(self, rows: RowReader, lines: Iterator[tuple[int, list[str]]]) -> Iterator[Combination]:
        assert self.response_scale is not None
        file = str(self.path)
        responses: list[Response] = []
        for line, cells in lines:
            try:
                responses.append(rows.response(file, line, cells))
            except RecordError as error:
                self.rejections.add(file, line, error)
        self._num_responses, self._direction = len(responses), direction_note(responses, self.response_scale)
        try:
            found, without = excess(responses, self.response_scale)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        for first, reason in without:
            self.rejections.add(file, first.line, reason)
        for item in found:
            first = item.first
            try:
                score = item.hsa if self.source == "hsa" else item.bliss
                yield rows.combination(file, first.line, first.row, score)
            except RecordError as error:
                self.rejections.add(file, first.line, error)

    @property
    def notes(self) -> list[str]:
        """Sentences about what was done to the rows, for a report."""
        notes = [*self.drugs.notes, *self.cells.notes]
        if self._num_responses:
            names = {"hsa": "the highest single agent (HSA)", "bliss": "Bliss independence"}
            notes.append(
                f"Scores were computed from {self._num_responses} responses ({self.response_scale}): mean excess of "
                f"inhibition over {names[self.source]} in percentage points, positive for synergy."
            )
            notes += [self._direction] * bool(self._direction)
        return notes
