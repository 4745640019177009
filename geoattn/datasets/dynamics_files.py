"""Readers of files with systems of bodies: which file is read how, and NumPy archives (.npz)."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.splits import PART_NAMES
from geoattn.domains.dynamics.systems import Systems, joined
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint

PAIR_KEYS = ("loc0", "vel0", "loc1", "vel1")
RUN_KEYS = ("loc", "vel")
KEYS = (*PAIR_KEYS, *RUN_KEYS, "charge", "mass", "edges")
TABLES = (".csv", ".tsv", ".parquet")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Reading:
    """How a file is read.

    Attributes:
        need_targets: read where the bodies are later, and refuse systems where that is not known.
        frame_in, frame_out: the moment that is known and the one that is predicted, as the file numbers its frames;
            None for the first (where velocities have to be found from positions: the second) and the last.
        frame_time: time between frames whose numbers differ by one, in the unit of time of the velocities.
        horizon: time from input to prediction where the file does not number frames.
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
        found = _read_npz(path, reading, rejections)
    else:
        from geoattn.datasets.dynamics_tables import read_table

        found = read_table(path, suffix, reading, rejections)
    if not len(found.systems):
        raise InputError(f"{path}: no usable system; {len(rejections)} were rejected.")
    return found


def _read_npz(path: Path, reading: Reading, rejections: Rejections) -> SystemFile:
    arrays = _load(path)
    sets = _array_sets(path, arrays)
    prefixes = list(sets)
    notes: list[str] = []
    frames: tuple[float | None, float | None] = (None, None)
    found = []
    for prefix, values in sets.items():
        horizon = reading.horizon
        if "loc" in values:
            frames, horizon = _choose_frames(path, prefix, values, reading, notes)
        if reading.need_targets and "loc1" not in values:
            raise InputError(f"{path}: there is no {prefix + 'loc1'!r}, the later positions, only {', '.join(arrays)}.")
        if not reading.need_targets:  # targets that are partly unknown are no reason to refuse a system
            for name in ("loc1", "vel1"):
                if name in values and not np.isfinite(values[name]).all():
                    del values[name]
        systems = _systems(path, prefix, values, rejections)
        systems.horizon = horizon
        found.append(systems)
    systems = joined(found)
    table = pd.DataFrame({"id": systems.ids, "bodies": systems.sizes})
    if prefixes != [""]:
        parts = [PART_NAMES[prefix.rstrip("_")] for prefix in prefixes]
        table["split"] = [part for part, one in zip(parts, found, strict=True) for _ in range(len(one))]
    return SystemFile(systems, table, sorted(set(notes)), frames)


def _load(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, zipfile.BadZipFile, OSError, EOFError, AttributeError) as error:
        raise InputError(f"{path}: not an .npz file of plain arrays ({error}). Write it with numpy.savez.") from error
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"{path}: {key}: got dtype {array.dtype}, expected numbers.")
    return arrays


