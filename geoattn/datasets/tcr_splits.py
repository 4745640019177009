"""Splits of receptor-epitope pairs: no receptor, and if so wished no epitope or study, stands on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from geoattn.datasets.splits import PARTS, Split, says_valid, split_rows
from geoattn.domains.tcr.near import near_clusters
from geoattn.errors import InputError, nearest_hint

KINDS = ("tcr", "epitope", "both", "study", "column:NAME", "column:NAME=VALUE", "file:PATH", "kfold:K:I")


def split_pairs(
    spec: str,
    table: pd.DataFrame,
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    cluster: bool = False,
) -> tuple[Split, list[str]]:
    """Divide pairs into train, valid and test.

    Args:
        spec: one of

            - ``"tcr"``: the CDR3s of one part stand in no other.
            - ``"epitope"``: the epitopes of one part stand in no other.
            - ``"both"``: neither stands in two parts. A receptor goes where most of its binding epitopes are; pairs
              between two parts are left out.
            - ``"study"``: whole studies.
            - ``"column:NAME"``, ``"column:NAME=VALUE"``, ``"file:PATH"``: as `geoattn.datasets.splits.split_rows`, but
              a validation part that is drawn shares no CDR3 with the training part, nor an epitope if the test part
              shares none with the rest.
            - ``"kfold:K:I"``: fold ``I`` of ``K`` folds of CDR3s is the test part, validation is drawn from the rest.
        table: with id, cdr3, v, j, epitope, label, study, full if it is known, and the column of the split.
        seed: of everything drawn.
        val_fraction, test_fraction: shares of the pairs, as nearly as whole groups allow.
        cluster: CDR3s that chains of single edits join are kept together, wherever receptors are kept apart.

    Returns:
        Row numbers under train, valid and test, and sentences about what was done.

    Raises:
        InputError: an unknown kind, a part that would be empty, too few groups.
    """
    if len(table) < 3:
        raise InputError(f"the file has {len(table)} usable pairs: too few for train, valid and test.")
    if not (0 < val_fraction < 1 and 0 < test_fraction < 1 and val_fraction + test_fraction < 1):
        raise InputError(
            f"--data.val-fraction {val_fraction}, --data.test-fraction {test_fraction}: both must lie between 0 and "
            "1, and their sum below 1."
        )
    rng = np.random.default_rng(seed)
    notes: list[str] = []
    receptors = _receptor_groups(table["cdr3"].tolist(), cluster, notes)
    epitopes = table["epitope"].tolist()
    everything = np.arange(len(table))
    fractions = {"test": test_fraction, "valid": val_fraction}
    kind, _, argument = spec.partition(":")
    if spec == "tcr":
        split = _by_group(receptors, everything, fractions, rng)
    elif spec == "epitope":
        split = _by_group(epitopes, everything, fractions, rng)
    elif spec == "study":
        split = _by_group(_studies(table), everything, fractions, rng)
    elif spec == "both":
        split = _by_both(receptors, table, everything, fractions, rng, notes)
    elif kind == "kfold":
        test = _fold(receptors, argument, rng)
        split = _with_valid(_members(receptors, test), test, receptors, table, val_fraction, rng, notes)
    elif kind in ("column", "file") and argument:
        split = split_rows(spec, table, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction, what="pair")
        if not says_valid(spec, table):
            rest = np.array(sorted([*split["train"], *split["valid"]]))
            split = _with_valid(rest, split["test"], receptors, table, val_fraction, rng, notes)
    else:
        raise InputError(f"split: got {spec!r}, which is no known kind. {nearest_hint(spec, KINDS)}")
    for name in PARTS:
        if not split[name]:
            sizes = ", ".join(f"{len(split[part])} {part}" for part in PARTS)
            raise InputError(f"split {spec!r}: the {name} part is empty ({sizes}). Choose another split or fraction.")
    return {name: split[name] for name in PARTS}, notes


def _receptor_groups(cdr3s: Sequence[str], cluster: bool, notes: list[str]) -> list[Hashable]:
    if not cluster:
        return list(cdr3s)
    groups = near_clusters(cdr3s)
    largest = max(Counter(dict(zip(cdr3s, groups, strict=True)).values()).values())
    notes.append(
        f"Chains of single edits join the {len(set(cdr3s))} CDR3s to {len(set(groups))} clusters, the largest of "
        f"{largest}; a cluster stays in one part."
    )
    return list(groups)


def _studies(table: pd.DataFrame) -> list[Hashable]:
    studies = table["study"].tolist()
    if not all(studies):
        raise InputError(
            f"split 'study': {studies.count('')} of {len(studies)} pairs name no study. Name the column with "
            "--study-column."
        )
    return studies


def _by_group(
    groups: Sequence[Hashable], rows: Iterable[int], fractions: dict[str, float], rng: np.random.Generator
) -> Split:
    """Whole groups in drawn order: each part takes those that bring it nearest to its share of the rows."""
    members: dict[Hashable, list[int]] = {}
    for row in rows:
        members.setdefault(groups[row], []).append(int(row))
    lists = list(members.values())
    total, order = sum(map(len, lists)), rng.permutation(len(lists)).tolist()
    split: Split = {name: [] for name in PARTS}
    for part, fraction in fractions.items():
        left = []
        for position, i in enumerate(order):
            missing = max(1.0, total * fraction) - len(split[part])
            if missing <= 0 or position == len(order) - 1:  # the last group is never taken: training needs one
                left.extend(order[position:])
                break
            if len(lists[i]) <= 2 * missing:
                split[part].extend(lists[i])
            else:  # it would overshoot by more than is missing: a smaller one may come
                left.append(i)
        if not split[part] and len(left) > 1:
            smallest = min(left, key=lambda i: len(lists[i]))
            split[part].extend(lists[smallest])
            left.remove(smallest)
        order = left
    split["train"] = [row for i in order for row in lists[i]]
    return {name: sorted(found) for name, found in split.items()}


def _by_both(
    receptors: Sequence[Hashable],
    table: pd.DataFrame,
    rows: np.ndarray,
    fractions: dict[str, float],
    rng: np.random.Generator,
    notes: list[str],
) -> Split:
    """Parts that share neither receptors nor epitopes; pairs between two parts are left out.

    Blocks of chains and epitopes that pairs join, e.g. the folds of a strict split with negatives of their own, are
    kept whole if they are small enough: that costs the fewest pairs.
    """
    epitopes, labels = table["epitope"].tolist(), table["label"].tolist()
    names = [name for name in ("cdr3", "v", "j", "full") if name in table]
    chains = list(table[names].itertuples(index=False, name=None))
    split = _by_group(_blocks(chains, epitopes, rows), rows, fractions, rng)
    sizes = {part: len(split[part]) / len(rows) for part in fractions}
    if not all(0 < sizes[part] <= 2 * fraction for part, fraction in fractions.items()):
        split = _by_group(epitopes, rows, fractions, rng)
    part_of = {epitopes[row]: part for part, found in split.items() for row in found}
    votes: dict[Hashable, Counter[str]] = {}
    for row in rows:
        weight = 1_000_000 if labels[row] == 1 else 1  # binders decide; the others only where a receptor has none
        votes.setdefault(receptors[row], Counter())[part_of[epitopes[row]]] += weight
    home = {receptor: count.most_common(1)[0][0] for receptor, count in votes.items()}
    kept = {part: [row for row in found if home[receptors[row]] == part] for part, found in split.items()}
    dropped = len(rows) - sum(map(len, kept.values()))
    if dropped:
        notes.append(f"{dropped} pairs of a receptor of one part and an epitope of another were left out.")
    return kept


def _blocks(receptors: Sequence[Hashable], epitopes: Sequence[Hashable], rows: Iterable[int]) -> list[Hashable]:
    """The connected component of each row in the graph that joins receptors and epitopes."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for row in rows:
        parent[root(("receptor", receptors[row]))] = root(("epitope", epitopes[row]))
    return [root(("epitope", epitope)) for epitope in epitopes]


