"""Reader of files with systems of bodies: NumPy archives (.npz), one array per quantity."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.splits import PART_NAMES
from geoattn.domains.dynamics.systems import Systems
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint

KEYS = ("loc0", "vel0", "loc1", "vel1", "charge", "mass", "edges")
REQUIRED = ("loc0", "vel0")


def read_npz(path: Path, rejections: Rejections) -> tuple[Systems, list[str] | None]:
    """Systems of an ``.npz`` file, and the part of the split of each where the file has parts.

    One array set, or one for each of ``train_``, ``valid_`` and ``test_``: ``loc0 vel0 [S, n, dim]``, and optionally
    ``loc1 vel1 [S, n, dim]``, ``charge mass [S, n]``, ``edges [S, n, n]``. Bodies whose ``loc0`` is NaN are padding:
    with them systems of different sizes fit into one array.

    Raises:
        InputError: not such a file, a missing or unknown key, an array of the wrong shape, or a system that cannot be
            used where ``rejections`` raises.
    """
    arrays = _load(path)
    sets = _array_sets(path, arrays)
    found = [_systems(path, prefix, arrays, keys, rejections) for prefix, keys in sets.items()]
    parts = None
    if list(sets) != [""]:
        names = [PART_NAMES[prefix.rstrip("_")] for prefix in sets]
        parts = [name for name, systems in zip(names, found, strict=True) for _ in range(len(systems))]
    return joined(found), parts


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise InputError(f"{path}: not an .npz file of plain arrays ({error}). Write it with numpy.savez.") from error


def _array_sets(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """Prefix -> the quantities that it has."""
    sets: dict[str, list[str]] = {}
    for key in arrays:
        prefix, name = _split_key(key)
        if name not in KEYS:
            raise InputError(f"{path}: unknown key {key!r}. {nearest_hint(name, KEYS)} Known: {', '.join(KEYS)}.")
        sets.setdefault(prefix, []).append(name)
    if not sets:
        raise InputError(f"{path}: the file holds no arrays.")
    if "" in sets and len(sets) > 1:
        raise InputError(f"{path}: some keys begin with train_, valid_ or test_ and others do not: {', '.join(arrays)}")
    for prefix, names in sets.items():
        for name in REQUIRED:
            if name not in names:
                raise InputError(f"{path}: there is no {prefix + name!r}, only {', '.join(arrays)}.")
    return sets


def _split_key(key: str) -> tuple[str, str]:
    head, underscore, rest = key.partition("_")
    return (head + underscore, rest) if underscore and head in PART_NAMES else ("", key)


def _systems(
    path: Path, prefix: str, arrays: dict[str, np.ndarray], names: list[str], rejections: Rejections
) -> Systems:
    values = {name: _as_float(path, prefix + name, arrays[prefix + name]) for name in names}
    shape = values["loc0"].shape
    if len(shape) != 3 or shape[2] < 1:
        raise InputError(f"{path}: {prefix}loc0: got shape {shape}, expected [systems, bodies, coordinates].")
    expected = {
        **dict.fromkeys(("vel0", "loc1", "vel1"), shape),
        **dict.fromkeys(("charge", "mass"), shape[:2]),
        "edges": (shape[0], shape[1], shape[1]),
    }
    for name, wanted in expected.items():
        if name not in values:
            continue
        if name in ("charge", "mass") and values[name].shape == (*wanted, 1):
            values[name] = values[name][..., 0]
        if values[name].shape != wanted:
            raise InputError(f"{path}: {prefix}{name}: got shape {values[name].shape}, expected {wanted}.")
    present = ~np.isnan(values["loc0"]).all(axis=2)
    good = [s for s in range(shape[0]) if _usable(path, prefix, values, present, s, rejections)]
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


def _as_float(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path}: {key}: got dtype {array.dtype}, expected numbers.")
    return array.astype(np.float64)


def _usable(
    path: Path, prefix: str, values: dict[str, np.ndarray], present: np.ndarray, s: int, rejections: Rejections
) -> bool:
    """Whether all numbers of a system are there; if not, it is rejected with the first that is not."""
    if not present[s].any():
        rejections.add(str(path), s, RecordError(f"{prefix}loc0[{s}]", "NaN", "the system has no body"))
        return False
    for name, array in values.items():
        both = present[s][:, None] & present[s][None] if name == "edges" else present[s]
        bad = ~np.isfinite(array[s][both])
        if bad.any():
            value = array[s][both][bad].flat[0]
            rejections.add(str(path), s, RecordError(f"{prefix}{name}[{s}]", value, "not a finite number"))
            return False
    return True


def _flat_edges(edges: np.ndarray, present: np.ndarray) -> np.ndarray:
    """``[E]`` of ``edges[s, target, source]``, by target and then source, without bodies that are padding."""
    keep = present[:, :, None] & present[:, None, :] & ~np.eye(edges.shape[1], dtype=bool)
    return edges[keep]


def joined(parts: list[Systems]) -> Systems:
    """Several sets of systems as one; all must have the same quantities."""
    first = parts[0]
    described = [_quantities(part) for part in parts]
    for part, quantities in zip(parts, described, strict=True):
        if quantities != described[0]:
            odd = sorted(quantities ^ described[0])
            raise InputError(f"the sets differ: {', '.join(odd)} is in one and not in another ({part.ids[:1]}).")

    def all_of(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Systems(
        ids=[name for part in parts for name in part.ids],
        sizes=all_of("sizes"),
        pos=all_of("pos"),
        vel=all_of("vel"),
        charge=all_of("charge"),
        scalars=all_of("scalars"),
        scalar_names=first.scalar_names,
        edge_attr=all_of("edge_attr"),
        target_pos=all_of("target_pos"),
        target_vel=all_of("target_vel"),
        entities=[name for part in parts for name in part.entities],
        horizon=first.horizon,
    )


def _quantities(systems: Systems) -> frozenset[str]:
    optional = ("charge", "edge_attr", "target_pos", "target_vel")
    names = {name for name in optional if getattr(systems, name) is not None} | set(systems.scalar_names)
    return frozenset(names | {f"{systems.dim} coordinates"})