def _array_sets(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """Prefix -> quantity -> array in float64."""
    sets: dict[str, Arrays] = {}
    for key, array in arrays.items():
        head, underscore, rest = key.partition("_")
        prefix, name = (head + underscore, rest) if underscore and head in PART_NAMES else ("", key)
        if name not in KEYS:
            raise InputError(f"{path}: unknown key {key!r}. {nearest_hint(name, KEYS)} Known: {', '.join(KEYS)}.")
        sets.setdefault(prefix, {})[name] = array.astype(np.float64)
    if not sets:
        raise InputError(f"{path}: the file holds no arrays.")
    if "" in sets and len(sets) > 1:
        raise InputError(f"{path}: some keys begin with train_, valid_ or test_ and others do not: {', '.join(arrays)}")
    for prefix, values in sets.items():
        pair, run = ("loc0" in values and "vel0" in values), "loc" in values
        if pair == run or (run and set(values) & set(PAIR_KEYS)) or (pair and "vel" in values):
            got = ", ".join(prefix + name for name in values)
            raise InputError(
                f"{path}: got {got}, expected {prefix}loc0 and {prefix}vel0, or {prefix}loc instead for whole runs."
            )
    return sets


def _choose_frames(
    path: Path, prefix: str, values: Arrays, reading: Reading, notes: list[str]
) -> tuple[tuple[float | None, float | None], float]:
    """Put ``loc0 vel0 loc1 vel1`` in the place of whole runs; the frames and the time between them."""
    loc, vel = values.pop("loc"), values.pop("vel", None)
    if loc.ndim != 4:
        raise InputError(
            f"{path}: {prefix}loc: got shape {loc.shape}, expected [systems, frames, bodies, coordinates]."
        )
    if vel is not None and vel.shape != loc.shape:
        raise InputError(f"{path}: {prefix}vel: got shape {vel.shape}, expected {loc.shape}.")
    begin, previous, end = chosen_frames(path, list(range(loc.shape[1])), vel is not None, reading)
    values["loc0"] = loc[:, int(begin)]
    if previous is None:
        assert vel is not None
        values["vel0"] = vel[:, int(begin)]
    else:
        values["vel0"] = (loc[:, int(begin)] - loc[:, int(previous)]) / ((begin - previous) * reading.frame_time)
        notes.append(difference_note(begin, previous))
    if end is None:
        return (begin, None), reading.horizon
    values["loc1"] = loc[:, int(end)]
    if vel is not None:
        values["vel1"] = vel[:, int(end)]
    return (begin, end), (end - begin) * reading.frame_time


def chosen_frames(
    path: Path, frames: list[float], has_velocities: bool, reading: Reading
) -> tuple[float, float | None, float | None]:
    """Input, the frame before it (None if velocities are there), and target (None if it is not needed and not asked).

    Args:
        path: for messages.
        frames: all frames of the file, ascending.
        has_velocities: whether velocities need not be found from positions.
        reading: what was asked for.
    """

    def listed() -> str:
        numbers = [f"{frame:g}" for frame in frames]
        return ", ".join(numbers if len(numbers) <= 12 else [*numbers[:6], "...", *numbers[-3:]])

    for name, frame in (("frame_in", reading.frame_in), ("frame_out", reading.frame_out)):
        if frame is not None and frame not in frames:
            raise InputError(f"{path}: {name}: there is no frame {frame:g}; the frames are {listed()}.")
    first = 0 if has_velocities else 1
    if len(frames) <= first:
        raise InputError(
            f"{path}: got one frame and no velocities, expected velocities, or two frames to find them from."
        )
    begin = frames[first] if reading.frame_in is None else reading.frame_in
    if not has_velocities and begin == frames[0]:
        raise InputError(
            f"{path}: frame_in = {begin:g} is the first frame and the file has no velocities, which are then found "
            f"from the frame before. Choose a later one of {listed()}."
        )
    previous = None if has_velocities else frames[frames.index(begin) - 1]
    if not reading.need_targets and reading.frame_out is None:
        return begin, previous, None
    end = frames[-1] if reading.frame_out is None else reading.frame_out
    if end <= begin:
        raise InputError(
            f"{path}: frame_out = {end:g} must come after frame_in = {begin:g}; the frames are {listed()}."
        )
    return begin, previous, end


def difference_note(begin: float, previous: float) -> str:
    """That velocities were not given."""
    return (
        f"The file has no velocities; they are the differences of the positions in frames {begin:g} and {previous:g}."
    )


def _systems(path: Path, prefix: str, values: Arrays, rejections: Rejections) -> Systems:
    shape = values["loc0"].shape
    if len(shape) != 3 or shape[2] < 1:
        raise InputError(f"{path}: {prefix}loc0: got shape {shape}, expected [systems, bodies, coordinates].")
    expected = {
        **dict.fromkeys(PAIR_KEYS, shape),
        **dict.fromkeys(("charge", "mass"), shape[:2]),
        "edges": (shape[0], shape[1], shape[1]),
    }
    for name, array in values.items():
        wanted = expected[name]
        if name in ("charge", "mass") and array.shape == (*wanted, 1):
            values[name] = array = array[..., 0]
        if array.shape != wanted:
            raise InputError(f"{path}: {prefix}{name}: got shape {array.shape}, expected {wanted}.")
    present: np.ndarray = np.logical_not(np.isnan(values["loc0"]).all(axis=2))
    faults = _faults(values, present)
    for s, error in sorted(faults.items()):
        rejections.add(str(path), s + 1, RecordError(f"{prefix}{error[0]}[{s}]", error[1], error[2]))
    good = np.array([s for s in range(shape[0]) if s not in faults], dtype=np.int64)
    bodies = present[good]

    def flat(name: str) -> np.ndarray | None:
        return values[name][good][bodies] if name in values else None

    loc, vel, mass = flat("loc0"), flat("vel0"), flat("mass")
    assert loc is not None and vel is not None
    return Systems(
        ids=[f"{prefix}{s}" for s in good],
        sizes=bodies.sum(axis=1),
        pos=loc,
        vel=vel,
        charge=flat("charge"),
        scalars=np.empty((0, 0)) if mass is None else mass[:, None],
        scalar_names=[] if mass is None else ["mass"],
        edge_attr=_flat_edges(values["edges"][good], bodies)[:, None] if "edges" in values else None,
        target_pos=flat("loc1"),
        target_vel=flat("vel1"),
    )


def _faults(values: Arrays, present: np.ndarray) -> dict[int, tuple[str, float, str]]:
    """System -> quantity, value and reason of the first number that is not there."""
    faults: dict[int, tuple[str, float, str]] = {}
    for name, array in values.items():
        both = present[:, :, None] & present[:, None, :] if name == "edges" else present
        bad = ~np.isfinite(array) & (both if array.ndim == both.ndim else both[..., None])
        for s in np.flatnonzero(bad.any(axis=tuple(range(1, bad.ndim)))):
            faults.setdefault(int(s), (name, float(array[s][bad[s]][0]), "not a finite number"))
    for s in np.flatnonzero(~present.any(axis=1)):
        faults.setdefault(int(s), ("loc0", float("nan"), "the system has no body"))
    return faults


def _flat_edges(edges: np.ndarray, present: np.ndarray) -> np.ndarray:
    """``[E]`` of ``edges[s, target, source]``, by target and then source, without bodies that are padding."""
    keep = present[:, :, None] & present[:, None, :] & ~np.eye(edges.shape[1], dtype=bool)
    return edges[keep]
