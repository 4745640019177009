"""Baselines that stand beside every result: the epitope's positive rate, and nearest neighbours by edit distance.

The third baseline, a copy of the network that sees the epitope alone, is trained by the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, Literal, Self

import numpy as np

from geoattn.domains.tcr.edit_distance import EditDistances
from geoattn.domains.tcr.records import Pair, Receptor
from geoattn.errors import InputError, nearest_hint


class Baseline(ABC):
    """One baseline: ``fit`` it to pairs with labels, then ``predict`` the probability that others bind."""

    name: str
    description: str

    @abstractmethod
    def fit(self, pairs: Sequence[Pair]) -> Self:
        """Learn from training pairs.

        Raises:
            InputError: no pair, or one without a label.
        """

    @abstractmethod
    def predict(self, pairs: Sequence[Pair]) -> np.ndarray:
        """``[P]`` probabilities of class 1; labels are not looked at."""


class EpitopePrior(Baseline):
    """The share of positive training pairs of the epitope, whatever the receptor.

    An epitope without a training pair gets the share among all of them. What a model scores above this it owes to
    the receptor.

    Example:
        >>> from geoattn.domains.tcr.records import Epitope
        >>> pair = lambda epitope, label=None: Pair("", Receptor("CASSF"), Epitope(epitope), label)
        >>> train = [pair("GILGFVFTL", 1), pair("GILGFVFTL", 0), pair("NLVPMVATV", 1), pair("NLVPMVATV", 1)]
        >>> EpitopePrior().fit(train).predict([pair("GILGFVFTL"), pair("ELAGIGILTV")])
        array([0.5 , 0.75])
    """

    name, description = "epitope_prior", "positive rate of the epitope in training; the receptor is ignored"

    def fit(self, pairs: Sequence[Pair]) -> Self:
        """As `Baseline.fit`."""
        label = _labels(pairs)
        code, self._place = _coded([pair.epitope.sequence for pair in pairs])
        self._rate = np.append(np.bincount(code, label) / np.bincount(code), label.mean())
        return self

    def predict(self, pairs: Sequence[Pair]) -> np.ndarray:
        """As `Baseline.predict`."""
        unseen = len(self._place)
        return self._rate[[self._place.get(pair.epitope.sequence, unseen) for pair in pairs]]


class LevenshteinKNN(Baseline):
    r"""The mean label of the ``k`` nearest training pairs, TITAN's baseline (Weber et al. 2021).

    A pair of epitope e and receptor t is as far from a training pair (e', t') as

    .. math:: d = \frac{\mathrm{lev}(e, e')}{|e|} + \frac{\mathrm{lev}(t, t')}{|t|}

    with the lengths of the pair that is asked. Training pairs that are all as far as the k-th share the places that
    are left: each counts with the same part of a vote, so the order of the training pairs does not matter. Distances
    are compared as whole numbers, :math:`d |e| |t|`, so that ties are exact. With fewer than ``k`` training pairs all
    of them vote.

    Args:
        k: how many neighbours vote.
        kind: compare CDR3s or full variable domains.
    """

    def __init__(self, k: int = 25, kind: Literal["cdr3", "full"] = "cdr3") -> None:
        if kind not in ("cdr3", "full"):
            raise InputError(f"kind: got {kind!r}. {nearest_hint(kind, ['cdr3', 'full'])}")
        if k < 1:
            raise InputError(f"k: got {k}, expected at least 1 neighbour.")
        self.k, self.kind = k, kind
        self.name = f"levenshtein_knn_{kind}"
        compared = "CDR3" if kind == "cdr3" else "full chain"
        self.description = f"{k} nearest training pairs by edit distance of {compared} and epitope"

    def fit(self, pairs: Sequence[Pair]) -> Self:
        """As `Baseline.fit`; it only takes the sequences apart."""
        self._label = _labels(pairs)
        self._tcr, tcrs = _coded([self._sequence(pair.receptor) for pair in pairs])
        self._epitope, epitopes = _coded([pair.epitope.sequence for pair in pairs])
        self._to_tcrs, self._to_epitopes = EditDistances(list(tcrs)), EditDistances(list(epitopes))
        return self

    def predict(self, pairs: Sequence[Pair]) -> np.ndarray:
        """As `Baseline.predict`."""
        return self.predict_each(pairs, [self.k])[0]

    def predict_each(self, pairs: Sequence[Pair], ks: Sequence[int]) -> np.ndarray:
        """``[len(ks), P]``: `predict` for several ``k``, which share the distances."""
        places = np.minimum(ks, len(self._label))
        found = np.zeros((len(places), len(pairs)))
        tcr, tcrs = _coded([self._sequence(pair.receptor) for pair in pairs])
        epitope, epitopes = _coded([pair.epitope.sequence for pair in pairs])
        to_epitope = [self._to_epitopes.of(text)[self._epitope] for text in epitopes]
        of_epitope = [len(text) for text in epitopes]
        rows_of = np.split(np.argsort(tcr, kind="stable"), np.cumsum(np.bincount(tcr))[:-1])
        for query, rows in zip(tcrs, rows_of, strict=False):
            to_tcr = self._to_tcrs.of(query)[self._tcr]
            for row in rows:
                e = epitope[row]
                distance = to_tcr * of_epitope[e] + to_epitope[e] * len(query)
                found[:, row] = _vote(distance, self._label, places)
        return found

    def _sequence(self, receptor: Receptor) -> str:
        if self.kind == "full" and not receptor.full:
            message = f"the full chain of the receptor with CDR3 {receptor.cdr3} is not known"
            raise InputError(f"kind: {message}. Give the genes v and j, or the full sequence, or take kind='cdr3'.")
        return receptor.full if self.kind == "full" else receptor.cdr3


def _vote(distance: np.ndarray, label: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The mean of ``label`` over the nearest, for each number of places; ties share the last places."""
    last = np.partition(distance, places - 1)[places - 1]
    near = np.flatnonzero(distance <= last.max())
    distance, label = distance[near], label[near]
    votes = np.empty(len(places))
    for i, (bound, k) in enumerate(zip(last, places, strict=True)):
        inside, tied = distance < bound, distance == bound
        votes[i] = (label[inside].sum() + (k - inside.sum()) * label[tied].mean()) / k
    return votes


def _coded(values: Sequence[Hashable]) -> tuple[np.ndarray, dict[Any, int]]:
    """``[P]`` the number of each value, and value -> number, in order of first appearance."""
    place: dict[Hashable, int] = {}
    return np.array([place.setdefault(value, len(place)) for value in values], dtype=np.int64), place


def _labels(pairs: Sequence[Pair]) -> np.ndarray:
    missing = next((pair for pair in pairs if pair.label is None), None)
    if missing is not None:
        raise InputError(f"pairs: {missing.id!r} has no label; a baseline is fitted to pairs whose label is known.")
    if not pairs:
        raise InputError("pairs: got none, expected at least one training pair.")
    return np.array([pair.label for pair in pairs], dtype=np.float64)
