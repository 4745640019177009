import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from geoattn._numbers import lower_is_better
from geoattn.domains.metrics import HIGHER_IS_BETTER
from geoattn.domains.tcr.metrics import calibration, evaluate_pairs, per_epitope
from geoattn.errors import ShapeError


def rows(num_pairs=600, num_epitopes=12, seed=0):
    rng = np.random.default_rng(seed)
    epitope = rng.choice([f"E{i:02d}" for i in range(num_epitopes)], num_pairs, p=share(num_epitopes))
    label = rng.integers(0, 2, num_pairs)
    return label, np.round(rng.random(num_pairs) * 0.7 + 0.3 * label, 2), epitope


def share(number):
    weight = 1 / np.arange(1, number + 1)
    return weight / weight.sum()


def test_values_against_scikit_learn():
    label, score, epitope = rows()
    found = evaluate_pairs(label, score, epitope, num_bootstrap=50)
    aucs = [
        roc_auc_score(group.y, group.p)
        for _, group in pd.DataFrame({"y": label, "p": score}).groupby(epitope)
        if min(group.y.sum(), (1 - group.y).sum()) >= 5
    ]
    assert len(aucs) > 5 and found["macro_roc_auc"]["n"] == len(aucs)
    assert found["macro_roc_auc"]["value"] == pytest.approx(np.mean(aucs))
    assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score(label, score))
    assert found["pr_auc"]["value"] == pytest.approx(average_precision_score(label, score))
    assert found["accuracy"]["value"] == pytest.approx(((score >= 0.5) == label).mean())
    assert set(found) == {"roc_auc", "pr_auc", "accuracy", "macro_roc_auc"} <= HIGHER_IS_BETTER


def test_a_score_per_epitope_is_worth_nothing_in_the_macro_average():
    label, _, epitope = rows()
    label = np.where(epitope == "E00", np.arange(len(label)) % 5 > 0, np.arange(len(label)) % 5 == 0)
    found = evaluate_pairs(label, np.where(epitope == "E00", 0.8, 0.2), epitope, num_bootstrap=20)
    assert found["roc_auc"]["value"] > 0.7 and found["macro_roc_auc"]["value"] == 0.5
    assert found["macro_roc_auc"]["ci95"] == [0.5, 0.5]


def test_the_interval_of_the_macro_average_covers_what_other_data_give():
    values = [evaluate_pairs(*rows(seed=seed), num_bootstrap=0)["macro_roc_auc"]["value"] for seed in range(40)]
    entry = evaluate_pairs(*rows(seed=100), num_bootstrap=400)["macro_roc_auc"]
    low, high = entry["ci95"]
    assert low < entry["value"] < high
    assert high - low == pytest.approx(4 * np.std(values), rel=0.5)
    again = evaluate_pairs(*rows(seed=100), num_bootstrap=400)["macro_roc_auc"]
    assert again == entry != evaluate_pairs(*rows(seed=100), num_bootstrap=400, seed=1)["macro_roc_auc"]


def test_no_interval_without_resampling():
    assert evaluate_pairs(*rows(), num_bootstrap=0)["macro_roc_auc"]["ci95"] is None


def test_gaps_in_the_labels_are_left_out():
    label, score, epitope = rows()
    gaps = np.where(np.arange(len(label)) % 7 == 0, np.nan, label)
    keep = ~np.isnan(gaps)
    with_gaps = evaluate_pairs(gaps, score, epitope, num_bootstrap=10)
    without = evaluate_pairs(label[keep], score[keep], epitope[keep], num_bootstrap=10)
    assert with_gaps == without and with_gaps["roc_auc"]["n"] == keep.sum()


@pytest.mark.parametrize(
    ("label", "score", "reasons"),
    [
        ([], [], ("no row has a value", "no epitope has 5 pairs of each class")),
        ([1.0] * 12, [0.5] * 12, ("every row is of class 1", "no epitope has 5 pairs of each class")),
        ([0, 1] * 6, [np.nan] * 12, ("a prediction is NaN", "a prediction is NaN")),
    ],
)
def test_what_is_not_defined_says_why(label, score, reasons):
    found = evaluate_pairs(label, score, ["A"] * len(label), num_bootstrap=10)
    for metric, reason in zip(("roc_auc", "macro_roc_auc"), reasons, strict=True):
        assert found[metric]["value"] is None and found[metric]["ci95"] is None and found[metric]["reason"] == reason


