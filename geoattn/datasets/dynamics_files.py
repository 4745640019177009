"""Files with systems of bodies: which file is read how, and which moments of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from geoattn.datasets.rejections import Rejections
from geoattn.domains.dynamics.systems import Systems
from geoattn.errors import InputError, nearest_hint

TABLES = (".csv", ".tsv", ".parquet")
OPTIONS = {"frame_in": "--frame-in", "frame_out": "--frame-out"}


@dataclass(frozen=True)
class Reading:
    """How a file is read.

    Attributes:
        need_targets: refuse systems where it is not known where the bodies are later; otherwise that is read as far as
            it is there, NaN where it is not.
        frame_in, frame_out: the moment that is known and the one that is predicted, as the file numbers its frames;
            None for the first (where velocities have to be found from positions: the second) and the last, without
            ``need_targets`` the one after ``horizon``.
        frame_time: time between frames whose numbers differ by one, in the unit of time of the velocities.
        horizon: time from input to prediction where the file does not number frames, or is read without targets.
        id, frame, entity: columns of a table that name the system, the moment and the body; None looks for usual names.
        position, velocity: columns of a table, one per coordinate; None looks for ``x y z`` and ``vx vy vz``.
        charge: column of a table; None looks for ``charge``.
        scalars: other columns of a table that are properties of the bodies.
        kept: columns of a table to keep per system, such as that of the split.
    """

    need_targets: bool = True
    frame_in: float | None = None
    frame_out: float | None = None
    frame_time: float = 1.0
    horizon: float = 1.0
    id: str | None = None
    frame: str | None = None
    entity: str | None = None
    position: list[str] | None = None
    velocity: list[str] | None = None
    charge: str | None = None
    scalars: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


@dataclass
class SystemFile:
    """What was read.

    Attributes:
        systems: those that can be used.
        table: one row per system: id, bodies, and the kept columns; ``split`` where the file has parts.
        notes: what was done to the data that a report should repeat.
        frames: the input's and the target's frame, None where the file does not number frames.
    """

    systems: Systems
    table: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    frames: tuple[float | None, float | None] = (None, None)


def read_systems(path: str | Path, reading: Reading, rejections: Rejections) -> SystemFile:
    """Read systems of bodies; the suffix says the format.

    ============================  ============================================================================
    ``.npz``                      one array set, or one for each of ``train_``, ``valid_`` and ``test_``: either
                                  ``loc0 vel0 [S, n, dim]`` and optionally ``loc1 vel1``; or whole runs
                                  ``loc [S, frames, n, dim]`` and optionally ``vel``. With either: ``charge mass
                                  [S, n]``, ``edges [S, n, n]``. A body whose positions are NaN is padding, so
                                  systems of different sizes fit into one array
    ``.csv .tsv .parquet``        one row per system, frame and body (text formats also as ``.gz``)
    ============================  ============================================================================

    Raises:
        InputError: no such file, unknown suffix, key or column (with the nearest name), an array of the wrong shape, or
            a system that cannot be used where ``rejections`` raises.
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = "".join(suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:])
    if suffix not in (".npz", *TABLES):
        raise InputError(f"{path}: unknown file format {path.suffix!r}. Known: {', '.join(('.npz', *TABLES))}.")
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file. {nearest_hint(path.name, names) if names else ''}".rstrip())
    if suffix == ".npz":
        from geoattn.datasets.dynamics_arrays import read_npz

        found = read_npz(path, reading, rejections)
    else:
        from geoattn.datasets.dynamics_tables import read_table

        found = read_table(path, suffix, reading, rejections)
    if not len(found.systems):
        raise InputError(f"{path}: no usable system; {len(rejections)} were rejected.")
    return found


def refuse_frames(path: str | Path, file: SystemFile, frame_in: float | None, frame_out: float | None) -> None:
    """Refuse frames that were asked of a file without any."""
    for option, frame in zip(OPTIONS.values(), (frame_in, frame_out), strict=True):
        if frame is not None and file.frames[0] is None:
            raise InputError(
                f"{path}: {option}: the file holds the moments loc0 and loc1, and no frames to choose from. Leave the "
                "option out, or give whole runs, loc."
            )


def chosen_frames(
    path: Path, frames: list[float], has_velocities: bool, reading: Reading
) -> tuple[float, float | None, float | None]:
    """Input, the frame before it (None if velocities are there), and target (None if it is not needed and not there).

    Args:
        path: for messages.
        frames: all frames of the file, ascending.
        has_velocities: whether velocities need not be found from positions.
        reading: what was asked for.
    """

    def listed() -> str:
        numbers = [f"{frame:g}" for frame in frames]
        return ", ".join(numbers if len(numbers) <= 12 else [*numbers[:6], "...", *numbers[-3:]])

    def at(name: str, wanted: float) -> float:
        near = min(frames, key=lambda frame: abs(frame - wanted), default=float("nan"))
        if not same_time(near, wanted):  # a frame found from a time may be off by a rounding
            raise InputError(f"{path}: {OPTIONS[name]}: there is no frame {wanted:g}; the frames are {listed()}.")
        return near

    first = 0 if has_velocities else 1
    if len(frames) <= first:
        raise InputError(
            f"{path}: got one frame and no velocities, expected velocities, or two frames to find them from."
        )
    begin = frames[first] if reading.frame_in is None else at("frame_in", reading.frame_in)
    if not has_velocities and begin == frames[0]:
        raise InputError(
            f"{path}: --frame-in {begin:g} is the first frame and the file has no velocities, which are then found "
            f"from the frame before. Choose a later one of {listed()}."
        )
    previous = None if has_velocities else frames[frames.index(begin) - 1]
    if not reading.need_targets and reading.frame_out is None:
        after = (frame for frame in frames if same_time((frame - begin) * reading.frame_time, reading.horizon))
        return begin, previous, next(after, None)
    end = frames[-1] if reading.frame_out is None else at("frame_out", reading.frame_out)
    if end <= begin:
        raise InputError(
            f"{path}: --frame-out {end:g} must come after --frame-in {begin:g}; the frames are {listed()}."
        )
    return begin, previous, end


def same_time(first: float, second: float) -> bool:
    """Whether two times, or frames, are equal up to rounding."""
    return math.isclose(first, second, rel_tol=1e-9)


def difference_note(begin: float, previous: float) -> str:
    """That velocities were not given."""
    return (
        f"The file has no velocities; they are the differences of the positions in frames {begin:g} and {previous:g}."
    )
