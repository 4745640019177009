"""Bemis-Murcko scaffolds (J. Med. Chem. 1996, 39, 2887): the rings of a molecule and what joins them."""

from __future__ import annotations

from collections.abc import Sequence

from geoattn._optional import require
from geoattn.domains.molecules.records import RecordError


def murcko_scaffold(smiles: str) -> str:
    """Canonical SMILES of the scaffold, without stereochemistry; ``""`` for a molecule without a ring.

    Example:
        >>> murcko_scaffold("CCc1ccccc1O"), murcko_scaffold("CCO")
        ('c1ccccc1', '')
    """
    chem = require("rdkit.Chem", "molecules")
    scaffolds = require("rdkit.Chem.Scaffolds.MurckoScaffold", "molecules")
    with require("rdkit.rdBase", "molecules").BlockLogs():
        mol = chem.MolFromSmiles(smiles)
        if mol is None:
            raise RecordError("smiles", smiles, "RDKit cannot read it")
        return scaffolds.MurckoScaffoldSmiles(mol=mol, includeChirality=False)


def scaffold_groups(smiles: Sequence[str]) -> list[list[int]]:
    """Row numbers that share a scaffold; all molecules without a ring form one group."""
    groups: dict[str, list[int]] = {}
    for row, text in enumerate(smiles):
        groups.setdefault(murcko_scaffold(text), []).append(row)
    return list(groups.values())
