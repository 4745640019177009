"""Reader of NumPy archives (.npz) of moving bodies: pairs of moments, or whole runs."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn.datasets.dynamics_files import Reading, SystemFile, chosen_frames, difference_note
from geoattn.datasets.rejections import Rejections
from geoattn.datasets.splits import PART_NAMES
from geoattn.domains.dynamics.systems import Systems, joined
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint

PAIR_KEYS = ("loc0", "vel0", "loc1", "vel1")
RUN_KEYS = ("loc", "vel")
KEYS = (*PAIR_KEYS, *RUN_KEYS, "charge", "mass", "edges")
TARGETS = {"loc1", "vel1"}
Arrays = dict[str, np.ndarray]


def read_npz(path: Path, reading: Reading, rejections: Rejections) -> SystemFile:
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
        systems = _systems(path, prefix, values, reading.need_targets, rejections)
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


def _systems(path: Path, prefix: str, values: Arrays, need_targets: bool, rejections: Rejections) -> Systems:
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
    if not need_targets:  # targets that are partly unknown are no reason to refuse a system
        for name in TARGETS & set(values):
            values[name] = np.where(np.isfinite(values[name]), values[name], np.nan)
    faults = _faults({name: values[name] for name in values if need_targets or name not in TARGETS}, present)
    for s, (place, value, reason) in sorted(faults.items()):
        rejections.add(str(path), s, RecordError(prefix + place, value, reason), f"system {prefix}{s}")
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
    """System -> place, value and reason of the first number that is not there."""
    faults: dict[int, tuple[str, float, str]] = {}
    for name, array in values.items():
        both = present[:, :, None] & present[:, None, :] if name == "edges" else present
        bad = ~np.isfinite(array) & (both if array.ndim == both.ndim else both[..., None])
        for s in np.flatnonzero(bad.any(axis=tuple(range(1, bad.ndim)))):
            index = (int(s), *(int(k) for k in np.argwhere(bad[s])[0]))
            place = f"{name}[{', '.join(map(str, index))}]"
            faults.setdefault(int(s), (place, float(array[index]), "not a finite number"))
    for s in np.flatnonzero(~present.any(axis=1)):
        faults.setdefault(int(s), (f"loc0[{s}]", float("nan"), "the system has no body"))
    return faults


def _flat_edges(edges: np.ndarray, present: np.ndarray) -> np.ndarray:
    """``[E]`` of ``edges[s, target, source]``, by target and then source, without bodies that are padding."""
    keep = present[:, :, None] & present[:, None, :] & ~np.eye(edges.shape[1], dtype=bool)
    return edges[keep]
