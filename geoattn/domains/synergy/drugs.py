"""From a SMILES in a user's table to a drug: readable, without counter-ions, with a key that salts share."""

from __future__ import annotations

from typing import Any

from geoattn._optional import require
from geoattn.domains.molecules.chemistry import parse_molecule, standardize
from geoattn.domains.molecules.records import Record
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.records import Drug

NONMETALS = frozenset(("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "Te", "I"))
COUNTER_IONS = frozenset(("Li", "Na", "K", "Mg", "Ca", "Zn"))
"""Metals that may stand beside a drug without belonging to it."""


def checked_drug(name: str, smiles: str, column: str = "smiles") -> tuple[Drug, bool]:
    """A drug, and whether fragments of its SMILES were left out.

    Of a salt the largest fragment is kept. A metal that is no counter-ion belongs to the drug, and often stands as a
    fragment of its own (``[NH2-].[NH2-].[Pt+2]``): such a drug keeps all its fragments.

    Raises:
        RecordError: no SMILES, or one that RDKit cannot read.
    """
    if not smiles.strip():
        raise RecordError(column, smiles, f"drug {name!r} has no SMILES", "Add it, or leave the drug's rows out.")
    try:
        mol = parse_molecule(Record(id=name, smiles=smiles.strip()))
    except RecordError as error:
        raise RecordError(column, error.value, error.reason) from error
    fragments = _fragments(mol)
    metal = any(_has_metal(symbols) for symbols in fragments)
    salt = len(fragments) > 1 and not metal
    if salt:
        mol = standardize(mol, salts="largest")
    kept = require("rdkit.Chem", "synergy").MolToSmiles(mol) if salt else smiles.strip()
    key, stereo = _key(mol)
    return Drug(name, kept, key, metal, stereo), salt


def _fragments(mol: Any) -> list[list[str]]:
    """The elements of each fragment."""
    chem = require("rdkit.Chem", "synergy")
    return [[mol.GetAtomWithIdx(atom).GetSymbol() for atom in atoms] for atoms in chem.GetMolFrags(mol)]


def _has_metal(symbols: list[str]) -> bool:
    alone = COUNTER_IONS if len(symbols) == 1 else frozenset()
    return any(symbol not in NONMETALS and symbol not in alone for symbol in symbols)


def _key(mol: Any) -> tuple[str, str]:
    """Two blocks of the InChIKey; canonical SMILES without and with stereochemistry where InChI cannot say."""
    chem = require("rdkit.Chem", "synergy")
    with require("rdkit.rdBase", "synergy").BlockLogs():
        key = chem.MolToInchiKey(mol)
        if key:
            skeleton, stereo, _ = key.split("-")
            return skeleton, stereo
        return chem.MolToSmiles(mol, isomericSmiles=False), chem.MolToSmiles(mol)
