"""From a record to numpy arrays with RDKit: parsing, standardisation that was asked for, graph or conformer.

This is the slow part of featurising. It needs no torch, so that worker processes start quickly, and its results are
what the cache on disk keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoattn._optional import require
from geoattn.domains.molecules.conformers import embed
from geoattn.domains.molecules.descriptors import raw_descriptors
from geoattn.domains.molecules.features import atom_features, bond_features
from geoattn.domains.molecules.records import Record, RecordError

Arrays = dict[str, np.ndarray]
FORCE_FIELDS = ("none", "uff", "mmff")
OPTIONS = ("graph", "atom_mode", "hydrogens", "stereo", "salts", "charges", "conformer_seed", "force_field")
"""The keys of ``preprocess`` that this step reads, besides the names of the descriptors."""


def parse_molecule(record: Record) -> Any:
    """The RDKit molecule of a record's SMILES or mol block, as written.

    Raises:
        RecordError: for SMILES that are empty or that RDKit cannot read, with its reason.
    """
    chem = require("rdkit.Chem", "molecules")
    with require("rdkit.rdBase", "molecules").BlockLogs():
        if record.molblock is not None:
            column, text = "mol block", record.molblock.split("\n", 1)[0]
            raw = chem.MolFromMolBlock(record.molblock, sanitize=False, removeHs=False)
        elif record.smiles is not None:
            column, text = "smiles", record.smiles
            if not text.strip():
                raise RecordError(column, text, "empty")
            raw = chem.MolFromSmiles(text, sanitize=False)
        else:
            raise RecordError("smiles", "", "a structure without SMILES has no bonds", "Use --data.graph 3d.")
        if raw is None:
            raise RecordError(column, text, "RDKit cannot read it: the syntax is wrong")
        problems = chem.DetectChemistryProblems(raw)
        if problems:
            raise RecordError(column, text, f"RDKit cannot read it: {problems[0].Message()}")
        if record.molblock is not None:
            mol = chem.MolFromMolBlock(record.molblock, removeHs=False)
        else:
            mol = chem.MolFromSmiles(text)
    if mol is None:
        raise RecordError(column, text, "RDKit cannot read it")
    if mol.GetNumAtoms() == 0:
        raise RecordError(column, text, "a molecule without atoms")
    return mol


def standardize(mol: Any, stereo: str = "keep", salts: str = "keep", charges: str = "keep") -> Any:
    """Change a molecule only as asked: ``stereo="remove"``, ``salts="largest"``, ``charges="neutralize"``."""
    if salts == "largest":
        mol = _standardizer().LargestFragmentChooser().choose(mol)
    if charges == "neutralize":
        mol = _standardizer().Uncharger().uncharge(mol)
    if stereo == "remove":
        require("rdkit.Chem", "molecules").RemoveStereochemistry(mol)
    return mol


def chemistry(record: Record, options: dict[str, Any], descriptors: list[str] | None = None) -> Arrays:
    """The arrays of one record that RDKit computes.

    Args:
        record: with SMILES or a mol block; a structure from extended XYZ gives no arrays but descriptors.
        options: the keys ``OPTIONS`` of ``preprocess``.
        descriptors: names of descriptors to compute, or None.

    Returns:
        2-D: ``z [N]``, ``x [N, Fa]``, ``edge_index [2, E]``, ``edge_attr [E, Fb]``. 3-D: ``z [N]``, ``pos [N, 3]``,
        and if it was embedded ``force_field [1]`` (index into ``FORCE_FIELDS``). With descriptors: ``descriptors [K]``,
        not normalised.

    Raises:
        RecordError: for a molecule that cannot be read or embedded.
    """
    arrays: Arrays = {}
    has_geometry = options["graph"] == "3d" and record.numbers is not None
    if has_geometry and not descriptors:
        return arrays
    mol = standardize(parse_molecule(record), options["stereo"], options["salts"], options["charges"])
    with require("rdkit.rdBase", "molecules").BlockLogs():
        if options["graph"] == "2d":
            arrays = _graph_2d(mol, options)
        elif not has_geometry:
            arrays = _graph_3d(mol, options)
        if descriptors:
            implicit = require("rdkit.Chem", "molecules").RemoveHs(mol)
            arrays["descriptors"] = raw_descriptors(implicit, descriptors)
    return arrays


def canonical_smiles(record: Record, stereo: bool = True) -> str:
    """RDKit's canonical SMILES of a record without explicit hydrogens, ``""`` for a structure without bonds."""
    if record.smiles is None and record.molblock is None:
        return ""
    chem = require("rdkit.Chem", "molecules")
    with require("rdkit.rdBase", "molecules").BlockLogs():
        return chem.MolToSmiles(chem.RemoveHs(parse_molecule(record)), isomericSmiles=stereo)


def _standardizer() -> Any:
    return require("rdkit.Chem.MolStandardize.rdMolStandardize", "molecules")


def _graph_2d(mol: Any, options: dict[str, Any]) -> Arrays:
    chem = require("rdkit.Chem", "molecules")
    mol = chem.AddHs(mol) if options["hydrogens"] else chem.RemoveHs(mol)
    edge_index, edge_attr = bond_features(mol, options["atom_mode"])
    x = atom_features(mol, options["atom_mode"])
    return {"z": _numbers(mol), "x": x, "edge_index": edge_index, "edge_attr": edge_attr}


def _graph_3d(mol: Any, options: dict[str, Any]) -> Arrays:
    chem = require("rdkit.Chem", "molecules")
    if mol.GetNumConformers() and mol.GetConformer().Is3D():
        return _with_positions(mol, mol.GetConformer().GetPositions(), options)
    mol = chem.AddHs(mol)
    positions, used = embed(mol, options["conformer_seed"], options["force_field"])
    return {**_with_positions(mol, positions, options), "force_field": np.array([FORCE_FIELDS.index(used)])}


def _with_positions(mol: Any, positions: np.ndarray, options: dict[str, Any]) -> Arrays:
    numbers = _numbers(mol)
    keep = np.ones(len(numbers), dtype=bool) if options["hydrogens"] else numbers != 1
    return {"z": numbers[keep], "pos": positions[keep]}


def _numbers(mol: Any) -> np.ndarray:
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
