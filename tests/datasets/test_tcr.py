import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geoattn.datasets.tcr import TCRData, read_chunks
from geoattn.domains.tcr.audit import audit
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.records import Epitope
from geoattn.errors import InputError

SHARED = Path(__file__).parents[3] / "shared/data/tcr"
LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
EPITOPES = ["GILGFVFTL", "NLVPMVATV", "GLCTLVAML", "KLGGALQAK", "AVFDRKSDA", "ELAGIGILTV"]


def frame(seed=0, per_epitope=30, negatives=True):
    """Receptors of their own for each epitope; as negatives each is paired with the next epitope too."""
    rng = np.random.default_rng(seed)
    rows = []
    for e, epitope in enumerate(EPITOPES):
        for row in LETTERS[rng.integers(20, size=(per_epitope, 9))]:
            cdr3 = "CA" + "".join(row) + "F"
            rows.append((cdr3, "TRBV19", "TRBJ2-7", epitope, 1, f"study {e % 4}", e % 3))
            if negatives:
                rows.append((cdr3, "TRBV19", "TRBJ2-7", EPITOPES[e - 1], 0, f"study {e % 4}", e % 3))
    return pd.DataFrame(rows, columns=["cdr3", "v", "j", "epitope", "label", "study", "fold"])


@pytest.fixture
def file(tmp_path):
    frame().to_csv(tmp_path / "pairs.csv", index=False)
    return str(tmp_path / "pairs.csv")


def data_of(file, **options):
    data = TCRData(file, **{"anchors": "yes", **options})
    data.setup()
    return data


def shared_between_parts(data, column):
    values = {part: set(data.table[column].iloc[rows]) for part, rows in data.split.items()}
    return (values["train"] | values["valid"]) & values["test"] | values["train"] & values["valid"]


