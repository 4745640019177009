"""From combinations as they stand in a file to samples and a table: merged, labelled, one row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from geoattn.datasets.rejections import Rejections
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.records import Combination

ENOUGH = 10
"""Repeated measurements from which their correlation is told."""
EXAMPLES = 3
"""Repeats that a note names."""


def in_one_part(samples: Sequence[Combination], column: str | None, rejections: Rejections) -> list[Combination]:
    """The samples without those that the column of the split puts apart from a repeat: they cannot be merged.

    Args:
        samples: with the column among their fields.
        column: of the split; None if it reads no column.
        rejections: raises at the first, or gets all that disagree.
    """
    if column is None:
        return list(samples)
    apart = set()
    for group in _repeats(samples):
        values = [str(sample.fields.get(column, "")).strip() for sample in group]
        if len(set(values)) == 1:
            continue
        for sample, value in zip(group, values, strict=True):
            other = next(k for k, different in enumerate(values) if different != value)
            reason = f"line {group[other].line} has the same pair and cell line with {values[other]!r}"
            hint = "Put all repeats of a pair in a cell line into one part."
            rejections.add(sample.file, sample.line, RecordError(column, value, reason, hint))
            apart.add(id(sample))
    return [sample for sample in samples if id(sample) not in apart]


def repeats_of(samples: Sequence[Combination]) -> dict[str, int]:
    """How many samples repeat a pair in a cell line, and how many of those with repeats stand with two scores."""
    groups = _repeats(samples)
    different = [group for group in groups if len({sample.score for sample in group}) > 1]
    return {"rows": sum(map(len, groups)) - len(groups), "contradictory": sum(map(len, different))}


def merged(
    samples: Sequence[Combination], *, labels: bool, rejections: Rejections, notes: list[str]
) -> list[Combination]:
    """One of the samples of each unordered pair in a cell line, with the mean score or the label of the majority.

    Drugs are the same if their molecules are, stereoisomers are not; the first sample of each gives id, order and line.
    Samples with as many labels of one kind as of the other are rejected.

    Args:
        samples: with scores.
        labels: scores are labels.
        rejections: gets the contradictory ones.
        notes: gets what was merged, and how well repeated scores agree where they differ: copies are no measurements.
    """
    groups = _groups(samples)
    kept = []
    for group in groups:
        scores = [sample.score for sample in group if sample.score is not None]
        if labels and len(set(scores)) > 1:
            (label, count), (_, other) = Counter(scores).most_common(2)
            if count == other:
                _reject(group, rejections)
                continue
            kept.append(replace(group[0], score=label))
        else:
            kept.append(replace(group[0], score=sum(scores) / len(scores)) if len(group) > 1 else group[0])
    repeats = _repeats(samples)
    if repeats:
        notes.append(_said(repeats, labels))
    return kept


def labelled(
    samples: Sequence[Combination], positive: float, negative: float | None, notes: list[str]
) -> tuple[list[Combination], list[Combination]]:
    """Labels in the place of scores: 1 from ``positive`` up, 0 down from ``negative``; and those between, without.

    Args:
        samples: with scores.
        positive: the lowest score of class 1.
        negative: the highest score of class 0; everything below ``positive`` if left out.
        notes: gets the thresholds and how many lie between.
    """
    kept, between = [], []
    for sample in samples:
        assert sample.score is not None
        if sample.score >= positive:
            kept.append(replace(sample, score=1.0, measured=sample.score))
        elif negative is None or sample.score <= negative:
            kept.append(replace(sample, score=0.0, measured=sample.score))
        else:
            between.append(replace(sample, score=None, measured=sample.score))
    below = f"below {positive:g}" if negative is None else f"of at most {negative:g}"
    notes.append(f"Class 1 are scores of at least {positive:g}, class 0 scores {below}.")
    if between:
        share = 100 * len(between) / len(samples)
        verb = "lies between: it is" if len(between) == 1 else "lie between: they are"
        notes.append(
            f"{len(between)} of {len(samples)} combinations ({share:.0f} %) {verb} in no valid or test part, which "
            "makes the task easier than screening."
        )
    return kept, between


def table_of(samples: Sequence[Combination], column: str | None = None) -> pd.DataFrame:
    """One row per sample, with the column of the split if there is one."""
    table = pd.DataFrame(
        {
            "id": [sample.id for sample in samples],
            "file": [sample.file for sample in samples],
            "line": [sample.line for sample in samples],
            "drug_a": [sample.drug_a.name for sample in samples],
            "drug_b": [sample.drug_b.name for sample in samples],
            "cell_line": [sample.cell.name for sample in samples],
            "tissue": [sample.cell.tissue for sample in samples],
            "score": np.array([np.nan if sample.score is None else sample.score for sample in samples], dtype=float),
            "key_a": [sample.drug_a.identity for sample in samples],
            "key_b": [sample.drug_b.identity for sample in samples],
        }
    )
    if column is not None and column not in table:
        table[column] = [sample.fields.get(column) for sample in samples]
    return table


def _groups(samples: Sequence[Combination]) -> list[list[Combination]]:
    """The samples of each unordered pair of molecules in a cell line."""
    groups: dict[tuple[tuple[str, str], str], list[Combination]] = {}
    for sample in samples:
        groups.setdefault((sample.molecules, sample.cell.name), []).append(sample)
    return list(groups.values())


def _repeats(samples: Sequence[Combination]) -> list[list[Combination]]:
    return [group for group in _groups(samples) if len(group) > 1]


def _reject(group: Sequence[Combination], rejections: Rejections) -> None:
    for sample in group:
        other = next(x for x in group if x.score != sample.score)
        reason = f"line {other.line} has the same pair and cell line with the other label"
        rejections.add(sample.file, sample.line, RecordError("label", sample.score, reason))


def _said(repeats: Sequence[Sequence[Combination]], labels: bool) -> str:
    count = sum(map(len, repeats)) - len(repeats)
    swapped = sum(len({sample.drug_a.molecule for sample in group}) > 1 for group in repeats)
    said = (
        f"{count} row{' repeats' if count == 1 else 's repeat'} a pair in a cell line ({swapped} of {len(repeats)} in "
        f"both orders of the drugs), e.g. {_examples(repeats)}: "
    )
    if labels:
        tied = sum(2 * sum(sample.score or 0.0 for sample in group) == len(group) for group in repeats)
        return f"{said}the majority of their labels was taken; {tied} with as many 1 as 0 were left out."
    said += "the mean of their scores was taken."
    scores = [list(dict.fromkeys(sample.score for sample in group)) for group in repeats]
    differ = np.array([found[:2] for found in scores if len(found) > 1], dtype=np.float64)
    if len(differ) >= ENOUGH:
        both = np.vstack([differ, differ[:, ::-1]])  # neither of two measurements is the first
        r = float(np.asarray(np.corrcoef(both.T))[0, 1])
        copies = len(repeats) - len(differ)
        said += f" Two measurements of a pair agree with r = {r:.2f}"
        said += f" ({copies} of {len(repeats)} repeat the very same score and do not count)." if copies else "."
    return said


def _examples(repeats: Sequence[Sequence[Combination]]) -> str:
    """Lines and drugs of some repeats, those with two names of one molecule first."""
    names = [list(dict.fromkeys(d.name for s in group for d in (s.drug_a, s.drug_b))) for group in repeats]
    order = sorted(range(len(repeats)), key=lambda k: len(names[k]) == 2)[:EXAMPLES]
    return "; ".join(
        f"lines {' and '.join(str(sample.line) for sample in repeats[k][:2])} ({', '.join(names[k])})" for k in order
    )
