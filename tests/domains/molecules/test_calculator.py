"""The ASE calculator: units, stress, refused atoms, and dynamics that conserves energy."""

import numpy as np
import pytest
import torch

pytest.importorskip("ase", reason="needs geoattn[molecules]")
pytest.importorskip("vesin", reason="needs geoattn[molecules]")

from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from geoattn.domains.molecules import Calculator
from geoattn.domains.molecules.egnn_potential import EGNNPotential
from geoattn.errors import InputError


def potential(scale: float = 40.0) -> EGNNPotential:
    torch.manual_seed(1)
    return EGNNPotential([1, 6, 8], {8: -2000.0}, scale, cutoff=3.0, channels=8, num_layers=1, num_radial=6)


def molecule() -> Atoms:
    return Atoms("OH2C", [[0, 0, 0], [0.96, 0, 0.1], [-0.24, 0.93, 0], [0.1, -0.7, 1.2]])


def energy_spread(calculator: Calculator) -> tuple[float, float]:
    """How far total and kinetic energy move in 200 steps of 0.5 fs."""
    atoms = molecule()
    atoms.calc = calculator
    sizes = np.sqrt(300 * units.kB * atoms.get_masses())[:, None]  # Maxwell and Boltzmann at 300 K
    atoms.set_momenta(sizes * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    total, kinetic = [], []

    def keep() -> None:
        kinetic.append(atoms.get_kinetic_energy())
        total.append(atoms.get_total_energy())

    dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
    dynamics.attach(keep)
    dynamics.run(200)
    return float(np.ptp(total)), float(np.ptp(kinetic))


def test_dynamics_conserves_energy():
    total, kinetic = energy_spread(Calculator(potential(), dtype="float64"))
    assert kinetic > 0.02
    assert total < 0.01 * kinetic


def test_forces_that_are_no_gradient_do_not():
    class Wrong(Calculator):
        def calculate(self, *arguments, **options):
            super().calculate(*arguments, **options)
            self.results["forces"] = 0.9 * self.results["forces"]

    total, kinetic = energy_spread(Wrong(potential(), dtype="float64"))
    assert total > 0.05 * kinetic


def test_relaxation_in_single_precision():
    atoms = molecule()
    atoms.calc = Calculator(potential())
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=20)
    assert atoms.get_potential_energy() < before
    assert atoms.get_forces().dtype == np.float64


def test_stress_of_a_crystal():
    atoms = bulk("C", "diamond", 2.9)
    atoms.rattle(0.1, seed=0)
    atoms.calc = Calculator(potential(), dtype="float64")
    stress = atoms.get_stress()
    assert np.abs(stress).max() > 1e-4
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-4), rtol=1e-4, atol=1e-8)


def test_stress_needs_a_cell():
    atoms = molecule()
    atoms.calc = Calculator(potential())
    with pytest.raises(PropertyNotImplementedError, match="repeats in all three directions"):
        atoms.get_stress()


def test_a_slab_repeats_in_two_directions():
    """The third lattice vector does not matter."""
    energies = []
    for height in (8.0, 30.0):
        atoms = Atoms("OC", [[0, 0, 0], [0, 0, 1.2]], cell=[2.5, 2.5, height], pbc=[True, True, False])
        atoms.calc = Calculator(potential(), dtype="float64")
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], rel=1e-13)
    atoms.pbc = False
    assert abs(atoms.get_potential_energy() - energies[0]) > 1e-6


def test_far_from_the_origin():
    """float32 spends its digits on distances, not on the place of the molecule."""
    first, second = molecule(), molecule()
    second.positions += 5000.0
    first.calc, second.calc = Calculator(potential()), Calculator(potential())
    np.testing.assert_allclose(first.get_forces(), second.get_forces(), atol=1e-5)


def test_unknown_elements_are_refused():
    atoms = Atoms("SH", [[0, 0, 0], [1.3, 0, 0]])
    atoms.calc = Calculator(potential())
    with pytest.raises(InputError, match="trained on H, C, O, and knows nothing of S"):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": torch.nn.Linear(1, 1)}, "got a Linear, expected a potential"),
        ({"model": "molecules-ethanl"}, "molecules-ethanl"),
        ({"model": potential(), "dtype": "float16"}, "expected 'float32' or 'float64'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        Calculator(**arguments)


def test_the_model_stays_as_it_was():
    model = potential()
    Calculator(model, dtype="float64")
    assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())
