"""Names of columns as people write them: ``CDR3``, ``cdr3`` and ``Cdr3 `` are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from geoattn.errors import InputError, nearest_hint


def plain_name(name: str) -> str:
    """Lower case, with one underscore for spaces: ``V gene`` is ``v_gene``; IEDB's ``Chain 2 - Type`` has no dash."""
    return re.sub(r"[\s_]+", "_", name.replace(" - ", " ").strip()).lower()


def usual_column(path: Path, header: Sequence[str], names: Sequence[str], option: str) -> str | None:
    """The column of the header that has the first of these names, but for case and spaces; None if it has none.

    Raises:
        InputError: two columns are the same but for case and spaces; it names both and the option to choose with.
    """
    for name in names:
        same = list(dict.fromkeys(one for one in header if plain_name(one) == plain_name(name)))
        if len(same) > 1:
            raise InputError(
                f"{path}: columns {' and '.join(map(repr, same))} are the same but for case and spaces. Choose with "
                f"{option}."
            )
        if same:
            return same[0]
    return None


def named_column(path: Path, header: Sequence[str], name: str) -> str:
    """The column that a user named: exactly, or the only one that is the same but for case and spaces.

    Raises:
        InputError: there is none, with the nearest name, or there are several.
    """
    if name in header:
        return name
    same = list(dict.fromkeys(one for one in header if plain_name(one) == plain_name(name)))
    if len(same) > 1:
        raise InputError(f"{path}: {name!r} could be column {' or '.join(map(repr, same))}. Write it as it stands.")
    if not same:
        raise InputError(f"{path}: there is no column {name!r}. {nearest_hint(name, header)}")
    return same[0]
