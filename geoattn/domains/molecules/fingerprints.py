"""Morgan fingerprints (Rogers & Hahn, J. Chem. Inf. Model. 2010, 50, 742) and their similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geoattn._optional import require

RADIUS = 2
NUM_BITS = 2048


def molecules_of(smiles: Sequence[str]) -> list[Any]:
    """RDKit molecules of SMILES that are known to be readable."""
    chem = require("rdkit.Chem", "molecules")
    with require("rdkit.rdBase", "molecules").BlockLogs():
        return [chem.MolFromSmiles(text) for text in smiles]


def morgan_counts(mols: Sequence[Any]) -> np.ndarray:
    """``[B, 2048]`` float32: how often each (hashed) environment of radius 2 occurs."""
    generator = _generator()
    counts = [generator.GetCountFingerprintAsNumPy(mol) for mol in mols]
    return np.array(counts, dtype=np.float32).reshape(-1, NUM_BITS)


def morgan_bits(mols: Sequence[Any]) -> list[Any]:
    """RDKit bit vectors of the same environments, for `tanimoto`."""
    generator = _generator()
    return [generator.GetFingerprint(mol) for mol in mols]


def tanimoto(bits: Any, others: Sequence[Any]) -> np.ndarray:
    """``[B]`` Tanimoto similarity of one bit vector to others; 1 for the same set of environments."""
    structs = require("rdkit.DataStructs", "molecules")
    return np.array(structs.BulkTanimotoSimilarity(bits, others))


def _generator() -> Any:
    return require("rdkit.Chem.rdFingerprintGenerator", "molecules").GetMorganGenerator(RADIUS, fpSize=NUM_BITS)
