from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoattn.domains.records import RecordError
from geoattn.domains.synergy.audit import audit, audit_rows
from geoattn.domains.synergy.baselines import AdditiveRidge, FingerprintForest, FingerprintRidge, Mean, OneHotForest
from geoattn.domains.synergy.batch import PairCollator, fingerprints
from geoattn.domains.synergy.demo import demo_screen
from geoattn.domains.synergy.drugs import checked_drug
from geoattn.domains.synergy.metrics import evaluate_combinations
from geoattn.domains.synergy.records import CellLine, Combination, Drug
from geoattn.domains.synergy.responses import excess
from geoattn.errors import InputError

SMILES = {"A": "CCO", "B": "c1ccccc1O", "C": "CC(=O)O", "D": "CCN", "E": "c1ccncc1", "F": "CCS"}
DRUGS = {name: Drug(name, smiles) for name, smiles in SMILES.items()}
CELLS = {f"L{i}": np.random.default_rng(i).normal(size=5).astype(np.float32) for i in range(4)}


def samples_of(count=60, seed=0, classes=False):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        a, b = rng.choice(list(DRUGS), 2, replace=False)
        number = int(rng.integers(4))
        score = float(ord(a) + ord(b) - 134 + 3 * number)
        cell = CellLine(f"L{number}", "lung" if number < 2 else "skin")
        found.append(Combination(str(i), DRUGS[a], DRUGS[b], cell, float(score > 5) if classes else score))
    return found


def swapped(samples):
    return [replace(sample, drug_a=sample.drug_b, drug_b=sample.drug_a) for sample in samples]


def baselines(task):
    forests = [OneHotForest(task, num_trees=5), OneHotForest(task, tissue=True, num_trees=5)]
    last = FingerprintForest(CELLS, task)
    last.num_trees = 5
    return [Mean(task), AdditiveRidge(task), *forests, FingerprintRidge(CELLS, task), last]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_baselines_do_not_see_the_order_of_a_pair(task):
    train, test = samples_of(classes=task == "classification"), samples_of(30, seed=1)
    for model in baselines(task):
        straight = model.fit(train).predict(test)
        np.testing.assert_array_equal(straight, model.predict(swapped(test)))
        np.testing.assert_array_equal(straight, model.fit(swapped(train)).predict(test))
        np.testing.assert_array_equal(straight, model.predict([replace(s, score=None) for s in test]))
        assert (np.ptp(straight) > 0) == (model.name != "mean")
        if task == "classification":
            assert 0 <= straight.min() <= straight.max() <= 1


def test_additive_scores_are_found_by_the_additive_model():
    train, test = samples_of(80), samples_of(30, seed=1)
    y = np.array([sample.score for sample in test])
    np.testing.assert_allclose(AdditiveRidge().fit(train).predict(test), y, atol=0.2)


def test_what_baselines_refuse():
    with pytest.raises(InputError, match="at least one combination"):
        Mean().fit([])
    with pytest.raises(InputError, match="1 of 60 combinations have no score"):
        Mean().fit([replace(samples_of()[0], score=None), *samples_of()[1:]])
    with pytest.raises(InputError, match="task: got 'ranking'"):
        Mean("ranking")


def test_one_class_is_predicted_as_it_is():
    train = [replace(sample, score=1.0) for sample in samples_of()]
    for model in baselines("classification"):
        assert model.fit(train).predict(train[:3]).tolist() == [1.0] * 3


