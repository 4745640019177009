"""A row of a table of receptors and epitopes, after its reader checked it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Receptor:
    """A beta chain.

    Attributes:
        cdr3: with its anchors, from the conserved C to F or W, in upper case.
        v, j: IMGT names of the genes; empty if they are not known.
        full: the variable domain, V segment + CDR3 + J segment; empty if it is not known.
        start: where ``cdr3`` begins in ``full``.
    """

    cdr3: str
    v: str = ""
    j: str = ""
    full: str = ""
    start: int = 0


@dataclass(frozen=True)
class Epitope:
    """A peptide.

    Attributes:
        sequence: amino acids, in upper case.
        smiles: the same as a molecule; empty if the file has none (it is made from the sequence when it is needed).
    """

    sequence: str
    smiles: str = ""


@dataclass(frozen=True)
class Pair:
    """A receptor beside an epitope.

    Attributes:
        id: the row's name, or its line number.
        receptor, epitope: the two partners.
        label: 1 binds, 0 does not; None where the file does not say.
        study: where the pair was measured; empty if the file does not say.
        file, line: where it stands.
        fields: the other cells of the row that were asked for (the column of the split).
    """

    id: str
    receptor: Receptor
    epitope: Epitope
    label: int | None = None
    study: str = ""
    file: str = ""
    line: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
