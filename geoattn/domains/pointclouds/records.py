"""A point cloud, after its reader checked it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one shape or scan.

    Attributes:
        id: its name.
        points: ``[N, 3]`` float32, relative to ``origin``, in the unit of the file.
        normals: ``[N, 3]`` float32 of length 1; None if they are not known.
        label: the class, an index into the class names of the data; None if it is not known.
        segment: ``[N]`` int64, the part or class of each point, -1 where it is not known; None if none is.
        origin: ``[3]`` float64, what was taken off the coordinates of the file; zeros for small ones.
        file, line: where it stands; no line if it is a file of its own.
    """

    id: str
    points: np.ndarray
    normals: np.ndarray | None
    label: int | None
    segment: np.ndarray | None
    origin: np.ndarray
    file: str
    line: int | None

    def __len__(self) -> int:
        return len(self.points)
