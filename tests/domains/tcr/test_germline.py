from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoattn.domains.records import RecordError
from geoattn.domains.tcr.germline import full_chain, j_anchor, j_segment, v_segment

SHARED = Path(__file__).parents[4] / "shared/data/tcr"


def test_known_chain():
    """TRBV19*01 and TRBJ2-7*01 as IMGT prints them."""
    sequence, start = full_chain("TRBV19", "TRBJ2-7*01", "CASSIRSSYEQYF")
    head = "DGGITQSPKYLFRKEGQNVTLSCEQNLNHDAMYWYRQDPGQGLRLIYYSQIVNDFQKGDIAEGYSVSREKKESFPLTVTSAQKNPTAFYL"
    assert sequence == head + "CASSIRSSYEQYF" + "GPGTRLTVT" and start == len(head)


@given(st.text(alphabet="ACDEFGHIKLMNPQRSTVWY", min_size=1, max_size=30))
def test_the_cdr3_stands_unchanged(middle):
    cdr3 = f"C{middle}F"
    sequence, start = full_chain("TRBV20-1*01", "TRBJ1-1*01", cdr3)
    assert sequence[start : start + len(cdr3)] == cdr3
    assert sequence == v_segment("TRBV20-1") + cdr3 + j_segment("TRBJ1-1")


@pytest.mark.parametrize("j", [f"TRBJ{k}-{i}" for k, last in ((1, 6), (2, 7)) for i in range(1, last + 1)])
def test_every_functional_j_gene_goes_on_with_its_motif(j):
    assert j_anchor(j) == "F" and j_segment(j)[0] == "G" and j_segment(j)[2] == "G"


@pytest.mark.parametrize(
    ("v", "j", "message"),
    [
        ("TRBV99", "TRBJ2-7", "no amino-acid sequence of TRBV99\\*01"),
        ("TRBV19*99", "TRBJ2-7", "no amino-acid sequence of TRBV19\\*99"),
        ("BV19", "TRBJ2-7", "not the IMGT name of a human TRBV gene"),
        ("", "TRBJ2-7", "not the IMGT name of a human TRBV gene"),
        ("TRBV17*01", "TRBJ2-7", "no conserved C"),  # a pseudogene
        ("TRBV19", "TRBJ2-2P", "lacks the motif"),  # likewise
    ],
)
def test_a_gene_without_a_chain_is_an_error(v, j, message):
    with pytest.raises(RecordError, match=message):
        full_chain(v, j, "CASSF")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
def test_v_segments_are_those_of_published_chains():
    """Most V segments of TITAN's receptors are germline ones; the rest are joined elsewhere or truncated there."""
    tidytcells = pytest.importorskip("tidytcells")
    names = tidytcells.tr.query(precision="allele", functionality="any", contains_pattern="TRBV")
    segments = set()
    for name in names:
        try:
            segments.add(v_segment(name))
        except RecordError:
            continue
    table = pd.read_csv(SHARED / "tcr_sequences.csv.gz")
    heads = [full[: full.find(cdr3)] for cdr3, full in zip(table["cdr3"], table["full_sequence"], strict=True)]
    assert sum(head in segments for head in heads) / len(heads) > 0.95
