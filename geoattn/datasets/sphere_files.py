"""Files of fields on the sphere: which file is read how, and several as one."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geoattn.datasets.sphere_axes import Layout
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError, nearest_hint

XARRAY = {
    ".nc": "h5netcdf", ".nc4": "h5netcdf", ".cdf": "h5netcdf", ".h5": "h5netcdf", ".zarr": "zarr",
    ".grib": "cfgrib", ".grb": "cfgrib", ".grib2": "cfgrib", ".grb2": "cfgrib",
}  # fmt: skip
FITS = (".fits", ".fit", ".fits.gz")
SUFFIXES = (".npz", *XARRAY, *FITS)
HUGE = 1e29
"""Beyond this a value is the mark of a missing one: 9.97e36 of NetCDF, -1.64e30 of HEALPix."""


@dataclass
class FieldFile:
    """What was read: S samples of variables at N points.

    Attributes:
        file: where it stands.
        grid: the points.
        variables: ``[S, N]`` float32 by name, NaN where missing; ``[1, N]`` for what no sample axis has.
        labels: time, member or number of each sample.
        group: ``[S]`` the trajectory of each sample; within one, samples follow each other in time.
        units: as the file states them, by variable.
        class_names: of variables that hold classes, by variable.
        columns: ``[S]`` texts by name, for splits.
        notes: what was done to the data.
        layout: of a latitude-longitude grid, to write results as the file has them.
        paths: the file of each sample.
        trajectories: does the file say itself which samples follow each other?
        called: what the file calls ``lat``, ``lon`` and ``time``, where these are axes.
        long_names: what variables are, in words, by variable.
        times: ``[S]`` seconds from some moment, None where the file says no times.
        series: ``[S]`` the series of each sample, where trajectories are broken at gaps in time; else None.
    """

    file: str
    grid: SphereGrid
    variables: dict[str, np.ndarray]
    labels: list[str]
    group: np.ndarray
    units: dict[str, str] = field(default_factory=dict)
    class_names: dict[str, list[str]] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    layout: Layout | None = None
    paths: list[str] = field(default_factory=list)
    trajectories: bool = False
    called: dict[str, str] = field(default_factory=dict)
    long_names: dict[str, str] = field(default_factory=dict)
    times: np.ndarray | None = None
    series: np.ndarray | None = None

    @property
    def num_samples(self) -> int:
        """S."""
        return len(self.labels)

    @property
    def static(self) -> list[str]:
        """Variables that all samples share."""
        return [name for name, values in self.variables.items() if len(values) == 1 and self.num_samples > 1]


def read_fields(path: str | Path, names: Sequence[str] | None = None, optional: Sequence[str] = ()) -> FieldFile:
    """Read fields; the suffix says the format. A folder or a pattern with ``*`` is several files, one after another.

    ============================  ============================================================================
    ``.npz``                      ``lat``, ``lon`` in degrees (axes, or ``[N]`` both for stations) or neither for
                                  HEALPix (``order``: ring or nested, ring if left out); every other array a
                                  variable ``[lat, lon]`` or ``[N]`` with an axis of samples before, or with
                                  axes of trajectories and times; ``NAME_units`` texts, ``NAME_names`` of
                                  classes; texts ``[samples]`` are labels (``id``, ``time``, ``label``) or
                                  columns for splits
    ``.nc .zarr .grib``           by xarray: ``name@500`` is a level, time and member are samples
    ``.fits``                     HEALPix maps: a column each, the order as the header has it
    ============================  ============================================================================

    Args:
        path: file, folder or pattern.
        names: variables to read; all if left out.
        optional: variables to read too, where they are there.

    Raises:
        InputError: no such file, unknown suffix, axes or variables that cannot be used, grids that differ.
    """
    paths = _paths(path)
    found = [_read_one(each, names, optional) for each in paths]
    return found[0] if len(found) == 1 else _joined(str(path), found)


def chosen(file: str, known: Sequence[str], names: Sequence[str] | None, optional: Sequence[str] = ()) -> list[str]:
    """The names that are asked for, or all; an unknown one is refused with the nearest; optional ones only if known.

    A name without its level stands for all its levels: ``u`` for ``u@200`` and ``u@500``.
    """
    if names is None:
        return list(known)
    found = []
    for name in names:
        levels = [each for each in known if each == name or each.startswith(f"{name}@")]
        if not levels:
            raise InputError(f"{file}: there is no variable {name!r}. {nearest_hint(name, list(known))}")
        found += levels
    return list(dict.fromkeys([*found, *(name for name in optional if name in known)]))


def masked(values: np.ndarray) -> tuple[np.ndarray, int]:
    """float32 with NaN in place of marks of missing values, and how many values are missing."""
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.where(np.abs(values.astype(np.float64)) < HUGE, values, np.nan).astype(np.float32)
    return made, int(np.isnan(made).sum())


def missing_notes(missing: dict[str, tuple[int, int]]) -> list[str]:
    """A sentence about missing values: variable -> (missing, all)."""
    some = [f"{name} ({count:,} of {total:,})" for name, (count, total) in missing.items() if count]
    return [f"Missing values are masked, not filled: {', '.join(some)}."] if some else []


def _paths(path: str | Path) -> list[Path]:
    text = str(path)
    if not text.strip():
        raise InputError("--data: got an empty name, expected a file, a folder or a pattern such as 'states/*.nc'.")
    one = Path(text)
    if glob.has_magic(text) and not one.exists():
        found = [each for each in map(Path, sorted(glob.glob(text))) if not each.name.startswith(".")]
        if not found:
            raise InputError(f"{text}: no file has such a name.")
        return found
    if one.is_dir() and suffix_of(one) not in XARRAY:
        found = [each for each in sorted(one.iterdir()) if suffix_of(each) in SUFFIXES and each.name[0] != "."]
        if not found:
            raise InputError(f"{text}: the folder has no file of fields. Known: {', '.join(SUFFIXES)}.")
        return found
    if not one.exists():
        names = [each.name for each in one.parent.iterdir()] if one.parent.is_dir() else []
        near = difflib.get_close_matches(one.name, names, n=1, cutoff=0.75)
        raise InputError(f"{text}: no such file.{f' Did you mean {near[0]!r}?' if near else ''}")
    return [one]


def suffix_of(path: Path) -> str:
    """The last suffix in small letters, with what stands before .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def _read_one(path: Path, names: Sequence[str] | None, optional: Sequence[str]) -> FieldFile:
    suffix = suffix_of(path)
    if suffix == ".npz":
        from geoattn.datasets.sphere_arrays import read_npz

        found = read_npz(path, names, optional)
    elif suffix in XARRAY:
        from geoattn.datasets.sphere_xarray import read_dataset

        found = read_dataset(path, XARRAY[suffix], names, optional)
    elif suffix in FITS:
        from geoattn.datasets.sphere_fits import read_healpix

        found = read_healpix(path, names, optional)
    else:
        raise InputError(f"{path}: unknown file format {path.suffix!r}. Known: {', '.join(SUFFIXES)}.")
    found.paths = [str(path)] * found.num_samples
    return found


