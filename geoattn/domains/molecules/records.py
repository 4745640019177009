"""What a reader hands to the featuriser: one molecule or structure as it stands in the user's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geoattn.domains.records import RecordError, shorten

__all__ = ["Record", "RecordError", "shorten"]


@dataclass
class Record:
    """One molecule or structure of a file, not yet featurised.

    Exactly one of ``smiles``, ``molblock`` and ``numbers`` is the source of the structure; ``numbers`` (from extended
    XYZ) may come with a ``smiles`` that only 2-D graphs, baselines and pictures use.

    Attributes:
        file, line: where it stands; the true line number (the header counts), the row number in Parquet.
        id: the value of the id column, else ``"<line>"``.
        smiles: SMILES as written in the file.
        molblock: MDL mol block (SDF).
        numbers: ``[N]`` int64 atomic numbers.
        positions: ``[N, 3]`` float64 in angstrom.
        cell: ``[3, 3]`` float64, rows are the lattice vectors, in angstrom.
        pbc: along which lattice vectors the structure repeats.
        y: ``[T]`` float64 target values in the units of the file; NaN is a gap.
        fields: the other columns or info keys, as they stand in the file.
        force_field: what relaxed an embedded conformer, ``"mmff"``, ``"uff"`` or ``"none"``; filled in by featurising,
            empty if nothing was embedded.
    """

    file: str = ""
    line: int = 0
    id: str = ""
    smiles: str | None = None
    molblock: str | None = None
    numbers: np.ndarray | None = None
    positions: np.ndarray | None = None
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    y: np.ndarray = field(default_factory=lambda: np.empty(0))
    fields: dict[str, Any] = field(default_factory=dict)
    force_field: str = ""

    @property
    def is_periodic(self) -> bool:
        """Whether the structure repeats along any lattice vector."""
        return self.cell is not None and any(self.pbc)
