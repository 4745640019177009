"""SMILES as tokens: one regular expression, and a vocabulary that travels with the model.

Token 0 is padding, 1 START, 2 STOP; token 3 + i is entry i of the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from geoattn.domains.records import RecordError

PAD, START, STOP = 0, 1, 2
NUM_SPECIAL = 3

PEPTIDE_TOKENS = (
    *("(", ")", "=", "C", "N", "O", "S", "c", "n", "[nH]", "[C@H]", "[C@@H]", "[C@]", "[C@@]"),
    *"123456789",
)
"""What the 20 amino acids need, however their SMILES is written; part of every vocabulary, so that a new epitope or a
random spelling of a known one is never refused for a token that the training data happened not to show."""

_TOKEN = re.compile(r"\[[^\[\]]+\]|Br|Cl|%\d\d|%\(\d+\)|[BCNOPSFIbcnops*]|[-=#$:/\\.()]|\d")


def split(smiles: str, column: str = "smiles") -> list[str]:
    """The tokens of a SMILES as text: bracket atoms, other atoms, bonds, branches, ring closures.

    Raises:
        RecordError: at the first character that starts no token; it names ``column`` and the place.

    Example:
        >>> split("C[C@H](N)C(=O)O")
        ['C', '[C@H]', '(', 'N', ')', 'C', '(', '=', 'O', ')', 'O']
    """
    found, place = [], 0
    while place < len(smiles):
        match = _TOKEN.match(smiles, place)
        if match is None:
            reason = f"character {place + 1}, {smiles[place]!r}, is no part of a SMILES"
            raise RecordError(column, smiles, reason)
        found.append(match.group())
        place = match.end()
    return found


def fit_vocabulary(smiles: Iterable[str], column: str = "smiles") -> list[str]:
    """The tokens of ``smiles`` and those of any peptide, sorted."""
    return sorted({*PEPTIDE_TOKENS, *(token for text in smiles for token in split(text, column))})


def tokens(smiles: str, vocabulary: Sequence[str], column: str = "smiles") -> list[int]:
    """The tokens of a SMILES as numbers, without START and STOP.

    Raises:
        RecordError: a token that is not in the vocabulary; it names the token and its place.
    """
    number = {token: NUM_SPECIAL + i for i, token in enumerate(vocabulary)}
    found, place = [], 1
    for token in split(smiles, column):
        if token not in number:
            reason = f"token {token!r} at character {place} is not in the vocabulary of {len(vocabulary)} tokens"
            raise RecordError(column, smiles, reason, "The model was not trained on it.")
        found.append(number[token])
        place += len(token)
    return found
