"""From a SMILES in a user's table to a drug: readable, without counter-ions, with a key that salts share."""

from __future__ import annotations

from typing import Any

from geoattn._optional import require
from geoattn.domains.molecules.chemistry import parse_molecule, standardize
from geoattn.domains.molecules.records import Record
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.records import Drug

NONMETALS = frozenset(("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "Te", "I"))
ALKALI = ("Li", "Na", "K")
COUNTER_IONS = frozenset(("Li", "Na", "K", "Mg", "Ca", "Zn"))
"""Metals that may stand beside a drug without belonging to it."""


def checked_drug(name: str, smiles: str, column: str = "smiles") -> tuple[Drug, bool]:
    """A drug, and whether fragments of its SMILES were left out.

    Of a salt the largest fragment is kept, uncharged where protons allow; lithium, sodium and potassium are ions
    however their bonds are written. A metal that is no counter-ion belongs to the drug, and often stands as a fragment
    of its own (``[NH2-].[NH2-].[Pt+2]``): such a drug keeps all its fragments.

    Raises:
        RecordError: no SMILES, one that RDKit cannot read, one with a wildcard atom, or one of which nothing but an ion
            or an inorganic fragment is left.
    """
    if not smiles.strip():
        raise RecordError(column, smiles, f"drug {name!r} has no SMILES", "Add it, or leave the drug's rows out.")
    try:
        mol = parse_molecule(Record(id=name, smiles=smiles.strip()))
    except RecordError as error:
        raise RecordError(column, error.value, error.reason) from error
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        reason = f"drug {name!r} has a wildcard atom (*), which is no atom"
        raise RecordError(column, smiles, reason, "Write the whole molecule, or leave the drug's rows out.")
    mol = _with_ions(mol)
    fragments = _fragments(mol)
    metal = any(_has_metal(symbols) for symbols in fragments)
    salt = len(fragments) > 1 and not metal
    if salt:
        mol = standardize(mol, salts="largest", charges="neutralize")
    if not metal and ((salt and not _is_organic(mol)) or _is_ion(mol)):
        left = require("rdkit.Chem", "synergy").MolToSmiles(mol)
        reason = f"of drug {name!r} nothing but {left} is left, an ion or an inorganic fragment"
        raise RecordError(column, smiles, reason, "Write what acts as one molecule, or leave the drug's rows out.")
    kept = require("rdkit.Chem", "synergy").MolToSmiles(mol) if salt else smiles.strip()
    key, stereo = _key(mol)
    return Drug(name, kept, key, metal, stereo), salt


def _with_ions(mol: Any) -> Any:
    """The molecule with bonds of lithium, sodium and potassium to N, O and S broken: ``CC(=O)O[Na]`` is a salt."""
    chem = require("rdkit.Chem", "synergy")
    ends = [(bond.GetBeginAtom(), bond.GetEndAtom()) for bond in mol.GetBonds()]
    ends = [(one, other) if one.GetSymbol() in ALKALI else (other, one) for one, other in ends]
    found = [
        (metal.GetIdx(), other.GetIdx())
        for metal, other in ends
        if metal.GetSymbol() in ALKALI and other.GetSymbol() in ("N", "O", "S")
    ]
    if not found:
        return mol
    changed = chem.RWMol(mol)
    for metal, other in found:
        changed.RemoveBond(metal, other)
        for place, charge in ((metal, 1), (other, -1)):
            atom = changed.GetAtomWithIdx(place)
            atom.SetFormalCharge(atom.GetFormalCharge() + charge)
    chem.SanitizeMol(changed)
    return changed.GetMol()


def _is_organic(mol: Any) -> bool:
    """It has a carbon that is bonded to more than oxygen: no carbonate."""
    return any(
        atom.GetSymbol() == "C" and (atom.GetTotalNumHs() or any(n.GetSymbol() != "O" for n in atom.GetNeighbors()))
        for atom in mol.GetAtoms()
    )


def _is_ion(mol: Any) -> bool:
    """It is one atom with a charge."""
    return mol.GetNumAtoms() == 1 and mol.GetAtomWithIdx(0).GetFormalCharge() != 0


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
