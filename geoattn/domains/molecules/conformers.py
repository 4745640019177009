"""Geometries of molecules given as SMILES: seeded ETKDG and MMFF94.

Papers: ETKDGv3 Wang et al., J. Chem. Inf. Model. 2020, 60, 2044; MMFF94 Halgren, J. Comput. Chem. 1996, 17, 490.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from geoattn._optional import require
from geoattn.domains.molecules.records import RecordError

ForceField = Literal["mmff", "uff", "none"]
ATTEMPT_SECONDS = 60
"""An embedding attempt that takes longer is given up; large macrocycles may otherwise run for hours."""


def embed(mol: Any, seed: int = 0, force_field: ForceField = "mmff") -> tuple[np.ndarray, ForceField]:
    """One conformer of an RDKit molecule with explicit hydrogens.

    The same molecule, seed and RDKit version give the same coordinates. Where distance geometry fails it is tried
    once more from random coordinates. Where MMFF94 lacks parameters the Universal Force Field is used, and where that
    lacks them too the geometry stays as embedded.

    Returns:
        ``[N, 3]`` float64 positions in angstrom, and the force field that was in fact used.

    Raises:
        RecordError: if no conformer is found.
    """
    distance_geometry = require("rdkit.Chem.rdDistGeom", "molecules")
    parameters = distance_geometry.ETKDGv3()
    parameters.randomSeed = seed + 1  # RDKit takes 0 for 1, and draws from the clock for -1
    parameters.timeout = ATTEMPT_SECONDS
    parameters.embedFragmentsSeparately = False  # else the parts of a salt may lie on top of each other
    if distance_geometry.EmbedMolecule(mol, parameters) < 0:
        parameters.useRandomCoords = True
        if distance_geometry.EmbedMolecule(mol, parameters) < 0:
            smiles = require("rdkit.Chem", "molecules").MolToSmiles(mol)
            raise RecordError("smiles", smiles, "no 3-D conformer found", "Use graph=2d, or give coordinates (SDF).")
    used = _optimize(mol, force_field)
    return mol.GetConformer().GetPositions(), used


def _optimize(mol: Any, force_field: ForceField) -> ForceField:
    """Relax the conformer in place; tell which force field had the parameters."""
    helpers = require("rdkit.Chem.rdForceFieldHelpers", "molecules")
    if force_field == "mmff" and helpers.MMFFHasAllMoleculeParams(mol):
        helpers.MMFFOptimizeMolecule(mol, maxIters=500)
        return "mmff"
    if force_field != "none" and helpers.UFFHasAllMoleculeParams(mol):
        helpers.UFFOptimizeMolecule(mol, maxIters=500)
        return "uff"
    return "none"