def _joined(path: str, found: Sequence[FieldFile]) -> FieldFile:
    """One after another; without trajectories of their own the files continue each other."""
    first = found[0]
    for other in found[1:]:
        if not first.grid.same(other.grid):
            raise InputError(
                f"{other.file}: its points are {other.grid}, those of {first.file} are {first.grid}. Files that are "
                "read together need one grid: interpolate one of them, or read them by themselves."
            )
        if set(first.variables) != set(other.variables):
            odd = sorted(set(first.variables) ^ set(other.variables))
            raise InputError(f"{other.file} and {first.file} do not have the same variables: {', '.join(odd)}.")
        for name in set(first.units) & set(other.units):
            if first.units[name] != other.units[name]:
                raise InputError(
                    f"{other.file}: {name} is in {other.units[name]}, in {first.file} in {first.units[name]}. "
                    "Convert one of them."
                )
    always = [name for name in first.variables if all(np.array_equal(
        one.variables[name], first.variables[name], equal_nan=True) for one in found)]  # fmt: skip
    variables = {
        name: first.variables[name]
        if name in always and len(first.variables[name]) == 1
        else np.concatenate([np.broadcast_to(one.variables[name], (one.num_samples, first.grid.num_points))
                             for one in found])
        for name in first.variables
    }  # fmt: skip
    apart = any(one.trajectories for one in found)
    starts = np.cumsum([0, *(int(one.group.max(initial=-1)) + 1 for one in found)])
    group = np.concatenate([one.group + (start if apart else 0) for one, start in zip(found, starts, strict=False)])
    times = [one.times for one in found if one.times is not None]
    kept = set.intersection(*(set(one.columns) for one in found))
    return FieldFile(
        path,
        first.grid,
        variables,
        [f"{Path(one.file).stem}:{label}" for one in found for label in one.labels],
        group,
        units={name: unit for one in found for name, unit in one.units.items()},
        class_names=first.class_names,
        columns={name: [text for one in found for text in one.columns[name]] for name in first.columns if name in kept},
        notes=list(dict.fromkeys(note for one in found for note in one.notes)),
        layout=first.layout,
        paths=[each for one in found for each in one.paths],
        trajectories=apart,
        called=first.called,
        long_names=first.long_names,
        times=np.concatenate(times) if len(times) == len(found) else None,
    )
