"""Reader of long tables of moving bodies: one row per system, frame and body."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.datasets.dynamics_files import Reading, SystemFile, chosen_frames, difference_note
from geoattn.datasets.rejections import Rejections
from geoattn.domains.dynamics.systems import Systems
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint

ID_NAMES = ("id", "system", "system_id", "trajectory", "run", "scene", "sample")
FRAME_NAMES = ("frame", "step", "time", "t")
ENTITY_NAMES = ("entity", "entity_id", "body", "particle", "agent", "node", "atom")
MASS = "mass"


@dataclass(frozen=True)
class _Columns:
    """The columns that were found; ``charge`` and ``velocity`` may be missing."""

    id: str
    frame: str
    entity: str
    position: list[str]
    velocity: list[str]
    charge: str | None
    scalars: list[str]

    @property
    def numbers(self) -> list[str]:
        """Columns that hold numbers."""
        return [self.frame, *self.position, *self.velocity, *([self.charge] if self.charge else []), *self.scalars]


def read_table(path: Path, suffix: str, reading: Reading, rejections: Rejections) -> SystemFile:
    """Systems of a table; see ``read_systems``. Bodies keep the order in which their names first appear.

    Raises:
        InputError: a missing column (with the nearest name), a frame that is not there, or a system that cannot be used
            where ``rejections`` raises: a number or a body is missing, or a row comes twice.
    """
    table = _load(path, suffix)
    if not len(table):
        raise InputError(f"{path}: there is no row in the file.")
    columns = _choose_columns(path, list(table.columns), reading)
    lines = table.index.to_numpy()
    values = {name: pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in columns.numbers}
    system, ids = pd.factorize(table[columns.id].astype(str))
    entity, names = pd.factorize(table[columns.entity].astype(str))
    faults: dict[int, tuple[int, RecordError]] = {}
    time = values[columns.frame]
    _reject(faults, system, lines, ~np.isfinite(time), table, columns.frame, "not a number")
    frames = sorted(set(time[np.isfinite(time)].tolist()))
    begin, previous, end = chosen_frames(path, frames, bool(columns.velocity), reading)

    body = system.astype(np.int64) * len(names) + entity
    needed = (begin, previous, end if reading.need_targets else None)
    used = np.isin(time, [frame for frame in needed if frame is not None])
    rows_of_moments = pd.DataFrame({"body": body, "time": time})
    twice = used & rows_of_moments.duplicated().to_numpy()
    _reject(faults, system, lines, twice, table, columns.entity, f"comes twice in one {columns.frame} of a system")
    for name in columns.numbers[1:]:
        only_now = name == columns.charge or name in columns.scalars
        where = time == begin if only_now else used
        _reject(faults, system, lines, where & ~np.isfinite(values[name]), table, name, "not a finite number")

    order = np.argsort(body, kind="stable")
    now = order[time[order] == begin]
    # a system that was rejected for a row that comes twice must not confuse the others
    now = now[~np.isin(system[now], list(faults))]
    # where a target is not needed, one that comes twice is not known
    single = np.where(used | ~rows_of_moments.duplicated(keep=False).to_numpy(), time, np.nan)
    later = {frame: _matching(body, single, frame, body[now]) for frame in (previous, end) if frame is not None}
    for frame, rows in later.items():
        for k in np.flatnonzero(rows < 0) if frame in needed else ():
            error = RecordError(columns.entity, names[entity[now[k]]], f"is missing in frame {frame:g}")
            faults.setdefault(int(system[now[k]]), (int(lines[now[k]]), error))
    for s in np.setdiff1d(np.arange(len(ids)), np.concatenate([system[now], list(faults)]).astype(int)):
        first = int(np.flatnonzero(system == s)[0])
        error = RecordError(columns.id, ids[s], f"has no row with {columns.frame} = {begin:g}")
        faults[int(s)] = (int(lines[first]), error)
    for _, (line, error) in sorted(faults.items(), key=lambda item: item[1][0]):
        rejections.add(str(path), line, error)

    good = ~np.isin(system[now], list(faults))
    now, later = now[good], {frame: rows[good] for frame, rows in later.items()}

    def stacked(quantity: Sequence[str], rows: np.ndarray) -> np.ndarray:
        return np.stack([np.where(rows < 0, np.nan, values[name][rows]) for name in quantity], axis=1)

    pos, notes = stacked(columns.position, now), []
    if previous is None:
        vel = stacked(columns.velocity, now)
    else:
        vel = (pos - stacked(columns.position, later[previous])) / ((begin - previous) * reading.frame_time)
        notes.append(difference_note(begin, previous))
    kept_systems, sizes = np.unique(system[now], return_counts=True)
    systems = Systems(
        ids=[str(ids[s]) for s in kept_systems],
        sizes=sizes.astype(np.int64),
        pos=pos,
        vel=vel,
        charge=values[columns.charge][now] if columns.charge else None,
        scalars=stacked(columns.scalars, now) if columns.scalars else np.empty((0, 0)),
        scalar_names=columns.scalars,
        target_pos=None if end is None else stacked(columns.position, later[end]),
        target_vel=stacked(columns.velocity, later[end]) if end is not None and columns.velocity else None,
        entities=[str(names[entity[row]]) for row in now],
        horizon=reading.horizon if end is None else (end - begin) * reading.frame_time,
    )
    kept = pd.DataFrame({"id": systems.ids, "bodies": systems.sizes})
    first_rows = now[np.searchsorted(system[now], kept_systems)]
    for name in reading.kept:
        kept[name] = table[name].to_numpy()[first_rows]
    return SystemFile(systems, kept, notes, (begin, end))


def _reject(
    faults: dict[int, tuple[int, RecordError]],
    system: np.ndarray,
    lines: np.ndarray,
    bad: np.ndarray,
    table: pd.DataFrame,
    column: str,
    reason: str,
) -> None:
    """The systems of the rows ``bad`` cannot be used; the first fault of a system is the one that is named."""
    for row in np.flatnonzero(bad):
        faults.setdefault(int(system[row]), (int(lines[row]), RecordError(column, table[column].iloc[row], reason)))


def _matching(body: np.ndarray, time: np.ndarray, frame: float, wanted: np.ndarray) -> np.ndarray:
    """The row of each of the ``wanted`` bodies in a frame; -1 where there is none."""
    rows = np.flatnonzero(time == frame)
    rows = rows[np.argsort(body[rows], kind="stable")]
    if not len(rows):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(body[rows], wanted), len(rows) - 1)
    return np.where(body[rows[place]] == wanted, rows[place], -1)


def _load(path: Path, suffix: str) -> pd.DataFrame:
    """The table, with the line (in Parquet the row, from 1) of each row as its index; cells of text files are text."""
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    try:
        if suffix == ".parquet":
            table = pd.read_parquet(path)
            table.index = pd.RangeIndex(1, len(table) + 1)
            return table
        separator = "\t" if suffix == ".tsv" else ","
        table = pd.read_csv(  # the header by hand, because pandas renames columns that come twice
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a table ({str(error).strip()}).") from error
    table.columns = [str(name).strip() for name in table.iloc[0]]
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table[1:][(table[1:] != "").any(axis=1)]


def _choose_columns(path: Path, header: list[str], reading: Reading) -> _Columns:
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise InputError(f"{path}: the header names column {sorted(twice)[0]!r} more than once.")

    def found(given: str | None, usual: Sequence[str], option: str, what: str) -> str:
        name = given or next((name for name in usual if name in header), None)
        if name is None:
            names = ", ".join(map(repr, header))
            raise InputError(f"{path}: no column that {what} found among {names}. Name it with --data.{option}.")
        if name not in header:
            raise InputError(f"{path}: there is no column {name!r}. {nearest_hint(name, header)}")
        return name

    position = reading.position or [name for name in ("x", "y", "z") if name in header]
    if not position:
        found(None, (), "position-columns", "holds a coordinate was")
    usual_velocity = [f"v{name}" for name in position]
    velocity = reading.velocity or (usual_velocity if set(usual_velocity) <= set(header) else [])
    if velocity and len(velocity) != len(position):
        got = f"{len(velocity)} ({', '.join(velocity)})"
        raise InputError(f"--data.velocity-columns: got {got}, expected {len(position)}, one per coordinate.")
    charge = reading.charge or ("charge" if "charge" in header else None)
    scalars = [*reading.scalars, *([MASS] if MASS in header and MASS not in reading.scalars else [])]
    for name in [*position, *velocity, *([charge] if charge else []), *scalars, *reading.kept]:
        found(name, (), "", "")
    return _Columns(
        id=found(reading.id, ID_NAMES, "id-column", "names the system was"),
        frame=found(reading.frame, FRAME_NAMES, "frame-column", "numbers the moments was"),
        entity=found(reading.entity, ENTITY_NAMES, "entity-column", "names the body was"),
        position=position,
        velocity=velocity,
        charge=charge,
        scalars=scalars,
    )
