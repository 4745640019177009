import json

import pandas as pd
import pytest

from geoattn.datasets.splits import split_column, split_rows
from geoattn.errors import InputError

RINGS = {"c1ccccc1": 6, "C1CCCCC1": 4, "c1ccncc1": 2, "C1CC1": 2, "c1ccsc1": 1}


@pytest.fixture
def table():
    """Six benzenes, four cyclohexanes, two pyridines, two cyclopropanes, one thiophene, five molecules without ring."""
    smiles = [f"{'C' * (i + 1)}{ring}" for ring, number in RINGS.items() for i in range(number)]
    smiles += ["C" * (i + 1) for i in range(5)]
    return pd.DataFrame({"id": [f"m{i}" for i in range(20)], "smiles": smiles, "fold": [i % 4 for i in range(20)]})


def check_partition(split, n=20):
    assert sorted(split["train"] + split["valid"] + split["test"]) == list(range(n))


@pytest.mark.parametrize("spec", ["random", "scaffold-balanced", "kfold:5:2", "column:fold=3"])
def test_seeded_partition(table, spec):
    split = split_rows(spec, table, seed=1, val_fraction=0.2, test_fraction=0.2)
    check_partition(split)
    assert split == split_rows(spec, table, seed=1, val_fraction=0.2, test_fraction=0.2)
    others = [split_rows(spec, table, seed=s, val_fraction=0.2, test_fraction=0.2) for s in range(2, 6)]
    assert any(other != split for other in others)


def test_random_sizes(table):
    split = split_rows("random", table, val_fraction=0.1, test_fraction=0.3)
    assert {part: len(rows) for part, rows in split.items()} == {"train": 12, "valid": 2, "test": 6}


def test_scaffold_puts_the_largest_groups_into_train(table):
    """12 + 4 + 4 rows: 6 benzenes and 5 acyclic ones fill train to 11; the 4 cyclohexanes are valid; the rest is test,
    but for the one thiophene, which still fits into train."""
    pytest.importorskip("rdkit")
    split = split_rows("scaffold", table, val_fraction=0.2, test_fraction=0.2)
    assert split == {"train": [0, 1, 2, 3, 4, 5, 14, *range(15, 20)], "valid": [6, 7, 8, 9], "test": [10, 11, 12, 13]}


@pytest.mark.parametrize("seed", range(5))
def test_no_scaffold_on_two_sides(table, seed):
    pytest.importorskip("rdkit")
    from geoattn.domains.molecules.scaffold import murcko_scaffold

    split = split_rows("scaffold-balanced", table, seed=seed, val_fraction=0.3, test_fraction=0.3)
    sides = [{murcko_scaffold(table["smiles"][row]) for row in rows} for rows in split.values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_scaffolds_need_smiles(table):
    table.loc[3, "smiles"] = ""
    with pytest.raises(InputError, match="'scaffold' needs SMILES, and 1 of 20 molecules have none"):
        split_rows("scaffold", table)


def test_column_of_parts(table):
    table["part"] = ["Train"] * 15 + ["val", "valid", "validation", "TEST", "test"]
    split = split_rows("column:part", table)
    assert split == {"train": list(range(15)), "valid": [15, 16, 17], "test": [18, 19]}


def test_column_without_valid_draws_it_from_train(table):
    table["part"] = ["train"] * 15 + ["test"] * 5
    split = split_rows("column:part", table, val_fraction=0.2)
    check_partition(split)
    assert split["test"] == [15, 16, 17, 18, 19] and len(split["valid"]) == 3


@pytest.mark.parametrize("value", ["3", "3.0"])
def test_column_value_is_compared_as_number(table, value):
    assert split_rows(f"column:fold={value}", table)["test"] == [3, 7, 11, 15, 19]


def test_folds_partition_the_rows(table):
    folds = [split_rows(f"kfold:3:{i}", table, seed=4) for i in range(3)]
    assert sorted(row for fold in folds for row in fold["test"]) == list(range(20))
    for fold in folds:
        check_partition(fold)


def test_file_of_ids(table, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["m0", "m2"], "valid": ["m4"], "test": ["m19", "m1"]}))
    assert split_rows(f"file:{path}", table) == {"train": [0, 2], "valid": [4], "test": [1, 19]}
    (tmp_path / "test.txt").write_text("m3\n\nm5\n")
    split = split_rows(f"file:{tmp_path / 'test.txt'}", table)
    check_partition(split)
    assert split["test"] == [3, 5] and len(split["valid"]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"test": ["m99"]}', "no molecule 'm99'. Did you mean 'm"),
        ('{"train": ["m1"], "valid": ["m2"], "test": ["m1"]}', "'m1' is in train and in test"),
        ('{"train": ["m1"]}', "expected an object with lists of ids"),
        ('{"test": ["m1",]}', r"split.json:1: not JSON"),
    ],
)
def test_bad_split_file(table, tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        split_rows(f"file:{path}", table)


def test_ids_of_a_split_file_must_be_unique(table, tmp_path):
    (tmp_path / "test.txt").write_text("m3\n")
    table["id"] = "m3"
    with pytest.raises(InputError, match="'m3' names more than one molecule"):
        split_rows(f"file:{tmp_path / 'test.txt'}", table)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("randon", "no known kind. Did you mean 'random'"),
        ("random:3", "no known kind"),
        ("column:", "no known kind"),
        ("column:fould", "no column 'fould'. Did you mean 'fold'"),
        ("column:fold", "holds '0', expected train, valid or test. To hold out .* write column:fold=0"),
        ("column:fold=9", "column 'fold' has no '9'"),
        ("file:nowhere.json", "no such file"),
        ("kfold:5", "expected kfold:K:I"),
        ("kfold:5:5", "K must be 2..20 and I 0..K-1"),
    ],
)
def test_bad_specs(table, spec, message):
    with pytest.raises(InputError, match=message):
        split_rows(spec, table)


def test_empty_part(table):
    table["part"] = ["train"] * 20
    with pytest.raises(InputError, match=r"the test part is empty \(18 train, 2 valid, 0 test\)"):
        split_rows("column:part", table)


@pytest.mark.parametrize("fractions", [(0.0, 0.1), (0.1, 0.0), (0.5, 0.5), (-0.1, 0.2), (0.1, 1.5)])
def test_bad_fractions(table, fractions):
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        split_rows("random", table, val_fraction=fractions[0], test_fraction=fractions[1])


@pytest.mark.parametrize(("n", "text"), [(1, "1 usable molecule:"), (2, "2 usable molecules:")])
def test_too_few_rows(table, n, text):
    with pytest.raises(InputError, match=text):
        split_rows("random", table.head(n))


def test_split_column():
    assert split_column("column:fold=0") == split_column("column:fold") == "fold"
    assert split_column("random") is None
