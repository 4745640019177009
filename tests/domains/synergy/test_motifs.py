"""Motifs: what they are, that no atom is lost, that numbering does not matter, and the vocabulary."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoattn.domains.synergy.motifs import MotifVocabulary, motif_graph
from geoattn.errors import InputError

Chem = pytest.importorskip("rdkit.Chem")

DRUGS = {
    "5-fluorouracil": "O=c1[nH]cc(F)c(=O)[nH]1",
    "temozolomide": "Cn1nnc2c(C(N)=O)ncn2c1=O",
    "cyclophosphamide": "O=P1(N(CCCl)CCCl)NCCCO1",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",
    "erlotinib": "C#Cc1cccc(Nc2ncnc3cc(OCCOC)c(OCCOC)cc23)c1",
    "lapatinib": "CS(=O)(=O)CCNCc1ccc(-c2ccc3ncnc(Nc4ccc(OCc5cccc(F)c5)c(Cl)c4)c3c2)o1",
    "sorafenib": "CNC(=O)c1cc(Oc2ccc(NC(=O)Nc3ccc(Cl)c(C(F)(F)F)c3)cc2)ccn1",
    "bortezomib": "CC(C)C[C@H](NC(=O)[C@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "methotrexate": "CN(Cc1cnc2nc(N)nc(N)c2n1)c1ccc(C(=O)N[C@@H](CCC(=O)O)C(=O)O)cc1",
    "gemcitabine": "Nc1ccn([C@@H]2O[C@H](CO)[C@@H](O)C2(F)F)c(=O)n1",
    "etoposide": "COc1cc([C@@H]2c3cc4c(cc3[C@H](OC3OC5COC(C)OC5C(O)C3O)C3COC(=O)[C@@H]32)OCO4)cc(OC)c1O",
    "topotecan": "CC[C@@]1(O)C(=O)OCc2c1cc1n(c2=O)Cc2cc3c(CN(C)C)c(O)ccc3nc2-1",
    "doxorubicin": "COc1cccc2c1C(=O)c1c(O)c3c(c(O)c1C2=O)C[C@@](O)(C(=O)CO)C[C@@H]3OC1CC(N)C(O)C(C)O1",
    "paclitaxel": (
        "CC1=C2[C@@]([C@]([C@H]([C@@H]3[C@]4([C@H](OC4)C[C@@H]([C@]3(C(=O)[C@@H]2OC(=O)C)C)O)OC(=O)C)"
        "OC(=O)c5ccccc5)(C[C@@H]1OC(=O)[C@H](O)[C@@H](NC(=O)c6ccccc6)c7ccccc7)O)(C)C"
    ),
    "vorinostat": "O=C(CCCCCCC(=O)Nc1ccccc1)NO",
    "dexamethasone": "C[C@@H]1CC2C3CCC4=CC(=O)C=C[C@]4(C)[C@@]3(F)[C@@H](O)C[C@]2(C)[C@@]1(O)C(=O)CO",
    "morphine": "CN1CCC23C4C1CC5=C2C(=C(C=C5)O)OC3C(C=C4)O",
    "memantine": "CC12CC3CC(C)(C1)CC(N)(C3)C2",
    "arsenic trioxide": "O=[As]O[As]=O",
    "cisplatin": "[NH3][Pt]([NH3])(Cl)Cl",
    "sodium valproate": "CCCC(CCC)C(=O)[O-].[Na+]",
    "water": "O",
    "griseofulvin": "COC1=CC(=O)CC(C)C12Oc1c(Cl)c(OC)cc(OC)c1C2=O",
}
SCHEMES = ["rings", "brics"]


def read(smiles):
    mol = Chem.MolFromSmiles(smiles)
    assert mol is not None
    return mol


def described(graph, names=None):
    """The motifs as sets of (renamed) atoms with their keys, and the edges between them."""
    names = range(int(graph.atom.max()) + 1) if names is None else names
    motifs = [
        (frozenset(names[a] for a in graph.atom[graph.motif == m].tolist()), key) for m, key in enumerate(graph.keys)
    ]
    return Counter(motifs), Counter((motifs[j], motifs[i]) for j, i in graph.edge_index.T.tolist())


def test_toluene_keeps_its_methyl_carbon():
    graph = motif_graph(read("Cc1ccccc1"))
    assert graph.keys == ("c1ccccc1", "cC")
    assert graph.atom.tolist() == [1, 2, 3, 4, 5, 6, 0, 1]
    assert graph.motif.tolist() == [0] * 6 + [1] * 2
    assert graph.edge_index.tolist() == [[1, 0], [0, 1]]


def test_benzene_and_cyclohexane_differ():
    assert motif_graph(read("c1ccccc1")).keys == ("c1ccccc1",)
    assert motif_graph(read("C1CCCCC1")).keys == ("C1CCCCC1",)


def test_a_motif_does_not_depend_on_what_surrounds_it():
    for smiles in ("Cc1ccccc1", "CCc1ccc(C)cc1", "c1ccc(C)c2ccccc12", "CN(C)Cc1ccccc1"):
        assert "c1ccccc1" in motif_graph(read(smiles)).keys
    assert {"cC"} == {k for s in ("Cc1ccccc1", "c1cccnc1C", "Cc1c[nH]cc1") for k in motif_graph(read(s)).keys[1:]}


def test_rings_joined_by_a_bond_or_an_atom_touch():
    biphenyl = motif_graph(read("c1ccccc1-c1ccccc1"))
    assert biphenyl.keys == ("c1ccccc1", "c1ccccc1", "c-c")
    assert biphenyl.edge_index.shape == (2, 6)  # both rings hold an end of the bond, and are joined by it
    spiro = motif_graph(read("C1CCC2(C1)CCCC2"))
    assert spiro.edge_index.tolist() == [[1, 0], [0, 1]]


def test_parts_without_bonds_between_them():
    graph = motif_graph(read("CCO.[Na+].[Cl-]"))
    assert graph.keys == ("CCO", "[Na+]", "[Cl-]")
    assert graph.edge_index.shape == (2, 0)
    empty = motif_graph(Chem.Mol())
    assert empty.keys == () and empty.edge_index.shape == (2, 0) and len(empty.atom) == 0


def test_brics_cuts_amides_and_keeps_each_atom_once():
    mol = read(DRUGS["imatinib"])
    graph = motif_graph(mol, "brics")
    assert sorted(graph.atom.tolist()) == list(range(mol.GetNumAtoms()))
    assert "O=C" in graph.keys or "C=O" in graph.keys
    assert motif_graph(read("CC"), "brics").keys == ("CC",)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", DRUGS)
def test_no_atom_and_no_bond_is_lost(name, scheme):
    mol = read(DRUGS[name])
    graph = motif_graph(mol, scheme)
    assert set(graph.atom.tolist()) == set(range(mol.GetNumAtoms()))
    assert len(graph.keys) == len(set(graph.motif.tolist()))
    assert (np.diff(graph.motif) >= 0).all() and graph.edge_index.dtype == np.int64
    pairs = set(map(tuple, graph.edge_index.T.tolist()))
    motifs_of = {a: set(graph.motif[graph.atom == a].tolist()) for a in range(mol.GetNumAtoms())}
    for bond in mol.GetBonds():
        ends = motifs_of[bond.GetBeginAtomIdx()], motifs_of[bond.GetEndAtomIdx()]
        assert all((i, j) in pairs and (j, i) in pairs for i in ends[0] for j in ends[1] if i != j)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(DRUGS)), random=st.randoms(use_true_random=False))
def test_numbering_changes_nothing(scheme, name, random):
    mol = read(DRUGS[name])
    order = list(range(mol.GetNumAtoms()))
    random.shuffle(order)
    renumbered = motif_graph(Chem.RenumberAtoms(mol, order), scheme)
    assert described(renumbered, order) == described(motif_graph(mol, scheme))


def test_vocabulary_counts_molecules_and_knows_the_unknown():
    mols = [read(s) for s in ("Cc1ccccc1", "Cc1ccccc1C", "C1CCCCC1", "CC(C)c1ccccc1")]
    vocabulary = MotifVocabulary.fit(mols, min_count=2)
    assert vocabulary.keys == ("c1ccccc1", "cC") and vocabulary.num_codes == 3
    assert vocabulary.encode(motif_graph(mols[0])).tolist() == [1, 2]
    assert vocabulary.encode(motif_graph(mols[2])).tolist() == [0]
    assert vocabulary.encode(motif_graph(read("CC(C)c1ccccc1"))).tolist() == [1, 0]
    assert MotifVocabulary.fit([]).num_codes == 1


def test_vocabulary_depends_on_its_own_molecules_alone():
    drugs = [read(s) for s in DRUGS.values()]
    train, test = drugs[::2], drugs[1::2]
    first = MotifVocabulary.fit(train)
    before = [first.encode(motif_graph(mol)).tolist() for mol in drugs]
    MotifVocabulary.fit(test)
    assert MotifVocabulary.fit(reversed(train)) == first
    assert [first.encode(motif_graph(mol)).tolist() for mol in drugs] == before
    assert all(0 not in codes for codes in before[::2]) and any(0 in codes for codes in before[1::2])


def test_vocabulary_survives_json():
    vocabulary = MotifVocabulary.fit([read(DRUGS["imatinib"])], scheme="brics")
    again = MotifVocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary and hash(again) == hash(vocabulary)
    with pytest.raises(InputError, match="min_count"):
        MotifVocabulary.from_json({"keys": []})


def test_unknown_scheme():
    with pytest.raises(InputError, match="Did you mean 'brics'"):
        motif_graph(read("CC"), "bricks")
