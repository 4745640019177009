"""Amino acids as tokens, and what BLOSUM62 says about each token.

Token 0 is padding, 1 to 20 are the amino acids, then B, Z and X (unsure residues), START and STOP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geoattn.domains.records import RecordError

AMINO_ACIDS = "ARNDCQEGHILKMFPSTWYV"
PAD, START, STOP = 0, 24, 25
NUM_TOKENS = 26

_LETTERS = AMINO_ACIDS + "BZX"
_TOKEN_OF_BYTE = np.zeros(256, dtype=np.int64)
_TOKEN_OF_BYTE[list(_LETTERS.encode())] = np.arange(1, len(_LETTERS) + 1)
_TOKEN_OF_BYTE[list(b"OU")] = _LETTERS.index("X") + 1  # pyrrolysine and selenocysteine: no row of their own

# Henikoff & Henikoff, PNAS 1992, 89, 10915; lower triangle, columns as in _LETTERS.
_TRIANGLE = """
 4
-1  5
-2  0  6
-2 -2  1  6
 0 -3 -3 -3  9
-1  1  0  0 -3  5
-1  0  0  2 -4  2  5
 0 -2  0 -1 -3 -2 -2  6
-2  0  1 -1 -3  0  0 -2  8
-1 -3 -3 -3 -1 -3 -3 -4 -3  4
-1 -2 -3 -4 -1 -2 -3 -4 -3  2  4
-1  2  0 -1 -3  1  1 -2 -1 -3 -2  5
-1 -1 -2 -3 -1  0 -2 -3 -2  1  2 -1  5
-2 -3 -3 -3 -2 -3 -3 -3 -1  0  0 -3  0  6
-1 -2 -2 -1 -3 -1 -1 -2 -2 -3 -3 -1 -2 -4  7
 1 -1  1  0 -1  0  0  0 -1 -2 -2  0 -1 -2 -1  4
 0 -1  0 -1 -1 -1 -1 -2 -2 -1 -1 -1 -1 -2 -1  1  5
-3 -3 -4 -4 -2 -2 -3 -2 -2 -3 -2 -3 -1  1 -4 -3 -2 11
-2 -2 -2 -3 -2 -1 -2 -3  2 -1 -1 -2 -1  3 -3 -2 -2  2  7
 0 -3 -3 -3 -1 -2 -2 -3 -3  3  1 -2  1 -1 -2 -2  0 -3 -1  4
-2 -1  3  4 -3  0  1 -1  0 -3 -4  0 -3 -3 -2  0 -1 -4 -3 -3  4
-1  0  0  1 -3  3  4 -2  0 -3 -3  1 -1 -3 -1  0 -1 -3 -2 -2  1  4
 0 -1 -1 -1 -2 -1 -1 -1 -1 -1 -1 -1 -1 -1 -2  0  0 -2 -1 -1 -1 -1 -1
"""


def _blosum62() -> np.ndarray:
    matrix = np.full((NUM_TOKENS, NUM_TOKENS), -4.0, dtype=np.float32)
    np.fill_diagonal(matrix, 10.0)  # stays for the three specials
    for i, line in enumerate(_TRIANGLE.split("\n")[1:-1]):
        matrix[i, : i + 1] = matrix[: i + 1, i] = [float(word) for word in line.split()]
    return matrix


BLOSUM62 = _blosum62()
"""``[26, 26]``: rows and columns A R N D C Q E G H I L K M F P S T W Y V B Z X PAD START STOP."""

BLOSUM62_OF_TOKEN = BLOSUM62[[23, *range(23), 24, 25]]
"""``[26, 26]``: row t is the BLOSUM62 row of token t, so that it can be looked up by tokens."""


def tokens(sequence: str, column: str = "sequence") -> list[int]:
    """The tokens of a sequence of amino acids in upper case, without START and STOP.

    Raises:
        RecordError: an empty sequence, or a letter that is no amino acid; it names ``column`` and the place.

    Example:
        >>> tokens("ARV")
        [1, 2, 20]
    """
    return padded_tokens([sequence], column)[0][0].tolist()


def padded_tokens(sequences: Sequence[str], column: str = "sequence") -> tuple[np.ndarray, np.ndarray]:
    """`tokens` of many sequences at once.

    Returns:
        ``[S, L]`` int64, padded on the right to the longest, and ``[S]`` lengths.
    """
    # a letter outside latin-1 becomes "?", which is refused like any other
    flat = _TOKEN_OF_BYTE[np.frombuffer("".join(sequences).encode("latin-1", "replace"), dtype=np.uint8)]
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    if not flat.all() or not lengths.all():
        _refuse(sequences, column)
    padded = np.zeros((len(lengths), lengths.max(initial=0)), dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = flat
    return padded, lengths


def _refuse(sequences: Sequence[str], column: str) -> None:
    for sequence in sequences:
        if not sequence:
            raise RecordError(column, sequence, "empty")
        for place, letter in enumerate(sequence, start=1):
            if letter not in _LETTERS + "OU":
                reason = f"letter {place}, {letter!r}, is no amino acid"
                raise RecordError(column, sequence, reason, f"Known, in upper case: {_LETTERS}OU.")
