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

    Args:
        on_error: as above.
        what: is left out with a bad row, for messages.

    Example:
        >>> rejected = Rejections("skip")
        >>> rejected.add("a.csv", 3, RecordError("smiles", "C1CC", "RDKit cannot read it"))
        >>> rejected.table()[["line", "value"]].values.tolist()
        [[3, 'C1CC']]
    """

    def __init__(self, on_error: OnError = "raise", what: str = "rows") -> None:
        if on_error not in ("raise", "skip"):
            raise InputError(f"--on-error: got {on_error!r}, expected 'raise' or 'skip'.")
        self.on_error, self.what = on_error, what
        self._rows: list[tuple[str, int, str, str, str]] = []

    def add(self, file: str, line: int, error: RecordError, place: str | None = None) -> None:
        """Raise ``error`` with its place in the file, or keep it; ``place`` is where the file has no lines."""
        if self.on_error == "raise":
            raise InputError(
                f"{file}:{f' {place}' if place else line}: {error} Mend the file, or use --on-error skip to go on "
                f"without such {self.what} and list them in rejected.csv."
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


def none_left(data: str, what: str, rejected: pd.DataFrame) -> InputError:
    """What to raise if nothing can be used: how many were rejected, and why the first was.

    Args:
        data: the file or folder.
        what: could not be used: cloud, say.
        rejected: of `Rejections.table`.
    """
    text = f"{data}: no usable {what}; {len(rejected)} {'was' if len(rejected) == 1 else 'were'} rejected."
    if not len(rejected):
        return InputError(text)
    first = rejected.iloc[0]
    return InputError(f"{text} The first: {first['file']}: {first['column']} {first['value']!r}: {first['reason']}.")
