"""Motifs of a molecule: its rings and the chains between them as nodes of a small graph, and their vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from geoattn._optional import require
from geoattn.errors import InputError, nearest_hint

Scheme = Literal["rings", "brics"]
UNKNOWN = 0
"""The code of a motif that the vocabulary does not hold."""


@dataclass(frozen=True)
class MotifGraph:
    """The motifs of one molecule.

    Attributes:
        keys: M canonical SMILES, one per motif; lower case is aromatic.
        edge_index: ``[2, E]`` int64, motifs that share an atom or are joined by a bond, in both directions, sorted by
            target.
        atom: ``[K]`` int64 and
        motif: ``[K]`` int64: atom ``atom[k]`` belongs to motif ``motif[k]``, sorted by motif; an atom may belong to
            several. As ``edge_index = [atom, motif]`` of a bipartite graph they pool atoms into motifs.
    """

    keys: tuple[str, ...]
    edge_index: np.ndarray
    atom: np.ndarray
    motif: np.ndarray


def motif_graph(mol: Any, scheme: Scheme = "rings") -> MotifGraph:
    """The motifs of an RDKit molecule, and which of them touch.

    With ``"rings"`` motifs are the rings of the symmetrised smallest set of smallest rings, the largest connected sets
    of bonds outside rings (with the ring atoms at their ends, so that a methyl group on a ring is one: none of a
    molecule's atoms and bonds is lost), and atoms without bonds. With ``"brics"`` they are what remains together when
    the bonds are cut that retrosynthetic rules name; each atom is in one motif.

    Papers: Jin, Barzilay and Jaakkola, "Junction Tree Variational Autoencoder", arXiv:1802.04364 (rings and chains);
    Degen et al., ChemMedChem 2008, 3, 1503 (BRICS).

    Args:
        mol: a sanitised molecule; may be without atoms.
        scheme: "rings" or "brics".

    Raises:
        InputError: an unknown scheme.

    Symmetry: renumbering the atoms renumbers the motifs and changes nothing else.

    Example:
        >>> from rdkit import Chem
        >>> toluene = motif_graph(Chem.MolFromSmiles("Cc1ccccc1"))
        >>> toluene.keys, toluene.edge_index.tolist(), toluene.atom.tolist()
        (('c1ccccc1', 'cC'), [[1, 0], [0, 1]], [1, 2, 3, 4, 5, 6, 0, 1])
    """
    if scheme not in get_args(Scheme):
        raise InputError(f"scheme: got {scheme!r}. {nearest_hint(str(scheme), get_args(Scheme))}")
    bond_sets = _rings_and_chains(mol) if scheme == "rings" else _brics(mol)
    atom_sets = [_atoms_of(mol, bonds) for bonds in bond_sets]
    alone = sorted(set(range(mol.GetNumAtoms())).difference(*atom_sets))
    bond_sets += [[] for _ in alone]
    atom_sets += [[atom] for atom in alone]
    motifs_of: list[list[int]] = [[] for _ in range(mol.GetNumAtoms())]
    for motif, atoms in enumerate(atom_sets):
        for atom in atoms:
            motifs_of[atom].append(motif)
    atom_pairs = [(atom, atom) for atom in range(mol.GetNumAtoms())]
    atom_pairs += [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    touching = {(i, j) for a, b in atom_pairs for i in motifs_of[a] for j in motifs_of[b] if i != j}
    edges = sorted(touching | {(j, i) for i, j in touching})  # (target, source)
    return MotifGraph(
        keys=tuple(_key(mol, atoms, bonds) for atoms, bonds in zip(atom_sets, bond_sets, strict=True)),
        edge_index=np.array(edges, dtype=np.int64).reshape(-1, 2).T[::-1].copy(),
        atom=np.array([atom for atoms in atom_sets for atom in atoms], dtype=np.int64),
        motif=np.repeat(np.arange(len(atom_sets)), [len(atoms) for atoms in atom_sets]).astype(np.int64),
    )


@dataclass(frozen=True)
class MotifVocabulary:
    """Numbers for motifs: 0 for any that is not known, 1 + i for ``keys[i]``.

    Attributes:
        keys: canonical SMILES, the most frequent first.
        scheme: how molecules are taken apart, see `motif_graph`.
        min_count: in how many training molecules a key occurs at least.

    Example:
        >>> from rdkit import Chem
        >>> vocabulary = MotifVocabulary.fit(map(Chem.MolFromSmiles, ["Cc1ccccc1", "Oc1ccccc1"]), min_count=2)
        >>> vocabulary.keys, vocabulary.encode(motif_graph(Chem.MolFromSmiles("Cc1ccccc1"))).tolist()
        (('c1ccccc1',), [1, 0])
    """

    keys: tuple[str, ...]
    scheme: Scheme = "rings"
    min_count: int = 1

    @classmethod
    def fit(cls, mols: Iterable[Any], min_count: int = 1, scheme: Scheme = "rings") -> MotifVocabulary:
        """The motifs of the training molecules.

        Args:
            mols: RDKit molecules of the training set alone, each once; the order does not matter.
            min_count: keys that fewer molecules have are left out.
            scheme: see `motif_graph`.
        """
        counts = Counter(key for mol in mols for key in set(motif_graph(mol, scheme).keys))
        kept = sorted((-count, key) for key, count in counts.items() if count >= min_count)
        return cls(tuple(key for _, key in kept), scheme, min_count)

    @property
    def num_codes(self) -> int:
        """How many numbers there are, that of unknown motifs included."""
        return len(self.keys) + 1

    def encode(self, graph: MotifGraph) -> np.ndarray:
        """``[M]`` int64, the number of each motif."""
        codes = {key: UNKNOWN + 1 + i for i, key in enumerate(self.keys)}
        return np.array([codes.get(key, UNKNOWN) for key in graph.keys], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for ``preprocess.json``."""
        return {"keys": list(self.keys), "scheme": self.scheme, "min_count": self.min_count}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MotifVocabulary:
        """What `to_json` wrote.

        Raises:
            InputError: a missing or unknown key.
        """
        expected = {"keys", "scheme", "min_count"}
        if set(values) != expected:
            raise InputError(f"motif vocabulary: got the keys {sorted(values)}, expected {sorted(expected)}.")
        return cls(tuple(values["keys"]), values["scheme"], values["min_count"])


def _rings_and_chains(mol: Any) -> list[list[int]]:
    """Bonds of each motif."""
    chem = require("rdkit.Chem", "synergy")
    rings = []
    for ring in chem.GetSymmSSSR(mol):
        atoms = list(ring)
        pairs = zip(atoms, atoms[1:] + atoms[:1], strict=True)
        rings.append(sorted(mol.GetBondBetweenAtoms(a, b).GetIdx() for a, b in pairs))
    return rings + _connected(mol, [bond for bond in mol.GetBonds() if not bond.IsInRing()])


def _brics(mol: Any) -> list[list[int]]:
    brics = require("rdkit.Chem.BRICS", "synergy")
    cut = {mol.GetBondBetweenAtoms(*ends).GetIdx() for ends, _ in brics.FindBRICSBonds(mol)}
    return _connected(mol, [bond for bond in mol.GetBonds() if bond.GetIdx() not in cut])


def _connected(mol: Any, bonds: list[Any]) -> list[list[int]]:
    """Connected components of some bonds, each in ascending order, in the order of their first atoms."""
    leader = list(range(mol.GetNumAtoms()))

    def find(atom: int) -> int:
        while leader[atom] != atom:
            leader[atom] = leader[leader[atom]]
            atom = leader[atom]
        return atom

    for bond in bonds:
        a, b = find(bond.GetBeginAtomIdx()), find(bond.GetEndAtomIdx())
        leader[max(a, b)] = min(a, b)
    components: dict[int, list[int]] = {}
    for bond in bonds:
        components.setdefault(find(bond.GetBeginAtomIdx()), []).append(bond.GetIdx())
    return [components[first] for first in sorted(components)]


def _atoms_of(mol: Any, bonds: list[int]) -> list[int]:
    ends = (mol.GetBondWithIdx(bond) for bond in bonds)
    return sorted({atom for bond in ends for atom in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())})


def _key(mol: Any, atoms: list[int], bonds: list[int]) -> str:
    """Canonical SMILES of a part, without stereochemistry; what surrounds the part has no say."""
    chem = require("rdkit.Chem", "synergy")
    with require("rdkit.rdBase", "synergy").BlockLogs():
        text = chem.MolFragmentToSmiles(mol, atomsToUse=atoms, bondsToUse=bonds, isomericSmiles=False)
        # the order of the atoms in it may depend on their other neighbours: read it back, and write it alone
        part = chem.MolFromSmiles(text, sanitize=False)
        part.UpdatePropertyCache(strict=False)
        return chem.MolToSmiles(part, isomericSmiles=False)
