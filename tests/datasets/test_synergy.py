import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.synergy import SynergyData, read_chunks
from geoattn.datasets.synergy_columns import SynergyColumns, find_layout
from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.datasets.synergy_expression import read_expression
from geoattn.datasets.synergy_pairs import labelled, merged
from geoattn.datasets.synergy_splits import split_combinations
from geoattn.domains.synergy.audit import audit
from geoattn.domains.synergy.records import CellLine, Combination, Drug
from geoattn.errors import InputError

SHARED = Path(__file__).parents[3] / "shared/data/synergy"
SMILES = [
    "CCO", "c1ccccc1O", "CC(=O)O", "CCN", "c1ccncc1", "CCS", "CCCl", "C1CCCCC1", "CC(C)=O", "OCCO", "CC#N", "c1ccsc1"
]  # fmt: skip
DRUGS = pd.DataFrame({"name": [f"drug {letter}" for letter in "ABCDEFGHIJKL"], "smiles": SMILES})


def pairs():
    rows = []
    for cell in range(8):
        for i in range(12):
            for j in range(i):
                if (i + j + cell) % 3:
                    score = float(10 * i - 7 * j + cell)
                    rows.append(
                        (DRUGS["name"][i], DRUGS["name"][j], f"LINE-{cell}", f"tissue {cell % 4}", score, (i * j) % 4)
                    )
    return pd.DataFrame(rows, columns=["drug_a", "drug_b", "cell_line", "tissue", "score", "fold"])


def write(folder, rows=None, drugs=DRUGS, genes=6):
    rng = np.random.default_rng(0)
    tpm = pd.DataFrame(rng.gamma(0.5, 60, size=(8, genes)).round(2), columns=[f"GEN{i}" for i in range(genes)])
    tpm.insert(0, "cell", [f"LINE-{i}" for i in range(8)])
    (pairs() if rows is None else rows).to_csv(folder / "pairs.csv", index=False)
    drugs.to_csv(folder / "drugs.csv", index=False)
    tpm.to_csv(folder / "tpm.csv", index=False)
    return folder


def data_of(folder, **options):
    files = {
        "file": str(folder / "pairs.csv"),
        "expression": str(folder / "tpm.csv"),
        "drugs": str(folder / "drugs.csv"),
    }
    data = SynergyData(**{**files, **options})
    data.setup()
    return data


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


@pytest.fixture(scope="module")
def table():
    rows = pairs()
    return rows.assign(id=range(len(rows)), key_a=rows["drug_a"], key_b=rows["drug_b"])


NONE_SHARED = {
    "combination": ["shared_pair"],
    "both-drugs": ["one_drug", "shared_pair"],
    "drug": ["both_drugs", "shared_pair"],
    "cell": ["shared_cell"],
    "tissue": ["shared_cell", "shared_tissue"],
    "random": ["identical"],
}


@pytest.mark.parametrize("form", ["{}", "{}:3:1"])
@pytest.mark.parametrize("kind", NONE_SHARED)
def test_what_a_split_keeps_apart(folder, kind, form):
    spec = form.format(kind)
    data = data_of(folder, split=spec, val_fraction=0.2, test_fraction=0.2)
    report = audit(data.samples, data.split)
    for parts in ("train/test", "train/valid"):
        for what in NONE_SHARED[kind]:
            assert report["pairs"][parts][what] == 0
    rows = [row for part in data.split.values() for row in part]
    assert all(data.split.values()) and len(rows) == len(set(rows))
    assert (len(rows) < len(data.samples)) == (kind == "both-drugs")
    if kind == "random":
        assert report["pairs"]["train/test"]["shared_pair"] > 0  # which is why it is no result by itself


@pytest.mark.parametrize("kind", NONE_SHARED)
def test_folds_cover_what_can_be_tested(table, kind):
    folds = [split_combinations(f"{kind}:3:{i}", table)[0]["test"] for i in range(3)]
    seen = [row for fold in folds for row in fold]
    if kind == "drug":
        assert set(seen) == set(range(len(table)))  # a pair of drugs of two folds is tested twice
    elif kind != "both-drugs":
        assert sorted(seen) == list(range(len(table)))


