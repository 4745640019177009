"""Rows of a user's file that cannot be used: raised at once, or collected for ``rejected.csv``."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from geoattn.domains.records import RecordError
from geoattn.errors import InputError

OnError = Literal["raise", "skip"]
COLUMNS = ["file", "line", "column", "value", "reason"]


class Rejections:
    """What becomes of a bad row: ``on_error="raise"`` stops at the first, ``"skip"`` collects them.

    Example:
        >>> rejected = Rejections("skip")
        >>> rejected.add("a.csv", 3, RecordError("smiles", "C1CC", "RDKit cannot read it"))
        >>> rejected.table()[["line", "value"]].values.tolist()
        [[3, 'C1CC']]
    """

    def __init__(self, on_error: OnError = "raise") -> None:
        if on_error not in ("raise", "skip"):
            raise InputError(f"on_error: got {on_error!r}, expected 'raise' or 'skip'.")
        self.on_error = on_error
        self._rows: list[tuple[str, int, str, str, str]] = []

    def add(self, file: str, line: int, error: RecordError) -> None:
        """Raise ``error`` with its place in the file, or keep it."""
        if self.on_error == "raise":
            raise InputError(
                f"{file}:{line}: {error} Mend the file, or use on_error=skip to go on without such rows and list "
                "them in rejected.csv."
            ) from error
        self._rows.append((file, line, error.column, error.value, error.reason))

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Forget the rows collected so far."""
        self._rows = []

    def table(self) -> pd.DataFrame:
        """One row per rejection, in the order of the file: file, line, column, value, reason."""
        table = pd.DataFrame(self._rows, columns=COLUMNS)
        return table.sort_values("line", kind="stable", ignore_index=True)