def _with_valid(
    rest: np.ndarray,
    test: Sequence[int],
    receptors: Sequence[Hashable],
    table: pd.DataFrame,
    val_fraction: float,
    rng: np.random.Generator,
    notes: list[str],
) -> Split:
    """Train and valid out of the rows that are not test, as far apart as these are from test."""
    epitopes = table["epitope"].tolist()
    if {epitopes[row] for row in rest} & {epitopes[row] for row in test}:
        split = _by_group(receptors, rest, {"valid": val_fraction}, rng)
        notes.append("The validation part was drawn by receptor: it shares no CDR3 with the training part.")
    else:
        split = _by_both(receptors, table, rest, {"valid": val_fraction}, rng, notes)
        notes.append(
            "The validation part was drawn by receptor and epitope, because the test part shares no epitope with the "
            "rest: it shares neither with the training part."
        )
    return {**split, "test": sorted(int(row) for row in test)}


def _fold(groups: Sequence[Hashable], argument: str, rng: np.random.Generator) -> list[int]:
    names = list(dict.fromkeys(groups))
    try:
        num_folds, fold = (int(text) for text in argument.split(":"))
    except ValueError:
        raise InputError(f"split: got 'kfold:{argument}', expected kfold:K:I, e.g. kfold:5:0.") from None
    if not 2 <= num_folds <= len(names) or not 0 <= fold < num_folds:
        raise InputError(f"split: kfold:{argument}: K must be 2..{len(names)} and I 0..K-1.")
    chosen = {names[i] for i in rng.permutation(len(names))[fold::num_folds]}
    return [row for row, group in enumerate(groups) if group in chosen]


def _members(groups: Sequence[Hashable], test: Sequence[int]) -> np.ndarray:
    """The rows that are not test."""
    return np.setdiff1d(np.arange(len(groups)), test)