@given(st.integers(0, 10_000), st.sampled_from(["combination", "drug", "both-drugs", "random", "cell:4:1"]))
def test_a_split_does_not_depend_on_the_order_of_a_pair(table, seed, kind):
    swap = np.random.default_rng(seed).random(len(table)) < 0.5
    other = table.copy()
    other.loc[swap, ["key_a", "key_b"]] = table.loc[swap, ["key_b", "key_a"]].to_numpy()
    options = {"seed": seed, "val_fraction": 0.2, "test_fraction": 0.2}
    assert split_combinations(kind, table, **options) == split_combinations(kind, other, **options)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("tissue", "no tissue in common"),
        ("drug_a", "in every pair a drug that training"),
        ("cell_line", "no cell line"),
    ],
)
def test_validation_is_cut_as_far_as_the_test_part(folder, column, said):
    value = {"tissue": "tissue 1", "drug_a": "drug L", "cell_line": "LINE-3"}[column]
    data = data_of(folder, split=f"column:{column}={value}", val_fraction=0.2)
    assert any(said in note for note in data.notes)
    report = audit(data.samples, data.split)["pairs"]["train/valid"]
    assert report[{"tissue": "shared_tissue", "drug_a": "both_drugs", "cell_line": "shared_cell"}[column]] == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("leave-drug", "split: got 'leave-drug'"),
        ("drug:3", "expected drug:K:I"),
        ("tissue:9:0", "K must be 2..4"),
        ("column:part", "no column 'part'"),
    ],
)
def test_splits_that_cannot_be_made(table, spec, message):
    with pytest.raises(InputError, match=message):
        split_combinations(spec, table)


def combination(i, a, b, score, cell="L"):
    return Combination(str(i), Drug(a, a), Drug(b, b), CellLine(cell), score, "f.csv", i)


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 1), st.sampled_from("LM")), min_size=1, max_size=12))
def test_merging_takes_the_majority_in_either_order(rows):
    samples = [
        combination(i, a, "B" if a == "A" else "A", float(label), cell) for i, (a, label, cell) in enumerate(rows)
    ]
    rejected = Rejections("skip")
    kept = {sample.cell.name: sample.score for sample in merged(samples, labels=True, rejections=rejected, notes=[])}
    for cell in {cell for *_, cell in rows}:
        labels = [label for _, label, other in rows if other == cell]
        if 2 * sum(labels) == len(labels):
            assert cell not in kept
        else:
            assert kept[cell] == round(np.mean(labels))
    assert len(rejected) == sum(sample.cell.name not in kept for sample in samples)
    means = merged(samples, labels=False, rejections=Rejections("raise"), notes=[])
    for sample in means:
        assert sample.score == pytest.approx(np.mean([label for _, label, cell in rows if cell == sample.cell.name]))


def test_thresholds_and_what_lies_between():
    notes = []
    samples = [combination(i, "A", "B", score) for i, score in enumerate([12.0, 10.0, 9.0, -10.0, -11.0])]
    kept, between = labelled(samples, 10, -10, notes)
    assert [(s.score, s.measured) for s in kept] == [(1, 12), (1, 10), (0, -10), (0, -11)]
    assert [(s.score, s.measured) for s in between] == [(None, 9)]
    assert "1 of 5 combinations (20 %)" in notes[1]
    kept, between = labelled(samples, 10, None, [])
    assert [s.score for s in kept] == [1, 1, 0, 0, 0] and between == []


