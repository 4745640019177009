"""From drugs to the tensors that a model reads: atoms with positions, motifs, fingerprint and identity.

Everything of a drug is made from its canonical SMILES, so that two spellings of one molecule give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from geoattn._optional import require
from geoattn.domains.molecules.conformers import embed
from geoattn.domains.molecules.features import AtomMode, atom_features, atom_width, bond_features, bond_width
from geoattn.domains.molecules.fingerprints import molecules_of, morgan_counts
from geoattn.domains.molecules.parallel import available_cores
from geoattn.domains.molecules.records import RecordError
from geoattn.domains.synergy.motifs import MotifVocabulary, Scheme, motif_graph
from geoattn.domains.synergy.records import Drug
from geoattn.errors import InputError

FORMAT = 1
"""Version of the keys of ``preprocess`` and of what they mean."""
KEYS = {"format", "motifs", "drugs", "bits", "atom_mode", "positions", "cutoff", "seed"}
LARGEST = 120
"""A molecule of more heavy atoms gets no positions: distance geometry would take minutes."""
KEPT = 4096
"""Drugs whose arrays a featuriser remembers; positions, which are small and slow to make, are remembered for all."""
_POSITIONS: dict[int, dict[tuple[str, bool], np.ndarray | None]] = {}
"""By seed, then by SMILES and whether there is a metal; folds and members of one process share them."""


@dataclass(frozen=True)
class DrugBatch:
    """D drugs: the graph of their atoms, the graph of their motifs, and one row each of what describes them whole.

    Attributes:
        x: ``[N, Fa]`` features of the heavy atoms, drug by drug, in the order of `molecule_of`.
        pos: ``[N, 3]`` positions in angstrom, centred; 0 where a drug has none.
        has_pos: ``[D]`` bool.
        edge_index: ``[2, E]`` bonds and pairs of near atoms, in both directions, sorted by target.
        edge_attr: ``[E, Fb + 1]`` features of the bond (0 where there is none), and whether there is one.
        atom_ptr: ``[D + 1]`` where the atoms of each drug begin.
        motif: ``[M]`` code of each motif, drug by drug; 0 if training has not seen it.
        motif_edge_index: ``[2, E']`` motifs that touch, in both directions, sorted by target.
        motif_ptr: ``[D + 1]`` where the motifs of each drug begin.
        member: ``[2, K]`` atom ``member[0, k]`` belongs to motif ``member[1, k]``, sorted by motif.
        fingerprint: ``[D, B]`` log(1 + Morgan counts) of the B bits that differ among the training drugs.
        identity: ``[D]`` 1 + number of the training drug, 0 for a drug that training has not seen.
    """

    x: Tensor
    pos: Tensor
    has_pos: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    atom_ptr: Tensor
    motif: Tensor
    motif_edge_index: Tensor
    motif_ptr: Tensor
    member: Tensor
    fingerprint: Tensor
    identity: Tensor

    @property
    def num_drugs(self) -> int:
        """D."""
        return self.identity.shape[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on ``device``, with floating-point tensors of ``dtype``; either may be left as it is."""
        moved = {}
        for field in fields(self):
            tensor = getattr(self, field.name)
            moved[field.name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
        return replace(self, **moved)


def make_preprocess(
    drugs: Sequence[Drug],
    *,
    min_count: int = 2,
    scheme: Scheme = "rings",
    atom_mode: AtomMode = "V2",
    positions: bool = True,
    cutoff: float = 5.0,
    seed: int = 0,
) -> dict[str, Any]:
    """JSON values, fitted to the training drugs alone; their order does not matter.

    Args:
        drugs: of the training part.
        min_count: motifs that fewer training drugs have are unknown ones.
        scheme: how molecules are taken apart, see `motif_graph`.
        atom_mode: see `geoattn.domains.molecules.features`.
        positions: embed drugs in space (ETKDGv3 and MMFF94, about half a second each); else bonds are the only edges.
        cutoff: atoms nearer than this, in angstrom, are joined by an edge.
        seed: of the conformers.
    """
    if positions and not cutoff > 0:
        raise InputError(f"cutoff: got {cutoff}, expected a distance in angstrom, above 0.")
    distinct = {drug.identity: drug for drug in sorted(drugs, key=lambda drug: drug.smiles)}
    mols = [molecule_of(drug) for drug in distinct.values()]
    counts = morgan_counts(mols)
    return {
        "format": FORMAT,
        "motifs": MotifVocabulary.fit(mols, min_count, scheme).to_json(),
        "drugs": sorted(distinct),
        "bits": np.flatnonzero((counts != counts[:1]).any(axis=0)).tolist(),
        "atom_mode": atom_mode,
        "positions": positions,
        "cutoff": cutoff,
        "seed": seed,
    }


def sizes(preprocess: dict[str, Any]) -> dict[str, int]:
    """What a model has to know of the features: num_motifs, num_drugs, num_bits, atom_channels, bond_channels."""
    return {
        "num_motifs": len(preprocess["motifs"]["keys"]) + 1,
        "num_drugs": len(preprocess["drugs"]) + 1,
        "num_bits": len(preprocess["bits"]),
        "atom_channels": atom_width(preprocess["atom_mode"]),
        "bond_channels": bond_width(preprocess["atom_mode"]) + 1,
    }


def molecule_of(drug: Drug) -> Any:
    """The RDKit molecule of a drug, without hydrogens; its atoms stand in the order of `DrugBatch`."""
    chem = require("rdkit.Chem", "synergy")
    with require("rdkit.rdBase", "synergy").BlockLogs():
        mol = molecules_of([drug.smiles])[0]
        if mol is None:
            raise RecordError("smiles", drug.smiles, "RDKit cannot read it")
        return chem.MolFromSmiles(chem.MolToSmiles(mol)) or mol


class DrugFeaturizer:
    """Makes `DrugBatch`es, in training and in prediction alike, and remembers the drugs it has seen.

    A drug gets no positions (``has_pos`` is False, bonds are its only edges) if it is a metal complex, which no force
    field here describes, if it has more than `LARGEST` heavy atoms, or if RDKit finds no conformer. That is no error:
    the rest of its features stands. The same SMILES, seed and RDKit version give the same positions.

    Args:
        preprocess: what `make_preprocess` returned.
        processes: for conformers of many new drugs; None takes one per available core.

    Example:
        >>> drugs = [Drug("phenol", "Oc1ccccc1"), Drug("toluene", "Cc1ccccc1")]
        >>> batch = DrugFeaturizer(make_preprocess(drugs))(drugs)
        >>> batch.num_drugs, batch.x.shape[0], batch.motif.tolist()
        (2, 14, [1, 0, 1, 0])
    """

    def __init__(self, preprocess: dict[str, Any], processes: int | None = 1) -> None:
        if set(preprocess) != KEYS or preprocess["format"] != FORMAT:
            raise InputError(
                f"drug_features: got the keys {sorted(preprocess)} of format {preprocess.get('format')}, expected "
                f"{sorted(KEYS)} of format {FORMAT}. Was it made by another version?"
            )
        self.preprocess, self.processes = preprocess, processes
        self.vocabulary = MotifVocabulary.from_json(preprocess["motifs"])
        self._number = {identity: 1 + i for i, identity in enumerate(preprocess["drugs"])}
        self._positions = _POSITIONS.setdefault(preprocess["seed"], {}) if preprocess["positions"] else {}
        self._known: dict[Drug, dict[str, np.ndarray]] = {}

    def prepare(self, drugs: Iterable[Drug]) -> None:
        """Find the conformers of drugs that are new, in several processes if there are many."""
        new = list(dict.fromkeys((d.smiles, d.metal) for d in drugs if (d.smiles, d.metal) not in self._positions))
        if not self.preprocess["positions"]:
            return
        workers = self.processes or available_cores()
        seed = self.preprocess["seed"]
        if workers == 1 or len(new) < 2 * workers:
            found = [_positions(*drug, seed) for drug in new]
        else:
            from joblib import Parallel, delayed

            found = Parallel(n_jobs=workers, batch_size=4)(delayed(_positions)(*drug, seed) for drug in new)
        self._positions.update(zip(new, found, strict=True))

    def __call__(self, drugs: Sequence[Drug]) -> DrugBatch:
        """Features of D drugs, in their order; a drug may stand there twice.

        Raises:
            RecordError: for SMILES that RDKit cannot read.
        """
        new = [drug for drug in dict.fromkeys(drugs) if drug not in self._known]
        self.prepare(new)
        made = {drug: self._arrays(drug) for drug in new}
        batch = _together([made[drug] if drug in made else self._known[drug] for drug in drugs], self.preprocess)
        self._known.update(made)
        for drug in list(self._known)[: max(0, len(self._known) - KEPT)]:
            del self._known[drug]
        return batch

    def _arrays(self, drug: Drug) -> dict[str, np.ndarray]:
        mol, mode = molecule_of(drug), self.preprocess["atom_mode"]
        edge_index, edge_attr = bond_features(mol, mode)
        edge_attr = np.hstack([edge_attr, np.ones((len(edge_attr), 1), np.float32)])
        pos = self._positions.get((drug.smiles, drug.metal))
        if pos is not None:
            edge_index, edge_attr = _with_near(pos, edge_index, edge_attr, self.preprocess["cutoff"])
        motifs = motif_graph(mol, self.vocabulary.scheme)
        return {
            "x": atom_features(mol, mode),
            "pos": np.zeros((mol.GetNumAtoms(), 3), np.float32) if pos is None else pos,
            "has_pos": np.array([pos is not None]),
            "edge_index": edge_index,
            "edge_attr": edge_attr,
            "motif": self.vocabulary.encode(motifs),
            "motif_edge_index": motifs.edge_index,
            "member": np.stack([motifs.atom, motifs.motif]),
            "fingerprint": np.log1p(morgan_counts([mol])[:, self.preprocess["bits"]]),
            "identity": np.array([self._number.get(drug.identity, 0)], np.int64),
        }


def _positions(smiles: str, metal: bool, seed: int) -> np.ndarray | None:
    """``[N, 3]`` float32 centred positions of the heavy atoms, or None where a drug gets none."""
    chem = require("rdkit.Chem", "synergy")
    mol = molecule_of(Drug("", smiles))
    if metal or not 0 < mol.GetNumAtoms() <= LARGEST:
        return None
    with require("rdkit.rdBase", "synergy").BlockLogs():
        try:
            pos, _ = embed(chem.AddHs(mol), seed)
        except (RecordError, RuntimeError, ValueError):
            return None
    pos = pos[: mol.GetNumAtoms()]
    return (pos - pos.mean(0)).astype(np.float32) if np.isfinite(pos).all() else None


def _with_near(
    pos: np.ndarray, edge_index: np.ndarray, edge_attr: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bonds, and pairs of atoms within ``cutoff`` whose features are 0; sorted by target, then by source."""
    near = np.linalg.norm(pos[:, None] - pos[None], axis=2) < cutoff
    np.fill_diagonal(near, False)
    features = np.zeros((len(pos), len(pos), edge_attr.shape[1]), np.float32)  # [target, source]
    features[edge_index[1], edge_index[0]] = edge_attr
    near[edge_index[1], edge_index[0]] = True
    target, source = np.nonzero(near)
    return np.stack([source, target]), features[target, source]


def _together(parts: list[dict[str, np.ndarray]], preprocess: dict[str, Any]) -> DrugBatch:
    """One batch, in which indices of atoms and motifs count on from drug to drug."""
    empty = {
        "x": np.zeros((0, atom_width(preprocess["atom_mode"])), np.float32),
        "pos": np.zeros((0, 3), np.float32),
        "has_pos": np.zeros(0, bool),
        "edge_index": np.zeros((2, 0), np.int64),
        "edge_attr": np.zeros((0, bond_width(preprocess["atom_mode"]) + 1), np.float32),
        "motif": np.zeros(0, np.int64),
        "motif_edge_index": np.zeros((2, 0), np.int64),
        "member": np.zeros((2, 0), np.int64),
        "fingerprint": np.zeros((0, len(preprocess["bits"])), np.float32),
        "identity": np.zeros(0, np.int64),
    }
    atoms = np.cumsum([0, *(len(part["x"]) for part in parts)])
    motifs = np.cumsum([0, *(len(part["motif"]) for part in parts)])
    starts = {
        "edge_index": atoms,
        "motif_edge_index": motifs,
        "member": np.stack([atoms, motifs], axis=1)[:, :, None],
    }
    joined = {}
    for name, none in empty.items():
        rows = [part[name] for part in parts]
        if name in starts:
            rows = [row + start for row, start in zip(rows, starts[name], strict=False)]
        joined[name] = torch.from_numpy(np.concatenate(rows or [none], axis=1 if name in starts else 0))
    return DrugBatch(**joined, atom_ptr=torch.from_numpy(atoms), motif_ptr=torch.from_numpy(motifs))
