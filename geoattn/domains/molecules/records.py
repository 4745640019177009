"""What a reader hands to the featuriser: one molecule or structure as it stands in the user's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geoattn.errors import InputError


class RecordError(InputError):
    """One molecule cannot be used; the reader adds file and line, then raises it or lists the row as rejected.

    Args:
        column: the column, info key or property that is wrong, e.g. ``"smiles"``.
        value: what it holds.
        reason: why that cannot be used.
        hint: the next step, if there is an obvious one.
    """

    def __init__(self, column: str, value: object, reason: str, hint: str = "") -> None:
        self.column, self.value, self.reason, self.hint = column, shorten(value), reason, hint
        super().__init__(f"{column} = {self.value!r}: {reason}." + (f" {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type[RecordError], tuple[str, str, str, str]]:
        return RecordError, (self.column, self.value, self.reason, self.hint)  # raised in worker processes


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


def shorten(value: object, length: int = 60) -> str:
    """``value`` as text of at most ``length`` characters, for a message."""
    text = str(value)
    return text if len(text) <= length else text[: length - 3] + "..."