def test_pairs_between_the_classes_teach_and_are_not_measured(folder):
    scores = np.sort(pairs()["score"])
    low, high = scores[len(scores) // 3], scores[2 * len(scores) // 3]
    data = data_of(folder, split="combination", task="classification", positive=high, negative=low, batch_size=16)
    held_out = {s.pair for part in ("valid", "test") for s in data.part(part)}
    assert data.between and all(low < s.measured < high and s.score is None for s in data.between)
    assert not held_out & {s.pair for s in data.between}
    assert all(s.score in (0, 1) for s in data.samples)
    seen = torch.cat([batch.target for batch in data.train_dataloader()])
    assert len(seen) == len(data.part("train")) + len(data.between) and seen.isnan().sum() == len(data.between)
    assert not torch.cat([batch.target for batch in data.test_dataloader()]).isnan().any()


def test_repeats_in_both_orders_are_merged_before_the_split(tmp_path):
    rows = pairs()
    again = (
        rows.iloc[:20].rename(columns={"drug_a": "drug_b", "drug_b": "drug_a"}).assign(score=lambda t: t["score"] + 4)
    )
    data = data_of(write(tmp_path, pd.concat([rows, again])), split="random")
    assert len(data.samples) == len(rows) and data.samples[0].score == rows["score"][0] + 2
    assert any("20 rows repeat" in note and "20 of 20 in both orders" in note and "r = " in note for note in data.notes)


def test_batches_and_preprocess(folder):
    data = data_of(folder, split="cell", val_fraction=0.2, test_fraction=0.2, batch_size=16, genes=4)
    batch = next(iter(data.val_dataloader()))
    assert batch.target.tolist() == data.table["score"].iloc[data.split["valid"][:16]].tolist()
    assert batch.cells.shape[1] == 4 and len(batch.drugs) <= 12
    preprocess = json.loads(json.dumps(data.preprocess))
    assert set(preprocess["train_cells"]) == {sample.cell.name for sample in data.part("train")}
    values = np.stack([data.cells[name] for name in preprocess["train_cells"]])
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
    data.drug_features = lambda drugs: np.array([len(drug.smiles) for drug in drugs])
    assert next(iter(data.test_dataloader())).drugs.ndim == 1
    order = [batch.target.tolist() for batch in data.train_dataloader()]
    assert order == [batch.target.tolist() for batch in data.train_dataloader()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_line": "LINE0"}, r"pairs.csv:2: cell_line = 'LINE0': no cell line .*'LINE-0' is the same but for"),
        ({"cell_line": "LINE-00"}, r"pairs.csv:2: cell_line = 'LINE-00'.*Did you mean 'LINE-0'"),
        ({"drug_b": "drugA"}, r"drug_b = 'drugA': no drug .*'drug A' is the same but for"),
        ({"drug_b": "drug B"}, r"drug_b = 'drug B': a pair of the same drug"),
        ({"drug_b": "twin"}, r"drug_b = 'twin': a pair of the same molecule as 'drug B'"),
        ({"drug_a": "empty"}, r"drugs.csv:14: smiles = '': drug 'empty' has no SMILES"),
        ({"drug_a": "broken"}, r"drug_a = 'broken': .*drugs.csv:15: smiles = 'C1CC': RDKit cannot read it"),
        ({"score": "strong"}, r"pairs.csv:2: score = 'strong': not a finite number"),
        ({"score": "inf"}, r"score = 'inf': not a finite number"),
        ({"score": ""}, r"score = '': empty"),
        ({"tissue": "skin"}, r"cell line 'LINE-0' has tissue 'skin' in an earlier row"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    more = [("empty", None), ("broken", "C1CC"), ("twin", "Oc1ccccc1")]
    drugs = pd.concat([DRUGS, pd.DataFrame(more, columns=["name", "smiles"])])
    rows = pairs().astype(object)
    rows = rows[~rows["drug_a"].isin(["drug A"])].reset_index(drop=True)
    assert rows["drug_a"][0] == "drug B" or "drug_b" not in change
    for column, value in change.items():
        rows.loc[0, column] = value
    write(tmp_path, rows, drugs)
    with pytest.raises(InputError, match=message):
        data_of(tmp_path)
    if "tissue" not in change:
        assert data_of(tmp_path, on_error="skip").rejected["line"].tolist() == [2]


def test_names_are_joined_if_asked(tmp_path):
    rows = pairs()
    rows["cell_line"] = rows["cell_line"].str.replace("-", " ").str.lower()
    data = data_of(write(tmp_path, rows), join_names=True)
    assert set(data.table["cell_line"]) == {f"LINE-{i}" for i in range(8)}
    assert any("'line 0' was taken for 'LINE-0'" in note for note in data.notes)


def test_smiles_in_columns_and_metals(tmp_path):
    rows, smiles = pairs(), dict(zip(DRUGS["name"], DRUGS["smiles"], strict=True))
    smiles["drug A"] = "N.N.Cl[Pt]Cl"
    rows["smiles_a"], rows["smiles_b"] = rows["drug_a"].map(smiles), rows["drug_b"].map(smiles)
    write(tmp_path, rows)
    data = data_of(tmp_path, drugs=None)
    assert "Of metal complexes (1) all fragments were kept: drug A." in data.notes
    with pytest.raises(InputError, match="'drug A': a metal complex: no force field"):
        data_of(tmp_path, drugs=None, graph="3d")
    with pytest.raises(InputError, match="no smiles_a column found"):
        data_of(write(tmp_path), drugs=None)


def test_scores_of_two_models_are_not_mixed(tmp_path):
    write(tmp_path, pairs().rename(columns={"score": "loewe"}).assign(bliss=1.0))
    with pytest.raises(InputError, match="'loewe', 'bliss' could all be what is learned"):
        data_of(tmp_path)
    assert data_of(tmp_path, score_column="loewe").table["score"].std() > 0


def test_scores_from_responses(tmp_path):
    rows = []
    for cell in range(8):
        for i in range(12):
            rows.append((DRUGS["name"][i], "", f"LINE-{cell}", 1.0, 0.0, 90.0 - i))
            for j in range(i):
                rows.append((DRUGS["name"][i], DRUGS["name"][j], f"LINE-{cell}", 1.0, 1.0, 60.0))
    responses = pd.DataFrame(rows, columns=["drug_a", "drug_b", "cell_line", "dose_a", "dose_b", "viability"])
    write(tmp_path, responses)
    with pytest.raises(InputError, match="score=hsa needs --response-scale"):
        data_of(tmp_path, score="hsa")
    data = data_of(tmp_path, score="hsa", response_scale="viability_percent")
    number = {name: i for i, name in enumerate(DRUGS["name"])}
    expected = [30.0 - max(number[row.drug_a], number[row.drug_b]) for row in data.table.itertuples()]
    np.testing.assert_allclose(data.table["score"], expected)
    assert any("positive for synergy" in note for note in data.notes)


def test_chunks_for_a_trained_model(folder):
    data = data_of(folder, split="cell", val_fraction=0.2, test_fraction=0.2)
    files = (folder / "pairs.csv", folder / "tpm.csv", data.preprocess)
    chunks = list(read_chunks(*files, drugs=folder / "drugs.csv", chunk_size=100))
    assert sum(len(chunk.samples) for chunk in chunks) == len(data.samples)
    assert {sample.score for sample in chunks[0].samples} == {None}
    np.testing.assert_array_equal(chunks[0].cells["LINE-3"], data.cells["LINE-3"])
    resumed = list(read_chunks(*files, drugs=folder / "drugs.csv", chunk_size=100, skip=1, need_scores=True))
    assert resumed[0].number == 1 and resumed[0].table["score"].tolist() == data.table["score"][100:200].tolist()


def test_expression_files(tmp_path):
    frame = pd.read_csv(write(tmp_path) / "tpm.csv")
    plain = read_expression(tmp_path / "tpm.csv")
    flipped = frame.set_index("cell").T.rename_axis("gene").reset_index()
    flipped.to_csv(tmp_path / "flipped.tsv", sep="\t", index=False)
    frame.assign(tissue="lung", panel="x").to_parquet(tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", cells=plain.cells, genes=plain.genes, expression=plain.values)
    for name, options in (("flipped.tsv", {"transposed": True}), ("a.parquet", {}), ("a.npz", {})):
        other = read_expression(tmp_path / name, **options)
        assert (other.cells, other.genes) == (plain.cells, plain.genes)
        np.testing.assert_array_equal(other.values, plain.values)
    marked = read_expression(tmp_path / "a.parquet")
    assert marked.tissue["LINE-2"] == "lung" and "tissue, panel" in marked.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.astype(object).mask(t == t.iloc[2, 3], "high"), r"e.csv:4: GEN2 = 'high': not a number"),
        (lambda t: t.rename(columns={"GEN1": "GEN2 (12)"}), r"gene 'GEN2' stands twice, as 'GEN2 \(12\)' and 'GEN2'"),
        (lambda t: pd.concat([t, t.iloc[:1].assign(GEN0=7.5)]), r"cell line 'LINE-0' stands twice, with different"),
        (lambda t: t.rename(columns={f"GEN{i}": f"{i + 50}" for i in range(6)}), r"is a number, like an Entrez id"),
        (lambda t: t.assign(cell=[f"ENSG{i:011d}" for i in range(8)]), r"rows seem to be genes"),
    ],
)
def test_expression_that_cannot_be_used(tmp_path, change, message):
    change(pd.read_csv(write(tmp_path) / "tpm.csv")).to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(InputError, match=message):
        read_expression(tmp_path / "e.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "ranking"}, "task: got 'ranking'"),
        ({"positive": 10.0}, "thresholds are for task=classification"),
        ({"task": "classification", "positive": 1.0, "negative": 2.0}, "negative: got 2, expected less"),
        ({"task": "classification", "score": "bliss", "response_scale": "inhibition"}, "from which bliss excess"),
        ({"task": "classification", "score_column": "score"}, "a label must be 0 or 1"),
        ({"split": "tissue", "tissue_column": "no"}, "no column 'no'"),
    ],
)
def test_options_that_cannot_be_used(folder, options, message):
    with pytest.raises(InputError, match=message):
        data_of(folder, **options)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
