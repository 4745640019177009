"""What the parts of a split share: the same or nearly the same molecule, scaffold or structure on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from geoattn._optional import require
from geoattn.domains.molecules.elements import symbol
from geoattn.domains.molecules.fingerprints import molecules_of, morgan_bits, tanimoto
from geoattn.domains.molecules.scaffold import murcko_scaffold
from geoattn.errors import ShapeError

NEAR = 0.9
"""Molecules of at least this Tanimoto similarity (Morgan bits, radius 2) count as nearly identical."""
SAME_DISTANCE, NEAR_DISTANCE = 1e-3, 0.1
"""Structures of one composition whose sorted distances differ at most this much (angstrom) are the same / nearly so."""
NUM_EXAMPLES = 10
PAIRS = (("train", "test"), ("train", "valid"), ("valid", "test"))


def audit(samples: Sequence[Data], smiles: Sequence[str], ids: Sequence[str], split: Mapping[str, list[int]]) -> dict:
    """Count what the parts of a split share.

    With SMILES: identical molecules (canonical SMILES), identical but for stereochemistry, nearly identical (Tanimoto
    similarity of at least 0.9), and molecules whose Bemis-Murcko scaffold also stands on the other side (molecules
    without a ring have none and are not counted). Without SMILES, in 3-D: structures of the same composition with the
    same, or nearly the same, sorted distances between each two elements; that finds copies that are rotated, moved or
    mirrored. Every count is of molecules of the second part.

    Args:
        samples: one graph per molecule.
        smiles: of the same molecules, empty strings where there are none.
        ids: of the same molecules, for the examples.
        split: row numbers under train, valid and test.

    Returns:
        ``{"sizes": {part: n}, "duplicates": n, "elements_only_in_test": [...], "pairs": {"train/test": {"identical": n,
        ...}, ...}, "examples": [{"pair", "id", "other_id", "similarity"}, ...]}``, JSON values. ``duplicates`` counts
        the rows of the whole file that repeat an earlier row. ``examples`` are the most similar pairs of train and
        test.

    Cost: for N molecules at most N^2 / 4 fingerprint comparisons, about ten million a second.
    """
    if not len(samples) == len(smiles) == len(ids):
        raise ShapeError("smiles, ids", f"{len(smiles)} and {len(ids)} rows", f"{len(samples)}, one per sample")
    view: _Smiles | _Structures = _Smiles(smiles) if all(smiles) else _Structures(samples)
    report: dict[str, Any] = {
        "sizes": {part: len(rows) for part, rows in split.items()},
        "duplicates": view.num_duplicates(),
        "elements_only_in_test": _elements_only_in_test(samples, split),
        "pairs": {f"{first}/{second}": view.compare(split[first], split[second]) for first, second in PAIRS},
        "examples": [],
    }
    for row, other, similarity in view.nearest(split["train"], split["test"])[:NUM_EXAMPLES]:
        report["examples"].append(
            {"pair": "train/test", "id": ids[row], "other_id": ids[other], "similarity": round(similarity, 3)}
        )
    return report


def audit_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The counts of `audit` as rows of a table: parts, what, count, of (size of the second part), percent."""
    rows = []
    for pair, counts in report["pairs"].items():
        size = report["sizes"][pair.split("/")[1]]
        for what, count in counts.items():
            percent = round(100 * count / size, 1) if size else 0.0
            rows.append({"parts": pair, "what": what, "count": count, "of": size, "percent": percent})
    return rows


class _Smiles:
    """Molecules by canonical SMILES, scaffold and fingerprint."""

    def __init__(self, smiles: Sequence[str]) -> None:
        chem = require("rdkit.Chem", "molecules")
        mols = molecules_of(smiles)
        self.exact = [chem.MolToSmiles(mol) for mol in mols]
        self.flat = [chem.MolToSmiles(mol, isomericSmiles=False) for mol in mols]
        self.scaffold = [murcko_scaffold(text) for text in smiles]
        self.bits = morgan_bits(mols)

    def num_duplicates(self) -> int:
        return len(self.exact) - len(set(self.exact))

    def compare(self, first: list[int], second: list[int]) -> dict[str, int]:
        scaffolds = {self.scaffold[row] for row in first} - {""}
        return {
            "identical": _num_shared(self.exact, first, second),
            "identical_without_stereo": _num_shared(self.flat, first, second),
            "nearly_identical": sum(similarity >= NEAR for _, _, similarity in self.nearest(first, second)),
            "shared_scaffold": sum(self.scaffold[row] in scaffolds for row in second),
        }

    def nearest(self, first: list[int], second: list[int]) -> list[tuple[int, int, float]]:
        """(row, most similar row of the first part, similarity) of each row of the second, most similar first."""
        if not first:
            return []
        references = [self.bits[row] for row in first]
        found = []
        for row in second:
            similarity = tanimoto(self.bits[row], references)
            best = int(similarity.argmax())
            found.append((row, first[best], float(similarity[best])))
        return sorted(found, key=lambda item: -item[2])


