import gzip

import numpy as np
import pandas as pd
import pytest

from geoattn.datasets.molecule_files import Columns, read_records
from geoattn.datasets.rejections import Rejections
from geoattn.errors import InputError

WATER = """\
3
Properties=species:S:1:pos:R:3 energy=-76.4 fold=2 name=water pbc="F F F"
O 0.0 0.0 0.0
H 0.0 0.76 0.59
H 0.0 -0.76 0.59
"""
SALT = """\
2
Lattice="5.6 0 0 0 5.6 0 0 0 5.6" Properties=species:S:1:pos:R:3 energy=-3.5
Na 0 0 0
Cl 2.8 0 0
"""


def read(path, on_error="raise", **columns):
    rejections = Rejections(on_error)
    return list(read_records(path, rejections, Columns(**columns))), rejections.table()


def write(path, text):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz"])
def test_table(tmp_path, suffix):
    text = "name,SMILES,y\nethanol,CCO,1.5\nbenzene,c1ccccc1,\n"
    path = write(tmp_path / f"a{suffix}", text.replace(",", "\t") if "tsv" in suffix else text)
    records, _ = read(path)
    assert [(r.line, r.id, r.smiles) for r in records] == [(2, "ethanol", "CCO"), (3, "benzene", "c1ccccc1")]
    assert [r.fields["y"] for r in records] == ["1.5", ""]


def test_parquet_counts_rows(tmp_path):
    pd.DataFrame({"smiles": ["C", None], "y": [1.0, float("nan")]}).to_parquet(tmp_path / "a.parquet")
    records, _ = read(tmp_path / "a.parquet")
    assert [(r.line, r.id, r.smiles) for r in records] == [(1, "1", "C"), (2, "2", "")]


def test_line_numbers_are_those_of_the_file(tmp_path):
    """A quoted cell over two lines and a blank line stand before the last row."""
    path = write(tmp_path / "a.csv", 'smiles,note\r\nC,"two\r\nlines"\r\n\r\nCC,x\r\n')
    assert [r.line for r in read(path)[0]] == [2, 5]


def test_byte_order_mark_is_no_part_of_the_header(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfsmiles,y\nC,1\n")
    assert read(tmp_path / "a.csv")[0][0].smiles == "C"


def test_named_columns(tmp_path):
    path = write(tmp_path / "a.csv", "smiles,product,code\nC,CC,x7\n")
    record = read(path, smiles="product", id="code")[0][0]
    assert (record.smiles, record.id) == ("CC", "x7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("smiles,y\n", "there is no molecule in the file"),
        ("molecule,y\nC,1\n", "no SMILES column found among 'molecule', 'y'"),
        ("smiles;y\nC;1\n", "separated by ';'"),
        ("smiles,y,y\nC,1,2\n", "names column 'y' more than once"),
        ("smiles,y\nC,1,2\n", r"a\.csv:2: row = 'C,1,2': 3 cells where the header has 2"),
        ('smiles,y\nC,"1\n', r"a\.csv:2"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "a.csv", text))


def test_missing_column_names_the_nearest(tmp_path):
    path = write(tmp_path / "a.csv", "smiles,solubility\nC,1\n")
    with pytest.raises(InputError, match="no column 'solubilty'. Did you mean 'solubility'"):
        read(path, required=["solubilty"])
    with pytest.raises(InputError, match="no column 'smile'. Did you mean 'smiles'"):
        read(path, smiles="smile")


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "solubility.csv", "smiles\nC\n")
    with pytest.raises(InputError, match=r"no such file. Did you mean 'solubility.csv'"):
        read(tmp_path / "solubilty.csv")


