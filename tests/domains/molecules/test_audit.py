import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geoattn.domains.molecules.audit import audit, audit_rows
from geoattn.domains.molecules.geometry import edges, periodic_edges
from geoattn.errors import ShapeError

SPLIT = {"train": [0, 1, 2, 3], "valid": [4], "test": [5, 6, 7, 8]}


def atoms(numbers):
    return Data(z=torch.tensor(numbers), edge_index=torch.empty(2, 0, dtype=torch.long))


def structure(numbers, positions, cell=None):
    positions = np.asarray(positions, dtype=np.float64)
    data = Data(z=torch.tensor(numbers), pos=torch.from_numpy(positions).float())
    if cell is None:
        data.edge_index = torch.from_numpy(edges(positions, None))
    else:
        edge_index, shift = periodic_edges(positions, cell, (True,) * 3, 5.0)
        data.edge_index, data.edge_shift = torch.from_numpy(edge_index), torch.from_numpy(shift).float()
    return data


def test_molecules():
    """Test: the first training molecule in another spelling, a stereoisomer of the second, one more with benzene's
    scaffold, and a molecule of its own; three of the four share the scaffold."""
    pytest.importorskip("rdkit")
    smiles = ["c1ccccc1CCO", "C[C@H](N)c1ccccc1", "CCO", "CCCCC", "OCCc1ccccc1", "OCCc1ccccc1", "C[C@@H](N)c1ccccc1",
              "Brc1ccccc1", "N#CC1CC1"]  # fmt: skip
    numbers = [[6, 8], [6, 7], [6, 8], [6], [6, 8], [6, 8], [6, 7], [6, 35], [6, 7]]
    report = audit([atoms(z) for z in numbers], smiles, [f"m{i}" for i in range(9)], SPLIT)
    assert report["sizes"] == {"train": 4, "valid": 1, "test": 4}
    assert report["duplicates"] == 2 and report["elements_only_in_test"] == ["Br"]
    assert report["pairs"]["train/test"] == {
        "identical": 1,
        "identical_without_stereo": 2,
        "nearly_identical": 2,
        "shared_scaffold": 3,
    }
    assert report["pairs"]["train/valid"]["identical"] == report["pairs"]["valid/test"]["identical"] == 1
    assert report["examples"][0] == {"pair": "train/test", "id": "m5", "other_id": "m0", "similarity": 1.0}
    assert json.loads(json.dumps(report)) == report


def test_acyclic_molecules_share_no_scaffold():
    pytest.importorskip("rdkit")
    smiles = ["CCO", "CCC", "CCN", "CCF", "CCS", "OCCO", "CCCCN", "CC#N", "CCCl"]
    report = audit([atoms([6])] * 9, smiles, smiles, SPLIT)
    assert report["pairs"]["train/test"]["shared_scaffold"] == 0


@pytest.fixture
def structures():
    """Nine random structures of one composition; 5 is 0 turned, moved and renumbered, 6 is 1 mirrored, 7 is 2 with one
    atom moved by 0.05 angstrom; 8 has another composition."""
    rng = np.random.default_rng(0)
    positions = [rng.uniform(0, 6, (5, 3)) for _ in range(9)]
    numbers = [[6, 8, 1, 1, 1]] * 8 + [[6, 8, 8, 1, 1]]
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = [0, 1, 4, 2, 3]
    positions[5] = (positions[0] @ rotation.T + 2.0)[order]
    positions[6] = positions[1] * [-1, 1, 1]
    positions[7] = positions[2] + 0.05 * np.eye(5)[:, :1] * [1, 0, 0]
    return [structure(z, p) for z, p in zip(numbers, positions, strict=True)]


def test_structures(structures):
    report = audit(structures, [""] * 9, [str(i) for i in range(9)], SPLIT)
    assert report["pairs"]["train/test"] == {"identical": 2, "nearly_identical": 3, "shared_composition": 3}
    assert report["pairs"]["train/valid"] == {"identical": 0, "nearly_identical": 0, "shared_composition": 1}
    assert report["duplicates"] == 2
    assert [(e["id"], e["other_id"]) for e in report["examples"][:3]] in (
        [("5", "0"), ("6", "1"), ("7", "2")],
        [("6", "1"), ("5", "0"), ("7", "2")],
    )


def test_crystals_are_compared_with_their_images():
    """The same lattice described from another origin."""
    positions, cell = np.array([[0.1, 0.1, 0.1], [1.5, 1.6, 1.7]]), np.diag([4.0, 4.1, 4.2])
    moved = (positions + np.array([3.0, 2.0, 1.0])) % [4.0, 4.1, 4.2]
    samples = [structure([11, 17], p, c) for p, c in [(positions, cell), (positions, 1.1 * cell), (moved, cell)]]
    report = audit(samples, [""] * 3, list("abc"), {"train": [0, 1], "valid": [], "test": [2]})
    assert report["pairs"]["train/test"]["identical"] == 1 and report["examples"][0]["other_id"] == "a"


def test_rows_of_the_table(structures):
    rows = audit_rows(audit(structures, [""] * 9, [str(i) for i in range(9)], SPLIT))
    assert {"parts": "train/test", "what": "identical", "count": 2, "of": 4, "percent": 50.0} in rows
    assert len(rows) == 9


def test_lengths_must_agree(structures):
    with pytest.raises(ShapeError, match="9, one per sample"):
        audit(structures, ["C"], ["1"], SPLIT)


def test_same_distances_between_other_elements_are_another_structure():
    """A triangle of H, C and O in which the distances H-O and C-O have changed places."""

    def triangle(hydrogen_oxygen, carbon_oxygen, hydrogen_carbon=1.2):
        cosine = (hydrogen_carbon**2 + hydrogen_oxygen**2 - carbon_oxygen**2) / (2 * hydrogen_carbon * hydrogen_oxygen)
        oxygen = [hydrogen_oxygen * cosine, hydrogen_oxygen * np.sqrt(1 - cosine**2), 0]
        return structure([1, 6, 8], [[0, 0, 0], [hydrogen_carbon, 0, 0], oxygen])

    samples = [triangle(1.0, 1.5), triangle(1.5, 1.0), triangle(1.0, 1.5)]
    report = audit(samples, [""] * 3, list("abc"), {"train": [0], "valid": [2], "test": [1]})
    assert report["pairs"]["train/test"]["identical"] == 0 and report["pairs"]["train/valid"]["identical"] == 1
