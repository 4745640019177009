"""Other spellings of the same pair, for training only: reversed proteins and random SMILES."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from geoattn.domains.tcr.epitope_graph import random_smiles


class Augment:
    """Random spellings, drawn once for each distinct sequence of a batch.

    Each process of a data loader draws its own numbers, new ones in every epoch; without processes the numbers follow
    from ``seed`` and the order of the calls.

    Args:
        seed: starts the random numbers.
        smiles: epitopes that are read as SMILES get a random one of the same molecule.
        reverse: amino-acid sequences are read backwards with probability 1/2.
    """

    def __init__(self, seed: int, smiles: bool = True, reverse: bool = True) -> None:
        self.seed, self.smiles, self.reverse = seed, smiles, reverse
        self._drawn_for: int | None = None
        self._random = np.random.default_rng(seed)

    def flips(self, count: int) -> np.ndarray:
        """``[count]`` bool: which sequences are read backwards."""
        return self._generator().random(count) < 0.5 if self.reverse else np.zeros(count, dtype=bool)

    def spell(self, mol: Any) -> str:
        """A random SMILES of an RDKit molecule."""
        return random_smiles(mol, int(self._generator().integers(1, 2**31)))

    def _generator(self) -> np.random.Generator:
        worker = get_worker_info()
        if worker is not None and worker.seed != self._drawn_for:  # a copy in another process: do not repeat the others
            self._drawn_for = worker.seed
            self._random = np.random.default_rng([self.seed, worker.seed])
        return self._random


def reverse_rows(rows: np.ndarray, lengths: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Rows ``[S, L]`` padded on the right, those with ``flips [S]`` backwards up to their ``lengths [S]``."""
    place = np.arange(rows.shape[1])
    turned = (lengths[:, None] > place) & flips[:, None]
    return np.take_along_axis(rows, np.where(turned, lengths[:, None] - 1 - place, place), axis=1)
