"""From pairs as they stand in a file to pairs and a table: the steps that training and prediction share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from geoattn.datasets.rejections import Rejections
from geoattn.domains.records import RecordError
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.records import Epitope, Pair


def without_repeats(pairs: Sequence[Pair], rejections: Rejections, notes: list[str]) -> list[Pair]:
    """The first of identical pairs, counting the others in ``notes``; of those with both labels all are rejected."""
    groups: dict[Any, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.receptor, pair.epitope.sequence), []).append(pair)
    kept = []
    for group in groups.values():
        labels = {pair.label: pair.line for pair in reversed(group)}
        if len(labels) == 1:
            kept.append(group[0])
            continue
        for pair in group:
            other = next(line for label, line in labels.items() if label != pair.label)
            reason = f"line {other} has the same receptor and epitope with the other label"
            rejections.add(pair.file, pair.line, RecordError("label", pair.label, reason))
    repeats = sum(len(group) for group in groups.values() if len({pair.label for pair in group}) == 1) - len(kept)
    if repeats:
        notes.append(f"{repeats} pairs repeat an earlier one (same receptor, epitope and label) and were left out.")
    return kept


def usable(pairs: Iterable[Pair], featurizer: Featurizer, rejections: Rejections) -> list[Pair]:
    """The pairs whose epitope can be encoded; each distinct one is encoded once."""
    wrong: dict[Epitope, RecordError] = {}
    kept = []
    for pair in pairs:
        try:
            if pair.epitope in wrong:
                raise wrong[pair.epitope]
            featurizer.epitope(pair.epitope)
            kept.append(pair)
        except RecordError as error:
            wrong[pair.epitope] = error
            rejections.add(pair.file, pair.line, error)
    return kept


def table_of(pairs: Sequence[Pair], column: str | None = None) -> pd.DataFrame:
    """One row per pair; ``full`` only if it is known, and the column of the split if there is one."""
    table = pd.DataFrame(
        {
            "id": [pair.id for pair in pairs],
            "file": [pair.file for pair in pairs],
            "line": [pair.line for pair in pairs],
            "cdr3": [pair.receptor.cdr3 for pair in pairs],
            "v": [pair.receptor.v for pair in pairs],
            "j": [pair.receptor.j for pair in pairs],
            "epitope": [pair.epitope.sequence for pair in pairs],
            "label": [pair.label for pair in pairs],
            "study": [pair.study for pair in pairs],
        }
    )
    if any(pair.receptor.full for pair in pairs):
        table.insert(6, "full", [pair.receptor.full for pair in pairs])
    if column is not None and column not in table:
        table[column] = [pair.fields.get(column) for pair in pairs]
    return table
