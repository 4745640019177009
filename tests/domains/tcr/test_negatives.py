from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from geoattn.domains.tcr.negatives import draw_negatives
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError


def binders(counts, prefix="CA"):
    """``counts[i]`` receptors of their own for epitope i."""
    letters = "ACDEFGHIKLMNPQRSTVWY"
    return [
        Pair(
            f"{e}-{k}",
            Receptor(f"{prefix}{letters[e]}{letters[k // 20]}{letters[k % 20]}F"),
            Epitope("GIL" + letters[e]),
        )
        for e, count in enumerate(counts)
        for k in range(count)
    ]


def keys(pairs):
    return [(pair.receptor.cdr3, pair.epitope.sequence) for pair in pairs]


COUNTS = st.lists(st.integers(1, 40), min_size=2, max_size=12)


@given(COUNTS, st.integers(1, 3), st.integers(0, 1000))
def test_frequency_leaves_a_model_without_the_receptor_nothing(counts, ratio, seed):
    """Every epitope has the same share of binders, so its rate scores exactly one half."""
    assume(max(counts) * ratio <= sum(counts) - max(counts))
    pairs = binders(counts)
    drawn = draw_negatives(pairs, "frequency", ratio, seed)
    positive, negative = (Counter(pair.epitope.sequence for pair in part) for part in (pairs, drawn))
    assert negative == Counter({epitope: ratio * count for epitope, count in positive.items()})
    labels = [1] * len(pairs) + [0] * len(drawn)
    rate = {epitope: positive[epitope] / (positive[epitope] + negative[epitope]) for epitope in positive}
    assert roc_auc_score(labels, [rate[pair.epitope.sequence] for pair in pairs + drawn]) == 0.5
    check(pairs, drawn)


@given(COUNTS, st.integers(0, 1000))
def test_uniform_gives_every_receptor_as_many_as_it_binds(counts, seed):
    pairs = binders(counts)
    drawn = draw_negatives(pairs, "uniform", 1, seed)
    assert Counter(pair.receptor for pair in drawn) == Counter(pair.receptor for pair in pairs)
    check(pairs, drawn)


def check(pairs, drawn):
    assert not set(keys(drawn)) & set(keys(pairs)), "a binder was drawn"
    assert len(set(keys(drawn))) == len(drawn), "a negative was drawn twice"
    assert {pair.receptor for pair in drawn} <= {pair.receptor for pair in pairs}
    assert {pair.label for pair in drawn} == {0}


def test_uniform_rewards_knowing_the_epitope_alone():
    """The flaw that the default avoids: rare epitopes get as many negatives as frequent ones."""
    pairs = binders([200, 10, 10, 10, 10])
    drawn = draw_negatives(pairs, "uniform")
    share = Counter(pair.epitope.sequence for pair in pairs)
    scores = [share[pair.epitope.sequence] for pair in pairs + drawn]
    assert roc_auc_score([1] * len(pairs) + [0] * len(drawn), scores) > 0.8


def test_frequency_uses_receptors_about_as_often_as_the_binders():
    pairs = binders([60, 50, 40, 30, 20])
    times = Counter(pair.receptor for pair in draw_negatives(pairs, "frequency"))
    assert sum(times[pair.receptor] == 1 for pair in pairs) > 0.9 * len(pairs)


@pytest.mark.parametrize("scheme", ["uniform", "frequency", "background"])
def test_the_seed_decides(scheme):
    pairs, pool = binders([9, 8, 7]), [pair.receptor for pair in binders([30], "CW")]
    first, again, other = (draw_negatives(pairs, scheme, seed=seed, background=pool) for seed in (1, 1, 2))
    assert first == again and keys(first) != keys(other)


def test_binders_of_other_parts_are_never_drawn():
    pairs = binders([1, 1, 1])
    a, b, c = (pair.epitope.sequence for pair in pairs)
    known = [(pairs[0].receptor.cdr3, b), (pairs[1].receptor.cdr3, c), (pairs[2].receptor.cdr3, a)]
    for seed in range(20):
        assert not set(keys(draw_negatives(pairs, "uniform", seed=seed, known=known))) & set(known)


def test_background_receptors_are_used_once_and_bind_nothing():
    pairs = binders([5, 3])
    pool = [pair.receptor for pair in binders([30], "CW")]
    drawn = draw_negatives(pairs, "background", 2, background=[*pool, pairs[0].receptor])
    assert Counter(p.epitope.sequence for p in drawn) == {"GILA": 10, "GILC": 6}
    assert len({p.receptor for p in drawn}) == 16 and {p.receptor for p in drawn} <= set(pool)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([9, 1], {"scheme": "frequency"}, "GILA needs 9 receptors .* this part has 1"),
        ([3], {"scheme": "uniform"}, "needs 1 epitopes .* this part has 0"),
        ([3], {"scheme": "background"}, "3 receptors are needed, and the background file has 0"),
        ([3, 3], {"ratio": 0}, "--data.negatives-ratio: got 0"),
        ([3, 3], {"scheme": "equal"}, "expected one of uniform, frequency, background"),
    ],
)
def test_a_draw_that_is_impossible_says_why(counts, options, message):
    with pytest.raises(InputError, match=message):
        draw_negatives(binders(counts), **options)
