"""A pair of drugs in a cell line, after its reader checked it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Drug:
    """A molecule.

    Attributes:
        name: as the user's table has it.
        smiles: the largest fragment of a salt; all fragments of a metal complex.
        key: the first block of its InChIKey, which stereoisomers and salts share; empty if nobody asked.
        metal: it holds a metal, so that no force field of organic molecules describes it.
        stereo: what tells it from its stereoisomers: the second block of its InChIKey; empty if nobody asked.
    """

    name: str
    smiles: str
    key: str = ""
    metal: bool = False
    stereo: str = ""

    @property
    def identity(self) -> str:
        """What stereoisomers of one molecule have in common: splits keep them together."""
        return self.key or self.smiles or self.name

    @property
    def molecule(self) -> str:
        """What two names of one molecule have in common, and its stereoisomers have not."""
        return f"{self.identity}-{self.stereo}"


@dataclass(frozen=True)
class CellLine:
    """Cells in which a pair was measured.

    Attributes:
        name: as the table of expression has it, or the table of pairs where there is no other.
        tissue: where they come from; empty if no file says.
    """

    name: str
    tissue: str = ""


@dataclass(frozen=True)
class Combination:
    """Two drugs in a cell line.

    Attributes:
        id: the row's name, or its line number.
        drug_a, drug_b: the order has no meaning.
        cell: the cell line.
        score: a synergy score, higher for more synergy; 1 or 0 for classification; None where it is asked, and where
            the measured score lies between the classes.
        measured: the score from which the label of a classification was made; None if there is none.
        file, line: where it stands.
        fields: the other cells of the row that were asked for (the column of the split).
    """

    id: str
    drug_a: Drug
    drug_b: Drug
    cell: CellLine
    score: float | None = None
    measured: float | None = None
    file: str = ""
    line: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, str]:
        """The two identities, in an order that does not depend on that of the row."""
        first, second = sorted((self.drug_a.identity, self.drug_b.identity))
        return first, second

    @property
    def molecules(self) -> tuple[str, str]:
        """The two molecules, in an order that does not depend on that of the row."""
        first, second = sorted((self.drug_a.molecule, self.drug_b.molecule))
        return first, second