def test_each_epitope():
    label, score, epitope = [1, 1, 0, 1, 0, 0, 1], [0.9, 0.2, 0.3, 0.8, 0.1, 0.1, 0.5], list("BBBAACD")
    table = per_epitope(label, score, epitope, [1, 1, 0, 0], list("BBBC"), num_bootstrap=100)
    assert table["epitope"].tolist() == ["B", "A", "D", "C"], "most positive pairs first, then by name"
    assert table["n_pos"].tolist() == [2, 1, 1, 0] and table["n_neg"].tolist() == [1, 1, 0, 1]
    assert table["train_pos"].tolist() == [2, 0, 0, 0] and table["seen"].tolist() == [True, False, False, True]
    assert table["roc_auc"].tolist()[:2] == [0.5, 1.0] and table["roc_auc"].isna().tolist() == [False] * 2 + [True] * 2
    expected = average_precision_score([1, 1, 0], [0.9, 0.2, 0.3])
    assert table["pr_auc"][0] == pytest.approx(expected) and np.isnan(table["pr_auc_low"][2])
    assert (table["roc_auc_low"][0], table["roc_auc_high"][0]) == (0.0, 1.0)


def test_each_epitope_of_nothing():
    table = per_epitope([], [], [], [1], ["A"])
    assert len(table) == 0 and list(table.columns[:6]) == ["epitope", "n_pos", "n_neg", "train_pos", "seen", "roc_auc"]


def test_calibration_against_a_loop():
    label, score, _ = rows()
    found = calibration(label, score, bins=5, num_bootstrap=200)
    edges = [np.sort(score)[(len(score) - 1) * i // 5] for i in range(1, 5)]
    member, gap = np.digitize(score, edges, right=True), 0.0
    for b in range(5):
        assert 80 < (member == b).sum() < 160, "bins of about the same size"
        gap += abs(label[member == b].sum() - score[member == b].sum()) / len(label)
    assert found["ece"]["value"] == pytest.approx(gap) and gap > 0.05
    assert found["brier"]["value"] == pytest.approx(((score - label) ** 2).mean())
    assert found["brier"]["ci95"][0] < found["brier"]["value"] < found["brier"]["ci95"][1]
    assert lower_is_better("ece") and lower_is_better("brier")


def test_honest_probabilities_are_calibrated_and_exaggerated_ones_are_not():
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    label = rng.random(20000) < p
    assert calibration(label, p, num_bootstrap=10)["ece"]["value"] < 0.02
    assert calibration(label, p**3, num_bootstrap=10)["ece"]["value"] > 0.1


def test_one_probability_for_all_makes_one_bin_whatever_the_order():
    label = np.arange(40) < 10
    for order in (label, label[::-1]):
        assert calibration(order, np.full(40, 0.5), num_bootstrap=5)["ece"]["value"] == pytest.approx(0.25)


def test_calibration_of_nothing():
    assert calibration([], [])["ece"]["reason"] == "no row has a value"
    assert calibration([1], [np.nan])["brier"]["reason"] == "a prediction is NaN"


def test_wrong_arguments_are_named():
    with pytest.raises(ShapeError, match="score: got shape"):
        evaluate_pairs([0, 1], [0.5], ["A", "B"])
    with pytest.raises(ShapeError, match="label: got values like 2"):
        evaluate_pairs([0, 2], [0.5, 0.5], ["A", "B"])
    with pytest.raises(ShapeError, match="probability: got values from -1 to 0"):
        calibration([0, 1], [-1, 0])
    with pytest.raises(ShapeError, match="score: got NaN"):
        per_epitope([0, 1], [np.nan, 1], ["A", "A"], [], [])
