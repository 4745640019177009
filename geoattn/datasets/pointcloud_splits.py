"""Splits of point clouds: as `split_rows`, with classes spread evenly where clouds are drawn, and by groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from geoattn.datasets.splits import Split, says_valid, split_column, split_rows
from geoattn.errors import InputError, nearest_hint

DRAWN = ("random", "kfold")
"""Kinds in which every class is drawn by itself."""


def column_of_split(spec: str) -> str | None:
    """The column that a split reads besides ``split``; None for kinds that read none."""
    return spec.removeprefix("group:") if spec.startswith("group:") else split_column(spec)


def split_clouds(
    spec: str | None, table: pd.DataFrame, *, seed: int = 0, val_fraction: float = 0.1, test_fraction: float = 0.1
) -> tuple[Split, str, list[str]]:
    """Divide the rows of ``table`` into train, valid and test.

    Args:
        spec: ``given`` (the folders or the column ``split``), ``group:NAME`` (rows with one value in that column, such
            as the scans of one object, come into one part), or what `split_rows` takes except scaffolds; None for
            ``given`` where the data have parts, else ``random``. Where single clouds are drawn (``random``,
            ``kfold:K:I``, and a validation part that nothing names), each class is spread over them as evenly as its
            size allows, and clouds of classes that train would lack change places with others of train (but for test
            folds, which cover all clouds).
        table: one row per cloud, with ``id``, ``label`` (missing where there is none), and what the split reads.
        seed: of everything drawn.
        val_fraction, test_fraction: as in `split_rows`.

    Returns:
        The split, the spec that was used, and sentences about it for a report.

    Raises:
        InputError: as `split_rows`; ``given`` for data without parts; fewer than three groups, or a row without one.
    """
    spec = spec or ("given" if "split" in table else "random")
    if spec == "given" and "split" not in table:
        raise InputError("split: 'given' needs folders named train and test, or a column 'split'; the data have none.")
    if spec.startswith("scaffold"):
        raise InputError(
            "split: scaffolds are of molecules. Known: given, random, group:NAME, column:NAME, file:PATH, kfold:K:I."
        )
    read = "column:split" if spec == "given" else spec
    kind, _, argument = read.partition(":")
    split = split_rows(
        "random" if kind == "group" else read,
        table,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        what="cloud",
    )  # also checks the options
    if kind == "group":
        return _by_group(table, argument, split, np.random.default_rng(seed)), spec, []
    label = table["label"].fillna("").to_numpy(dtype=object)
    rng = np.random.default_rng(seed)
    if kind in DRAWN:
        order = _classes_in_turn(label, np.arange(len(table)), rng)
        if kind == "kfold":
            num_folds, fold = (int(text) for text in read.split(":")[1:])
            test = order[fold::num_folds]
        else:
            test = order[_evenly(len(order), len(split["test"]))]
    elif says_valid(read, table):
        return split, spec, []
    else:
        test = np.array(split["test"])
    rest = np.array(sorted({*split["train"], *split["valid"], *split["test"]} - set(test.tolist())))
    rest = _classes_in_turn(label, rest, rng)
    valid = rest[_evenly(len(rest), len(split["valid"]))]
    parts = {"train": np.setdiff1d(rest, valid), "valid": valid, "test": test}
    split = {name: sorted(int(row) for row in rows) for name, rows in parts.items()}
    kept = _keep_in_train(split, label, ("valid", "test") if kind == "random" else ("valid",))
    few = "Classes with too few clouds for every part have theirs in train, not where they were drawn"
    return split, spec, [f"{few}: {', '.join(kept)}."] if kept else []


def _keep_in_train(split: Split, label: np.ndarray, drawn: Sequence[str]) -> list[str]:
    """Give train a cloud of each class that it lacks and a drawn part has, for one of its largest class; the parts keep
    their sizes. Returns the names of the classes."""
    counts = Counter(label[split["train"]].tolist())
    kept = []
    for part in drawn:
        for row in list(split[part]):
            if counts[label[row]] or not label[row] or max(counts.values()) < 2:
                continue
            largest = max(sorted(counts), key=counts.__getitem__)
            other = next(k for k in split["train"] if label[k] == largest)
            split[part] = sorted({*split[part], other} - {row})
            split["train"] = sorted({*split["train"], row} - {other})
            counts[largest] -= 1
            counts[label[row]] += 1
            kept.append(str(label[row]))
    return sorted(kept)


def _by_group(table: pd.DataFrame, column: str, drawn: Split, rng: np.random.Generator) -> Split:
    """Whole groups, the largest first, each into the part that lacks most of the size it has in ``drawn``."""
    if column not in table:
        raise InputError(f"split: there is no column {column!r}. {nearest_hint(column, list(table.columns))}")
    values = table[column].astype(str).str.strip()
    empty = np.flatnonzero(values == "")
    if len(empty):
        name = table["id"].iloc[empty[0]]
        raise InputError(f"split: column {column!r} is empty for cloud {name!r}, so that its group is not known.")
    groups = [np.asarray(rows) for rows in table.groupby(values.to_numpy(), sort=True).indices.values()]
    if len(groups) < len(drawn):
        raise InputError(
            f"split: column {column!r} has {len(groups)} values, too few groups for train, valid and test."
        )
    groups = sorted((groups[k] for k in rng.permutation(len(groups))), key=len, reverse=True)
    split: Split = {name: [] for name in drawn}
    for k, rows in enumerate(groups):
        empty_parts = [name for name in split if not split[name]]
        names = empty_parts if len(groups) - k <= len(empty_parts) else list(split)
        most = max(names, key=lambda name: len(drawn[name]) - len(split[name]))
        split[most].extend(int(row) for row in rows)
    return {name: sorted(rows) for name, rows in split.items()}


def _classes_in_turn(label: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows in drawn order, class after class: rows at equal steps have all classes in their shares."""
    rows = rng.permutation(rows)
    return rows[np.argsort(label[rows].astype(str), kind="stable")]


def _evenly(n: int, count: int) -> np.ndarray:
    """``[count]`` places of 0..n-1 at equal steps."""
    return ((np.arange(count) + 0.5) * n / count).astype(np.int64)