def test_public_screens():
    data = SynergyData(
        str(SHARED / "deepdds_labels.csv.gz"),
        str(SHARED / "deepdds_cells_tpm954.csv.gz"),
        str(SHARED / "deepdds_drugs.csv"),
        task="classification",
        split="column:fold_comb=2",
    )
    data.setup()
    assert len(data.samples) == 12_415 - 185 - 26 and len(data.rejected) == 52
    assert audit(data.samples, data.split)["pairs"]["train/test"]["shared_pair"] == 0
    scores = SynergyData(
        str(SHARED / "oneil_scores.csv.gz"),
        str(SHARED / "oneil_cells.npz"),
        str(SHARED / "oneil_drugs.csv"),
        drug_smiles_column="smiles_isomeric",
        expression_scale="zscore",
    )
    scores.setup()
    assert len(scores.samples) == 23_052 - 315
    assert any("r = 0.62" in note for note in scores.notes)
    assert any("OXALIPLATIN" in note and "metal" in note for note in scores.notes)


def test_case_and_spaces_of_a_header_do_not_matter():
    header = ["Drug A", "DRUG_B", "Cell Line", "Score "]
    needed = ["drug_a", "drug_b", "cell_line", "score"]
    layout = find_layout(Path("a.csv"), header, SynergyColumns(required=["cell_line"]), needed)
    assert [layout.index[role] for role in needed] == [0, 1, 2, 3] and layout.extra == {"cell_line": 2}
    with pytest.raises(InputError, match="columns 'Drug A' and 'drug_a' are the same but.*Choose with --drug-a-column"):
        find_layout(Path("a.csv"), [*header, "drug_a"], SynergyColumns(), needed)


