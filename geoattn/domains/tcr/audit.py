"""What the parts of a split share: the same or nearly the same receptor, epitope or study on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from geoattn.domains.tcr.near import NearIndex
from geoattn.domains.tcr.records import Pair

NUM_EXAMPLES = 10
PAIRS = (("train", "test"), ("train", "valid"), ("valid", "test"))


def audit(pairs: Sequence[Pair], split: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Count what the parts of a split share, and what the negatives give away.

    Every count is of pairs of the second part whose receptor (CDR3, genes, chain), CDR3, epitope or study also stands
    in the first, or whose CDR3 is at an edit distance of at most 1 from one there.

    A table of negatives says what a score is worth: ``epitope_rate_auc`` is the ROC-AUC of the share of binders that
    each epitope has *within the part* (0.5 if all epitopes have the same share), and ``trained_epitope_rate_auc`` that
    of the share in the training part, as a model could learn it. ``tcr_rate_auc`` is the first of these with receptors
    in the place of epitopes: 1 means that no receptor has both labels, so that the receptor alone tells the label.

    Args:
        pairs: with labels.
        split: row numbers under train, valid and test.

    Returns:
        ``{"sizes": {part: n}, "duplicates": n, "contradictory": n, "left_out": n, "pairs": {"train/test":
        {"identical_receptor": n, ...}, ...}, "negatives": {part: {"positives": n, ...}}, "examples": [{"pair", "id",
        "other_id", "cdr3", "other_cdr3"}, ...]}``, JSON values. ``duplicates`` are pairs that repeat an earlier one,
        ``contradictory`` those whose receptor and epitope stand with both labels, ``left_out`` pairs in no part.
        Undefined areas are None. ``examples`` are near copies between train and test.

    Cost: linear in the number of pairs; about a second for 20,000.
    """
    keys = [(pair.receptor, pair.epitope.sequence) for pair in pairs]
    labels: dict[Any, set[int | None]] = {}
    for key, pair in zip(keys, pairs, strict=True):
        labels.setdefault(key, set()).add(pair.label)
    index = {part: NearIndex(pairs[row].receptor.cdr3 for row in rows) for part, rows in split.items()}
    report: dict[str, Any] = {
        "sizes": {part: len(rows) for part, rows in split.items()},
        "duplicates": len(pairs) - len(set(keys)),
        "contradictory": sum({0, 1} <= labels[key] for key in keys),
        "left_out": len(pairs) - sum(len(rows) for rows in split.values()),
        "pairs": {
            f"{first}/{second}": _shared(pairs, split[first], split[second], index[first]) for first, second in PAIRS
        },
        "negatives": {part: _negatives(pairs, split["train"], rows) for part, rows in split.items()},
        "examples": _examples(pairs, split["train"], split["test"], index["train"]),
    }
    return report


def audit_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The counts of `audit` as rows of a table: parts, what, count, of (size of the second part), percent."""
    rows = []
    for pair, counts in report["pairs"].items():
        size = report["sizes"][pair.split("/")[1]]
        for what, count in counts.items():
            percent = round(100 * count / size, 1) if size else 0.0
            rows.append({"parts": pair, "what": what, "count": count, "of": size, "percent": percent})
    return rows


def _shared(pairs: Sequence[Pair], first: Sequence[int], second: Sequence[int], index: NearIndex) -> dict[str, int]:
    receptors = {pairs[row].receptor for row in first}
    cdr3s = {pairs[row].receptor.cdr3 for row in first}
    epitopes = {pairs[row].epitope.sequence for row in first}
    studies = {pairs[row].study for row in first} - {""}
    near = {cdr3 for cdr3 in {pairs[row].receptor.cdr3 for row in second} if index.nearest(cdr3) is not None}
    return {
        "identical_receptor": sum(pairs[row].receptor in receptors for row in second),
        "identical_cdr3": sum(pairs[row].receptor.cdr3 in cdr3s for row in second),
        "near_cdr3": sum(pairs[row].receptor.cdr3 in near for row in second),
        "shared_epitope": sum(pairs[row].epitope.sequence in epitopes for row in second),
        "shared_study": sum(pairs[row].study in studies for row in second),
    }


def _negatives(pairs: Sequence[Pair], train: Sequence[int], rows: Sequence[int]) -> dict[str, Any]:
    labelled = [pairs[row] for row in rows if pairs[row].label is not None]
    labels = np.array([pair.label for pair in labelled], dtype=np.int64)
    epitopes = [pair.epitope.sequence for pair in labelled]
    own = _rates(labelled)
    trained = _rates([pairs[row] for row in train if pairs[row].label is not None])
    cdr3s = [pair.receptor.cdr3 for pair in labelled]
    by_cdr3 = _shares(cdr3s, labels.tolist())
    middle = float(np.mean(list(trained.values()))) if trained else 0.5  # for an epitope that training has not seen
    return {
        "positives": int(labels.sum()),
        "negatives": int((labels == 0).sum()),
        "epitope_rate_auc": _auc(labels, [own[epitope] for epitope in epitopes]),
        "trained_epitope_rate_auc": _auc(labels, [trained.get(epitope, middle) for epitope in epitopes]),
        "tcr_rate_auc": _auc(labels, [by_cdr3[cdr3] for cdr3 in cdr3s]),
    }


def _rates(labelled: Sequence[Pair]) -> dict[str, float]:
    return _shares([pair.epitope.sequence for pair in labelled], [pair.label or 0 for pair in labelled])


def _shares(names: Sequence[str], labels: Sequence[int]) -> dict[str, float]:
    """Share of label 1 of each name."""
    total, positive = Counter(names), Counter(name for name, label in zip(names, labels, strict=True) if label)
    return {name: positive[name] / count for name, count in total.items()}


def _auc(labels: np.ndarray, scores: Sequence[float]) -> float | None:
    if len(set(labels.tolist())) < 2:
        return None
    return round(float(roc_auc_score(labels, scores)), 4)


def _examples(
    pairs: Sequence[Pair], train: Sequence[int], test: Sequence[int], index: NearIndex
) -> list[dict[str, str]]:
    holder: dict[str, str] = {}
    for row in train:
        holder.setdefault(pairs[row].receptor.cdr3, pairs[row].id)
    examples: dict[str, dict[str, str]] = {}
    for row in test:
        cdr3 = pairs[row].receptor.cdr3
        other = index.nearest(cdr3) if cdr3 not in examples else None
        if other is not None:
            examples[cdr3] = {
                "pair": "train/test",
                "id": pairs[row].id,
                "other_id": holder[other],
                "cdr3": cdr3,
                "other_cdr3": other,
            }
        if len(examples) == NUM_EXAMPLES:
            break
    return list(examples.values())
