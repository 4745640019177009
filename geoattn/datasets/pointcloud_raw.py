"""What the readers of point-cloud files hand over, before it is checked, and what they raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from geoattn.domains.records import RecordError

UNIT_LENGTH = 0.02
"""How far from 1 the length of a normal may be, for normals that are stored in bytes."""


class CloudError(RecordError):
    """A file of points cannot be used.

    Args:
        column, value, reason, hint: as `RecordError`.
        line: of a text file; 0 where there is none.
        place: what is wrong in a file without lines, e.g. ``"point 7"`` or ``"header"``.
    """

    def __init__(
        self, column: str, value: object, reason: str, hint: str = "", *, line: int = 0, place: str = "file"
    ) -> None:
        super().__init__(column, value, reason, hint)
        self.line, self.place = line, place

    def __reduce__(self) -> tuple[Callable[..., CloudError], tuple[object, ...]]:  # type: ignore[override]
        return _again, (self.column, self.value, self.reason, self.hint, self.line, self.place)


def _again(column: str, value: str, reason: str, hint: str, line: int, place: str) -> CloudError:
    """Raised in a worker process, the error comes back through a pickle."""
    return CloudError(column, value, reason, hint, line=line, place=place)


@dataclass
class Raw:
    """The content of a file.

    Attributes:
        points: ``[N, 3]``, in the coordinates of the file.
        normals: ``[N, 3]``, of any length; None if there are none.
        segment: ``[N]``, the class of each point; None if there is none.
        label: of the whole cloud.
        notes: sentences about what was done to the file.
        line_of: the line of a point, for messages; None in files without lines.
        origin: a point near the cloud, exact in the coordinates of the file; None where the reader has no better one
            than the middle.
    """

    points: np.ndarray
    normals: np.ndarray | None = None
    segment: np.ndarray | None = None
    label: int | None = None
    notes: list[str] = field(default_factory=list)
    line_of: Callable[[int], int] | None = None
    origin: np.ndarray | None = None

    def error(self, row: int, column: str, value: object, reason: str, hint: str = "") -> CloudError:
        """What is wrong with one point."""
        line = 0 if self.line_of is None else self.line_of(row)
        return CloudError(column, value, reason, hint, line=line, place=f"point {row}")


def has_unit_length(vectors: np.ndarray) -> bool:
    """Whether nearly all (99 %) of ``vectors [N, 3]`` have length 1, as normals do and colours do not."""
    if not len(vectors):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return bool(np.mean(np.abs(length - 1) <= UNIT_LENGTH) >= 0.99)


def whole_numbers(values: np.ndarray) -> bool:
    """Whether all are whole numbers, of whatever type."""
    values = np.asarray(values)
    return values.dtype.kind in "iub" or bool(np.isfinite(values).all() and (values == np.round(values)).all())
