import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import Crippen, rdMolDescriptors

from geoattn.domains.molecules.demo import CORES, make_demo_table
from geoattn.domains.molecules.pictures import draw_sample, draw_smiles, draw_structure

METHANOL = np.array([[0, 0, 0], [1.4, 0, 0], [1.7, 0.9, 0], [-0.4, 1, 0], [-0.4, -0.5, 0.9], [-0.4, -0.5, -0.9]])


def test_demo_molecules():
    table = make_demo_table(200, seed=3)
    assert list(table.columns) == ["id", "smiles", "logp", "tpsa"]
    mols = [Chem.MolFromSmiles(smiles) for smiles in table["smiles"]]
    assert [Chem.MolToSmiles(mol) for mol in mols] == table["smiles"].tolist(), "canonical"
    assert table["smiles"].nunique() == table["id"].nunique() == 200
    np.testing.assert_allclose(table["logp"], [Crippen.MolLogP(mol) for mol in mols], atol=1e-4)
    np.testing.assert_allclose(table["tpsa"], [rdMolDescriptors.CalcTPSA(mol) for mol in mols], atol=1e-2)
    assert table["logp"].std() > 1 and not table["smiles"].str.contains(".", regex=False).any()


def test_demo_repeats():
    assert make_demo_table(50, seed=1).equals(make_demo_table(50, seed=1))
    assert not make_demo_table(50, seed=1).equals(make_demo_table(50, seed=2))


@pytest.mark.parametrize("core", CORES)
def test_cores_are_molecules(core):
    assert Chem.MolFromSmiles(core.format(*"CCC"[: core.count("{}")])) is not None


def shapes(svg, tag):
    return [element for element in ET.fromstring(svg).iter() if element.tag.endswith(tag)]


def test_drawing_of_a_formula():
    svg = draw_smiles("CC(=O)O", width=123)
    assert svg.startswith("<svg") and "width='123px'" in svg and len(shapes(svg, "path")) >= 3


def test_drawing_of_a_structure():
    svg = draw_structure(np.array([6, 8, 1, 1, 1, 1]), METHANOL, width=200, height=100)
    circles, sticks = shapes(svg, "circle"), shapes(svg, "path")
    assert len(circles) == 6 and len(sticks) == 5, "one ball per atom, one stick per bond"
    for circle in circles:
        x, y, r = (float(circle.get(key)) for key in ("cx", "cy", "r"))
        assert r <= x <= 200 - r and r <= y <= 100 - r


@pytest.mark.parametrize("num_atoms", [1, 2])
def test_drawing_of_very_small_structures(num_atoms):
    assert len(shapes(draw_structure(np.array([6, 8])[:num_atoms], METHANOL[:num_atoms]), "circle")) == num_atoms


def test_formula_before_structure():
    sample = Data(z=torch.tensor([6, 8]), pos=torch.from_numpy(METHANOL[:2]))
    assert draw_sample(sample, "CO") == draw_smiles("CO")
    assert draw_sample(sample) == draw_structure(np.array([6, 8]), METHANOL[:2])
    with pytest.raises(ValueError, match="cannot be drawn"):
        draw_sample(Data(z=torch.tensor([6])))
