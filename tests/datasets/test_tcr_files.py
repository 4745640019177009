import gzip

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.tcr_columns import TCRColumns
from geoattn.datasets.tcr_files import PairReader
from geoattn.datasets.tcr_rows import checked_protein
from geoattn.domains.records import RecordError
from geoattn.errors import InputError

PLAIN = "cdr3,v,j,epitope,label\nCASSIRSSYEQYF,TRBV19,TRBJ2-7,GILGFVFTL,1\nCASSLGQAYEQYF,TRBV7-9,TRBJ2-7,NLVPMVATV,0\n"


def read(path, on_error="raise", anchors=None, epitopes=(), labels=True, full=False, **columns):
    rejections = Rejections(on_error)
    options = {"anchors": anchors, "epitopes": epitopes, "labels": labels, "full": full}
    reader = PairReader(path, rejections, TCRColumns(**columns), **options)
    return list(reader), rejections.table(), reader


def write(path, text):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.txt", "a.txt.gz", "a.parquet"])
def test_plain_table(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        pd.DataFrame([line.split(",") for line in PLAIN.split()[1:]], columns=PLAIN.split()[0].split(",")).to_parquet(
            path
        )
    else:
        write(path, PLAIN if "csv" in name else PLAIN.replace(",", "\t"))
    pairs, _, _ = read(path, anchors="yes")
    assert [(p.receptor.cdr3, p.receptor.v, p.receptor.j, p.epitope.sequence, p.label) for p in pairs] == [
        ("CASSIRSSYEQYF", "TRBV19", "TRBJ2-7", "GILGFVFTL", 1),
        ("CASSLGQAYEQYF", "TRBV7-9", "TRBJ2-7", "NLVPMVATV", 0),
    ]
    assert [p.line for p in pairs] == ([1, 2] if name == "a.parquet" else [2, 3])


FORMATS = {
    "airr junction": (
        "sequence_id\tlocus\tproductive\tv_call\tj_call\tjunction_aa\tcdr3_aa\tepitope\n"
        "s1\tTRB\tT\tTRBV19*01,TRBV19*02\tTRBJ2-7*01\tCASSIRSSYEQYF\tASSIRSSYEQY\tGILGFVFTL\n",
        ("CASSIRSSYEQYF", "TRBV19*01", "TRBJ2-7*01", "GILGFVFTL", ""),
    ),
    "airr cdr3": (
        "sequence_id\tlocus\tproductive\tv_call\tj_call\tcdr3_aa\tepitope\n"
        "s1\tTRB\tT\tTRBV19*01\tTRBJ2-7*01\tASSIRSSYEQY\tGILGFVFTL\n",
        ("CASSIRSSYEQYF", "TRBV19*01", "TRBJ2-7*01", "GILGFVFTL", ""),
    ),
    "vdjdb": (
        "complex.id\tGene\tCDR3\tV\tJ\tSpecies\tEpitope\tReference\n"
        "0\tTRB\tCASSIRSSYEQYF\tTRBV19*01\tTRBJ2-7*01\tHomoSapiens\tGILGFVFTL\tPMID:1\n",
        ("CASSIRSSYEQYF", "TRBV19*01", "TRBJ2-7*01", "GILGFVFTL", "PMID:1"),
    ),
    "vdjdb paired": (
        "cdr3.alpha\tcdr3.beta\tv.beta\tj.beta\tspecies\tantigen.epitope\treference.id\n"
        "\tCASSIRSSYEQYF\tTRBV19*01\tTRBJ2-7*01\tHomoSapiens\tGILGFVFTL\tPMID:1\n",
        ("CASSIRSSYEQYF", "TRBV19*01", "TRBJ2-7*01", "GILGFVFTL", "PMID:1"),
    ),
    "iedb, two header lines": (
        "Receptor\tReceptor\tEpitope\tChain 2\tChain 2\tChain 2\tChain 2\tChain 2\n"
        "Group IRI\tReference Name\tName\tType\tCDR3 Curated\tCDR3 Calculated\tCalculated V Gene\tCalculated J Gene\n"
        "x\tSome, 2020\tGILGFVFTL\tbeta\tASSIRSSYEQY\tASSIRSSYEQY\tTRBV19*01\tTRBJ2-7*01\n",
        ("CASSIRSSYEQYF", "TRBV19*01", "TRBJ2-7*01", "GILGFVFTL", "Some, 2020"),
    ),
    "mcpas": (
        "CDR3.alpha.aa\tCDR3.beta.aa\tSpecies\tPubMed.ID\tEpitope.peptide\tTRBV\tTRBJ\n"
        "NA\tCASSIRSSYEQYF\tHuman\t123\tGILGFVFTL\tTRBV19*01\tTRBJ2-7*01\n",
        ("CASSIRSSYEQYF", "TRBV19*01", "TRBJ2-7*01", "GILGFVFTL", "123"),
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_known_formats_need_no_option(tmp_path, name):
    text, expected = FORMATS[name]
    (pair,), rejected, _ = read(write(tmp_path / "a.tsv", text))
    receptor = pair.receptor
    assert (receptor.cdr3, receptor.v, receptor.j, pair.epitope.sequence, pair.study) == expected
    assert pair.label == 1 and rejected.empty


def test_10x_contigs_beside_given_epitopes(tmp_path):
    text = (
        "barcode,contig_id,chain,v_gene,j_gene,productive,cdr3\n"
        "AAC,AAC_1,TRB,TRBV19,TRBJ2-7,True,CASSIRSSYEQYF\nAAC,AAC_2,TRA,TRAV1-1,TRAJ1,True,CAVF\n"
        "AAG,AAG_1,TRB,TRBV19,TRBJ2-7,False,CASSF\n"
    )
    pairs, rejected, _ = read(
        write(tmp_path / "a.csv", text), "skip", epitopes=["GILGFVFTL", "NLVPMVATV"], labels=False
    )
    assert [(p.id, p.epitope.sequence, p.label) for p in pairs] == [
        ("AAC_1", "GILGFVFTL", None),
        ("AAC_1", "NLVPMVATV", None),
    ]
    assert sorted(set(zip(rejected["line"], rejected["column"], strict=True))) == [(4, "productive")]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cdr3", "CASSXEQYF", "'X' is none of the 20 amino acids"),
        ("cdr3", "cassirssyeqyf", "lower case. Write amino acids in upper case"),
        ("cdr3", "CASS*EQYF", "'\\*' is a stop codon"),
        ("cdr3", "CASS_EQYF", "'_' is a reading frame that is cut"),
        ("cdr3", "CASS-EQYF", "'-' is a gap"),
        ("cdr3", "", "empty"),
        ("cdr3", "ASSIRSSYEQYF", "begins with A, not with the conserved C"),
        ("cdr3", "CASSIRSSYEQYV", "ends with V, not with the conserved F or W"),
        ("v", "banana", "no name of a human T-cell receptor gene"),
        ("v", "TRAV1-1", "TRAV1-1 is no TRBV gene"),
        ("j", "TRBV19", "TRBV19 is no TRBJ gene"),
        ("epitope", "GILGFVFTL + OX(M3)", "' ' is none of the 20 amino acids"),
        ("label", "2", "a label must be 0 or 1"),
        ("label", "", "a label must be 0 or 1"),
    ],
)
def test_bad_cell_is_named_by_line_and_column(tmp_path, column, value, message):
    cells = {
        "cdr3": "CASSIRSSYEQYF",
        "v": "TRBV19",
        "j": "TRBJ2-7",
        "epitope": "GILGFVFTL",
        "label": "1",
        column: value,
    }
    path = write(tmp_path / "a.csv", PLAIN + ",".join(cells.values()) + "\n")
    with pytest.raises(InputError, match=rf"a\.csv:4: {column} = .*{message}"):
        read(path, anchors="yes")
    pairs, rejected, _ = read(path, "skip", anchors="yes")
    assert len(pairs) == 2 and rejected[["line", "column"]].values.tolist() == [[4, column]]


def test_anchors_are_asked_for_never_guessed(tmp_path):
    with pytest.raises(InputError, match=r"column 'cdr3' \('CASSIRSSYEQYF', 'CASSLGQAYEQYF'\).*--anchors yes"):
        read(write(tmp_path / "a.csv", PLAIN))


def test_anchors_are_added_where_they_are_cut_off(tmp_path):
    path = write(tmp_path / "a.csv", PLAIN.replace("CASS", "ASS").replace("QYF", "QY"))
    pairs, _, reader = read(path, anchors="no")
    assert [p.receptor.cdr3 for p in pairs] == ["CASSIRSSYEQYF", "CASSLGQAYEQYF"]
    assert "C was put before each" in reader.notes[0]


def test_anchors_are_not_added_twice(tmp_path):
    with pytest.raises(InputError, match="begin with C and end with F or W already"):
        read(write(tmp_path / "a.csv", PLAIN), anchors="no")


def test_unchecked_anchors(tmp_path):
    pairs, _, reader = read(write(tmp_path / "a.csv", PLAIN.replace("QYF", "QYV")), anchors="none")
    assert pairs[0].receptor.cdr3 == "CASSIRSSYEQYV" and "not checked" in reader.notes[0]


def test_swapped_columns(tmp_path):
    text = "cdr3,epitope\nGILGFVFTL,CASSIRSSYEQYF\nNLVPMVATV,CASSLGQAYEQYF\n"
    with pytest.raises(InputError, match="the columns look swapped: 'epitope' holds C...F like a CDR3"):
        read(write(tmp_path / "a.csv", text), anchors="none", labels=False)


def test_missing_columns(tmp_path):
    with pytest.raises(InputError, match=r"no epitope column found among 'cdr3', 'x'.*--epitope-column"):
        read(write(tmp_path / "a.csv", "cdr3,x\nCASSF,1\n"))
    with pytest.raises(InputError, match=r"no column 'epitpe'. Did you mean 'epitope'"):
        read(write(tmp_path / "b.csv", PLAIN), epitope="epitpe")
    with pytest.raises(InputError, match=r"no V gene column found.*--v-column"):
        read(write(tmp_path / "c.csv", "cdr3,epitope\nCASSF,GIL\n"), anchors="yes", full=True)


@pytest.mark.parametrize("header", ["CDR3,V Gene,j_Gene,Epitope ,LABEL", " cdr3 , v  gene,J GENE,EPITOPE,label"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_case_and_spaces_of_a_header_do_not_matter(tmp_path, header, suffix):
    rows = [line.split(",") for line in PLAIN.split()[1:]]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pd.DataFrame(rows, columns=header.split(",")).to_parquet(path)
    else:
        write(path, "\n".join([header, *map(",".join, rows)]) + "\n")
    for named in ({}, {"epitope": "epitope", "tcr": "Cdr3", "required": ["Label"]}):
        pairs, _, _ = read(path, anchors="yes", **named)
        assert [(p.receptor.v, p.epitope.sequence, p.label) for p in pairs] == [
            ("TRBV19", "GILGFVFTL", 1),
            ("TRBV7-9", "NLVPMVATV", 0),
        ]
        assert [dict(pair.fields) for pair in pairs] == ([{"Label": "1"}, {"Label": "0"}] if named else [{}, {}])


def test_columns_that_differ_in_case_alone(tmp_path):
    path = write(tmp_path / "a.csv", "CDR3,cdr3,epitope\nCASSF,CASSYF,GIL\n")
    with pytest.raises(InputError, match="columns 'CDR3' and 'cdr3' are the same but.*Choose with --tcr-column"):
        read(path, anchors="yes")
    with pytest.raises(InputError, match="'Cdr3' could be column 'CDR3' or 'cdr3'"):
        read(path, anchors="yes", tcr="Cdr3")
    assert read(path, anchors="yes", tcr="cdr3")[0][0].receptor.cdr3 == "CASSYF"


@pytest.mark.parametrize(
    ("role", "most", "what"), [("cdr3", 50, "CDR3"), ("epitope", 50, "peptide"), ("full", 200, "variable domain")]
)
def test_sequences_that_are_too_long(tmp_path, role, most, what):
    option = {"cdr3": "tcr"}.get(role, role)
    for length in (most, most + 1):
        cells = {"cdr3": "CASSF", "full": "AACASSFGG", "epitope": "GILGFVFTL"}
        cells[role] = {"cdr3": "C" + "A" * (length - 2) + "F", "full": "CASSF" + "A" * (length - 5)}.get(
            role, "A" * length
        )
        cells["full"] = cells["cdr3"] if role == "cdr3" else cells["full"]
        path = write(tmp_path / "a.csv", f"cdr3,full,epitope\nCASSF,CASSF,GIL\n{','.join(cells.values())}\n")
        if length == most:
            assert len(read(path, anchors="yes")[0]) == 2
            continue
        expected = (
            rf"a\.csv:3: {role} = '.*': {length} residues, expected at most {most} for a {what}.*--{option}-column"
        )
        with pytest.raises(InputError, match=expected):
            read(path, anchors="yes")


VDJDB = (
    "Gene\tCDR3\tV\tJ\tSpecies\tEpitope\nTRA\tCAVSF\tTRAV1-1\tTRAJ1\tHomoSapiens\tGILGFVFTL\n"
    "TRB\tCASSIRSSYEQYF\tTRBV19*01\tTRBJ2-7*01\tHomoSapiens\tGILGFVFTL\n"
    "TRA\tCAVF\tTRAV1-1\tTRAJ1\tMusMusculus\tGILGFVFTL\n"
)


def test_alpha_chains_are_left_out_and_counted(tmp_path):
    pairs, rejected, reader = read(write(tmp_path / "a.tsv", VDJDB))
    assert [pair.receptor.cdr3 for pair in pairs] == ["CASSIRSSYEQYF"] and rejected.empty
    assert reader.notes[0] == "2 rows of alpha, gamma or delta chains were left out: only beta is used."
    plain = "chain,cdr3,epitope\nalpha,CAVSF,GILGFVFTL\nbeta,CASSF,GILGFVFTL\n"
    assert [pair.line for pair in read(write(tmp_path / "b.csv", plain), anchors="yes")[0]] == [3]
    with pytest.raises(InputError, match="all 1 rows are of alpha, gamma or delta chains, by column 'chain'"):
        read(write(tmp_path / "c.csv", "\n".join(plain.split()[:2]) + "\n"), anchors="yes")


def test_changed_gene_names_are_listed(tmp_path):
    path = write(tmp_path / "a.csv", PLAIN.replace("TRBV7-9", "TCRBV07-09"))
    pairs, _, reader = read(path, anchors="yes")
    assert pairs[1].receptor.v == "TRBV7-9"
    assert reader.changes.values.tolist() == [["v", "TCRBV07-09", "TRBV7-9", 1]]
    assert any("TCRBV07-09 as TRBV7-9" in note for note in reader.notes)


def test_full_sequence_from_its_column_must_hold_the_cdr3(tmp_path):
    text = "cdr3,full,epitope\nCASSF,AACASSFGG,GIL\nCASSF,AACASSAGG,GIL\n"
    pairs, rejected, _ = read(write(tmp_path / "a.csv", text), "skip", anchors="yes")
    assert (pairs[0].receptor.full, pairs[0].receptor.start) == ("AACASSFGG", 2)
    assert rejected[["line", "column"]].values.tolist() == [[3, "full"]]


def test_full_sequence_from_genes(tmp_path):
    pairs, _, _ = read(write(tmp_path / "a.csv", PLAIN), anchors="yes", full=True)
    receptor = pairs[0].receptor
    assert receptor.full[receptor.start :] == "CASSIRSSYEQYFGPGTRLTVT"


@given(st.text(alphabet="ACDEFGHIKLMNPQRSTVWYacX*_-. 1", max_size=8))
def test_only_amino_acids_pass(text):
    good = bool(text) and set(text) <= set("ACDEFGHIKLMNPQRSTVWY")
    if good:
        assert checked_protein("cdr3", text, "tcr") == text
    else:
        with pytest.raises(RecordError):
            checked_protein("cdr3", text, "tcr")