def test_stereoisomers_are_two_drugs(tmp_path):
    """Cis and trans have scores of their own and make a pair; a salt of one of them is the same drug."""
    isomers = [("cis", r"OC(=O)/C=C\C(=O)O"), ("trans", "OC(=O)/C=C/C(=O)O"), ("salt", r"OC(=O)/C=C\C(=O)O.Cl")]
    more = [("cis", "drug A", 1.0), ("trans", "drug A", 5.0), ("drug A", "salt", 3.0), ("cis", "trans", 7.0)]
    rows = pairs()
    for a, b, score in more:
        rows.loc[len(rows)] = (a, b, "LINE-0", "tissue 0", score, 0)
    data = data_of(write(tmp_path, rows, pd.concat([DRUGS, pd.DataFrame(isomers, columns=["name", "smiles"])])))
    assert data.table["score"].tolist()[-3:] == [2.0, 5.0, 7.0]
    assert len({sample.pair for sample in data.samples[-3:-1]}) == 1  # which a split keeps together
    last = len(rows)
    assert any(
        "1 row repeats" in note and f"lines {last - 2} and {last} (cis, drug A, salt)" in note for note in data.notes
    )
    assert any("Of 1 salt or mixture the largest fragment was kept: salt (" in note for note in data.notes)
    rejected = Rejections("raise")
    assert [drug.name for drug in DrugTable(tmp_path / "drugs.csv").all(rejected)][-2:] == ["cis", "trans"]
    write(tmp_path, pd.concat([rows, rows.iloc[-1:].assign(drug_b="salt")]))
    isomer_drugs = pd.concat([DRUGS, pd.DataFrame(isomers, columns=["name", "smiles"])])
    isomer_drugs.to_csv(tmp_path / "drugs.csv", index=False)
    with pytest.raises(InputError, match="drug_b = 'salt': a pair of the same molecule as 'cis'"):
        data_of(tmp_path)


