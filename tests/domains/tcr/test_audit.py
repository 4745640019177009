from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from geoattn.domains.tcr.audit import audit, audit_rows
from geoattn.domains.tcr.near import NearIndex, near_clusters
from geoattn.domains.tcr.records import Epitope, Pair, Receptor

WORDS = st.lists(st.text(alphabet="AC", max_size=5), min_size=1, max_size=12)


@given(WORDS, st.text(alphabet="AC", max_size=5))
def test_near_is_an_edit_distance_of_at_most_one(words, query):
    best = min(Levenshtein.distance(query, word) for word in words)
    found = NearIndex(words).nearest(query)
    assert (found is not None) == (best <= 1)
    if found is not None:
        assert found in words and Levenshtein.distance(query, found) == best


@given(WORDS)
def test_clusters_are_what_single_edits_join(words):
    reached = [{i} for i in range(len(words))]
    for _ in words:
        for i, a in enumerate(words):
            for j, b in enumerate(words):
                if Levenshtein.distance(a, b) <= 1:
                    reached[i] |= reached[j]
    numbers = near_clusters(words)
    for i in range(len(words)):
        for j in range(len(words)):
            assert (numbers[i] == numbers[j]) == (j in reached[i])


def pair(cdr3, epitope="GILGFVFTL", label=1, v="", study="", name=""):
    return Pair(name or cdr3, Receptor(cdr3, v), Epitope(epitope), label, study)


def test_counts_are_of_the_second_part():
    pairs = [
        pair("CAAAF", v="TRBV19", study="a"),
        pair("CCCCF", "NLV", 0),
        pair("CAAAF", "NLV", v="TRBV19", study="a"),  # test: same receptor
        pair("CAAAF", "KLG", v="TRBV20-1"),  # same CDR3
        pair("CAAGF", "KLG", name="near"),  # one substitution
        pair("CWWWWWF", "KLG", 0),
        pair("CRRRF", "GILGFVFTL"),
    ]
    report = audit(pairs, {"train": [0, 1], "valid": [6], "test": [2, 3, 4, 5]})
    assert report["pairs"]["train/test"] == {
        "identical_receptor": 1,
        "identical_cdr3": 2,
        "near_cdr3": 3,
        "shared_epitope": 1,
        "shared_study": 1,
    }
    assert report["pairs"]["train/valid"]["shared_epitope"] == 1
    assert {"pair": "train/test", "id": "near", "other_id": "CAAAF", "cdr3": "CAAGF", "other_cdr3": "CAAAF"} in report[
        "examples"
    ]
    row = next(row for row in audit_rows(report) if row["what"] == "near_cdr3")
    assert row == {"parts": "train/test", "what": "near_cdr3", "count": 3, "of": 4, "percent": 75.0}


def test_contradictory_and_repeated_pairs():
    pairs = [pair("CAF"), pair("CAF", label=0), pair("CCF"), pair("CCF"), pair("CDF"), pair("CEF")]
    report = audit(pairs, {"train": [0, 1, 2], "valid": [3], "test": [4]})
    assert (report["contradictory"], report["duplicates"], report["left_out"]) == (2, 2, 1)


def test_negatives_that_give_the_label_away():
    """All binders have one epitope, all others another, and every receptor has both labels."""
    cdr3s = [f"CA{letter}F" for letter in "ACDEFGHIKL"]
    told = [pair(cdr3, "GIL", 1) for cdr3 in cdr3s] + [pair(cdr3, "NLV", 0) for cdr3 in cdr3s]
    fair = [pair(cdr3, "GIL", i % 2) for i, cdr3 in enumerate(cdr3s)]
    rows = list(range(20))
    report = audit(told + fair, {"train": rows, "valid": list(range(20, 30)), "test": []})["negatives"]
    assert report["train"]["epitope_rate_auc"] == 1.0 and report["train"]["tcr_rate_auc"] == 0.5
    assert report["valid"]["epitope_rate_auc"] == 0.5 and report["valid"]["tcr_rate_auc"] == 1.0
    assert report["test"]["epitope_rate_auc"] is None
