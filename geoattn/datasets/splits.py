"""Splits into train, valid and test: drawn, by scaffold, by a column, from a file of ids, k-fold.

A split is a dict of three lists of row numbers. Everything drawn is drawn from a seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.domains.molecules.scaffold import scaffold_groups
from geoattn.errors import InputError, nearest_hint

Split = dict[str, list[int]]
Rows = Sequence[int] | np.ndarray
PARTS = ("train", "valid", "test")
PART_NAMES = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"
}  # fmt: skip
KINDS = ("random", "scaffold", "scaffold-balanced", "column:NAME", "column:NAME=VALUE", "file:PATH", "kfold:K:I")


def split_column(spec: str) -> str | None:
    """The column that a split ``"column:NAME"`` or ``"column:NAME=VALUE"`` reads; None for other kinds."""
    return spec.removeprefix("column:").split("=", 1)[0] if spec.startswith("column:") else None


def split_rows(
    spec: str,
    table: pd.DataFrame,
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    what: str = "molecule",
) -> Split:
    """Divide the rows of ``table`` into train, valid and test.

    Args:
        spec: one of

            - ``"random"``: rows drawn.
            - ``"scaffold"``: whole Bemis-Murcko scaffolds, largest group first into train, then valid, then test
              (deterministic, as in DeepChem). **All molecules without a ring have the empty scaffold and form one
              group.**
            - ``"scaffold-balanced"``: scaffolds in drawn order, but those larger than half of the valid or test part
              first (as in chemprop and GROVER); easier than the deterministic one.
            - ``"column:NAME"``: the column says train, valid or test; without a valid row, ``val_fraction`` of the
              train rows is drawn.
            - ``"column:NAME=VALUE"``: rows with that value are the test part, validation is drawn from the rest.
            - ``"file:PATH"``: a JSON file with lists of ids under train, valid, test (as ``split.json``), or a text
              file with one id per line (the test part; validation is drawn from the rest).
            - ``"kfold:K:I"``: fold ``I`` (from 0) of ``K`` drawn folds is the test part, validation is drawn from
              the rest.
        table: one row per molecule, with ``id``, ``smiles`` (for the scaffold kinds) and the split column.
        seed: of everything drawn.
        val_fraction, test_fraction: of all rows; for the kinds that draw validation from a rest, of that rest.
        what: a row is, for messages.

    Returns:
        ``{"train": [...], "valid": [...], "test": [...]}``, row numbers in ascending order.

    Raises:
        InputError: an unknown kind, column, id or part name; a part that would be empty.
    """
    n = len(table)
    if n < 3:
        raise InputError(f"the file has {n} usable {what}{'s' * (n != 1)}: too few for train, valid and test.")
    if not (0 < val_fraction < 1 and 0 < test_fraction < 1 and val_fraction + test_fraction < 1):
        raise InputError(
            f"--data.val-fraction {val_fraction}, --data.test-fraction {test_fraction}: both must lie between 0 and "
            "1, and their sum below 1."
        )
    rng = np.random.default_rng(seed)
    kind, _, argument = spec.partition(":")
    if kind == "random" and not argument:
        order = rng.permutation(n)
        num_test, num_valid = _size(n, test_fraction), _size(n, val_fraction)
        split = _parts(order[num_test + num_valid :], order[num_test : num_test + num_valid], order[:num_test])
    elif spec in ("scaffold", "scaffold-balanced"):
        split = _by_scaffold(table["smiles"].tolist(), spec, rng, val_fraction, test_fraction)
    elif kind == "column" and argument:
        split = _by_column(table, argument, rng, val_fraction)
    elif kind == "file" and argument:
        split = _by_file(table, Path(argument), rng, val_fraction, what)
    elif kind == "kfold":
        split = _by_fold(n, argument, rng, val_fraction)
    else:
        raise InputError(f"split: got {spec!r}, which is no known kind. {nearest_hint(spec, KINDS)}")
    _check_parts(spec, split)
    return split


def says_valid(spec: str, table: pd.DataFrame) -> bool:
    """Does the column or file of a split that `split_rows` has made name the validation part itself?"""
    column = split_column(spec)
    if column is not None:
        values = {str(value).strip().lower() for value in table[column]} if "=" not in spec else set()
        return "valid" in {PART_NAMES.get(value) for value in values}
    path = Path(spec.partition(":")[2])
    content = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else {}
    return "train" in content and "valid" in content


def _size(n: int, fraction: float) -> int:
    return max(1, round(n * fraction))


def _parts(train: Rows, valid: Rows, test: Rows) -> Split:
    return {name: sorted(int(i) for i in rows) for name, rows in zip(PARTS, (train, valid, test), strict=True)}


def _check_parts(spec: str, split: Split) -> None:
    for name, rows in split.items():
        if not rows:
            sizes = ", ".join(f"{len(split[part])} {part}" for part in PARTS)
            raise InputError(f"split {spec!r}: the {name} part is empty ({sizes}). Choose another split or fraction.")


def _draw_valid(rest: np.ndarray, rng: np.random.Generator, val_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """(train, valid) from the rows that are not test."""
    rest = rng.permutation(rest)
    num_valid = _size(len(rest), val_fraction) if len(rest) else 0
    return rest[num_valid:], rest[:num_valid]


def _by_scaffold(smiles: list[str], spec: str, rng: np.random.Generator, val: float, test: float) -> Split:
    n = len(smiles)
    if not all(smiles):
        raise InputError(f"split {spec!r} needs SMILES, and {smiles.count('')} of {n} molecules have none.")
    groups = sorted(scaffold_groups(smiles), key=lambda rows: (-len(rows), rows[0]))
    sizes = [n - _size(n, val) - _size(n, test), _size(n, val), _size(n, test)]
    if spec == "scaffold-balanced":
        large = [rows for rows in groups if len(rows) > min(sizes[1:]) / 2]
        small = [rows for rows in groups if len(rows) <= min(sizes[1:]) / 2]
        groups = [part[i] for part in (large, small) for i in rng.permutation(len(part))]
    parts: list[list[int]] = [[], [], []]
    for rows in groups:
        fits = next((i for i in (0, 1) if len(parts[i]) + len(rows) <= sizes[i]), 2)
        parts[fits].extend(rows)
    return _parts(*parts)


def _by_column(table: pd.DataFrame, argument: str, rng: np.random.Generator, val_fraction: float) -> Split:
    name, equals, wanted = argument.partition("=")
    if name not in table.columns:
        raise InputError(f"split: there is no column {name!r}. {nearest_hint(name, list(table.columns))}")
    values = table[name].map(_as_text)
    if equals:
        test = np.flatnonzero(values == _as_text(wanted))
        if len(test) == 0:
            raise InputError(f"split: column {name!r} has no {wanted!r}. {nearest_hint(wanted, sorted(set(values)))}")
        train, valid = _draw_valid(np.flatnonzero(values != _as_text(wanted)), rng, val_fraction)
        return _parts(train, valid, test)
    unknown = sorted({value for value in values if value.lower() not in PART_NAMES})
    if unknown:
        raise InputError(
            f"split: column {name!r} holds {unknown[0]!r}, expected train, valid or test. To hold out the rows of one "
            f"value write column:{name}={unknown[0]}."
        )
    part = values.str.lower().map(PART_NAMES)
    train, valid, test = (np.flatnonzero(part == wanted) for wanted in PARTS)
    if len(valid) == 0:
        train, valid = _draw_valid(train, rng, val_fraction)
    return _parts(train, valid, test)


def _by_file(table: pd.DataFrame, path: Path, rng: np.random.Generator, val_fraction: float, what: str) -> Split:
    if not path.is_file():
        raise InputError(f"split: {path}: no such file.")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        parts = _json_parts(path, text)
    else:
        parts = {"test": [line.strip() for line in text.splitlines() if line.strip()]}
    rows = _rows_by_id(table, what)
    chosen: dict[str, list[int]] = {}
    taken: dict[int, str] = {}
    for part, ids in parts.items():
        for name in ids:
            if name not in rows:
                raise InputError(f"split: {path}: there is no {what} {name!r}. {nearest_hint(name, list(rows))}")
            if taken.setdefault(rows[name], part) != part:
                raise InputError(f"split: {path}: {what} {name!r} is in {taken[rows[name]]} and in {part}.")
        chosen[part] = [rows[name] for name in ids]
    if "train" in chosen and "valid" in chosen:
        return _parts(chosen["train"], chosen["valid"], chosen.get("test", []))
    rest = np.array(sorted(set(chosen.get("train", range(len(table)))) - set(chosen.get("test", []))), dtype=int)
    train, valid = _draw_valid(rest, rng, val_fraction)
    return _parts(train, valid, chosen.get("test", []))


def _json_parts(path: Path, text: str) -> dict[str, list[str]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"split: {path}:{error.lineno}: not JSON ({error.msg}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("test"), list):
        raise InputError(f"split: {path}: expected an object with lists of ids under 'train', 'valid' and 'test'.")
    return {part: [_as_text(name) for name in content[part]] for part in PARTS if part in content}


def _rows_by_id(table: pd.DataFrame, what: str) -> dict[str, int]:
    rows: dict[str, int] = {}
    for row, name in enumerate(table["id"].map(_as_text)):
        if name in rows:
            raise InputError(f"split: id {name!r} names more than one {what}; ids in a split file must be unique.")
        rows[name] = row
    return rows


def _by_fold(n: int, argument: str, rng: np.random.Generator, val_fraction: float) -> Split:
    try:
        num_folds, fold = (int(text) for text in argument.split(":"))
    except ValueError:
        raise InputError(f"split: got 'kfold:{argument}', expected kfold:K:I, e.g. kfold:5:0.") from None
    if not 2 <= num_folds <= n or not 0 <= fold < num_folds:
        raise InputError(f"split: kfold:{argument}: K must be 2..{n} and I 0..K-1.")
    order = rng.permutation(n)
    test = order[fold::num_folds]
    train, valid = _draw_valid(np.setdiff1d(order, test), rng, val_fraction)
    return _parts(train, valid, test)


def _as_text(value: object) -> str:
    """``value`` as it would be typed: 0, 0.0, '0' and ' 0 ' are all '0'."""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
