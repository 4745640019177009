"""Splits of drug pairs in cell lines: by row, pair, drug, both drugs, cell line or tissue; validation likewise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import numpy as np
import pandas as pd

from geoattn.datasets.splits import PARTS, Split, says_valid, split_rows
from geoattn.errors import InputError, nearest_hint

Names = list[tuple[Hashable, ...]]
"""What of a row is kept apart: its pair, its two drugs, its cell line."""
APART = ("random", "combination", "drug", "both-drugs", "cell", "tissue")
KINDS = (*APART, *(f"{kind}:K:I" for kind in APART), "column:NAME", "column:NAME=VALUE", "file:PATH")
FEWEST = {"drug": (3, 4), "both-drugs": (4, 6)}
"""Drugs from which two and three parts can be cut; of pairs, cell lines and tissues it takes two and three."""
STRICTEST = ("tissue", "cell", "both-drugs", "drug", "combination", "random")


def split_combinations(
    spec: str, table: pd.DataFrame, *, seed: int = 0, val_fraction: float = 0.1, test_fraction: float = 0.1
) -> tuple[Split, list[str]]:
    """Divide combinations into train, valid and test.

    Args:
        spec: one of

            - ``"random"``: rows drawn. The pairs, drugs and cells of the test part were all trained on.
            - ``"combination"``: the pairs of one part stand in no other.
            - ``"drug"``: every pair of the test part has a drug that no pair of another part has.
            - ``"both-drugs"``: no drug of the test part stands in another; pairs of drugs of two parts are left out.
            - ``"cell"``, ``"tissue"``: the cell lines, the tissues of one part stand in no other.
            - any of these with ``":K:I"``: of ``K`` drawn folds of rows, pairs, drugs, ... fold ``I`` is the test part.
            - ``"column:NAME"``, ``"column:NAME=VALUE"``, ``"file:PATH"``: as `geoattn.datasets.splits.split_rows`, but
              a validation part that is drawn is cut as far from training as the test part is.

            The validation part is cut in the same way out of the rows that are not test. A drug is its molecule without
            stereochemistry and salt, whatever its names.
        table: with id, key_a, key_b, cell_line, tissue, and the column of the split.
        seed: of everything drawn.
        val_fraction, test_fraction: shares of the rows, as nearly as whole groups allow.

    Returns:
        Row numbers under train, valid and test, and sentences about what was done.

    Raises:
        InputError: an unknown kind, a part that would be empty, too few groups, no tissues.
    """
    if len(table) < 3:
        raise InputError(f"the file has {len(table)} usable combinations: too few for train, valid and test.")
    if not (0 < val_fraction < 1 and 0 < test_fraction < 1 and val_fraction + test_fraction < 1):
        raise InputError(
            f"--data.val-fraction {val_fraction}, --data.test-fraction {test_fraction}: both must lie between 0 and "
            "1, and their sum below 1."
        )
    rng = np.random.default_rng(seed)
    notes: list[str] = []
    kind, _, argument = spec.partition(":")
    rows = np.arange(len(table))
    if kind in APART:
        names = _names(table, kind)
        _check_number(spec, kind, names, rows, 3)
        choose = _fold(argument, rng, spec) if argument or spec.endswith(":") else _fraction(test_fraction, rng)
        test, rest, dropped = _cut(names, rows, choose, both=kind == "both-drugs")
        fraction = val_fraction if argument else val_fraction / (1 - test_fraction)
    elif kind in ("column", "file") and argument:
        given = split_rows(
            spec, table, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction, what="combination"
        )
        if says_valid(spec, table):
            return given, notes
        test, rest = np.array(given["test"]), np.array(sorted([*given["train"], *given["valid"]]))
        dropped, fraction = 0, val_fraction
        kind = next(kind for kind in STRICTEST if _is_apart(table, kind, rest, test))
        names = _names(table, kind)
        _check_number(spec, kind, names, rest, 2)
        notes.append(f"The validation part was cut as far from training as the test part is: {_WHAT[kind]}.")
    else:
        raise InputError(f"split: got {spec!r}, which is no known kind. {nearest_hint(spec, KINDS)}")
    if len(rest):
        valid, train, more = _cut(names, rest, _fraction(fraction, rng), both=kind == "both-drugs")
    else:
        valid, train, more = rest, rest, 0
    if dropped + more:
        notes.append(f"{dropped + more} pairs of a drug of one part and a drug of another were left out.")
    split = {name: sorted(int(i) for i in part) for name, part in zip(PARTS, (train, valid, test), strict=True)}
    for name in PARTS:
        if not split[name]:
            sizes = ", ".join(f"{len(split[part])} {part}" for part in PARTS)
            raise InputError(f"split {spec!r}: the {name} part is empty ({sizes}). Choose another split or fraction.")
    return split, notes


_WHAT = {
    "random": "rows drawn",
    "combination": "no pair in common",
    "drug": "in every pair a drug that training has not",
    "both-drugs": "no drug in common",
    "cell": "no cell line in common",
    "tissue": "no tissue in common",
}
_COUNTED = {"random": "combination", "combination": "pair", "cell": "cell line", "tissue": "tissue"}
Choose = Callable[[Mapping[Hashable, list[int]], np.ndarray], list[Hashable]]
"""From the rows of each name, and how many of its names a row needs to be held out, to the names that are chosen."""


def _names(table: pd.DataFrame, kind: str) -> Names:
    drugs = [tuple(sorted(pair)) for pair in zip(table["key_a"], table["key_b"], strict=True)]
    if kind == "random":
        return [(row,) for row in range(len(table))]
    if kind == "combination":
        return [(pair,) for pair in drugs]
    if kind in ("drug", "both-drugs"):
        return drugs
    if kind == "tissue" and not all(table["tissue"]):
        number = int((table["tissue"] == "").sum())
        raise InputError(
            f"split 'tissue': {number} of {len(table)} combinations name no tissue. Name the column with "
            "--tissue-column."
        )
    return [(name,) for name in table["cell_line" if kind == "cell" else "tissue"]]


def _check_number(spec: str, kind: str, names: Names, rows: np.ndarray, parts: int) -> None:
    """Are there enough pairs, drugs, cell lines ... among the rows for so many parts?"""
    number = len({name for row in rows.tolist() for name in names[row]})
    least = FEWEST.get(kind, (2, 3))[parts - 2]
    if number >= least:
        return
    what = _COUNTED.get(kind, "drug")
    left = f"{number} {what}{'s' * (number != 1)}" + (" outside the test part" if parts == 2 else "")
    looser = {"tissue": "cell", "both-drugs": "drug", "combination": "random"}.get(kind, "combination")
    step = f"Choose another split, e.g. {looser}"
    if parts == 2:
        step = "Say train, valid and test in a column, or choose another test part"
    raise InputError(f"split {spec}: {left}; at least {least} are needed. {step}.")


def _cut(names: Names, rows: np.ndarray, choose: Choose, both: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """(held out, rest, number of rows in neither): rows with a chosen name are held out, or with ``both`` those of
    chosen names alone; the rest has no chosen name."""
    members: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows.tolist()):
        for name in names[row]:
            members.setdefault(name, []).append(place)
    needed = np.array([len(names[row]) if both else 1 for row in rows.tolist()], dtype=int)
    chosen = choose(members, needed)
    count = np.zeros(len(rows), dtype=int)
    for name in chosen:
        count[members[name]] += 1
    return rows[count >= needed], rows[count == 0], int(((count > 0) & (count < needed)).sum())


def _fraction(fraction: float, rng: np.random.Generator) -> Choose:
    """Names in drawn order, each if it brings the held-out rows nearer to their share."""

    def choose(members: Mapping[Hashable, list[int]], needed: np.ndarray) -> list[Hashable]:
        names, missing = list(members), needed.copy()
        target, held = max(1.0, fraction * len(needed)), 0
        chosen: list[Hashable] = []
        for i in rng.permutation(len(names)).tolist():
            if held >= target or len(chosen) == len(names) - 1:  # the last is never taken: training needs one
                break
            gain = int((missing[members[names[i]]] == 1).sum())
            if abs(held + gain - target) <= abs(held - target):
                chosen.append(names[i])
                missing[members[names[i]]] -= 1
                held += gain
        return chosen or [min(names, key=lambda name: len(members[name]))]

    return choose


def _fold(argument: str, rng: np.random.Generator, spec: str) -> Choose:
    def choose(members: Mapping[Hashable, list[int]], needed: np.ndarray) -> list[Hashable]:
        names = list(members)
        try:
            num_folds, fold = (int(text) for text in argument.split(":"))
        except ValueError:
            kind = spec.partition(":")[0]
            raise InputError(f"split: got {spec!r}, expected {kind}:K:I, e.g. {kind}:5:0.") from None
        if not 2 <= num_folds <= len(names) or not 0 <= fold < num_folds:
            raise InputError(f"split: {spec}: K must be 2..{len(names)} and I 0..K-1.")
        return [names[i] for i in rng.permutation(len(names))[fold::num_folds]]

    return choose


def _is_apart(table: pd.DataFrame, kind: str, rest: np.ndarray, test: np.ndarray) -> bool:
    """Is the test part as far from the rest as a split of this kind would have it?"""
    if kind == "tissue" and not all(table["tissue"]):
        return False
    names = _names(table, kind)
    seen = {name for row in rest.tolist() for name in names[row]}
    new = [[name not in seen for name in names[row]] for row in test.tolist()]
    return all(any(row) if kind == "drug" else all(row) for row in new)
