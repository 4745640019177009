"""Potentials: forces and stress are exact derivatives of an energy that has the right symmetries."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("vesin", reason="needs geoattn[molecules]")

from geoattn.domains.molecules.depthwise_potential import EquiformerPotential
from geoattn.domains.molecules.egnn_potential import EGNNPotential
from geoattn.domains.molecules.equiformer_potential import EquiformerV2Potential
from geoattn.domains.molecules.potential import Potential
from geoattn.domains.molecules.structures import PackedStructures, Structure, StructureBatch
from geoattn.errors import InputError
from geoattn.hub import Card, from_pretrained, save_pretrained
from geoattn.testing import assert_equivariant

CUTOFF = 3.0
REFERENCES = {1: -0.5, 6: -1.1, 8: -2.041250000001}
SKEWED = np.array([[4.1, 0.3, 0.0], [-0.8, 4.4, 0.5], [0.2, -0.6, 3.9]])
OPEN, PERIODIC = (False,) * 3, (True,) * 3
KINDS = {
    "egnn": lambda: EGNNPotential([1, 6, 8], REFERENCES, 1.5, CUTOFF, channels=8, num_layers=2, num_radial=6),
    "equiformer": lambda: EquiformerPotential(
        [1, 6, 8], REFERENCES, 1.5, CUTOFF, channels=8, num_layers=1, lmax=2, num_heads=2, num_radial=6
    ),
    "equiformer-v2": lambda: EquiformerV2Potential(
        [1, 6, 8], REFERENCES, 1.5, CUTOFF, channels=8, num_layers=1, lmax=2, mmax=1, num_heads=2, num_radial=6
    ),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=list(KINDS))
def potential(request) -> Potential:
    return KINDS[request.param]().eval()


def molecule(num_atoms: int = 4, seed: int = 0) -> Structure:
    rng = np.random.default_rng(seed)
    pos = np.cumsum(rng.normal(size=(num_atoms, 3)) * 0.3 + 0.7, axis=0)
    return Structure.with_neighbors(rng.choice([1, 6, 8], num_atoms), pos, np.zeros((3, 3)), OPEN, CUTOFF)


def crystal(num_atoms: int = 3, seed: int = 0, cell: np.ndarray = SKEWED) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure.with_neighbors(
        rng.choice([1, 6, 8], num_atoms), rng.random((num_atoms, 3)) @ cell, cell, PERIODIC, CUTOFF
    )


def moved(structure: Structure, pos: np.ndarray, cell: np.ndarray | None = None) -> Structure:
    cell = structure.cell if cell is None else cell
    return Structure.with_neighbors(structure.z, pos, cell, structure.pbc, CUTOFF)


def batch_of(*structures: Structure) -> StructureBatch:
    return PackedStructures(list(structures))[list(range(len(structures)))]


def energy_of(potential: Potential, structure: Structure) -> float:
    return float(potential(batch_of(structure), forces=False)["energy"].detach())


@pytest.mark.parametrize("make", [molecule, crystal])
def test_forces_are_the_negative_gradient(potential, make):
    structure, step = make(), 1e-4
    forces = potential(batch_of(structure))["forces"].numpy()
    expected = np.zeros_like(forces)
    for atom, axis in np.ndindex(*forces.shape):
        shift = np.zeros_like(forces)
        shift[atom, axis] = step
        up, down = (energy_of(potential, moved(structure, structure.pos + s * shift)) for s in (1, -1))
        expected[atom, axis] = (down - up) / (2 * step)
    assert np.abs(forces).max() > 1e-4
    assert np.abs(forces - expected).max() < 1e-6 * np.abs(forces).max()


def test_stress_is_the_derivative_by_strain(potential):
    structure, step = crystal(), 1e-4
    batch = batch_of(structure)
    stress = potential(batch, stress=True)["stress"][0].numpy()
    expected = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        up, down = (
            energy_of(
                potential,
                moved(structure, structure.pos @ (np.eye(3) + s * strain), structure.cell @ (np.eye(3) + s * strain)),
            )
            for s in (1, -1)
        )
        expected[a, b] = (up - down) / (2 * step) / structure.volume
    assert np.abs(stress).max() > 1e-5
    assert np.abs(stress - expected).max() < 1e-6 * np.abs(stress).max()


def test_stress_of_a_molecule_is_not_a_number_and_spoils_nothing(potential):
    """Neither the stress of the crystal in the batch nor the gradients of a loss on it."""
    alone = potential(batch_of(crystal()), stress=True)["stress"][0]
    potential.train()
    result = potential(batch_of(molecule(), crystal()), stress=True)
    assert torch.isnan(result["stress"][0]).all()
    torch.testing.assert_close(result["stress"][1], alone)
    result["stress"][1].square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in potential.parameters() if p.grad is not None)


def test_symmetry(potential):
    batch = batch_of(molecule(5), molecule(3, seed=1))

    def predict(pos):
        return potential(dataclasses.replace(batch, pos=pos))

    outputs = {"energy": "invariant", "forces": "vector"}
    specs = {"in_specs": {"pos": "position"}, "out_specs": outputs, "group": "SE(3)"}
    assert_equivariant(predict, {"pos": batch.pos}, **specs)


def test_a_backbone_that_sees_directions_fails():
    class Absolute(nn.Module):
        def forward(self, species, pos, nbr, shift=None):
            return torch.sin(pos)

    potential, batch = Potential(Absolute(), 3, [1, 6, 8]).eval(), batch_of(molecule())
    with pytest.raises(AssertionError, match="Not equivariant"):
        assert_equivariant(
            lambda pos: potential(dataclasses.replace(batch, pos=pos))["forces"],
            {"pos": batch.pos},
            in_specs={"pos": "position"},
            out_specs={"forces": "vector"},
        )


def test_order_of_atoms(potential):
    structure, order = molecule(6), np.array([3, 0, 5, 1, 4, 2])
    shuffled = Structure.with_neighbors(structure.z[order], structure.pos[order], structure.cell, OPEN, CUTOFF)
    first, second = potential(batch_of(structure)), potential(batch_of(shuffled))
    torch.testing.assert_close(first["energy"], second["energy"])
    torch.testing.assert_close(first["forces"][order], second["forces"])


def test_periodic_images(potential):
    """A supercell has twice the energy, atoms may lie in any cell, and the images count."""
    structure = crystal()
    first = potential(batch_of(structure), stress=True)
    double_cell = structure.cell * np.array([[2.0], [1.0], [1.0]])
    twice = Structure.with_neighbors(
        np.tile(structure.z, 2),
        np.concatenate([structure.pos, structure.pos + structure.cell[0]]),
        double_cell,
        PERIODIC,
        CUTOFF,
    )
    second = potential(batch_of(twice), stress=True)
    torch.testing.assert_close(second["energy"], 2 * first["energy"], rtol=1e-12, atol=0)
    torch.testing.assert_close(second["forces"], first["forces"].repeat(2, 1), rtol=0, atol=1e-11)
    torch.testing.assert_close(second["stress"], first["stress"], rtol=0, atol=1e-12)

    cells = np.array([[1, 0, 0], [0, -2, 1], [3, 1, -1]])
    wrapped = potential(batch_of(moved(structure, structure.pos + cells @ structure.cell)))
    torch.testing.assert_close(wrapped["energy"], first["energy"], rtol=1e-12, atol=0)
    torch.testing.assert_close(wrapped["forces"], first["forces"], rtol=0, atol=1e-11)

    alone = Structure.with_neighbors(structure.z, structure.pos, np.zeros((3, 3)), OPEN, CUTOFF)
    assert abs(energy_of(potential, alone) - float(first["energy"])) > 1e-6


def test_a_neighbour_crosses_the_cutoff_smoothly(potential):
    """Energy and forces of a pair near the cutoff; beyond it they are exactly those of two atoms."""
    z, distance = np.array([6, 8]), CUTOFF + np.array([-1e-2, -1e-3, -1e-4, 1e-4])
    pairs = [
        Structure.with_neighbors(z, np.array([[0, 0, 0], [d, 0, 0]]), np.zeros((3, 3)), OPEN, CUTOFF) for d in distance
    ]
    assert [pair.edge_index.shape[1] for pair in pairs] == [2, 2, 2, 0]
    result = potential(batch_of(*pairs))
    gap = (result["energy"] - result["energy"][3]).abs()
    force = result["forces"][::2, 0].abs()
    assert 0.01 * gap[0] > gap[1] and gap[2] < 1e-10
    assert (
        force[0] > 50 * force[1] > 50 * 50 * force[2] and force[3] == 0
    )  # a triple zero: the slope falls as its square


def test_atoms_without_neighbours(potential):
    single = Structure.with_neighbors(np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), OPEN, CUTOFF)
    result = potential(batch_of(single))
    assert torch.isfinite(result["energy"]).all() and (result["forces"] == 0).all()
    assert abs(float(result["energy"]) - REFERENCES[8]) < 20
    mixed = potential(batch_of(molecule(), single))
    torch.testing.assert_close(mixed["energy"][1:], result["energy"])
    torch.testing.assert_close(mixed["energy"][:1], potential(batch_of(molecule()))["energy"])
    nothing = potential(PackedStructures([])[[]])
    assert nothing["energy"].shape == (0,) and nothing["forces"].shape == (0, 3)


def test_a_batch_is_its_structures(potential):
    structures = [molecule(4), crystal(2, seed=3), molecule(1, seed=5), crystal(3)]
    together = potential(batch_of(*structures), stress=True)
    alone = [potential(batch_of(structure), stress=True) for structure in structures]
    for name in ("energy", "forces", "stress"):
        expected = torch.cat([result[name] for result in alone])
        torch.testing.assert_close(together[name], expected, rtol=0, atol=1e-11, equal_nan=True)


def test_losses_on_forces_can_be_differentiated(potential):
    """The gradient of a loss on forces by the weights, against finite differences."""
    batch, weight = batch_of(molecule()), potential.readout[0].weight
    potential.train()
    direction = torch.randn_like(weight)

    def loss() -> torch.Tensor:
        return potential(batch)["forces"].square().sum()

    loss().backward()
    slope = float((weight.grad * direction).sum())
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight += step * direction
        values.append(float(loss().detach()))
        with torch.no_grad():
            weight -= step * direction
    assert abs(slope - (values[0] - values[1]) / 2e-5) < 1e-6 * abs(slope)


def test_unknown_elements_are_refused(potential):
    sulphur = Structure.with_neighbors(np.array([16]), np.zeros((1, 3)), np.zeros((3, 3)), OPEN, CUTOFF)
    with pytest.raises(InputError, match=r"got atomic numbers \[16\], the model knows \[1, 6, 8\]"):
        potential(batch_of(sulphur))


def test_references_stay_in_double_precision(potential):
    """Total energies of thousands of electronvolts have no room in float32."""
    exact = torch.tensor([REFERENCES[z] for z in (1, 6, 8)])
    for cast in (potential.float(), potential.half().double()):
        assert cast.references.dtype == torch.float64 and torch.equal(cast.references, exact)


def test_where_the_readout_begins(potential):
    """With a silent network the energy is the references and the mean, atom by atom."""
    nn.init.zeros_(potential.readout[-1].weight)
    potential.start_at(-4.5)
    structure = molecule()
    expected = sum(REFERENCES[int(z)] - 4.5 for z in structure.z)
    assert energy_of(potential, structure) == pytest.approx(expected, rel=1e-13)


def test_works_without_gradients(potential):
    with torch.no_grad():
        assert potential(batch_of(molecule()))["forces"].abs().max() > 0


def test_saved_and_loaded(potential, tmp_path):
    card = Card("t", "s", {"energy": "eV"}, "d", "MIT", "random", "c", [0])
    potential.float()
    torch.set_default_dtype(torch.float32)
    folder = save_pretrained(
        tmp_path / "m", potential, task="molecules", preprocess={"task": "forces"}, metrics={}, split={}, card=card
    )
    loaded = from_pretrained(folder).model
    first, second = potential(batch_of(molecule())), loaded(batch_of(molecule()))
    assert torch.equal(first["energy"], second["energy"]) and torch.equal(first["forces"], second["forces"])
    assert json.loads((folder / "config.json").read_text())["arguments"]["references"]["8"] == REFERENCES[8]
