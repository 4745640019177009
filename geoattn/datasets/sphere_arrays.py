"""Reader of NumPy archives (.npz) of fields on the sphere."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geoattn.datasets.sphere_axes import Layout, grid_layout, pole_notes, station_grid
from geoattn.datasets.sphere_files import FieldFile, chosen, masked, missing_notes
from geoattn.datasets.sphere_times import seconds_of
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError

LATITUDE, LONGITUDE = ("lat", "latitude", "lats"), ("lon", "longitude", "lons", "long")
LABELS = ("id", "time", "label", "member")


def read_npz(path: Path, names: Sequence[str] | None = None, optional: Sequence[str] = ()) -> FieldFile:
    """Read an archive as `read_fields` describes it."""
    arrays = _load(path)
    lower = {key.lower(): key for key in arrays}
    lat, lon = (next((lower[name] for name in usual if name in lower), None) for usual in (LATITUDE, LONGITUDE))
    if (lat is None) != (lon is None):
        there, gone = ("latitude", "longitude") if lon is None else ("longitude", "latitude")
        raise InputError(f"{path}: there is a {there} and no {gone}. Give lat and lon, or neither for HEALPix.")
    texts = {key: array for key, array in arrays.items() if array.dtype.kind in "US"}
    numbers = {
        key: array for key, array in arrays.items() if key not in (lat, lon, "nside") and array.dtype.kind in "fiub"
    }
    layout: Layout | None = None
    if lat is None or lon is None:
        grid, notes = _healpix(path, numbers, texts)
    else:
        axes = arrays[lat], arrays[lon]
        if axes[0].ndim != 1 or axes[1].ndim != 1:
            raise InputError(
                f"{path}: {lat}, {lon}: got shapes {axes[0].shape}, {axes[1].shape}, expected one axis each."
            )
        if _is_grid(path, axes, numbers):
            layout, notes = grid_layout(str(path), *axes)
            grid = layout.grid
        else:
            grid, notes = station_grid(str(path), *axes)
    trailing = (len(axes[0]), len(axes[1])) if layout else (grid.num_points,)
    fields = {key: array for key, array in numbers.items() if array.shape[-len(trailing) :] == trailing}
    columns = {key: array for key, array in (texts | numbers).items() if array.ndim == 1 and key not in fields}
    odd = [key for key, array in numbers.items() if key not in fields and array.ndim > 1]
    if odd and (not fields or (names and set(names) & set(odd))):
        raise InputError(_wrong_shape(path, odd[0], numbers[odd[0]], trailing))
    wanted = chosen(str(path), list(fields), names, optional)
    lead = _lead(path, {key: fields[key] for key in wanted}, len(trailing))
    num_samples = math.prod(lead)
    values, missing = {}, {}
    for key in wanted:
        array, count = masked(fields[key])
        array = layout.from_file(array) if layout else array
        missing[key] = (count, array.size)
        values[key] = np.ascontiguousarray(array.reshape(-1, grid.num_points))
    if odd:
        notes.append(f"Not read, because no axes are those of the grid: {', '.join(odd)}.")
    notes += missing_notes(missing) + (pole_notes(layout, values) if layout else [])
    labels = {key: _texts(array) for key, array in columns.items() if len(array) == num_samples}
    first = next((key for key in LABELS if key in labels), None)
    return FieldFile(
        str(path),
        grid,
        values,
        labels[first] if first else _numbered(lead),
        np.repeat(np.arange(lead[0]), lead[1]) if len(lead) == 2 else np.zeros(num_samples, dtype=np.int64),
        units={key: str(texts[f"{key}_units"]) for key in wanted if f"{key}_units" in texts},
        class_names={key: _texts(texts[f"{key}_names"]) for key in wanted if f"{key}_names" in texts},
        columns=labels,
        notes=notes,
        layout=layout,
        trajectories=len(lead) == 2,
        times=_times(columns, str(texts.get("time_units", "")), lead),
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
            return {key: np.datetime_as_string(array) if array.dtype.kind == "M" else array for key, array in
                    arrays.items()}  # fmt: skip
    except (ValueError, zipfile.BadZipFile, OSError, EOFError, AttributeError) as error:
        raise InputError(f"{path}: not an .npz file of plain arrays ({error}). Write it with numpy.savez.") from error


def _is_grid(path: Path, axes: tuple[np.ndarray, np.ndarray], numbers: dict[str, np.ndarray]) -> bool:
    """Axes of a grid, or places of stations: what the other arrays look like decides where both are as long."""
    nlat, nlon = len(axes[0]), len(axes[1])
    if nlat != nlon:
        return True
    return any(array.shape[-2:] == (nlat, nlon) for array in numbers.values())


def _healpix(path: Path, numbers: dict[str, np.ndarray], texts: dict[str, np.ndarray]) -> tuple[SphereGrid, list[str]]:
    sizes = {array.shape[-1]: key for key, array in numbers.items() if array.ndim}
    nsides = {size: math.isqrt(size // 12) for size in sizes}
    found = [size for size, nside in nsides.items() if nside and 12 * nside**2 == size]
    if not found:
        shown = ", ".join(f"{key} {array.shape}" for key, array in list(numbers.items())[:5])
        raise InputError(
            f"{path}: there is no lat and lon, and no array has 12 nside^2 values as HEALPix has (got {shown}). Give "
            "lat and lon in degrees."
        )
    size = max(found)
    order = str(texts["order"]).lower() if "order" in texts else ""
    order = {"nest": "nested", "": "ring"}.get(order, order)
    if order not in ("ring", "nested"):
        raise InputError(f"{path}: order: got {order!r}, expected 'ring' or 'nested'.")
    notes = (
        [] if "order" in texts else ["The file does not say how HEALPix pixels are ordered; they were read as ring."]
    )
    return SphereGrid("healpix", size=nsides[size], order=order), notes


def _wrong_shape(path: Path, key: str, array: np.ndarray, trailing: tuple[int, ...]) -> str:
    expected = ", ".join(map(str, trailing))
    turned = len(trailing) == 2 and array.shape[-2:] == trailing[::-1]
    what = "Latitude and longitude are exchanged: write numpy.swapaxes(array, -1, -2)." if turned else "Mend the file."
    return f"{path}: {key}: got shape {array.shape}, expected [..., {expected}] as lat and lon say. {what}"


def _lead(path: Path, fields: dict[str, np.ndarray], num_axes: int) -> tuple[int, ...]:
    """The axes before those of the grid: none, samples, or trajectories and times; the same for all that have some."""
    leads = {key: array.shape[: array.ndim - num_axes] for key, array in fields.items()}
    some = {key: lead for key, lead in leads.items() if lead}
    for key, lead in some.items():
        first = next(iter(some))
        if len(lead) > 2:
            raise InputError(
                f"{path}: {key}: got {len(lead)} axes before the grid, expected samples, or trajectories and times. "
                f"Write other axes, such as levels, as variables of their own: {key}@500."
            )
        if lead != some[first]:
            raise InputError(f"{path}: {key} has {lead} samples, {first} has {some[first]}; expected the same.")
    return next(iter(some.values()), (1,))


def _times(columns: dict[str, np.ndarray], units: str, lead: tuple[int, ...]) -> np.ndarray | None:
    """Of an axis ``time``, or of the texts that are the labels."""
    array = next((columns[key] for key in ("time", "id", "label") if key in columns), None)
    if array is None or len(array) not in (math.prod(lead), lead[-1]):
        return None
    found = seconds_of(array.astype(str) if array.dtype.kind == "S" else array, units)
    return None if found is None else np.tile(found, math.prod(lead) // len(found))


def _texts(array: np.ndarray) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in array.reshape(-1)]


def _numbered(lead: tuple[int, ...]) -> list[str]:
    return [",".join(map(str, index)) for index in np.ndindex(*lead)]
