"""Atom and bond features against values written by hand, and against chemprop where it is installed."""

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem

from geoattn.domains.molecules.features import atom_features, atom_width, bond_features, bond_width
from geoattn.errors import InputError

MODES = ["V1", "V2", "ORGANIC", "RIGR"]
MOLECULES = [
    "CCO", "c1ccncc1", "C[C@H](N)C(=O)[O-]", "F/C=C/Cl", "C#N", "[Na+].[Cl-]", "[H][H]", "C[Se]C", "S(F)(F)(F)(F)(F)F",
    "CC(=O)Oc1ccccc1C(=O)O", "[Fe+3]", "C[N+](C)(C)C", "O=S(=O)(O)O", "[13CH4]", "*C", "[2H]O[2H]",
    "N->[Pt](<-N)(Cl)Cl",
]  # fmt: skip


def ones(row):
    """Positions of the ones in front of the last two entries."""
    return np.flatnonzero(row[:-2] == 1).tolist()


def test_v2_of_ethanol_by_hand():
    """The blocks begin at 0 (element, 37 + 1), 38 (degree), 45 (charge), 51 (chirality), 56 (H), 62 (hybridisation)."""
    methyl, methylene, hydroxyl = atom_features(Chem.MolFromSmiles("CCO"))
    assert ones(methyl) == [5, 38 + 4, 45 + 4, 51 + 0, 56 + 3, 62 + 4]
    assert ones(methylene) == [5, 38 + 4, 45 + 4, 51 + 0, 56 + 2, 62 + 4]
    assert ones(hydroxyl) == [7, 38 + 2, 45 + 4, 51 + 0, 56 + 1, 62 + 4]
    assert methyl[-2] == 0 and methyl[-1] == np.float32(0.12011) and hydroxyl[-1] == np.float32(0.15999)


def test_charge_chirality_aromaticity_by_hand():
    nitrogen = atom_features(Chem.MolFromSmiles("C[C@H](N)C(=O)[O-]"))
    assert nitrogen[1, 51 + 2] == 1, "the second of RDKit's chiral tags: counter-clockwise"
    assert nitrogen[5, 45 + 0] == 1, "charge -1 has the first place"
    pyridine = atom_features(Chem.MolFromSmiles("c1ccncc1"))
    assert pyridine[:, -2].tolist() == [1] * 6 and pyridine[0, 62 + 2] == 1


@pytest.mark.parametrize(
    ("mode", "width", "other"), [("V1", 133, 100), ("V2", 72, 37), ("ORGANIC", 44, 12), ("RIGR", 52, 37)]
)
def test_widths_and_the_slot_for_other_elements(mode, width, other):
    iodine, lawrencium = Chem.MolFromSmiles("[I-]"), Chem.MolFromSmiles("[Lr]")
    assert atom_width(mode) == atom_features(iodine, mode).shape[1] == width
    assert atom_features(lawrencium, mode)[0, : other + 1].nonzero()[0].tolist() == [other]
    assert atom_features(iodine, mode)[0, other] == 0


def test_bonds_by_hand():
    """C1-C2, C2=C3 (E), C3-Cl: null, single, double, triple, aromatic, conjugated, ring, six stereo slots, other."""
    edge_index, attributes = bond_features(Chem.MolFromSmiles("F/C=C/Cl"))
    assert edge_index.tolist() == [[1, 0, 2, 1, 3, 2], [0, 1, 1, 2, 2, 3]]
    single = [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    double = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert attributes.tolist() == [single, single, double, double, single, single]
    aromatic = bond_features(Chem.MolFromSmiles("c1ccccc1"))[1]
    assert aromatic.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]] * 12


@pytest.mark.parametrize("mode", MODES)
def test_molecule_without_bonds(mode):
    edge_index, attributes = bond_features(Chem.MolFromSmiles("C"), mode)
    assert edge_index.shape == (2, 0) and attributes.shape == (0, bond_width(mode))


def test_rigr_is_the_same_for_resonance_structures():
    one, other = (Chem.MolFromSmiles(s) for s in ("CC(=O)[O-]", "CC([O-])=O"))
    order = other.GetSubstructMatch(Chem.MolFromSmarts("CC(~O)~O"))
    a, b = atom_features(one, "RIGR"), atom_features(other, "RIGR")
    np.testing.assert_array_equal(np.sort(a, axis=0), np.sort(b, axis=0))
    assert not np.array_equal(atom_features(one)[2], atom_features(other)[2]), "V2 tells them apart"
    assert len(order) == 4


def test_unknown_mode():
    with pytest.raises(InputError, match="atom_mode: got 'v2', which is no known mode. Did you mean 'V2'"):
        atom_features(Chem.MolFromSmiles("C"), "v2")


@pytest.mark.parametrize("mode", MODES)
def test_same_as_chemprop(mode):
    """Runs where chemprop is on the path; it is no dependency."""
    atoms = pytest.importorskip("chemprop.featurizers.atom")
    bonds = pytest.importorskip("chemprop.featurizers.bond")
    featurize_atom = atoms.get_multi_hot_atom_featurizer(mode)
    featurize_bond = bonds.RIGRBondFeaturizer() if mode == "RIGR" else bonds.MultiHotBondFeaturizer()
    for mol in map(Chem.MolFromSmiles, MOLECULES):
        expected = np.array([featurize_atom(atom) for atom in mol.GetAtoms()], dtype=np.float32)
        np.testing.assert_array_equal(atom_features(mol, mode), expected)
        edge_index, attributes = bond_features(mol, mode)
        for (i, j), row in zip(edge_index.T.tolist(), attributes, strict=True):
            np.testing.assert_array_equal(row, featurize_bond(mol.GetBondBetweenAtoms(i, j)))