def test_copies_of_a_score_are_no_measurements(tmp_path):
    rows = pairs()
    data = data_of(
        write(tmp_path, pd.concat([rows, rows.iloc[:30], rows.iloc[30:50].assign(score=lambda t: -t["score"])]))
    )
    [note] = [note for note in data.notes if "rows repeat" in note]
    assert "(30 of 50 repeat the very same score and do not count)" in note and "r = -1.00" in note
    assert "bounds" not in note


@pytest.mark.parametrize(
    ("keep", "spec", "message"),
    [
        (lambda t: t["cell_line"] == "LINE-0", "cell", "split cell: 1 cell line; at least 3 are needed. .*e.g. comb"),
        (lambda t: t["tissue"] < "tissue 2", "tissue", "split tissue: 2 tissues; at least 3 are needed. .*e.g. cell"),
        (lambda t: (t["key_a"] == "drug C") & (t["key_b"] == "drug A"), "combination", "1 pair; at least 3"),
        (lambda t: t["key_a"] <= "drug C", "drug", "3 drugs; at least 4"),
        (lambda t: t["key_a"] <= "drug D", "both-drugs", "4 drugs; at least 6"),
        (lambda t: t["key_b"] == "drug A", "both-drugs", "part is empty"),
        (lambda t: t["cell_line"] < "LINE-2", "column:cell_line=LINE-1", "1 cell line outside the test .* at least 2"),
    ],
)
def test_too_few_groups_for_three_parts(table, keep, spec, message):
    few = table[keep(table)].reset_index(drop=True).assign(tissue=lambda t: t["tissue"] if spec == "tissue" else "")
    with pytest.raises(InputError, match=message):
        split_combinations(spec, few)


@pytest.mark.parametrize("kind", NONE_SHARED)
def test_every_number_of_groups_is_cut_or_refused(table, kind):
    for count in range(1, 13):
        lines = [f"LINE-{i}" for i in range(count)]
        for keep in (table["key_a"] < f"drug {'ABCDEFGHIJKLM'[count]}", table["cell_line"].isin(lines)):
            few = table[keep].reset_index(drop=True)
            for spec in (kind, f"{kind}:3:0"):
                try:
                    assert all(split_combinations(spec, few)[0].values())
                except InputError:
                    assert count < 6


