"""Amino-acid tokens and BLOSUM62."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoattn.domains.records import RecordError
from geoattn.domains.tcr.amino_acids import (
    AMINO_ACIDS,
    BLOSUM62,
    BLOSUM62_OF_TOKEN,
    NUM_TOKENS,
    PAD,
    START,
    STOP,
    padded_tokens,
    tokens,
)


def test_blosum62_rows():
    assert BLOSUM62[0, :5].tolist() == [4, -1, -2, -2, 0]
    assert (BLOSUM62 == BLOSUM62.T).all()
    assert BLOSUM62[:20, :20].trace() == 116 and BLOSUM62[:20, :20].sum() == -426
    w, y, x = (list("ARNDCQEGHILKMFPSTWYVBZX").index(letter) for letter in "WYX")
    assert BLOSUM62[w, w] == 11 and BLOSUM62[w, y] == 2 and BLOSUM62[x, w] == -2
    specials = BLOSUM62[23:]
    assert (specials[:, 23:].diagonal() == 10).all()
    assert (specials[~np.eye(3, NUM_TOKENS, 23, dtype=bool)] == -4).all()


def test_rows_of_tokens():
    assert (BLOSUM62_OF_TOKEN[tokens("A")[0]] == BLOSUM62[0]).all()
    assert (BLOSUM62_OF_TOKEN[tokens("V")[0]] == BLOSUM62[19]).all()
    assert [row.argmax() for row in BLOSUM62_OF_TOKEN[[PAD, START, STOP]]] == [23, 24, 25]


def test_tokens_of_letters():
    assert tokens(AMINO_ACIDS) == list(range(1, 21))
    assert tokens("BZXOU") == [21, 22, 23, 23, 23]


@given(st.lists(st.text("ARNDCQEGHILKMFPSTWYVX", min_size=1, max_size=40), max_size=8))
def test_many_at_once_equal_one_by_one(sequences):
    padded, lengths = padded_tokens(sequences)
    assert lengths.tolist() == [len(s) for s in sequences]
    for row, sequence in zip(padded, sequences, strict=True):
        assert row.tolist() == tokens(sequence) + [0] * (len(row) - len(sequence))


@pytest.mark.parametrize("letter", ["J", "a", "-", "é", "Ω", " "])
def test_unknown_letters_are_named(letter):
    with pytest.raises(RecordError, match=f"cdr3.*letter 3, {letter!r}"):
        padded_tokens(["CASS", "CA" + letter], "cdr3")


def test_empty_sequence_is_refused():
    with pytest.raises(RecordError, match="epitope = '': empty"):
        tokens("", "epitope")