@pytest.mark.parametrize(
    ("split", "apart"),
    [
        ("tcr", ["cdr3"]),
        ("epitope", ["epitope"]),
        ("both", ["cdr3", "epitope"]),
        ("study", ["study"]),
        ("kfold:3:1", ["cdr3"]),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_a_split_keeps_apart(file, split, apart, seed):
    data = data_of(file, split=split, split_seed=seed, val_fraction=0.2, test_fraction=0.2)
    for column in apart:
        assert not shared_between_parts(data, column)
    assert all(data.split.values())
    rows = [row for part in data.split.values() for row in part]
    assert len(rows) == len(set(rows))
    assert data.split == data_of(file, split=split, split_seed=seed, val_fraction=0.2, test_fraction=0.2).split


def test_sizes_are_near_the_fractions(file):
    data = data_of(file, split="tcr", val_fraction=0.1, test_fraction=0.2)
    assert [len(data.split[part]) for part in ("train", "valid", "test")] == [252, 36, 72]


def test_clusters_stay_in_one_part(tmp_path):
    rows = frame(negatives=False)
    near = rows.assign(cdr3=rows["cdr3"].str.replace("^CA", "CS", regex=True))  # one substitution away
    pd.concat([rows, near]).to_csv(tmp_path / "a.csv", index=False)
    options = {"split": "tcr", "negatives": "frequency"}
    joined = data_of(str(tmp_path / "a.csv"), cluster=True, **options)
    apart = data_of(str(tmp_path / "a.csv"), **options)
    assert audit(joined.pairs, joined.split)["pairs"]["train/test"]["near_cdr3"] == 0
    assert audit(apart.pairs, apart.split)["pairs"]["train/test"]["near_cdr3"] > 0
    assert any("clusters, the largest of 2" in note for note in joined.notes)


def test_validation_is_drawn_by_receptor_where_the_column_says_test(file):
    data = data_of(file, split="column:fold=1")
    assert set(data.table["fold"].iloc[data.split["test"]]) == {"1"}
    train, valid = (set(data.table["cdr3"].iloc[data.split[part]]) for part in ("train", "valid"))
    assert not train & valid
    assert any("drawn by receptor: it shares no CDR3" in note for note in data.notes)


def test_validation_is_drawn_by_epitope_too_where_test_has_epitopes_of_its_own(tmp_path):
    rows = frame(negatives=False)
    rows["fold"] = rows["epitope"].map(EPITOPES.index) // 2
    rows.to_csv(tmp_path / "a.csv", index=False)
    data = data_of(str(tmp_path / "a.csv"), split="column:fold=1", val_fraction=0.4)
    assert not shared_between_parts(data, "epitope") and not shared_between_parts(data, "cdr3")
    assert any("by receptor and epitope" in note for note in data.notes)


def test_a_column_that_says_valid_is_taken_as_it_is(tmp_path):
    rows = frame()
    rows["part"] = np.resize(["train", "train", "valid", "valid", "test", "test"], len(rows))
    rows.to_csv(tmp_path / "a.csv", index=False)
    data = data_of(str(tmp_path / "a.csv"), split="column:part")
    assert [set(data.table["part"].iloc[data.split[part]]) for part in ("train", "valid", "test")] == [
        {"train"},
        {"valid"},
        {"test"},
    ]


@pytest.mark.parametrize("scheme", ["uniform", "frequency", "background"])
def test_negatives_stay_within_their_part(file, tmp_path, scheme):
    background = None
    if scheme == "background":
        background = str(tmp_path / "background.csv")
        frame(seed=9, per_epitope=60, negatives=False)[["cdr3", "v", "j"]].to_csv(background, index=False)
    data = data_of(file, split="tcr", negatives=scheme, background=background, val_fraction=0.2, test_fraction=0.2)
    assert not shared_between_parts(data, "cdr3")
    for rows in data.split.values():
        part = data.table.iloc[rows]
        assert Counter(part["label"]) == {1: len(rows) // 2, 0: len(rows) // 2}
        if scheme == "uniform":
            assert set(part["cdr3"][part["label"] == 0]) == set(part["cdr3"][part["label"] == 1])
    binders = {(p.receptor.cdr3, p.epitope.sequence) for p in data.pairs if p.label == 1}
    assert not binders & {(p.receptor.cdr3, p.epitope.sequence) for p in data.pairs if p.label == 0}
    assert any(f"--negatives {scheme}" in note for note in data.notes)
    assert data.table["id"].is_unique


def epochs(data, *numbers):
    """The groups of some epochs: a binder with its negatives."""
    loader = data.train_dataloader()
    for number in numbers:
        loader.sampler.set_epoch(number)
        yield [loader.dataset[item] for item in loader.sampler]


def names(groups):
    return sorted((p.receptor.cdr3, p.epitope.sequence, p.label) for group in groups for p in group)


@pytest.fixture(params=["given", "frequency", "uniform"])
def fresh(file, request):
    return data_of(file, negatives=request.param, fresh_negatives=3, batch_size=64)


def test_fresh_negatives_are_those_of_the_epoch(file, fresh):
    first, second, again = epochs(fresh, 0, 1, 0)
    assert names(first) == names(again) and names(first) != names(second)
    assert [group[0].id for group in first] != [group[0].id for group in second], "another order too"
    binders = sorted((p.receptor.cdr3, p.epitope.sequence, 1) for p in fresh.part("train") if p.label == 1)
    for epoch in (first, second):
        assert [one for one in names(epoch) if one[2] == 1] == binders
        assert all([pair.label for pair in group] == [1, 0, 0, 0] for group in epoch)
        assert all(len({pair.receptor for pair in group}) == 1 for group in epoch)
    other = data_of(file, negatives=fresh.negatives, fresh_negatives=3, seed=1)
    assert names(next(epochs(other, 0))) != names(first)
    assert any("3 negatives per binder were drawn anew in every epoch" in note for note in fresh.notes)
    assert fresh.share_of_binders() == 0.25
    assert fresh.preprocess["negatives"] == {"scheme": fresh.negatives, "ratio": 1, "fresh": 3}


def test_fresh_negatives_are_no_binders_of_any_part(tmp_path):
    """Each receptor binds two of six epitopes, and the file has these two pairs in different parts."""
    rows = frame()
    second = rows[rows["label"] == 1].copy()
    second["epitope"] = [EPITOPES[EPITOPES.index(epitope) - 2] for epitope in second["epitope"]]
    rows = pd.concat([rows.assign(part="train"), second.assign(part="test")])
    rows.iloc[::7, rows.columns.get_loc("part")] = "valid"
    rows.to_csv(tmp_path / "a.csv", index=False)
    data = data_of(str(tmp_path / "a.csv"), split="column:part", fresh_negatives=2)
    binders = {(p.receptor.cdr3, p.epitope.sequence) for p in data.pairs if p.label == 1}
    elsewhere = binders - {(p.receptor.cdr3, p.epitope.sequence) for p in data.part("train") if p.label == 1}
    assert len(elsewhere) > 100
    for epoch in epochs(data, *range(4)):
        assert not binders & {(cdr3, epitope) for cdr3, epitope, label in names(epoch) if label == 0}


def test_valid_and_test_keep_their_negatives(file, fresh):
    plain = data_of(file, negatives=fresh.negatives, batch_size=64)
    for part in ("valid", "test"):
        assert fresh.part(part) == plain.part(part)


def test_fresh_negatives_have_the_epitopes_of_the_parts_own(tmp_path):
    """Negatives have other epitopes than binders here: one has half of them, one none."""
    rows = frame(per_epitope=60)
    wanted = np.array([0.5, 0.2, 0.15, 0.1, 0.05, 0.0])
    rng = np.random.default_rng(0)
    negative = rows["label"] == 0
    rows.loc[negative, "epitope"] = rng.choice(EPITOPES, negative.sum(), p=wanted)
    rows = rows[~(negative & rows.duplicated(["cdr3", "epitope"], keep=False))]
    rows.to_csv(tmp_path / "a.csv", index=False)
    data = data_of(str(tmp_path / "a.csv"), fresh_negatives=4)
    own = Counter(p.epitope.sequence for p in data.part("train") if p.label == 0)
    share = np.array([own[epitope] for epitope in EPITOPES]) / own.total()
    binders = Counter(p.epitope.sequence for p in data.part("train") if p.label == 1)
    drawn = Counter(epitope for epoch in epochs(data, *range(10)) for _, epitope, label in names(epoch) if not label)
    assert drawn[EPITOPES[5]] == 0
    expected = 40 * binders.total() * share
    got = np.array([drawn[epitope] for epitope in EPITOPES])
    seen = expected > 0
    assert (((got - expected) ** 2)[seen] / expected[seen]).sum() < 20.5, "chi square, 4 degrees, 1 in 2500"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_hold_whole_groups(file, num_workers):
    data = data_of(file, fresh_negatives=3, batch_size=32, num_workers=num_workers)
    loader = data.train_dataloader()
    seen = []
    for number in (0, 1):
        loader.sampler.set_epoch(number)
        batches = list(loader)
        assert [batch.num_pairs for batch in batches[:-1]] == [32] * (len(batches) - 1)
        for batch in batches:
            assert batch.label.reshape(-1, 4).tolist() == [[1.0, 0.0, 0.0, 0.0]] * (batch.num_pairs // 4)
            assert (batch.pair_tcr.reshape(-1, 4) == batch.pair_tcr[::4, None]).all()
        seen.append(torch.cat([batch.epitope.tokens[batch.pair_epitope] for batch in batches]))
        groups = next(epochs(data, number))
        expected = [pair.epitope.sequence for group in groups for pair in group]
        assert seen[-1].tolist() == data_tokens(data, expected), "a process of the loader draws the epoch's own"
    assert not torch.equal(*seen)


def data_tokens(data, epitopes):
    featurizer = Featurizer(data.preprocess)
    width = max(map(len, EPITOPES))
    return [
        [*(tokens := featurizer.epitope(Epitope(text)).tolist()), *[0] * (width - len(tokens))] for text in epitopes
    ]


def test_fresh_negatives_follow_negatives(tmp_path):
    frame(negatives=False).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match="the training part has no negatives.*--negatives frequency"):
        data_of(str(tmp_path / "a.csv"), fresh_negatives=1)


def test_batches_follow_the_split(file):
    data = data_of(file, batch_size=50)
    batches = list(data.val_dataloader())
    assert sum(batch.num_pairs for batch in batches) == len(data.split["valid"])
    labels = np.concatenate([batch.label.numpy() for batch in batches])
    assert labels.tolist() == data.table["label"].iloc[data.split["valid"]].tolist()
    assert sum(batch.num_pairs for batch in data.train_dataloader()) == len(data.split["train"])


@pytest.mark.parametrize("epitope", ["aa", "smiles", "graph"])
def test_preprocess_is_of_the_training_part_and_json(file, epitope):
    data = data_of(file, split="epitope", epitope=epitope, tcr="full", val_fraction=0.2, test_fraction=0.2)
    preprocess = json.loads(json.dumps(data.preprocess))
    train = data.part("train")
    assert set(preprocess["epitopes"]) == {pair.epitope.sequence for pair in train}
    assert sum(count["positives"] for count in preprocess["epitopes"].values()) == sum(p.label for p in train)
    assert preprocess["max_length"]["tcr"] == max(len(pair.receptor.full) for pair in train)


def test_repeats_are_merged_and_contradictions_named(tmp_path):
    rows = frame()
    path = tmp_path / "a.csv"
    pd.concat([rows, rows.iloc[:3]]).to_csv(path, index=False)
    data = data_of(str(path))
    assert len(data.pairs) == len(rows) and "3 pairs repeat an earlier one" in " ".join(data.notes)
    pd.concat([rows, rows.iloc[:1].assign(label=0)]).to_csv(path, index=False)
    with pytest.raises(InputError, match=rf"a\.csv:2: label = '1': line {len(rows) + 2} has the same receptor"):
        data_of(str(path))
    skipped = data_of(str(path), on_error="skip")
    assert skipped.rejected["line"].tolist() == [2, len(rows) + 2] and len(skipped.pairs) == len(rows) - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "random"}, "split: got 'random'"),
        ({"split": "kfold:3"}, "expected kfold:K:I"),
        ({"fresh_negatives": -1}, "--data.fresh-negatives: got -1 with --negatives given, expected 0 or more"),
        ({"fresh_negatives": 1, "negatives": "background", "background": "b.csv"}, "and 0 for background"),
        ({"negatives": "background"}, "name the file of receptors"),
        ({"epitope": "words"}, "epitope: got 'words'"),
        ({"study_column": "v", "split": "study"}, "the valid part is empty|the test part is empty"),
    ],
)
def test_options_that_cannot_be_used(file, options, message):
    with pytest.raises(InputError, match=message):
        data_of(file, **options)