def test_scores_where_labels_are_expected(tmp_path):
    write(tmp_path)
    with pytest.raises(InputError, match="no label column .* or give --data.positive to make labels of scores"):
        data_of(tmp_path, task="classification")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((9, 1, 5, 5), r"the test part is empty without the 176 combinations between .*\(.* train, .* valid, 0 test"),
        ((1, 9, 9, 1), r"train part are of class 0. Scores \(score\) lie from 1 to 9: .*--data.positive \(now 8\)"),
    ],
)
def test_parts_without_scores_or_with_one_class(tmp_path, scores, message):
    rows = pairs()
    place = np.arange(len(rows)) % 4
    rows["part"] = np.array(["train", "valid", "test", "test"])[place]
    rows["score"] = np.array(scores, dtype=float)[place]
    write(tmp_path, rows)
    options = {"task": "classification", "split": "column:part", "positive": 8.0, "negative": 2.0}
    with pytest.raises(InputError, match=message):
        data_of(tmp_path, **options)


def test_labels_of_one_class(tmp_path):
    rows = pairs()
    rows["part"] = np.array(["train", "valid", "test", "train"])[np.arange(len(rows)) % 4]
    rows["label"] = (np.arange(len(rows)) % 4 == 0).astype(int)
    options = {"task": "classification", "split": "column:part"}
    notes = data_of(write(tmp_path, rows.drop(columns="score")), **options).notes
    assert [
        part for part in ("train", "valid", "test") if any(f"of the {part} part are of class 0" in n for n in notes)
    ] == [
        "valid",
        "test",
    ]
    write(tmp_path, rows.drop(columns="score").assign(label=1))
    with pytest.raises(
        InputError, match="all 176 .* train part are of class 1. Column 'label' has to hold both 0 and 1"
    ):
        data_of(tmp_path, **options)


def test_what_lies_between_the_classes_is_known(tmp_path):
    """A drug and a cell line that stand in training between the classes alone were trained on all the same."""
    rows = pairs()
    between = (rows["cell_line"] == "LINE-7") | (rows["drug_a"] == "drug L")
    rows["part"] = np.where(between, "train", np.array(["train", "train", "valid", "test"])[np.arange(len(rows)) % 4])
    rows["score"] = np.where(between, 5.0, 10.0 * (np.arange(len(rows)) % 3 > 0))
    write(tmp_path, rows)
    options = {"task": "classification", "split": "column:part", "positive": 8.0, "negative": 2.0}
    data = data_of(tmp_path, **options)
    assert "LINE-7" not in set(data.table["cell_line"]) and "LINE-7" in data.preprocess["train_cells"]
    values = np.stack([data.cells[f"LINE-{i}"] for i in range(8)])
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
    assert {drug.name for drug in data.train_drugs()} == set(DRUGS["name"])
    assert len(data.preprocess["train_drugs"]) == 12
    assert sum(batch.num_pairs for batch in data.train_dataloader()) == len(data.trained_on())


def test_a_split_that_puts_repeats_apart_is_refused(tmp_path):
    rows = pairs()
    rows["part"] = np.array(["train", "train", "valid", "test"])[np.arange(len(rows)) % 4]
    swap = rows.iloc[:4].rename(columns={"drug_a": "drug_b", "drug_b": "drug_a"})
    again = pd.concat([swap, rows.iloc[4:6]]).assign(part=[*rows["part"][:3], "valid", *rows["part"][4:6]], score=0.5)
    write(tmp_path, pd.concat([rows, again]))
    last = len(rows) + 5
    message = rf"pairs.csv:5: part = 'test': line {last} has the same pair and cell line with 'valid'. Put all .*skip"
    with pytest.raises(InputError, match=message):
        data_of(tmp_path, split="column:part")
    data = data_of(tmp_path, split="column:part", on_error="skip")
    assert data.rejected[["line", "column", "value"]].values.tolist() == [[5, "part", "test"], [last, "part", "valid"]]
    assert len(data.samples) == len(rows) - 1 and data.repeats == {"rows": 5, "contradictory": 10}
    assert data_of(tmp_path, split="random").repeats == {"rows": 6, "contradictory": 12}
