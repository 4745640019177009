"""SMILES tokens and molecular graphs of peptides."""

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoattn.domains.records import RecordError
from geoattn.domains.tcr import smiles_tokens
from geoattn.domains.tcr.amino_acids import AMINO_ACIDS
from geoattn.domains.tcr.epitope_graph import epitope_graph, peptide, peptide_smiles, peptide_to_spell, random_smiles
from geoattn.domains.tcr.records import Epitope

Chem = pytest.importorskip("rdkit.Chem")
SHARED = Path(os.environ.get("GEOATTN_SHARED", "shared")) / "data" / "tcr" / "epitopes.csv"
PEPTIDES = st.text(AMINO_ACIDS, min_size=1, max_size=20)


@given(PEPTIDES, st.integers(1, 2**31 - 1))
@settings(max_examples=50)
def test_every_spelling_of_a_peptide_has_tokens(sequence, seed):
    smiles = random_smiles(peptide_to_spell(Epitope(sequence)), seed)
    assert "".join(smiles_tokens.split(smiles)) == smiles
    numbers = smiles_tokens.tokens(smiles, sorted(smiles_tokens.PEPTIDE_TOKENS))
    assert min(numbers) >= smiles_tokens.NUM_SPECIAL
    assert Chem.CanonSmiles(smiles) == peptide_smiles(Epitope(sequence))


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
def test_all_epitopes_of_the_benchmark():
    with SHARED.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 154
    vocabulary = smiles_tokens.fit_vocabulary(row["smiles"] for row in rows)
    assert json.loads(json.dumps(vocabulary)) == sorted(vocabulary)
    for row in rows:
        numbers = smiles_tokens.tokens(row["smiles"], vocabulary)
        assert "".join(vocabulary[i - smiles_tokens.NUM_SPECIAL] for i in numbers) == row["smiles"]
        peptide(Epitope(row["sequence"], row["smiles"]))  # refuses SMILES of another peptide


def test_tokens_longer_than_a_letter():
    assert smiles_tokens.split("[NH3+]C(Br)Cl%12/C=C\\1") == [
        *("[NH3+]", "C", "(", "Br", ")", "Cl", "%12", "/", "C", "=", "C", "\\", "1")
    ]
    assert "[NH3+]" in smiles_tokens.fit_vocabulary(["C[NH3+]"])


def test_unknown_tokens_are_named_with_their_place():
    vocabulary = smiles_tokens.fit_vocabulary([])
    with pytest.raises(RecordError, match=r"smiles.*'\[NH3\+\]' at character 3 "):
        smiles_tokens.tokens("CC[NH3+]", vocabulary)
    with pytest.raises(RecordError, match="character 2, '!'"):
        smiles_tokens.split("C!")


def test_graph_of_a_peptide():
    graph = epitope_graph(Epitope("GW"))
    assert graph.x.shape == (19, 72) and graph.edge_index.shape == (2, 2 * 20) and graph.edge_attr.shape == (40, 14)
    assert graph.residue.tolist() == [0] * 4 + [1] * 15
    assert graph.edge_index[1].diff().min() >= 0
    ends = torch.unique(graph.residue[graph.edge_index], dim=1)
    assert ends.T.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_smiles_of_other_protonation_tautomer_or_without_chirality_are_the_same_peptide():
    peptide(Epitope("AR", "C[C@H]([NH3+])C(=O)N[C@@H](CCCN=C(N)N)C(=O)[O-]"))
    peptide(Epitope("H", "NC(Cc1c[nH]cn1)C(=O)O"))
    assert peptide_smiles(Epitope("A", "OC(=O)[C@H](C)N")) == peptide_smiles(Epitope("A"))


@pytest.mark.parametrize(
    ("sequence", "smiles", "message"),
    [
        ("AV", "C[C@H](N)C(=O)O", "smiles.*another molecule than the peptide 'AV'"),
        ("I", "CC(C)C[C@H](N)C(=O)O", "smiles.*another molecule"),  # leucine: the same atoms, bonded otherwise
        ("AV", "C1CC", "smiles.*RDKit cannot read it"),
        ("AXV", "", "epitope.*letter 2, 'X', has no molecule"),
        ("Av", "", "epitope.*letter 2, 'v'"),  # RDKit would read a D amino acid
        ("", "", "epitope.*no sequence"),
    ],
)
def test_wrong_epitopes_are_named(sequence, smiles, message):
    with pytest.raises(RecordError, match=message):
        peptide(Epitope(sequence, smiles))
