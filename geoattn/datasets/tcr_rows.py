"""From the cells of one row to receptor, epitope and label, or to what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoattn._optional import require
from geoattn.datasets.tcr_columns import OTHER_CHAINS, Anchors, Layout
from geoattn.domains.records import RecordError
from geoattn.domains.tcr.germline import full_chain, j_anchor
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError

PROTEIN = re.compile("[ACDEFGHIKLMNPQRSTVWY]+")
ANCHORED = re.compile("C[A-Z]{2,}[FW]")
GAPS = ("", "NA", "NaN", "nan", "None", "none", "null", "NULL")
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
LONGEST = {"tcr": 50, "epitope": 50, "full": 200}
"""Residues: a longer text is of another column. TITAN's data have 33, 16 and 127 at most; class II peptides have up to
30 residues, and a variable domain with its leader about 140."""
WHAT = {"tcr": "CDR3", "epitope": "peptide", "full": "variable domain"}
REMEMBERED = 100_000
"""Genes and epitopes that are kept; a file may repeat a few of them millions of times, or never."""


class RowReader:
    """Checks rows of a table of receptors; each distinct gene name and epitope is looked at once.

    Args:
        layout: the columns.
        anchors: whether the CDR3s have their anchors; with ``"no"`` they are added.
        labels: read the label; False for prediction.
        full: build the whole variable domain from V, CDR3 and J where it has no column; a column is always read, since
            it tells receptors of the same CDR3 apart.

    Attributes:
        changes: (column, value, what became of it) of gene names that IMGT writes otherwise, and how often.
    """

    def __init__(self, layout: Layout, anchors: Anchors, *, labels: bool, full: bool) -> None:
        self.layout, self.anchors, self.full = layout, anchors, full
        self.read_labels, self.default_label = labels and "label" in layout.index, 1 if labels else None
        self.changes: dict[tuple[str, str, str], int] = {}
        self._genes: dict[tuple[str, str], str] = {}
        self._epitopes: dict[tuple[str, str], Epitope] = {}

    def pair(self, file: str, line: int, cells: Sequence[str], epitope: Epitope | None = None) -> Pair:
        """The row as a pair; with ``epitope`` instead of the one of the row.

        Raises:
            RecordError: with the column, value and reason.
        """
        for column, name, values in self.layout.must:
            if (value := cells[column].strip()).lower() not in values:
                wanted = " or ".join(filter(None, values))
                raise RecordError(name, value, f"only rows with {wanted} can be used: human beta chains that work")
        return Pair(
            id=self._cell(cells, "id") or str(line),
            receptor=self._receptor(cells),
            epitope=epitope or self._epitope(cells),
            label=self._label(cells) if self.read_labels else self.default_label,
            study=self._cell(cells, "study"),
            file=file,
            line=line,
            fields={name: cells[column] for name, column in self.layout.extra.items()},
        )

    def is_other_chain(self, cells: Sequence[str]) -> bool:
        """Whether the row is of an alpha, gamma or delta chain, of which nothing is read."""
        return self.layout.chain is not None and cells[self.layout.chain].strip().lower() in OTHER_CHAINS

    def _protein(self, cells: Sequence[str], role: str) -> str:
        hint = f"Name the column of {WHAT[role]}s with --{role}-column."
        return checked_protein(self.layout.name[role], self._cell(cells, role), role, hint)

    def _cell(self, cells: Sequence[str], role: str) -> str:
        column = self.layout.index.get(role)
        if column is None:
            return ""
        text = cells[column].strip()
        return "" if text in GAPS else text

    def _receptor(self, cells: Sequence[str]) -> Receptor:
        v, j = self._gene(cells, "v"), self._gene(cells, "j")
        name = self.layout.name["tcr"]
        cdr3 = self._protein(cells, "tcr")
        if self.anchors == "no":
            cdr3 = f"C{cdr3}{j_anchor(j) if j else 'F'}"
        elif self.anchors == "yes":
            _check_anchors(name, cdr3)
        if "full" not in self.layout.index:
            return Receptor(cdr3, v, j, *(full_chain(v, j, cdr3) if self.full else ()))
        full = self._protein(cells, "full")
        start = full.rfind(cdr3)
        if start < 0:
            raise RecordError(self.layout.name["full"], full, f"the CDR3 {cdr3} is no part of it")
        return Receptor(cdr3, v, j, full, start)

    def _gene(self, cells: Sequence[str], role: str) -> str:
        raw = self._cell(cells, role)
        if not raw:
            return ""
        known = self._genes.get((role, raw))
        if known is None:
            known = imgt_name(self.layout.name[role], raw, f"TRB{role.upper()}")
            _remember(self._genes, (role, raw), known)
        if known != raw:
            change = (self.layout.name[role], raw, known)
            self.changes[change] = self.changes.get(change, 0) + 1
        return known

    def _epitope(self, cells: Sequence[str]) -> Epitope:
        key = self._cell(cells, "epitope"), self._cell(cells, "smiles")
        known = self._epitopes.get(key)
        if known is None:
            known = Epitope(self._protein(cells, "epitope"), key[1])
            _remember(self._epitopes, key, known)
        return known

    def _label(self, cells: Sequence[str]) -> int:
        text = self._cell(cells, "label")
        if text not in LABELS:
            hint = "Write 1 for a binder and 0 for a non-binder."
            raise RecordError(self.layout.name["label"], text, "a label must be 0 or 1", hint)
        return LABELS[text]


def checked_protein(column: str, text: str, role: str, hint: str = "") -> str:
    """``text`` if it is a sequence of the 20 amino acids in upper case.

    Args:
        column: for the message.
        text: what stands there.
        role: tcr, epitope or full, which says how long it may be.
        hint: what to do about one that is longer.

    Raises:
        RecordError: otherwise, saying what is wrong.
    """
    if PROTEIN.fullmatch(text):
        if len(text) > LONGEST[role]:
            reason = f"{len(text)} residues, expected at most {LONGEST[role]} for a {WHAT[role]}"
            raise RecordError(column, text, reason, hint)
        return text
    if not text:
        raise RecordError(column, text, "empty")
    if text != text.upper() and PROTEIN.fullmatch(text.upper()):
        raise RecordError(column, text, "lower case", "Write amino acids in upper case.")
    wrong = next(letter for letter in text if not PROTEIN.fullmatch(letter))
    what = {"*": "a stop codon", "_": "a reading frame that is cut", "-": "a gap", ".": "a gap"}.get(wrong)
    raise RecordError(column, text, f"{wrong!r} is {what}" if what else f"{wrong!r} is none of the 20 amino acids")


def imgt_name(column: str, text: str, kind: str) -> str:
    """The IMGT name of a human gene, of several alleles separated by commas the first.

    Raises:
        RecordError: unknown to tidytcells, or no gene of ``kind`` (``"TRBV"``, ``"TRBJ"``).
    """
    tidytcells = require("tidytcells", "tcr")
    first = text.split(",")[0].strip()
    name = tidytcells.tr.standardize(symbol=first, species="homosapiens", on_fail="reject", log_failures=False)
    if name is None:
        hint = f"Write IMGT's name, e.g. {kind}{'19' if kind == 'TRBV' else '2-7'}, or leave the cell empty."
        raise RecordError(column, text, "no name of a human T-cell receptor gene", hint)
    if not name.startswith(kind):
        raise RecordError(column, text, f"{name} is no {kind} gene")
    return name


def receptor_of(cdr3: str, v: str = "", j: str = "", *, full: bool) -> Receptor:
    """A receptor from its parts, checked as those of a file are.

    Args:
        cdr3: with anchors.
        v, j: names of the genes; needed for ``full``.
        full: make the variable domain too.

    Raises:
        RecordError: a sequence or a name that cannot be used.
    """
    _check_anchors("cdr3", checked_protein("cdr3", cdr3, "tcr"))
    v = imgt_name("v", v, "TRBV") if v else ""
    j = imgt_name("j", j, "TRBJ") if j else ""
    return Receptor(cdr3, v, j, *(full_chain(v, j, cdr3) if full else ()))


def check_first_rows(path: Path, layout: Layout, anchors: Anchors | None, rows: Sequence[Sequence[str]]) -> Anchors:
    """What the first rows say about the options: whether CDR3s have anchors is asked for, never guessed.

    Args:
        path: for messages.
        layout: the columns.
        anchors: the option; if left out, the format may say it.
        rows: cells of the first rows.

    Raises:
        InputError: nobody said whether there are anchors, all say that it is wrong, or two columns are swapped.
    """
    name = layout.name["tcr"]
    values = {
        role: [text for text in (cells[column].strip() for cells in rows) if text not in GAPS]
        for role, column in layout.index.items()
        if role in ("tcr", "epitope")
    }
    anchored = {role: _share_anchored(texts) for role, texts in values.items()}
    if anchored.get("epitope", 0.0) >= 0.5 and anchored["tcr"] <= 0.1:
        raise InputError(
            f"{path}: the columns look swapped: {layout.name['epitope']!r} holds C...F like a CDR3 "
            f"({_examples(values['epitope'])}), {name!r} does not ({_examples(values['tcr'])}). Name them with "
            "--tcr-column and --epitope-column."
        )
    if values["tcr"] and all(len(text) > 20 and not set(text) - set("ACGTN") for text in values["tcr"]):
        raise InputError(
            f"{path}: column {name!r} looks like nucleotides ({_examples(values['tcr'])}); amino acids are needed. "
            "Name their column with --tcr-column."
        )
    said = anchors or layout.anchors
    if said is None:
        raise InputError(
            f"{path}: do the CDR3s of column {name!r} ({_examples(values['tcr'])}) stand with the conserved C and F or "
            "W at their ends? Pass --anchors yes if they do, --anchors no if these are cut off (they are "
            "then added), or --anchors none to take the sequences as they are."
        )
    if said == "no" and anchored["tcr"] >= 0.9:
        raise InputError(
            f"{path}: --anchors no would add a C and an F to the CDR3s of column {name!r}, but these begin with C and "
            f"end with F or W already ({_examples(values['tcr'])}). Pass --anchors yes."
        )
    return said


def changes_rows(changes: Mapping[tuple[str, str, str], int]) -> list[dict[str, object]]:
    """The changed gene names as rows of a table: column, value, became, count."""
    return [
        {"column": column, "value": value, "became": became, "count": count}
        for (column, value, became), count in sorted(changes.items())
    ]


def _share_anchored(texts: Sequence[str]) -> float:
    return sum(bool(ANCHORED.fullmatch(text)) for text in texts) / len(texts) if texts else 0.0


def _examples(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:3])) or "no value"


def _check_anchors(column: str, cdr3: str) -> None:
    hint = "Use --anchors none to take CDR3s as they are, or --anchors no if their ends are cut off."
    if cdr3[0] != "C":
        raise RecordError(column, cdr3, f"begins with {cdr3[0]}, not with the conserved C", hint)
    if cdr3[-1] not in "FW" or len(cdr3) < 3:
        raise RecordError(column, cdr3, f"ends with {cdr3[-1]}, not with the conserved F or W", hint)


def _remember(known: dict[tuple[str, str], Any], key: tuple[str, str], value: Any) -> None:
    if len(known) >= REMEMBERED:
        known.clear()
    known[key] = value
