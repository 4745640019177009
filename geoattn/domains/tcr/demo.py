"""A repertoire that geoattn makes itself: data for the demo, where the answer is known and no download is needed.

Each epitope has a motif of four places in the loop of the CDR3s that bind it. Nothing else tells binders from others:
the epitopes of the positive and of the negative pairs of a receptor are drawn alike, so that exchanging the two labels
of every receptor gives an equally likely repertoire. Whoever ignores the receptor has an expected ROC AUC of 1/2, in
any split that keeps the two pairs of a receptor together.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Sequence
from pathlib import Path

from geoattn.domains.tcr.germline import full_chain
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError

V_GENES = {
    "TRBV19*01": "CASS", "TRBV20-1*01": "CSA", "TRBV27*01": "CASS", "TRBV28*01": "CASS", "TRBV5-1*01": "CASS",
    "TRBV6-5*01": "CASS", "TRBV7-9*01": "CASS", "TRBV9*01": "CASS", "TRBV10-3*01": "CAIS", "TRBV12-3*01": "CASS",
    "TRBV29-1*01": "CSV", "TRBV30*01": "CAW",
}  # fmt: skip
"""Genes, and how the CDR3s of their chains begin."""
J_GENES = {
    "TRBJ1-1*01": "NTEAFF", "TRBJ1-2*01": "NYGYTF", "TRBJ1-4*01": "TNEKLFF", "TRBJ1-5*01": "NQPQHF",
    "TRBJ2-1*01": "YNEQFF", "TRBJ2-2*01": "NTGELFF", "TRBJ2-3*01": "DTQYF", "TRBJ2-5*01": "ETQYF",
    "TRBJ2-7*01": "YEQYF",
}  # fmt: skip
"""Genes, and how the CDR3s of their chains end."""
LOOP = "GGGGGSSSSRRRLLLAATTPPQQDDENVVYFHIKMW"
"""What the loop between them is drawn from: about as often as in real ones."""
LOOP_LENGTHS = (4, 5, 6, 7, 8, 9)
PEPTIDE = "ADEFGHIKLMNPQRSTVWY"
MOTIF_LETTERS = "ADEFHIKLMNPQRTVWY"
MOST_EPITOPES = 500

_FREE_PLACE = 0.4  # of the motifs
_WITHOUT_MOTIF = 0.04  # of the binders: real epitopes are bound in more than one way


def demo_motifs(num_epitopes: int = 8, seed: int = 0) -> dict[str, str]:
    """Epitope -> motif, four letters of which one in the middle may be ``.``, which stands for any.

    Raises:
        InputError: fewer than 2 or more than 500 epitopes.
    """
    if not 2 <= num_epitopes <= MOST_EPITOPES:
        raise InputError(f"num_epitopes: got {num_epitopes}, expected 2 to {MOST_EPITOPES}.")
    draw = random.Random(f"motifs {seed}")
    motifs: dict[str, str] = {}
    while len(motifs) < num_epitopes:
        motif = draw.choices(MOTIF_LETTERS, k=4)
        if draw.random() < _FREE_PLACE:
            motif[draw.randint(1, 2)] = "."
        if not any(_overlap(motif, other) for other in motifs.values()):
            motifs.setdefault("".join(draw.choices(PEPTIDE, k=9)), "".join(motif))
    return motifs


def demo_pairs(num_receptors: int = 1600, num_epitopes: int = 8, seed: int = 0) -> list[Pair]:
    """Two pairs of each receptor, one that binds and one that does not.

    Args:
        num_receptors: all different.
        num_epitopes: the k-th is drawn about :math:`k^{-1/2}` times as often as the first.
        seed: the same seed gives the same pairs.

    Returns:
        Twice ``num_receptors`` pairs, the two of a receptor in any order. 4 % of the binders have no motif.
    """
    motifs = demo_motifs(num_epitopes, seed)
    epitopes = [Epitope(sequence) for sequence in motifs]
    patterns = [re.compile(motif) for motif in motifs.values()]
    draw = random.Random(f"pairs {seed}")
    weight = [k**-0.5 for k in range(1, num_epitopes + 1)]
    receptors: set[Receptor] = set()
    pairs: list[Pair] = []
    while len(receptors) < num_receptors:
        bound, other = _two_epitopes(draw, weight)
        receptor = _receptor(draw, list(motifs.values())[bound], patterns, bound)
        if receptor in receptors:
            continue
        receptors.add(receptor)
        for label in draw.sample((0, 1), 2):
            name = f"demo-{len(pairs):05d}"
            pairs.append(Pair(name, receptor, epitopes[bound if label else other], label, line=len(pairs) + 2))
    return pairs


def write_demo(path: str | Path, pairs: Sequence[Pair]) -> None:
    """Pairs of `demo_pairs` as a CSV file with the columns ``cdr3, v, j, epitope, label``."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["cdr3", "v", "j", "epitope", "label"])
        for pair in pairs:
            chain = pair.receptor
            writer.writerow([chain.cdr3, chain.v, chain.j, pair.epitope.sequence, pair.label])


def _two_epitopes(draw: random.Random, weight: Sequence[float]) -> tuple[int, int]:
    """Drawn together: the second alone, given the first, would make negatives of rare epitopes too common."""
    while True:
        first, second = draw.choices(range(len(weight)), weight, k=2)
        if first != second:
            return first, second


def _receptor(draw: random.Random, motif: str, patterns: list[re.Pattern[str]], bound: int) -> Receptor:
    """A chain with the motif, or now and then without; never with that of another epitope."""
    expected = [bound] if draw.random() >= _WITHOUT_MOTIF else []
    while True:
        v, j = draw.choice(list(V_GENES)), draw.choice(list(J_GENES))
        loop = draw.choices(LOOP, k=draw.choice(LOOP_LENGTHS))
        if expected:
            start = draw.randint(0, len(loop) - len(motif))
            for place, letter in enumerate(motif, start=start):
                loop[place] = loop[place] if letter == "." else letter
        cdr3 = V_GENES[v] + "".join(loop) + J_GENES[j]
        if [k for k, pattern in enumerate(patterns) if pattern.search(cdr3)] == expected:
            full, start = full_chain(v, j, cdr3)
            return Receptor(cdr3, v, j, full, start)


def _overlap(one: Sequence[str], other: str) -> bool:
    """Whether some four letters fit both motifs."""
    return all("." in (a, b) or a == b for a, b in zip(one, other, strict=True))
