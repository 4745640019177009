"""From the cells of one row to drugs, cell line and score, or to what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from geoattn.datasets.synergy_columns import Layout
from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.datasets.synergy_names import Names
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.records import CellLine, Combination, Drug
from geoattn.domains.synergy.responses import Response

GAPS = ("", "NA", "NaN", "nan", "None", "none", "null", "NULL")
LABELS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}


class RowReader:
    """Checks rows of a table of drug pairs.

    Args:
        layout: the columns.
        drugs: the molecules, by name.
        cells: the cell lines with expression.
        tissue: cell line -> tissue, where the table of expression says it; a column of the row goes first.
        labels: the score is a label, 0 or 1.
        scores: read the score; False for prediction and for scores that are computed.
    """

    def __init__(
        self,
        layout: Layout,
        drugs: DrugTable,
        cells: Names,
        tissue: Mapping[str, str],
        *,
        labels: bool,
        scores: bool,
    ) -> None:
        self.layout, self.drugs, self.cells, self.labels, self.scores = layout, drugs, cells, labels, scores
        self._tissue = tissue
        self._lines: dict[str, CellLine] = {}

    def combination(self, file: str, line: int, row: Sequence[str], score: float | None = None) -> Combination:
        """The row as a combination; with ``score`` instead of its own.

        Raises:
            RecordError: with the column, value and reason.
        """
        drug_a, drug_b = self._drug(row, "a"), self._drug(row, "b")
        if drug_a.molecule == drug_b.molecule:
            same = "the same drug" if drug_a.name == drug_b.name else f"the same molecule as {drug_a.name!r}"
            raise RecordError(self.layout.name["drug_b"], drug_b.name, f"a pair of {same}")
        return Combination(
            id=self._cell(row, "id") or str(line),
            drug_a=drug_a,
            drug_b=drug_b,
            cell=self._cell_line(row),
            score=self._score(row) if self.scores else score,
            file=file,
            line=line,
            fields={name: row[column] for name, column in self.layout.extra.items()},
        )

    def response(self, file: str, line: int, row: Sequence[str]) -> Response:
        """The row as a response; the names of drugs and cell line are looked up later, once per pair.

        Raises:
            RecordError: a dose or response that is no number, or a negative dose.
        """
        doses = {role: self._number(row, role, gap=0.0) for role in ("dose_a", "dose_b")}
        for role, dose in doses.items():
            if dose < 0:
                raise RecordError(self.layout.name[role], dose, "a dose below 0", "Write doses, not their logarithms.")
            if dose > 0 and not self._cell(row, f"drug_{role[-1]}"):
                raise RecordError(self.layout.name[f"drug_{role[-1]}"], "", "empty, but its dose is not 0")
        return Response(
            drug_a=self._cell(row, "drug_a"),
            drug_b=self._cell(row, "drug_b"),
            cell=self._cell(row, "cell_line"),
            dose_a=doses["dose_a"],
            dose_b=doses["dose_b"],
            value=self._number(row, "response"),
            block=self._cell(row, "block"),
            file=file,
            line=line,
            row=tuple(row),
        )

    def _cell(self, row: Sequence[str], role: str) -> str:
        column = self.layout.index.get(role)
        if column is None:
            return ""
        text = row[column].strip()
        return "" if text in GAPS else text

    def _drug(self, row: Sequence[str], which: str) -> Drug:
        column, name = self.layout.name[f"drug_{which}"], self._cell(row, f"drug_{which}")
        if self.drugs.path is not None:
            return self.drugs.find(column, name)
        smiles = f"smiles_{which}"
        return self.drugs.given(column, name, self.layout.name[smiles], self._cell(row, smiles))

    def _cell_line(self, row: Sequence[str]) -> CellLine:
        column = self.layout.name["cell_line"]
        name = self.cells.find(column, self._cell(row, "cell_line"))
        tissue = self._cell(row, "tissue") or self._tissue.get(name, "")
        known = self._lines.setdefault(name, CellLine(name, tissue))
        if known.tissue != tissue:
            reason = f"cell line {name!r} has tissue {known.tissue!r} in an earlier row"
            raise RecordError(self.layout.name["tissue"], tissue, reason)
        return known

    def _score(self, row: Sequence[str]) -> float:
        if not self.labels:
            return self._number(row, "score")
        text = self._cell(row, "score")
        if text not in LABELS:
            hint = "Write 1 for synergy and 0 for none, or give scores and --data.positive."
            raise RecordError(self.layout.name["score"], text, "a label must be 0 or 1", hint)
        return LABELS[text]

    def _number(self, row: Sequence[str], role: str, gap: float | None = None) -> float:
        text = self._cell(row, role)
        if not text and gap is not None:
            return gap
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise RecordError(self.layout.name[role], text, "not a finite number" if text else "empty")
        return value
