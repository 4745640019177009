"""Names of drugs and cell lines in one table, looked up in another: near ones are suggested, and joined if asked."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from geoattn.domains.records import RecordError


class Names:
    """The names of a table.

    Args:
        known: the names.
        what: they name, for messages.
        where: they stand, for messages.
        join: take a name that is the same but for punctuation and case (``HCT-116`` and ``HCT116``) if there is one
            such name only. Sister lines may be told apart by a sign, so that this is never done unasked.

    Attributes:
        joined: names that were taken for another: name -> the known one.
    """

    def __init__(self, known: Sequence[str], what: str, where: str, join: bool = False) -> None:
        self.known, self.what, self.where, self.join = dict.fromkeys(known), what, where, join
        self.joined: dict[str, str] = {}
        self._plain: dict[str, list[str]] = {}
        for name in self.known:
            self._plain.setdefault(plain(name), []).append(name)

    def find(self, column: str, name: str) -> str:
        """The known name for ``name``.

        Raises:
            RecordError: there is none; says which is nearest.
        """
        if name in self.known:
            return name
        if not name:
            raise RecordError(column, name, "empty")
        same = self._plain.get(plain(name), [])
        if self.join and len(same) == 1:
            self.joined[name] = same[0]
            return same[0]
        reason = f"no {self.what} of this name in {self.where}"
        if self.join and same:
            reason += f", and {' and '.join(map(repr, same))} are both the same but for punctuation and case"
        raise RecordError(column, name, reason, self._hint(name, same))

    @property
    def notes(self) -> list[str]:
        """Which names were joined, for a report."""
        pairs = [f"{name!r} was taken for {known!r}" for name, known in self.joined.items()]
        return [f"Names that differ in punctuation or case ({self.what}): {'; '.join(pairs)}."] * bool(pairs)

    def _hint(self, name: str, same: Sequence[str]) -> str:
        if same and not self.join:
            return (
                f"{same[0]!r} is the same but for punctuation and case: if it is the same {self.what}, pass "
                "--join-names true."
            )
        near = difflib.get_close_matches(plain(name), self._plain, n=1)
        return f"Did you mean {self._plain[near[0]][0]!r}?" if near else ""


def plain(name: str) -> str:
    """Letters and digits in lower case.

    >>> plain("HCT-116") == plain("hct 116")
    True
    """
    return "".join(letter for letter in name.lower() if letter.isalnum())