def test_molecules_and_salts():
    salt, is_salt = checked_drug("x", "C[N+](C)(C)CC(=O)[O-].Cl")
    assert is_salt and "Cl" not in salt.smiles and salt.key == checked_drug("y", "C[N+](C)(C)CC(=O)[O-]")[0].key
    sodium, _ = checked_drug("x", "CC(=O)[O-].[Na+]")
    assert not sodium.metal and sodium.smiles == "CC(=O)O"
    covalent, is_salt = checked_drug("x", "CC(=O)O[Na]")
    assert is_salt and not covalent.metal and covalent.smiles == "CC(=O)O" and covalent.key == sodium.key
    assert checked_drug("x", "CC[NH3+].[Cl-]")[0].smiles == "CCN"
    assert checked_drug("x", "C[N+](C)(C)CCO.[Cl-]")[0].smiles == "C[N+](C)(C)CCO"
    assert not checked_drug("arsenic trioxide", "O=[As]O[As]=O")[1]
    platin, is_salt = checked_drug("carboplatin", "C1CC(C1)(C(=O)O)C(=O)O.[NH2-].[NH2-].[Pt+2]")
    assert platin.metal and not is_salt and "Pt" in platin.smiles
    left, right = (checked_drug("x", text)[0] for text in ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"))
    assert left.identity == right.identity and left.molecule != right.molecule and left.smiles != right.smiles
    with pytest.raises(RecordError, match="drug 'x' has no SMILES"):
        checked_drug("x", " ")
    with pytest.raises(RecordError, match="RDKit cannot read it"):
        checked_drug("x", "C1CC")
    with pytest.raises(RecordError, match="wildcard atom"):
        checked_drug("x", "*CCO")


@pytest.mark.parametrize(
    ("smiles", "left"),
    [("[Li+].[Li+].[O-]C(=O)[O-]", "O=C"), ("[Na+].[Cl-]", "Cl"), ("[Li+]", "Li"), ("NN.OS(=O)(=O)O", "O=S")],
)
def test_what_leaves_no_drug_is_refused(smiles, left):
    with pytest.raises(RecordError, match=f"of drug 'x' nothing but \\W*{left}.* is left"):
        checked_drug("x", smiles)


@given(st.lists(st.integers(0, 59), min_size=1, max_size=12))
def test_a_batch_has_each_drug_and_cell_once(rows):
    samples = [samples_of()[row] for row in rows]
    batch = PairCollator(lambda drugs: torch.tensor([[float(ord(drug.name))] for drug in drugs]), CELLS)(samples)
    assert len(set(batch.drugs[:, 0].tolist())) == len(batch.drugs)
    assert len(batch.cells) == len({sample.cell.name for sample in samples})
    for index, side in ((batch.drug_a, "drug_a"), (batch.drug_b, "drug_b")):
        assert batch.drugs[index, 0].tolist() == [ord(getattr(sample, side).name) for sample in samples]
    np.testing.assert_array_equal(batch.cells[batch.cell], np.stack([CELLS[s.cell.name] for s in samples]))
    assert batch.target.tolist() == [sample.score for sample in samples]
    assert batch.swapped().drug_a is batch.drug_b and batch.to("cpu").num_pairs == len(samples)


def test_a_batch_without_scores_and_with_fingerprints():
    samples = [replace(sample, score=None) for sample in samples_of(4)]
    batch = PairCollator(fingerprints, CELLS)(samples)
    assert batch.target is None and batch.drugs.shape[1] == 2048


def test_audit_counts_by_hand():
    a, b, c, d = (DRUGS[name] for name in "ABCD")
    one, two = CellLine("L0", "lung"), CellLine("L1", "skin")
    other_a = replace(a, name="A hydrochloride", key="", smiles=a.smiles)
    samples = [
        Combination("0", a, b, one, 1.0),
        Combination("1", b, other_a, one, 0.0),
        Combination("2", a, b, two, 1.0),
        Combination("3", a, c, one, 1.0),
        Combination("4", c, d, two, 1.0),
    ]
    report = audit(samples, {"train": [0], "valid": [], "test": [1, 2, 3]})
    assert report["pairs"]["train/test"] == {
        "identical": 1, "shared_pair": 2, "one_drug": 3, "both_drugs": 2, "shared_cell": 2, "shared_tissue": 2
    }  # fmt: skip
    assert (report["duplicates"], report["contradictory"], report["left_out"]) == (1, 2, 1)
    assert report["same_molecule"] == [["A", "A hydrochloride"]]
    assert [example["id"] for example in report["examples"]] == ["1"]
    assert audit_rows(report)[0] == {"parts": "train/test", "what": "identical", "count": 1, "of": 3, "percent": 33.3}


def test_metrics_by_hand():
    y, p = [0.0, 10.0, 40.0, 35.0], [1.0, 2.0, 9.0, 100.0]
    found = evaluate_combinations(y, p, "regression", threshold=30, cells=["a", "a", "b", "b"], num_bootstrap=20)
    assert found["spearman"]["value"] == pytest.approx(0.8) and found["roc_auc"]["value"] == 1.0
    assert found["macro_pearson"] == {"value": pytest.approx(0.0), "ci95": None, "n": 2}
    classes = evaluate_combinations(
        [0, 1, 1], [0.1, 0.9, 0.4], "classification", cells=["a", "a", "b"], num_bootstrap=0
    )
    assert classes["macro_roc_auc"]["n"] == 1


@pytest.fixture(scope="module")
def screen():
    return demo_screen(num_cells=2, num_genes=12)


def test_demo_interaction_is_recovered_with_its_sign(screen):
    scores, without = excess(screen.responses, "inhibition")
    assert not without and len(scores) == 2 * (48 * 47 // 2 // 4)
    kinds = [screen.kind[s.first.drug_a] != screen.kind[s.first.drug_b] for s in scores]
    bliss = np.array([score.bliss for score in scores])
    assert np.corrcoef(kinds, bliss > 0)[0, 1] > 0.95
    alone = {}
    for r in screen.responses:
        if not r.drug_b:
            alone.setdefault((r.cell, r.drug_a), []).append(r.value * (1 - r.value))
    spread = {key: np.mean(values) for key, values in alone.items()}
    for cell, u in screen.programme.items():
        rows = [i for i, score in enumerate(scores) if score.first.cell == cell]
        drugs = [(scores[i].first.drug_a, scores[i].first.drug_b) for i in rows]
        unit = np.array([400 * spread[cell, a] * spread[cell, b] for a, b in drugs])
        unit *= np.where(np.array(kinds)[rows], 1, -1)
        assert unit @ bliss[rows] / (unit @ unit) == pytest.approx(u, rel=0.1)
    assert demo_screen(num_cells=2, num_genes=12).responses == screen.responses


def test_demo_cannot_be_won_on_new_drugs_without_chemistry(screen):
    scores, _ = excess(screen.responses, "inhibition")
    drugs = {name: Drug(name, smiles) for name, smiles in screen.drugs.items()}
    samples = [
        Combination(str(i), drugs[s.first.drug_a], drugs[s.first.drug_b], CellLine(s.first.cell), float(s.bliss > 0))
        for i, s in enumerate(scores)
    ]
    new = {name for number, name in enumerate(drugs) if number % 4 == 0}  # as many of each kind
    test = [s for s in samples if s.drug_a.name in new or s.drug_b.name in new]
    train = [s for s in samples if not (s.drug_a.name in new or s.drug_b.name in new)]
    cells = {name: np.log2(1 + tpm) for name, tpm in screen.cells.items()}

    def auc(model):
        y = [sample.score for sample in test]
        return evaluate_combinations(y, model.fit(train).predict(test), "classification", num_bootstrap=0)["roc_auc"][
            "value"
        ]

    assert auc(OneHotForest("classification", num_trees=20)) < 0.6
    assert auc(AdditiveRidge("classification")) < 0.6
    assert auc(FingerprintRidge(cells, "classification")) > 0.9
