"""A peptide as a molecule: its SMILES, and its graph of heavy atoms and bonds.

The molecule is made from the sequence even where a file has SMILES, so that one epitope has one input whichever file
it came from; a SMILES that is given is checked against it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from geoattn._optional import require
from geoattn.domains.molecules.features import AtomMode, atom_features, bond_features
from geoattn.domains.records import RecordError, shorten
from geoattn.domains.tcr.amino_acids import AMINO_ACIDS
from geoattn.domains.tcr.records import Epitope


def peptide(epitope: Epitope) -> Any:
    """The RDKit molecule of an epitope: neutral, L amino acids, each atom with the number of its residue.

    Raises:
        RecordError: a letter that has no molecule (column ``epitope``), or a SMILES that cannot be read or is another
            molecule than the sequence (column ``smiles``).
    """
    chem = require("rdkit.Chem", "tcr")
    for place, letter in enumerate(epitope.sequence, start=1):
        if letter not in AMINO_ACIDS:
            reason = f"letter {place}, {letter!r}, has no molecule"
            raise RecordError("epitope", epitope.sequence, reason, f"Known, in upper case: {AMINO_ACIDS}.")
    mol = chem.MolFromSequence(epitope.sequence)
    if mol is None or mol.GetNumAtoms() == 0:
        raise RecordError("epitope", epitope.sequence, "no sequence of amino acids")
    if epitope.smiles:
        _check_same(epitope, mol)
    return mol


def peptide_smiles(epitope: Epitope) -> str:
    """The canonical isomeric SMILES of an epitope."""
    return require("rdkit.Chem", "tcr").MolToSmiles(peptide(epitope))


def peptide_to_spell(epitope: Epitope) -> Any:
    """The molecule of an epitope, read from its SMILES, for `random_smiles`.

    RDKit inverts chirality in about one of six random SMILES of a molecule that was made from a sequence.
    """
    return require("rdkit.Chem", "tcr").MolFromSmiles(peptide_smiles(epitope))


def random_smiles(mol: Any, seed: int) -> str:
    """A random spelling of a molecule: another first atom, another order of branches; the same for the same seed."""
    return require("rdkit.Chem", "tcr").MolToRandomSmilesVect(mol, 1, randomSeed=seed)[0]


def epitope_graph(epitope: Epitope, atom_mode: AtomMode = "V2") -> Data:
    """``x [N, Fa]``, ``edge_index [2, E]`` sorted by target, ``edge_attr [E, Fb]``, ``residue [N]``.

    ``residue`` is the place in the sequence that an atom belongs to, from 0.
    """
    mol = peptide(epitope)
    edge_index, edge_attr = bond_features(mol, atom_mode)
    residue = np.array([atom.GetPDBResidueInfo().GetResidueNumber() - 1 for atom in mol.GetAtoms()], dtype=np.int64)
    return Data(
        x=torch.from_numpy(atom_features(mol, atom_mode)),
        edge_index=torch.from_numpy(np.ascontiguousarray(edge_index)),
        edge_attr=torch.from_numpy(edge_attr),
        residue=torch.from_numpy(residue),
    )


def _check_same(epitope: Epitope, mol: Any) -> None:
    chem = require("rdkit.Chem", "tcr")
    with require("rdkit.rdBase", "tcr").BlockLogs():
        given = chem.MolFromSmiles(epitope.smiles)
    if given is None:
        raise RecordError("smiles", epitope.smiles, "RDKit cannot read it")
    if chem.MolToSmiles(given) == chem.MolToSmiles(mol) or _skeleton(given) == _skeleton(mol):
        return
    reason = f"another molecule than the peptide {shorten(epitope.sequence)!r}"
    raise RecordError("smiles", epitope.smiles, reason, "Leave the cell empty: SMILES are made from the sequence.")


def _skeleton(mol: Any) -> str:
    """What charges, tautomers (of arginine and histidine) and left-out chirality do not change."""
    chem, hashes = require("rdkit.Chem", "tcr"), require("rdkit.Chem.rdMolHash", "tcr")
    with require("rdkit.rdBase", "tcr").BlockLogs():
        mol = require("rdkit.Chem.MolStandardize.rdMolStandardize", "tcr").Uncharger().uncharge(mol)
        chem.RemoveStereochemistry(mol)
        return hashes.MolHash(mol, hashes.HashFunction.HetAtomTautomer)
