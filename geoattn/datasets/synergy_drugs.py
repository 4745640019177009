"""Tables of drugs: name and SMILES; each drug is looked at when a row first needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.synergy_names import Names
from geoattn.datasets.tables import open_table
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.drugs import checked_drug
from geoattn.domains.synergy.records import Drug
from geoattn.errors import InputError, nearest_hint

NAMES = ("name", "drug", "drug_name", "id", "drug_id", "compound")
SMILES = ("smiles", "canonical_smiles", "smiles_isomeric", "isomeric_smiles")
SHOWN = 10
"""Names that a note lists."""


class DrugTable:
    """Drugs by name, from a file or from columns of the table of pairs.

    Args:
        path: a table with a name and a SMILES per row; None if every pair brings its SMILES.
        name_column, smiles_column: its columns; found by their usual names if left out.
        join: see `Names`.
        space: the model needs positions of atoms, for which metal complexes are refused.

    Raises:
        InputError: a file that cannot be read, a missing column, a name that stands with two SMILES.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        name_column: str | None = None,
        smiles_column: str | None = None,
        *,
        join: bool = False,
        space: bool = False,
    ) -> None:
        self.path, self.space = path, space
        self._smiles: dict[str, str] = {}
        self._place: dict[str, str] = {}
        self._column = "smiles"
        if path is not None:
            self._read(Path(path), name_column, smiles_column)
        self.names = Names(list(self._smiles), "drug", str(path), join)
        self._known: dict[str, Drug | RecordError] = {}
        self._salts: list[str] = []
        self._repeats: list[str] = []

    def find(self, column: str, name: str) -> Drug:
        """The drug that a cell of the table of pairs names.

        Raises:
            RecordError: unknown, without SMILES, unreadable, or a metal complex where positions are needed.
        """
        name = self.names.find(column, name)
        return self._checked(column, name, self._smiles[name], f"{self._place[name]}: {self._column}")

    def given(self, column: str, name: str, smiles_column: str, smiles: str) -> Drug:
        """The drug of a row that brings its SMILES; a name may stand with one SMILES only."""
        if not name:
            raise RecordError(column, name, "empty")
        before = self._smiles.setdefault(name, smiles)
        if before != smiles:
            raise RecordError(smiles_column, smiles, f"drug {name!r} has another SMILES in an earlier row, {before}")
        return self._checked(smiles_column, name, smiles, smiles_column)

    def all(self, rejections: Rejections) -> list[Drug]:
        """Every drug of the file, in its order; of several names of a molecule, not of its isomers, the first."""
        found: dict[str, Drug] = {}
        for name, smiles in self._smiles.items():
            file, _, line = self._place[name].rpartition(":")
            try:
                drug = self._checked(self._column, name, smiles, self._column)
            except RecordError as error:
                rejections.add(file, int(line), error)
                continue
            first = found.setdefault(drug.molecule, drug)
            if first is not drug:
                self._repeats.append(f"{name!r} is {first.name!r}")
        return list(found.values())

    @property
    def notes(self) -> list[str]:
        """What was done to the SMILES of drugs that were used, for a report."""
        notes = []
        if self._salts:
            what = "1 salt or mixture" if len(self._salts) == 1 else f"{len(self._salts)} salts or mixtures"
            notes.append(f"Of {what} the largest fragment was kept: {_listed(self._salts)}.")
        metal = [drug.name for drug in self._known.values() if isinstance(drug, Drug) and drug.metal]
        if metal:
            notes.append(f"Of metal complexes ({len(metal)}) all fragments were kept: {_listed(metal)}.")
        if self._repeats:
            what = "1 name stands" if len(self._repeats) == 1 else f"{len(self._repeats)} names stand"
            notes.append(f"{what} for a molecule of another name: {_listed(self._repeats)}.")
        return [*notes, *self.names.notes]

    def _checked(self, column: str, name: str, smiles: str, place: str) -> Drug:
        if name not in self._known:
            try:
                drug, salt = checked_drug(name, smiles, place)
                self._known[name] = drug
                self._salts += [f"{name} ({drug.smiles})"] * salt
            except RecordError as error:
                self._known[name] = error
        known = self._known[name]
        if isinstance(known, RecordError):
            raise known if column == place else RecordError(column, name, str(known).rstrip("."))
        if known.metal and self.space:
            reason = "a metal complex: no force field for its geometry"
            raise RecordError(column, name, reason, "Use a 2-D graph, or leave its rows out.")
        return known

    def _read(self, path: Path, name_column: str | None, smiles_column: str | None) -> None:
        with open_table(path, Rejections("raise")) as (header, rows):
            name_at = _column(path, header, name_column, NAMES, "drug-name-column")
            smiles_at = _column(path, header, smiles_column, SMILES, "drug-smiles-column")
            self._column = header[smiles_at]
            for line, cells in rows:
                name, smiles = cells[name_at].strip(), cells[smiles_at].strip()
                if not name:
                    raise InputError(f"{path}:{line}: {header[name_at]}: a drug without a name.")
                if self._smiles.setdefault(name, smiles) != smiles:
                    raise InputError(
                        f"{path}:{line}: {header[name_at]} = {name!r} has another SMILES at {self._place[name]}."
                    )
                self._place.setdefault(name, f"{path}:{line}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _column(path: Path, header: list[str], wanted: str | None, usual: tuple[str, ...], option: str) -> int:
    if wanted is not None:
        if wanted not in header:
            raise InputError(f"{path}: there is no column {wanted!r}. {nearest_hint(wanted, header)}")
        return header.index(wanted)
    known = {name.lower(): place for place, name in reversed(list(enumerate(header)))}
    for name in usual:
        if name in known:
            return known[name]
    raise InputError(f"{path}: no column named {' or '.join(usual)} among {_listed(header)}. Name it with --{option}.")
