"""A trained potential as an ASE calculator."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from geoattn._optional import require
from geoattn.domains.molecules.elements import symbol
from geoattn.domains.molecules.potential import Potential
from geoattn.domains.molecules.structures import PackedStructures, Structure
from geoattn.errors import InputError
from geoattn.hub import Pretrained, from_pretrained

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators import calculator as ase
else:
    ase = require("ase.calculators.calculator", "molecules")


class Calculator(ase.Calculator):
    """Energy, forces and stress of ``ase.Atoms`` by a trained potential: for molecular dynamics, relaxation, phonons.

    The neighbour list is made anew at each step, with every pair within the model's cutoff, so the energy is a smooth
    function of the positions and dynamics conserves it. Periodic in any of the three directions; stress is there if
    the cell repeats in all three.

    Args:
        model: model folder, run folder, name of a shipped model, what ``from_pretrained`` returned, or a `Potential`.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.
        dtype: float32 is fast; float64 for relaxations to tight forces, phonons and long dynamics.

    Units: those of ASE: eV, angstrom, eV/angstrom, eV/cubic angstrom.

    Raises:
        InputError: the model gives no forces; when calculating, an element that the model was not trained on.

    Example:
        >>> from geoattn.domains.molecules import Calculator
        >>> atoms.calc = Calculator("molecules-ethanol")  # doctest: +SKIP
        >>> atoms.get_potential_energy(), atoms.get_forces()  # doctest: +SKIP
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        model: str | os.PathLike[str] | Pretrained | Potential,
        device: str | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        **ase_options: Any,
    ) -> None:
        super().__init__(**ase_options)
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype: got {dtype!r}, expected 'float32' or 'float64'.")
        self.dtype = getattr(torch, dtype)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        potential = _potential_of(model)
        self.potential = copy.deepcopy(potential).to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = ase.all_changes,
    ) -> None:
        """Called by ASE: fills ``results``."""
        super().calculate(atoms, properties, system_changes)
        numbers = self.atoms.numbers
        unknown = sorted(set(numbers.tolist()) - set(self.potential.elements))
        if unknown:
            known = ", ".join(symbol(z) for z in self.potential.elements)
            raise InputError(f"atoms: the model was trained on {known}, and knows nothing of {symbol(unknown[0])}.")
        pbc = (bool(self.atoms.pbc[0]), bool(self.atoms.pbc[1]), bool(self.atoms.pbc[2]))
        cell = np.asarray(self.atoms.cell, dtype=np.float64) * np.array(pbc)[:, None]
        structure = Structure.with_neighbors(numbers, self.atoms.positions, cell, pbc, self.potential.cutoff)
        batch = PackedStructures([structure]).batch([0], self.dtype).to(self.device)
        result = self.potential(batch, stress=all(pbc))
        energy = float(result["energy"])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": result["forces"].cpu().numpy().astype(np.float64),
        }
        if all(pbc):
            stress = result["stress"][0].cpu().numpy().astype(np.float64)
            self.results["stress"] = stress.ravel()[[0, 4, 8, 5, 2, 1]]
        elif properties and "stress" in properties:
            raise ase.PropertyNotImplementedError("stress needs a cell that repeats in all three directions (pbc)")


def _potential_of(model: str | os.PathLike[str] | Pretrained | Potential) -> Potential:
    if isinstance(model, str | os.PathLike):
        run = os.path.join(model, "model")
        model = from_pretrained(run if os.path.isfile(os.path.join(run, "config.json")) else model)
    potential = model.model if isinstance(model, Pretrained) else model
    if not isinstance(potential, Potential):
        name = type(potential).__name__
        raise InputError(f"model: got a {name}, expected a potential: a model trained on energies with forces.")
    return potential
