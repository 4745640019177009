"""Are there enough combinations in each part of a split, once those between the classes are taken out?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from geoattn.datasets.splits import PARTS
from geoattn.domains.synergy.records import Combination
from geoattn.errors import InputError

Part = Callable[[str], Sequence[Combination]]
"""From the name of a part to its combinations."""


def check_parts(part: Part, between: int, spec: str) -> None:
    """Does every part hold a combination?

    Args:
        part: without those between the classes.
        between: how many those are.
        spec: the split, for messages.

    Raises:
        InputError: an empty part; says the sizes and what to change.
    """
    sizes = {name: len(part(name)) for name in PARTS}
    empty = next((name for name, size in sizes.items() if not size), None)
    if empty is None:
        return
    said = ", ".join(f"{size} {name}" for name, size in sizes.items())
    without = f"{between} combination{'s' * (between != 1)}"
    raise InputError(
        f"split {spec!r}: the {empty} part is empty without the {without} between the classes ({said}). "
        "Bring --data.positive and --data.negative nearer to each other, or choose another --data.split-seed, "
        "--data.val-fraction, --data.test-fraction or split."
    )


def check_classes(part: Part, spec: str, column: str, positive: float | None, scores: Sequence[float]) -> list[str]:
    """Sentences about parts of validation and test with a single class.

    Args:
        part: combinations with labels.
        spec: the split, for messages.
        column: with the scores or labels, for messages.
        positive: the threshold of class 1; None if the file has labels.
        scores: all that were measured, if labels were made of them.

    Raises:
        InputError: a training part with a single class, from which nothing can be learned.
    """
    notes = []
    for name in PARTS:
        classes = {sample.score for sample in part(name)}
        if len(classes) != 1:
            continue
        said = f"split {spec!r}: all {len(part(name))} combinations of the {name} part are of class {classes.pop():g}"
        if name != "train":
            notes.append(f"{said[0].upper()}{said[1:]}: measures that compare the classes cannot be computed there.")
        elif positive is None:
            raise InputError(
                f"{said}. Column {column!r} has to hold both 0 and 1 in it: choose another column with "
                "--data.score-column, another split or another --data.split-seed."
            )
        else:
            raise InputError(
                f"{said}. Scores ({column}) lie from {min(scores):g} to {max(scores):g}: choose --data.positive "
                f"(now {positive:g}) and --data.negative between them, or another split or --data.split-seed."
            )
    return notes
