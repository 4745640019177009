"""Training pairs whose negatives are drawn anew in every epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from torch.utils.data import Dataset

from geoattn.domains.tcr.records import Epitope, Pair
from geoattn.errors import InputError

TRIES = 20
ROUNDS = 100


class FreshNegatives(Dataset[list[Pair]]):
    """The binders of the training part, each beside negatives of the epoch: its receptor with other epitopes.

    Epitopes are drawn as often as they stand among the negatives of the part, so that fresh negatives follow the same
    scheme; a known binder is never drawn. A binder of an epitope draws the others, so the weights of the draw are those
    with which each epitope comes as often as it should, where that is possible: one of more than half of the binders
    cannot have as many negatives. The same pair may be drawn twice where there are few epitopes.

    Item ``epoch * len(self) + i`` is binder ``i`` of that epoch: the number alone says which negatives are meant, so
    processes of a data loader, which keep copies of this object, need not be told when an epoch begins.

    Args:
        pairs: of the training part.
        ratio: negatives per binder; fewer where a receptor binds nearly all epitopes.
        known: (CDR3, epitope) of the binders of all parts.
        seed: of the draw.

    Raises:
        InputError: the part has no negatives, which would say how often each epitope is wanted.
    """

    def __init__(self, pairs: Sequence[Pair], ratio: int, known: Collection[tuple[str, str]], seed: int) -> None:
        self._binders = [pair for pair in pairs if pair.label == 1]
        self._ratio, self._known, self._seed = ratio, set(known), seed
        epitopes = {pair.epitope.sequence: pair.epitope for pair in pairs}
        counts = Counter(pair.epitope.sequence for pair in pairs if pair.label == 0)
        if not counts:
            raise InputError(
                "--data.fresh-negatives: the training part has no negatives, whose epitopes fresh ones have to follow. "
                "Draw some with --negatives frequency."
            )
        self._epitopes: list[Epitope] = [epitopes[sequence] for sequence in counts]
        binders = Counter(pair.epitope.sequence for pair in self._binders)
        self._upto = np.cumsum(_weights(np.array(list(counts.values())), np.array([binders[name] for name in counts])))

    def __len__(self) -> int:
        return len(self._binders)

    def __getitem__(self, item: int) -> list[Pair]:
        epoch, i = divmod(item, len(self))
        binder, rng = self._binders[i], np.random.default_rng([self._seed, epoch, i])
        drawn = np.searchsorted(self._upto, rng.random(self._ratio + TRIES) * self._upto[-1], side="right")
        cdr3 = binder.receptor.cdr3
        free = [k for k in drawn.tolist() if (cdr3, self._epitopes[k].sequence) not in self._known]
        return [binder, *(Pair("fresh", binder.receptor, self._epitopes[k], label=0) for k in free[: self._ratio])]


def _weights(wanted: np.ndarray, binders: np.ndarray) -> np.ndarray:
    """``[E]`` weights w of the epitopes, with which each comes as often as ``wanted [E]`` says.

    A binder of b draws e != b with probability w_e / (1 - w_b), so e comes in proportion to w_e sum_{b != e} n_b /
    (1 - w_b): the weights are a fixed point.
    """
    if len(wanted) < 2:
        return np.ones(len(wanted))
    weight = wanted / wanted.sum()
    for _ in range(ROUNDS):
        share = binders / np.maximum(1 - weight, 1e-3)
        weight = wanted / np.maximum(share.sum() - share, 1e-12)
        weight = weight / weight.sum()
    return weight
