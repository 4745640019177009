"""Pairs that are taken not to bind: drawn after splitting, inside one part, never a known binder.

How they are drawn decides what a score means. TITAN's uniform draw gives every epitope about as many negatives whatever
its number of positives, so a model that never looks at the receptor reaches a ROC-AUC of 0.75.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np

from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError

Scheme = Literal["uniform", "frequency", "background"]
SCHEMES = ("uniform", "frequency", "background")
LAST = 1e-9
"""Weight of a receptor that has its share of negatives: it is taken when no other is left."""


def draw_negatives(
    pairs: Sequence[Pair],
    scheme: Scheme = "frequency",
    ratio: int = 1,
    seed: int | Sequence[int] = 0,
    *,
    known: Collection[tuple[str, str]] = (),
    background: Sequence[Receptor] = (),
) -> list[Pair]:
    """Negatives for the positives of one part.

    ``"uniform"``: each receptor gets ``ratio`` negatives per positive, each with an epitope of the part drawn uniformly
    (as TITAN). ``"frequency"``: each epitope gets exactly ``ratio`` negatives per positive, so that a model without the
    receptor cannot win; receptors take part as often as among the positives, as far as that is possible.
    ``"background"``: as many per epitope, with receptors of ``background``, each at most once; whether a receptor comes
    from there may be visible in its sequence.

    Args:
        pairs: the positives of one part.
        scheme: see above.
        ratio: negatives per positive.
        seed: of the draw.
        known: (CDR3, epitope) of the positives of all parts; those of ``pairs`` always count.
        background: receptors for ``"background"``.

    Returns:
        ``ratio * len(pairs)`` pairs of label 0 without a line, no two alike in CDR3 and epitope.

    Raises:
        InputError: an unknown scheme, a ratio below 1, or too few receptors or epitopes for such a draw.
    """
    if scheme not in SCHEMES:
        raise InputError(f"--negatives: got {scheme!r}, expected one of {', '.join(SCHEMES)}.")
    if ratio < 1:
        raise InputError(f"--data.negatives-ratio: got {ratio}, expected at least 1.")
    rng = np.random.default_rng(seed)
    binders = {(pair.receptor.cdr3, pair.epitope.sequence) for pair in pairs} | set(known)
    if scheme == "uniform":
        drawn = _uniform(pairs, ratio, rng, binders)
    elif scheme == "frequency":
        drawn = _frequency(pairs, ratio, rng, binders)
    else:
        drawn = _background(pairs, ratio, rng, binders, background)
    return [Pair(f"negative {i}", *partners, label=0) for i, partners in enumerate(drawn, start=1)]


Drawn = list[tuple[Receptor, Epitope]]


def _uniform(pairs: Sequence[Pair], ratio: int, rng: np.random.Generator, binders: set[tuple[str, str]]) -> Drawn:
    epitopes = list({pair.epitope.sequence: pair.epitope for pair in pairs}.values())
    drawn: Drawn = []
    taken = set(binders)
    for receptor, count in _receptors(pairs).values():
        free = [epitope for epitope in epitopes if (receptor.cdr3, epitope.sequence) not in taken]
        wanted = count * ratio
        if len(free) < wanted:
            raise InputError(
                f"--negatives uniform: {receptor.cdr3} needs {wanted} epitopes that it is not known to bind, and this "
                f"part has {len(free)}. Use a smaller --data.negatives-ratio, or --negatives background."
            )
        for i in rng.choice(len(free), size=wanted, replace=False):
            drawn.append((receptor, free[i]))
            taken.add((receptor.cdr3, free[i].sequence))
    return drawn


def _frequency(pairs: Sequence[Pair], ratio: int, rng: np.random.Generator, binders: set[tuple[str, str]]) -> Drawn:
    receptors = _receptors(pairs)
    names = list(receptors)
    row = {name: i for i, name in enumerate(names)}
    open_shares = np.array([count * ratio for _, count in receptors.values()], dtype=np.float64)
    binders_of: dict[str, list[int]] = {}
    for cdr3, sequence in binders:
        if cdr3 in row:
            binders_of.setdefault(sequence, []).append(row[cdr3])
    drawn: Drawn = []
    # the epitope with most binders has fewest receptors left to draw from, so it goes first
    for epitope, count in _epitopes(pairs):
        weight = np.maximum(open_shares, LAST)
        weight[binders_of[epitope.sequence]] = 0.0
        wanted, free = count * ratio, int((weight > 0).sum())
        if free < wanted:
            raise InputError(
                f"--negatives frequency: {epitope.sequence} needs {wanted} receptors that are not known to bind it, "
                f"and this part has {free}. Use a smaller --data.negatives-ratio, or --negatives background."
            )
        with np.errstate(divide="ignore"):  # weighted draw without replacement: the largest u^(1/w)
            rank = np.log(rng.random(len(names))) / weight
        for i in np.argpartition(-rank, wanted - 1)[:wanted]:
            drawn.append((receptors[names[i]][0], epitope))
            open_shares[i] -= 1
    return drawn


def _background(
    pairs: Sequence[Pair],
    ratio: int,
    rng: np.random.Generator,
    binders: set[tuple[str, str]],
    background: Sequence[Receptor],
) -> Drawn:
    known = {cdr3 for cdr3, _ in binders}
    free = [receptor for receptor in background if receptor.cdr3 not in known]
    free = list({receptor.cdr3: receptor for receptor in free}.values())
    wanted = ratio * len(pairs)
    if len(free) < wanted:
        raise InputError(
            f"--negatives background: {wanted} receptors are needed, and the background file has {len(free)} for this "
            "part that are in no pair. Use a larger file, or a smaller negatives_ratio."
        )
    chosen = iter(rng.choice(len(free), size=wanted, replace=False))
    return [(free[next(chosen)], epitope) for epitope, count in _epitopes(pairs) for _ in range(count * ratio)]


def _receptors(pairs: Sequence[Pair]) -> dict[str, tuple[Receptor, int]]:
    """A receptor of each CDR3, and the number of its pairs."""
    counts = Counter(pair.receptor.cdr3 for pair in pairs)
    first: dict[str, Receptor] = {}
    for pair in pairs:
        first.setdefault(pair.receptor.cdr3, pair.receptor)
    return {cdr3: (receptor, counts[cdr3]) for cdr3, receptor in first.items()}


def _epitopes(pairs: Sequence[Pair]) -> list[tuple[Epitope, int]]:
    """Each epitope and the number of its pairs, most first."""
    counts = Counter(pair.epitope.sequence for pair in pairs)
    epitopes = {pair.epitope.sequence: pair.epitope for pair in pairs}
    return [(epitopes[sequence], count) for sequence, count in counts.most_common()]