class _Structures:
    """Structures by composition and sorted distances."""

    def __init__(self, samples: Sequence[Data]) -> None:
        groups: dict[tuple[int, ...], list[int]] = {}
        distances = []
        for row, sample in enumerate(samples):
            numbers, lengths = _distance_fingerprint(sample)
            groups.setdefault((*numbers, len(lengths)), []).append(row)
            distances.append(lengths)
        self.num_rows = len(samples)
        self.groups = [np.array(rows) for rows in groups.values()]
        self.group_of = {int(row): g for g, rows in enumerate(self.groups) for row in rows}
        self.stacked = [np.stack([distances[row] for row in rows]) for rows in self.groups]
        self.distances = distances

    def num_duplicates(self) -> int:
        earlier = np.arange(self.num_rows)
        return sum(self._nearest_of(row, earlier < row)[1] <= SAME_DISTANCE for row in range(self.num_rows))

    def compare(self, first: list[int], second: list[int]) -> dict[str, int]:
        differences = np.array([difference for _, _, difference in self._differences(first, second)])
        groups = {self.group_of[row] for row in first}
        return {
            "identical": int((differences <= SAME_DISTANCE).sum()),
            "nearly_identical": int((differences <= NEAR_DISTANCE).sum()),
            "shared_composition": sum(self.group_of[row] in groups for row in second),
        }

    def nearest(self, first: list[int], second: list[int]) -> list[tuple[int, int, float]]:
        """As `_Smiles.nearest`; the similarity is 1 / (1 + largest difference of two sorted distances in angstrom)."""
        found = [(row, other, 1 / (1 + difference)) for row, other, difference in self._differences(first, second)]
        return sorted(found, key=lambda item: -item[2])

    def _differences(self, first: list[int], second: list[int]) -> list[tuple[int, int, float]]:
        member = np.zeros(self.num_rows, dtype=bool)
        member[first] = True
        found = ((row, *self._nearest_of(row, member)) for row in second)
        return [(row, other, difference) for row, other, difference in found if np.isfinite(difference)]

    def _nearest_of(self, row: int, allowed: np.ndarray) -> tuple[int, float]:
        """The nearest of the ``allowed`` rows (a mask) of the same composition, and its largest difference."""
        group = self.group_of[row]
        use = allowed[self.groups[group]]
        if not use.any():
            return -1, np.inf
        differences = np.abs(self.stacked[group][use] - self.distances[row]).max(axis=1, initial=0.0)
        best = int(differences.argmin())
        return int(self.groups[group][use][best]), float(differences[best])


def _distance_fingerprint(sample: Data) -> tuple[tuple[int, ...], np.ndarray]:
    """Sorted atomic numbers, and the lengths of all edges sorted by element pair, then length."""
    z = sample["z"].numpy()
    if "pos" not in sample:
        return tuple(sorted(z.tolist())), np.empty(0)
    source, target = sample["edge_index"].numpy()
    vector = sample["pos"].numpy()[source] - sample["pos"].numpy()[target]
    if "edge_shift" in sample:
        vector = vector + sample["edge_shift"].numpy()
    length = np.linalg.norm(vector.astype(np.float64), axis=1)
    pair = np.minimum(z[source], z[target]) * 1000 + np.maximum(z[source], z[target])
    return tuple(sorted(z.tolist())), length[np.lexsort((length, pair))]


def _num_shared(keys: Sequence[str], first: list[int], second: list[int]) -> int:
    known = {keys[row] for row in first}
    return sum(keys[row] in known for row in second)


def _elements_only_in_test(samples: Sequence[Data], split: Mapping[str, list[int]]) -> list[str]:
    train, test = (
        set(torch.cat([samples[row]["z"] for row in split[part]]).tolist()) if split[part] else set()
        for part in ("train", "test")
    )
    return [symbol(z) for z in sorted(test - train)]
