"""What is wrong with one row of a user's file."""

from __future__ import annotations

from geoattn.errors import InputError


class RecordError(InputError):
    """One row cannot be used; the reader adds file and line, then raises it or lists the row as rejected.

    Args:
        column: the column, key or property that is wrong, e.g. ``"smiles"``.
        value: what it holds.
        reason: why that cannot be used.
        hint: the next step, if there is an obvious one.
    """

    def __init__(self, column: str, value: object, reason: str, hint: str = "") -> None:
        self.column, self.value, self.reason, self.hint = column, shorten(value), reason, hint
        super().__init__(f"{column} = {self.value!r}: {reason}." + (f" {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type[RecordError], tuple[str, str, str, str]]:
        return RecordError, (self.column, self.value, self.reason, self.hint)  # raised in worker processes


def shorten(value: object, length: int = 60) -> str:
    """``value`` as text of at most ``length`` characters, for a message."""
    text = str(value)
    return text if len(text) <= length else text[: length - 3] + "..."