@pytest.mark.parametrize("name", ["a.mol2", "a", "a.parquet.gz", "a.gz"])
def test_unknown_format(tmp_path, name):
    with pytest.raises(InputError, match=r"unknown file format.*\.csv, \.tsv, \.parquet, \.sdf, \.xyz"):
        read(tmp_path / name)


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"smiles\n\xff\xfe\n"), ("a.csv.gz", b"smiles\nC\n")])
def test_not_text(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as text"):
        read(tmp_path / name)


def test_not_parquet(tmp_path):
    with pytest.raises(InputError, match="not a Parquet file"):
        read(write(tmp_path / "a.parquet", "smiles\nC\n"))


def test_ragged_row_is_listed(tmp_path):
    records, rejected = read(write(tmp_path / "a.csv", "smiles,y\nC\nCC,2\n"), on_error="skip")
    assert [r.smiles for r in records] == ["CC"]
    assert rejected[["line", "column", "value"]].values.tolist() == [[2, "row", "C"]]


@pytest.mark.parametrize("suffix", [".xyz", ".extxyz", ".xyz.gz"])
def test_extended_xyz(tmp_path, suffix):
    water, salt = read(write(tmp_path / f"a{suffix}", WATER + "\n" + SALT))[0]
    assert (water.line, water.id, salt.line, salt.id) == (1, "water", 7, "7")
    assert water.numbers.tolist() == [8, 1, 1] and water.positions[1].tolist() == [0.0, 0.76, 0.59]
    assert not water.is_periodic and salt.is_periodic and salt.pbc == (True, True, True)
    np.testing.assert_allclose(salt.cell, 5.6 * np.eye(3))
    assert float(water.fields["energy"]) == -76.4, "ASE moves the key 'energy' to a calculator"
    assert int(water.fields["fold"]) == 2


def test_xyz_without_keys(tmp_path):
    record = read(write(tmp_path / "a.xyz", "1\njust a comment\nHe 1 2 3\n"))[0][0]
    assert record.numbers.tolist() == [2] and record.positions.tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("three\n\nHe 0 0 0\n", r"a\.xyz:1: got 'three' where the number of atoms"),
        ("1\n\nHe 0 0 0\nHe 1 1 1\n", r"a\.xyz:4: got 'He 1 1 1' where the number of atoms"),
        ("-1\n\n", r"a\.xyz:1: got '-1'"),
        ("2\n\nHe 0 0 0\n", r"a\.xyz:1: the file ends within this frame of 2 atoms"),
        ("1\n\nQq 0 0 0\n", r"a\.xyz:1: frame"),
        ("1\n\nHe 0 zero 0\n", r"a\.xyz:1: frame"),
        ("1\n\nHe 0 0\n", r"a\.xyz:1: frame"),
        ("\n\n", "there is no molecule in the file"),
    ],
)
def test_bad_xyz(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "a.xyz", text))


def test_bad_frame_is_listed_and_the_next_one_is_read(tmp_path):
    records, rejected = read(write(tmp_path / "a.xyz", "1\n\nHe 0 zero 0\n" + WATER), on_error="skip")
    assert [r.line for r in records] == [4]
    assert rejected["line"].tolist() == [1] and "zero" in rejected["reason"][0]


def test_key_that_no_frame_has(tmp_path):
    with pytest.raises(InputError, match="no entry has 'enrgy'. Did you mean 'energy'"):
        read(write(tmp_path / "a.xyz", WATER), required=["enrgy"])


def test_sdf(tmp_path):
    chem = pytest.importorskip("rdkit.Chem")
    block = chem.MolToMolBlock(chem.MolFromSmiles("CCO"))
    entry = "ethanol" + block + "> <y>  (1)\n-0.77\n\n> <note>\ntwo\nlines\n\n$$$$\n"
    records, _ = read(write(tmp_path / "a.sdf", entry + "second" + block + ">  <y>\n1.0\n"))
    assert [(r.id, r.line, r.fields["y"]) for r in records] == [
        ("ethanol", 1, "-0.77"),
        ("second", entry.count("\n") + 1, "1.0"),
    ]
    assert records[0].fields["note"] == "two\nlines"
    assert chem.MolToSmiles(chem.MolFromMolBlock(records[1].molblock)) == "CCO"


def test_reading_is_lazy(tmp_path):
    """The first records of a file come without reading what stands behind them, here an error."""
    path = write(tmp_path / "a.csv", "smiles\n" + "C\n" * 100_000 + "C,C\n")
    stream = read_records(path, Rejections("raise"))
    assert next(stream).line == 2
    with pytest.raises(InputError, match=":100002:"):
        list(stream)
