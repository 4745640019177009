"""Atom and bond features of 2-D graphs: chemprop's, in chemprop's order and modes.

An atom (mode V2: 72 numbers) is one-hot element, degree, formal charge, chirality, number of hydrogens and
hybridisation, each with one last slot for "any other", then whether it is aromatic and its mass / 100. A bond (14
numbers) is a slot that stays 0 here (chemprop's absent bond), one-hot type, whether it is conjugated, whether it is in
a ring, and one-hot stereochemistry with a slot for "any other". Mode RIGR keeps only what all resonance structures of
a molecule share: element, degree, hydrogens, mass; and for bonds whether they are in a ring.

Papers: V1 Yang et al., J. Chem. Inf. Model. 2019, 59, 3370; V2 Heid et al., ibid. 2024, 64, 9; RIGR Zalte et al., ibid.
2025, 65, 10832.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from geoattn.errors import InputError, nearest_hint

AtomMode = Literal["V1", "V2", "ORGANIC", "RIGR"]

_ELEMENTS = {
    "V1": range(1, 101),
    "V2": (*range(1, 37), 53),
    "ORGANIC": (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53),
    "RIGR": (*range(1, 37), 53),
}
_HYBRIDIZATIONS = {
    "V1": ("SP", "SP2", "SP3", "SP3D", "SP3D2"),
    "V2": ("S", "SP", "SP2", "SP2D", "SP3", "SP3D", "SP3D2"),
    "ORGANIC": ("S", "SP", "SP2", "SP3"),
}
_DEGREES = range(6)
_CHARGES = (-1, -2, 1, 2, 0)
_CHIRALITIES = range(4)
_HYDROGENS = range(5)
_BOND_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_STEREO = range(6)

OneHot = tuple[Callable[[Any], Any], Sequence[Any]]
"""How to read a property off an RDKit atom, and its known values; any other value takes one more slot."""


def atom_features(mol: Any, mode: AtomMode = "V2") -> np.ndarray:
    """``[N, Fa]`` float32 features of the atoms of an RDKit molecule.

    Example:
        >>> from rdkit import Chem
        >>> atom_features(Chem.MolFromSmiles("CO")).shape
        (2, 72)
    """
    one_hots = _one_hots(mode)
    features = np.zeros((mol.GetNumAtoms(), atom_width(mode)), dtype=np.float32)
    for row, atom in zip(features, mol.GetAtoms(), strict=True):
        start = 0
        for read, known in one_hots:
            value = read(atom)
            row[start + (known.index(value) if value in known else len(known))] = 1
            start += len(known) + 1
        if mode != "RIGR":
            row[-2] = atom.GetIsAromatic()
        row[-1] = 0.01 * atom.GetMass()
    return features


def atom_width(mode: AtomMode = "V2") -> int:
    """Fa, the number of atom features."""
    return sum(len(known) + 1 for _, known in _one_hots(mode)) + (1 if mode == "RIGR" else 2)


def bond_features(mol: Any, mode: AtomMode = "V2") -> tuple[np.ndarray, np.ndarray]:
    """``edge_index [2, E]`` int64 (bonds in both directions, sorted by target) and ``edge_attr [E, Fb]`` float32."""
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    forward = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    width = bond_width(mode)
    features = np.array([_bond(bond, mode) for bond in mol.GetBonds()], dtype=np.float32).reshape(-1, width)
    edge_index = np.concatenate([forward, forward[::-1]], axis=1)
    order = np.lexsort((edge_index[0], edge_index[1]))
    return edge_index[:, order], np.concatenate([features, features])[order]


def bond_width(mode: AtomMode = "V2") -> int:
    """Fb, the number of bond features."""
    return 2 if mode == "RIGR" else 1 + len(_BOND_TYPES) + 2 + len(_STEREO) + 1


def _one_hots(mode: AtomMode) -> list[OneHot]:
    if mode not in _ELEMENTS:
        raise InputError(f"atom_mode: got {mode!r}, which is no known mode. {nearest_hint(mode, list(_ELEMENTS))}")
    element: OneHot = (lambda atom: atom.GetAtomicNum(), _ELEMENTS[mode])
    degree: OneHot = (lambda atom: atom.GetTotalDegree(), _DEGREES)
    hydrogens: OneHot = (lambda atom: atom.GetTotalNumHs(), _HYDROGENS)
    if mode == "RIGR":
        return [element, degree, hydrogens]
    return [
        element,
        degree,
        (lambda atom: atom.GetFormalCharge(), _CHARGES),
        (lambda atom: int(atom.GetChiralTag()), _CHIRALITIES),
        hydrogens,
        (lambda atom: str(atom.GetHybridization()), _HYBRIDIZATIONS[mode]),
    ]


def _bond(bond: Any, mode: AtomMode) -> list[float]:
    if mode == "RIGR":
        return [0.0, float(bond.IsInRing())]
    kind, stereo = str(bond.GetBondType()), int(bond.GetStereo())
    return [
        0.0,
        *(float(kind == known) for known in _BOND_TYPES),
        float(bond.GetIsConjugated()),
        float(bond.IsInRing()),
        *(float(stereo == known) for known in _STEREO),
        float(stereo not in _STEREO),
    ]
