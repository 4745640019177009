"""Reader of NetCDF, Zarr and GRIB files of fields on the sphere, by xarray; only what is asked for is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoattn._optional import require
from geoattn.datasets.sphere_axes import Layout, grid_layout, pole_notes, station_grid
from geoattn.datasets.sphere_files import FieldFile, chosen, masked, missing_notes
from geoattn.datasets.sphere_times import seconds_of
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError

LATITUDE, LONGITUDE = ("latitude", "lat", "nav_lat", "y"), ("longitude", "lon", "nav_lon", "x")
LEVELS = (
    "level", "lev", "plev", "pressure", "pressure_level", "isobaricInhPa", "height", "depth", "altitude", "hybrid",
)  # fmt: skip
TIMES = ("time", "valid_time", "step", "t", "lead_time", "forecast_period", "date", "month")


def read_dataset(
    path: Path, engine: str, names: Sequence[str] | None = None, optional: Sequence[str] = ()
) -> FieldFile:
    """Read a file as `read_fields` describes it."""
    source = _opened(path, engine)
    with source:
        lat, lon = _coordinate(path, source, "latitude"), _coordinate(path, source, "longitude")
        dims = tuple(dict.fromkeys((*lat.dims, *lon.dims)))
        along = [name for name in source.data_vars if set(dims) <= set(source[name].dims)]
        bounds = {str(source[name].attrs.get("bounds", "")) for name in source.variables}
        along = [name for name in along if name not in bounds and source[name].dtype.kind in "fiub"]
        if not along:
            raise InputError(f"{path}: no variable has the dimensions {', '.join(map(str, dims))} of its places.")
        parts = _levels(path, source, along)
        layout, grid, notes = _grid(path, lat, lon)
        wanted = chosen(str(path), list(parts), names, optional)
        arrays: dict[str, Any] = {key: _level(source, *parts[key]).transpose(..., *dims) for key in wanted}
        lead = _lead(path, arrays, len(dims))
        values, missing = {}, {}
        for key, array in arrays.items():
            full = array if array.ndim == len(dims) else array.transpose(*lead, *dims)
            loaded, count = masked(np.asarray(full.values))
            missing[key] = (count, loaded.size)
            if layout:
                loaded = layout.from_file(loaded)
            values[key] = np.ascontiguousarray(loaded.reshape(-1, grid.num_points))
        sizes = [source.sizes[name] for name in lead]
        units = {
            key: str(source[parts[key][0]].attrs["units"]) for key in wanted if "units" in source[parts[key][0]].attrs
        }
        labels = _labels(source, lead)
        about = {key: source[parts[key][0]].attrs.get("long_name") for key in wanted}
        axes = {"lat": lat, "lon": lon, "time": source[lead[-1]] if lead and lead[-1] in source.variables else None}
        called = {
            key: str(axis.name)
            for key, axis in axes.items()
            if axis is not None and axis.dims == (axis.name,) and (key != "time" or axis.dtype.kind == "M")
        }
        timed = bool(lead) and lead[-1] in TIMES
        times = _times(source, lead, sizes) if timed else None
    notes += missing_notes(missing) + (pole_notes(layout, values) if layout else [])
    num_samples = math.prod(sizes)
    several = timed and len(lead) > 1
    return FieldFile(
        str(path),
        grid,
        values,
        labels,
        np.arange(num_samples) // sizes[-1] if several else np.zeros(num_samples, dtype=np.int64),
        units=units,
        columns={"label": labels},
        notes=notes,
        layout=layout,
        trajectories=several,
        called=called,
        long_names={key: str(text) for key, text in about.items() if text},
        times=times,
    )


def _first_bytes(path: Path) -> bytes:
    """What a NetCDF file begins with.

    Raises:
        InputError: a file that is none.
    """
    with path.open("rb") as file:
        first = file.read(16)
    if first.startswith((b"CDF", b"\x89HDF")):
        return first
    what = f"it begins with {first!r}" if first else "it is empty"
    raise InputError(
        f"{path}: this is no NetCDF file: {what}, expected 'CDF' (NetCDF 3) or '\\x89HDF' (NetCDF 4, HDF5). Was it "
        "downloaded as a whole? Look at it with ncdump -h, and fetch or write it again."
    )


def _opened(path: Path, engine: str) -> Any:
    xarray = require("xarray", "sphere")
    options: dict[str, Any] = {"backend_kwargs": {"indexpath": ""}} if engine == "cfgrib" else {}
    if engine == "h5netcdf" and path.is_file() and _first_bytes(path).startswith(b"CDF"):
        engine = "scipy"  # NetCDF 3
    if engine == "cfgrib":
        require("cfgrib", "sphere")
    elif engine == "zarr":
        require("zarr", "sphere")
    elif engine == "h5netcdf":
        require("h5netcdf", "sphere")
        require("h5py", "sphere")  # which h5netcdf reads with, and does not always bring
    for times in (True, False):  # calendars without leap years need a package of their own; numbers do as labels
        try:
            return xarray.open_dataset(path, engine=engine, decode_times=times, **options)
        except Exception as error:
            if not times or engine == "cfgrib":
                raise InputError(f"{path}: xarray cannot read it ({type(error).__name__}: {error}).") from error
    raise AssertionError


def _coordinate(path: Path, source: Any, which: str) -> Any:
    """The variable with the latitudes or longitudes: by what it says of itself, else by its name."""
    usual = LATITUDE if which == "latitude" else LONGITUDE
    unit = "degrees_north" if which == "latitude" else "degrees_east"
    for name, array in source.variables.items():
        if array.attrs.get("standard_name") == which or array.attrs.get("units") == unit:
            return source[name]
    lower = {str(name).lower(): name for name in source.variables}
    found = next((lower[name] for name in usual if name in lower), None)
    if found is None:
        known = ", ".join(str(name) for name in source.variables)
        raise InputError(f"{path}: no coordinate is a {which}. Known: {known}. Name one of them {usual[0]}.")
    return source[found]


def _grid(path: Path, lat: Any, lon: Any) -> tuple[Layout | None, SphereGrid, list[str]]:
    if lat.dims == lon.dims:  # stations, cells of a mesh or a curvilinear grid
        return None, *station_grid(str(path), lat.values.reshape(-1), lon.values.reshape(-1))
    if lat.ndim != 1 or lon.ndim != 1:
        raise InputError(
            f"{path}: latitude has the dimensions {lat.dims}, longitude {lon.dims}; expected one axis each."
        )
    layout, notes = grid_layout(str(path), lat.values, lon.values)
    return layout, layout.grid, notes


def _plain(value: Any) -> str:
    """``100000`` and not ``1e+05``."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def _levels(path: Path, source: Any, names: Sequence[Any]) -> dict[str, tuple[Any, Any, int]]:
    """``name@500`` -> (variable, dimension of levels, number); a variable without levels by its own name."""
    parts: dict[str, tuple[Any, Any, int]] = {}
    for name in names:
        level = next((dim for dim in source[name].dims if str(dim) in LEVELS), None)
        if level is None:
            parts[str(name)] = (name, None, 0)
            continue
        values = source[level].values if level in source.variables else np.arange(source.sizes[level])
        for k, value in enumerate(values):
            key = f"{name}@{_plain(value)}"
            if key in parts:
                raise InputError(f"{path}: {level}: two levels of {name} are called {key}. Leave out one of them.")
            parts[key] = (name, level, k)
    return parts


