"""What the parts of a split share: the same pair, drug, cell line or tissue on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from geoattn.domains.synergy.records import Combination

NUM_EXAMPLES = 10
PAIRS = (("train", "test"), ("train", "valid"), ("valid", "test"))


def audit(samples: Sequence[Combination], split: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Count what the parts of a split share.

    Every count is of combinations of the second part: ``identical`` has pair and cell line in the first part too,
    ``shared_pair`` the unordered pair, ``one_drug`` at least one of its drugs, ``both_drugs`` each of them (in pairs of
    any kind), ``shared_cell`` the cell line, ``shared_tissue`` the tissue. Drugs are the same if their molecules are,
    without stereochemistry and salt, whatever their names.

    Args:
        samples: as a file has them, or after merging.
        split: row numbers under train, valid and test.

    Returns:
        ``{"sizes": {part: n}, "drugs": {part: n}, "cells": {part: n}, "tissues": {part: n}, "duplicates": n,
        "contradictory": n, "left_out": n, "same_molecule": [[name, ...], ...], "pairs": {"train/test": {"identical": n,
        ...}, ...}, "examples": [{"pair", "id", "other_id", "drug_a", "drug_b", "cell_line"}, ...]}``, JSON values.
        ``duplicates`` are samples that repeat an earlier pair in its cell line, in either order, ``contradictory``
        those that stand with another score too, ``left_out`` samples in no part, ``same_molecule`` names of one
        molecule. ``examples`` are repeats between train and test.
    """
    scores: dict[Hashable, set[float | None]] = {}
    for sample in samples:
        scores.setdefault(_identical(sample), set()).add(sample.score)
    names: dict[str, dict[str, None]] = {}
    for sample in samples:
        for drug in (sample.drug_a, sample.drug_b):
            names.setdefault(drug.identity, {})[drug.name] = None
    parts = {part: [samples[row] for row in rows] for part, rows in split.items()}
    return {
        "sizes": {part: len(found) for part, found in parts.items()},
        "drugs": {part: len({name for sample in found for name in sample.pair}) for part, found in parts.items()},
        "cells": {part: len({sample.cell.name for sample in found}) for part, found in parts.items()},
        "tissues": {part: len({sample.cell.tissue for sample in found} - {""}) for part, found in parts.items()},
        "duplicates": len(samples) - len(scores),
        "contradictory": sum(len(scores[_identical(sample)]) > 1 for sample in samples),
        "left_out": len(samples) - sum(map(len, parts.values())),
        "same_molecule": [list(found) for found in names.values() if len(found) > 1],
        "pairs": {f"{first}/{second}": _shared(parts[first], parts[second]) for first, second in PAIRS},
        "examples": _examples(parts["train"], parts["test"]),
    }


def audit_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The counts of `audit` as rows of a table: parts, what, count, of (size of the second part), percent."""
    rows = []
    for pair, counts in report["pairs"].items():
        size = report["sizes"][pair.split("/")[1]]
        for what, count in counts.items():
            percent = round(100 * count / size, 1) if size else 0.0
            rows.append({"parts": pair, "what": what, "count": count, "of": size, "percent": percent})
    return rows


def _identical(sample: Combination) -> Hashable:
    return sample.pair, sample.cell.name


def _shared(first: Sequence[Combination], second: Sequence[Combination]) -> dict[str, int]:
    drugs = {name for sample in first for name in sample.pair}
    known = Counter(sum(name in drugs for name in sample.pair) for sample in second)

    def count(what: Callable[[Combination], Hashable]) -> int:
        found = {what(sample) for sample in first} - {""}
        return sum(what(sample) in found for sample in second)

    return {
        "identical": count(_identical),
        "shared_pair": count(lambda sample: sample.pair),
        "one_drug": known[1] + known[2],
        "both_drugs": known[2],
        "shared_cell": count(lambda sample: sample.cell.name),
        "shared_tissue": count(lambda sample: sample.cell.tissue),
    }


def _examples(train: Sequence[Combination], test: Sequence[Combination]) -> list[dict[str, str]]:
    holder: dict[Hashable, str] = {}
    for sample in train:
        holder.setdefault(_identical(sample), sample.id)
    found = []
    for sample in test:
        if _identical(sample) in holder:
            found.append(
                {
                    "pair": "train/test",
                    "id": sample.id,
                    "other_id": holder[_identical(sample)],
                    "drug_a": sample.drug_a.name,
                    "drug_b": sample.drug_b.name,
                    "cell_line": sample.cell.name,
                }
            )
    return found[:NUM_EXAMPLES]
