import csv
import re

import numpy as np
import pytest

pytest.importorskip("tidytcells")

from geoattn.domains.tcr.baselines import EpitopePrior
from geoattn.domains.tcr.demo import J_GENES, V_GENES, demo_motifs, demo_pairs, write_demo
from geoattn.domains.tcr.germline import full_chain
from geoattn.domains.tcr.metrics import evaluate_pairs
from geoattn.errors import InputError


def auc(pairs, score, name="roc_auc"):
    labels, epitopes = [pair.label for pair in pairs], [pair.epitope.sequence for pair in pairs]
    return evaluate_pairs(labels, score, epitopes, num_bootstrap=0)[name]["value"]


def test_the_repertoire_is_as_described():
    pairs = demo_pairs(400, 6, seed=2)
    receptors = [pair.receptor for pair in pairs]
    assert len(pairs) == 800 and len(set(receptors)) == 400 and len({pair.id for pair in pairs}) == 800
    assert len({(pair.receptor, pair.epitope) for pair in pairs}) == 800
    assert all(first is second for first, second in zip(receptors[::2], receptors[1::2], strict=True))
    assert all(a.label + b.label == 1 for a, b in zip(pairs[::2], pairs[1::2], strict=True))
    assert 150 < sum(pair.label for pair in pairs[::2]) < 250, "binders stand first as often as second"
    lengths = [len(receptor.cdr3) for receptor in receptors]
    assert min(lengths) >= 11 and max(lengths) <= 20 and 14 < np.mean(lengths) < 17
    for receptor in receptors[::2]:
        assert receptor.cdr3[0] == "C" and receptor.cdr3[-1] == "F"
        assert (receptor.full, receptor.start) == full_chain(receptor.v, receptor.j, receptor.cdr3)
    counts = np.unique([pair.epitope.sequence for pair in pairs], return_counts=True)[1]
    assert len(counts) == 6 and counts.max() > 1.4 * counts.min(), "some epitopes are rarer"


def test_genes_and_what_their_cdr3s_look_like_fit_together():
    for v, head in V_GENES.items():
        assert full_chain(v, "TRBJ2-7*01", "CASSF")[0] and head[0] == "C"
    for j, tail in J_GENES.items():
        assert full_chain("TRBV19*01", j, "CASSF")[0] and tail[-1] == "F"


def test_the_motif_decides_and_the_epitope_alone_does_not():
    motifs = demo_motifs(8, seed=0)
    priors = []
    for seed in range(20):
        pairs = demo_pairs(300, 8, seed)
        train, test = pairs[:400], pairs[400:]
        priors.append(auc(test, EpitopePrior().fit(train).predict(test)))
        if seed == 0:
            found = [bool(re.search(motifs[pair.epitope.sequence], pair.receptor.cdr3)) for pair in pairs]
            assert 0.95 < auc(pairs, found) < 1, "not quite 1: some binders have no motif"
            assert auc(pairs, found, "macro_roc_auc") > 0.95
    error = np.std(priors, ddof=1) / np.sqrt(len(priors))
    assert error < 0.02 and abs(np.mean(priors) - 0.5) < 3 * error


def test_positive_and_negative_pairs_have_the_same_epitopes():
    pairs = demo_pairs(4000, 4, seed=5)
    share = {
        label: np.unique([p.epitope.sequence for p in pairs if p.label == label], return_counts=True)[1] / 4000
        for label in (0, 1)
    }
    np.testing.assert_allclose(share[0], share[1], atol=4 * np.sqrt(2 * 0.25 / 4000))


def test_motifs_exclude_each_other():
    motifs = demo_motifs(60, seed=1)
    assert len(motifs) == 60 and {len(epitope) for epitope in motifs} == {9}
    assert any("." in motif for motif in motifs.values()) and not all("." in motif for motif in motifs.values())
    for one in motifs.values():
        hits = [other for other in motifs.values() if re.fullmatch(other, one.replace(".", "C"))]
        assert hits == [one]


def test_repeats_and_refuses():
    assert demo_pairs(20, 3, seed=1) == demo_pairs(20, 3, seed=1) != demo_pairs(20, 3, seed=2)
    assert demo_pairs(0, 3) == []
    with pytest.raises(InputError, match="num_epitopes: got 1, expected 2 to 500"):
        demo_pairs(10, 1)


def test_the_file_holds_the_pairs(tmp_path):
    write_demo(tmp_path / "demo.csv", demo_pairs(30, 3, seed=4))
    with open(tmp_path / "demo.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["cdr3", "v", "j", "epitope", "label"]
    for number, (row, pair) in enumerate(zip(rows, demo_pairs(30, 3, seed=4), strict=True), start=2):
        receptor = pair.receptor
        assert list(row.values()) == [receptor.cdr3, receptor.v, receptor.j, pair.epitope.sequence, str(pair.label)]
        assert pair.line == number