def _level(source: Any, name: Any, level: Any, number: int) -> Any:
    return source[name] if level is None else source[name].isel({level: number})


def _lead(path: Path, arrays: dict[str, Any], num_axes: int) -> list[Any]:
    """The dimensions of the samples, that of time last; the same for all variables that have some."""
    some = {key: list(array.dims[: array.ndim - num_axes]) for key, array in arrays.items() if array.ndim > num_axes}
    for key, lead in some.items():
        first = next(iter(some))
        if set(lead) != set(some[first]):
            raise InputError(
                f"{path}: {key} has the dimensions {', '.join(map(str, lead))} besides its places, {first} has "
                f"{', '.join(map(str, some[first]))}. Choose variables with the same, by --data.inputs and "
                "--data.targets."
            )
    lead = next(iter(some.values()), [])
    return sorted(lead, key=lambda name: name in TIMES)


def _times(source: Any, lead: Sequence[Any], sizes: Sequence[int]) -> np.ndarray | None:
    if lead[-1] not in source.variables:
        return None
    axis = source[lead[-1]]
    found = seconds_of(axis.values, str(axis.attrs.get("units", "")))
    if found is not None and axis.dtype.kind == "m" and "time" in source.variables and not source["time"].ndim:
        begin = seconds_of(source["time"].values.reshape(1))  # of a forecast that was read
        found = found if begin is None else found + begin
    return None if found is None else np.tile(found, math.prod(sizes[:-1]))


def _labels(source: Any, lead: Sequence[Any]) -> list[str]:
    texts = []
    for name in lead:
        values = source[name].values if name in source.variables else np.arange(source.sizes[name])
        if values.dtype.kind == "M":
            values = np.datetime_as_string(values, unit="m")
        texts.append([str(value) for value in values])
    return [",".join(text[k] for text, k in zip(texts, index, strict=True)) for index in np.ndindex(*map(len, texts))]
