from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from geoattn.domains.tcr.baselines import EpitopePrior, LevenshteinKNN
from geoattn.domains.tcr.edit_distance import EditDistances
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError

DATA = Path(__file__).parents[4] / "shared" / "data" / "tcr"


def text(rng, length, letters="ACDEF"):
    return "".join(rng.choice(list(letters), length))


def slow_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def pairs_of(rng, number, labelled=True):
    return [
        Pair(
            str(i),
            Receptor(cdr3 := text(rng, rng.integers(3, 7)), full=text(rng, 2, "GH") + cdr3 + "GG"),
            Epitope(text(rng, rng.integers(8, 10), "KL")),
            int(rng.integers(2)) if labelled else None,
        )
        for i in range(number)
    ]


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 129, 200])  # around whole words of bits
def test_edit_distances_against_the_table(length):
    rng = np.random.default_rng(length)
    begin = text(rng, 40)
    targets = ["", "A", "A", begin, begin + text(rng, 100), begin + text(rng, 90), text(rng, 130), begin[:20]]
    query = (begin + text(rng, 200) + "Z")[:length]
    assert EditDistances(targets).of(query).tolist() == [slow_distance(query, target) for target in targets]


def test_edit_distances_to_nothing_and_of_unknown_letters():
    assert EditDistances([]).of("CASSF").tolist() == []
    assert EditDistances(["CASSF"]).of("XAXXX").tolist() == [4]
    assert EditDistances(["", ""]).of("CA").tolist() == [2, 2]


@pytest.mark.parametrize("kind", ["cdr3", "full"])
@pytest.mark.parametrize("k", [1, 4, 11, 1000])
def test_neighbours_against_a_loop(kind, k):
    rng = np.random.default_rng(k)
    train, test = pairs_of(rng, 60), pairs_of(rng, 25, labelled=False)
    expected = []
    for pair in test:
        chain, epitope = getattr(pair.receptor, kind), pair.epitope.sequence
        found = []
        for other in train:
            tcr = slow_distance(chain, getattr(other.receptor, kind)) / len(chain)
            found.append((round(tcr + slow_distance(epitope, other.epitope.sequence) / len(epitope), 9), other.label))
        last = sorted(found)[min(k, 60) - 1][0]
        nearer = [label for distance, label in found if distance < last]
        tied = [label for distance, label in found if distance == last]
        places = min(k, 60) - len(nearer)
        expected.append((sum(nearer) + places * np.mean(tied)) / min(k, 60))
    model = LevenshteinKNN(k, kind)
    np.testing.assert_allclose(model.fit(train).predict(test), expected, atol=1e-12)
    shuffled = [train[i] for i in rng.permutation(60)]
    np.testing.assert_allclose(model.fit(shuffled).predict(test), expected, atol=1e-12)
    np.testing.assert_allclose(model.predict_each(test, [3, k])[1], expected, atol=1e-12)
    assert len(np.unique(expected)) > 3 or k > 60


def test_lengths_of_the_query_count_and_not_those_of_its_neighbours():
    def pair(cdr3, epitope, label=None):
        return Pair("", Receptor(cdr3), Epitope(epitope), label)

    # from (CASF, KKKKKKKK): one of 8 places of the epitope is nearer than one of 4 of the CDR3
    train = [pair("CASF", "KKKKKKKL", 1), pair("CATF", "KKKKKKKK", 0)]
    assert LevenshteinKNN(1).fit(train).predict([pair("CASF", "KKKKKKKK")]).tolist() == [1]
    assert LevenshteinKNN(1).fit(train).predict([pair("CASSSSSSSSF", "KKKKKKKK")]).tolist() == [0]


def test_the_prior_is_the_share_of_the_epitope():
    rng = np.random.default_rng(0)
    train = [Pair("", Receptor("CF"), Epitope(rng.choice(list("KLM")).item()), int(rng.integers(2))) for _ in range(50)]
    model = EpitopePrior().fit(train)
    for epitope in "KLM":
        share = np.mean([pair.label for pair in train if pair.epitope.sequence == epitope])
        assert model.predict([Pair("", Receptor("CAF"), Epitope(epitope))]) == pytest.approx([share])
    overall = np.mean([pair.label for pair in train])
    assert model.predict([Pair("", Receptor("CAF"), Epitope("N"))]) == pytest.approx([overall])


@pytest.mark.parametrize("model", [EpitopePrior(), LevenshteinKNN(3), LevenshteinKNN(3, "full")])
def test_what_every_baseline_does(model):
    rng = np.random.default_rng(1)
    train, test = pairs_of(rng, 20), pairs_of(rng, 5, labelled=False)
    assert model.fit(train).predict([]).shape == (0,)
    first = model.predict(test)
    assert first.shape == (5,) and ((first >= 0) & (first <= 1)).all()
    np.testing.assert_allclose(model.predict(test[::-1])[::-1], first)
    np.testing.assert_allclose([model.predict([pair])[0] for pair in test], first)
    with pytest.raises(InputError, match="got none, expected at least one"):
        model.fit([])
    with pytest.raises(InputError, match="'3' has no label"):
        model.fit([*train[:3], pairs_of(rng, 4, labelled=False)[3]])
    one_class = [Pair("", pair.receptor, pair.epitope, 1) for pair in train]
    assert model.fit(one_class).predict(test).tolist() == [1.0] * 5
    assert model.name and model.description


def test_what_neighbours_refuse():
    with pytest.raises(InputError, match="Did you mean 'cdr3'"):
        LevenshteinKNN(kind="cdr")
    with pytest.raises(InputError, match="k: got 0"):
        LevenshteinKNN(0)
    with pytest.raises(InputError, match="CDR3 CASSF is not known"):
        LevenshteinKNN(kind="full").fit([Pair("", Receptor("CASSF"), Epitope("GILGFVFTL"), 1)])


@pytest.mark.skipif(not DATA.exists(), reason="needs TITAN's pairs")
def test_the_prior_reaches_the_published_number_on_titans_pairs():
    table = pd.read_csv(DATA / "pairs_tcr_split.csv.gz")
    pairs = [Pair("", Receptor("CF"), Epitope(str(row.epitope_id)), row.label) for row in table.itertuples()]
    fold = table["fold"].to_numpy()
    aucs = []
    for k in range(8):
        train, test = ([pairs[i] for i in np.flatnonzero(rows)] for rows in (fold != k, fold == k))
        score = EpitopePrior().fit(train).predict(test)
        aucs.append(roc_auc_score([pair.label for pair in test], score))
    assert np.mean(aucs) == pytest.approx(0.751, abs=0.002) and np.std(aucs) == pytest.approx(0.009, abs=0.002)