def test_given_negatives_need_labels(tmp_path):
    frame().drop(columns="label").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"no column of labels.*--label-column"):
        data_of(str(tmp_path / "a.csv"))


def test_chunks_cover_the_file_once(file):
    preprocess = data_of(file).preprocess
    chunks = list(read_chunks(file, preprocess, chunk_size=100, anchors="yes"))
    assert [len(chunk.pairs) for chunk in chunks] == [100, 100, 100, 60]
    assert pd.concat([chunk.table for chunk in chunks])["line"].tolist() == list(range(2, 362))
    resumed = list(read_chunks(file, preprocess, chunk_size=100, anchors="yes", skip=2))
    assert [chunk.number for chunk in resumed] == [2, 3]
    assert resumed[0].table.equals(chunks[2].table)
    assert {pair.label for pair in chunks[0].pairs} == {None}


def test_chunks_list_their_own_bad_rows(file, tmp_path):
    lines = Path(file).read_text().splitlines()
    lines[150] = lines[150].replace("CA", "CX", 1)
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    preprocess = data_of(file).preprocess
    chunks = list(read_chunks(tmp_path / "bad.csv", preprocess, chunk_size=100, anchors="yes", on_error="skip"))
    assert [chunk.rejected["line"].tolist() for chunk in chunks] == [[], [151], [], []]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(("name", "disjoint"), [("tcr", False), ("strict", True)])
def test_published_folds(tmp_path, name, disjoint):
    """The fold is the test part as published; the rest keeps validation as far from training."""
    receptors = pd.read_csv(SHARED / "tcr_sequences.csv.gz")
    pairs = pd.read_csv(SHARED / f"pairs_{name}_split.csv.gz").merge(receptors, on="tcr_id")
    pairs = pairs.merge(pd.read_csv(SHARED / "epitopes.csv"), on="epitope_id").rename(columns={"sequence": "epitope"})
    pairs[["cdr3", "full_sequence", "epitope", "label", "fold"]].to_csv(tmp_path / "a.csv", index=False)
    data = data_of(str(tmp_path / "a.csv"), split="column:fold=3", anchors="none")
    report = audit(data.pairs, data.split)
    assert report["sizes"]["test"] == (pairs["fold"] == 3).sum()
    assert report["pairs"]["train/test"]["identical_receptor"] == 0
    assert report["pairs"]["train/valid"]["identical_cdr3"] == 0
    assert (report["pairs"]["train/valid"]["shared_epitope"] == 0) == disjoint
    assert (report["negatives"]["test"]["trained_epitope_rate_auc"] > 0.7) == (not disjoint)
