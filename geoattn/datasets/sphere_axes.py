"""Axes of latitude and longitude as files give them, brought to ours: north to south, from longitude 0 eastwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError

AT_POLE = 89.9999
_CLOSE = 1e-4  # degrees; coordinates in files are rounded


@dataclass(frozen=True, eq=False)
class Layout:
    """How the rows and columns of a file become those of the grid, and back without loss.

    Attributes:
        grid: ours.
        rows: ``[nlat of the file]`` the row of the grid that each row of the file is.
        columns: ``[nlon of the file]`` likewise.
        latitude, longitude: of the file, degrees as given.
    """

    grid: SphereGrid
    rows: np.ndarray
    columns: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray

    def from_file(self, values: np.ndarray) -> np.ndarray:
        """``[..., N]`` of ``[..., nlat, nlon]`` as in the file; of what is given twice the first."""
        _, rows = np.unique(self.rows, return_index=True)
        _, columns = np.unique(self.columns, return_index=True)
        chosen = values[..., rows[:, None], columns]
        return chosen.reshape(*values.shape[:-2], -1)

    def to_file(self, values: np.ndarray) -> np.ndarray:
        """``[..., nlat, nlon]`` as in the file, of ``[..., N]``."""
        shape = self.grid.shape
        assert shape is not None
        return values.reshape(*values.shape[:-1], *shape)[..., self.rows[:, None], self.columns]


def grid_layout(file: str, latitude: np.ndarray, longitude: np.ndarray) -> tuple[Layout, list[str]]:
    """The grid of two axes in degrees, and sentences about what was changed.

    Raises:
        InputError: axes that are no axes: not finite, radians, latitudes beyond 90, exchanged, or not in order.
    """
    lat, lon = _checked(file, latitude, longitude)
    notes: list[str] = []
    if not _in_order(lat):
        sign = " (does its last value lack the sign?)" if _in_order(np.append(lat[:-1], -lat[-1])) else ""
        raise _disordered(file, "latitude", lat, f"neither falls nor rises all the way{sign}")
    south_first = len(lat) > 1 and lat[0] < lat[-1]
    rows, ours = _ranks(-lat)
    twice = len(lat) - len(ours)
    if twice:
        repeated = sorted({float(value) for value in lat if (np.abs(lat - value) < _CLOSE).sum() > 1})
        if not all(abs(value) >= AT_POLE for value in repeated):
            raise _disordered(file, "latitude", lat, f"has {repeated[0]:g} twice")
        notes.append(f"The pole is given {'twice' if twice == 1 else 'several times'}; the first row was kept.")
    turns = np.diff(lon)
    jumps = int((turns < 0).sum())
    if len(lon) > 1 and (jumps > 1 or (jumps == 1 and lon[-1] > lon[0] + _CLOSE)):
        raise _disordered(file, "longitude", lon, "does not run eastwards")
    columns, angles = _ranks(lon % 360)
    if len(lon) - len(angles) > 1:
        raise _disordered(file, "longitude", lon, "has columns twice")
    if south_first:
        notes.append("Latitudes run from south to north; rows were turned, and are turned back in what is written.")
    if len(angles) < len(lon):
        notes.append(f"The columns at {lon[0]:g} and {lon[-1]:g} degrees are the same meridian; the first was kept.")
    if lon.min() < 0:
        notes.append("Longitudes below 0 were turned to 0 .. 360, and are turned back in what is written.")
    grid = SphereGrid("lat_lon", tuple(float(x) for x in -ours), tuple(float(x) for x in angles))
    return Layout(grid, rows, columns, latitude, longitude), notes


def turned_axes(layout: Layout | None) -> dict[str, list[float]]:
    """The axes of a file in degrees, for arrays in its order; empty if they are those of the grid, or no axes."""
    if layout is None:
        return {}
    same = [np.array_equal(ranks, np.arange(len(ranks))) for ranks in (layout.rows, layout.columns)]
    if all(same):
        return {}
    return {"latitude": layout.latitude.tolist(), "longitude": layout.longitude.tolist()}


def station_grid(file: str, latitude: np.ndarray, longitude: np.ndarray) -> tuple[SphereGrid, list[str]]:
    """Scattered points with degrees each, and sentences about what was changed."""
    lat, lon = _checked(file, latitude, longitude)
    notes = ["Longitudes below 0 were turned to 0 .. 360."] if lon.min() < 0 else []
    return SphereGrid("scattered", tuple(lat.tolist()), tuple((lon % 360).tolist())), notes


def pole_notes(layout: Layout, values: dict[str, np.ndarray]) -> list[str]:
    """A sentence about variables ``[..., N]`` that have many values at one pole, which is one place."""
    shape = layout.grid.shape
    assert shape is not None
    differ = []
    for name, array in values.items():
        rows = array.reshape(-1, *shape)
        spread = max(
            (float(np.nanmax(np.ptp(rows[:, k], axis=-1), initial=0.0)) for k in (0, -1) if _is_pole(layout.grid, k)),
            default=0.0,
        )
        finite = array[np.isfinite(array)]
        if finite.size and spread > 1e-3 * (float(finite.std()) or 1.0):
            differ.append(name)
    if not differ:
        return []
    return [
        f"At the poles {', '.join(differ)} {'differs' if len(differ) == 1 else 'differ'} along the longitude, where "
        "all columns are one place; that is right for components of vectors alone."
    ]


def _in_order(values: np.ndarray) -> bool:
    step = np.diff(values)
    return bool((step <= 0).all() or (step >= 0).all())


def _is_pole(grid: SphereGrid, row: int) -> bool:
    return abs(grid.latitude[row]) >= AT_POLE


def _ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rank of each value among the distinct ones, and those, ascending; 0 and 360 are one for angles."""
    rounded = np.round(values / _CLOSE).astype(np.int64)
    if (values >= 0).all() and values.max(initial=0.0) < 360 and 360 - values.max(initial=0.0) < _CLOSE:
        rounded %= round(360 / _CLOSE)
    _, first, rank = np.unique(rounded, return_index=True, return_inverse=True)
    return rank.reshape(-1), np.asarray(values)[first]


def _checked(file: str, latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lat, lon = np.asarray(latitude, dtype=np.float64), np.asarray(longitude, dtype=np.float64)
    for name, values in (("latitude", lat), ("longitude", lon)):
        if not values.size or not np.isfinite(values).all():
            what = f"{int((~np.isfinite(values)).sum())} of {values.size} values that are not finite"
            raise InputError(f"{file}: {name}: got {what if values.size else 'no value'}, expected degrees.")
    if np.abs(lat).max() > 90 + _CLOSE:
        swapped = np.abs(lon).max() <= 90
        raise InputError(
            f"{file}: latitude: got values from {lat.min():g} to {lat.max():g}, expected degrees from -90 to 90. "
            + ("Latitude and longitude seem to be exchanged: exchange their names." if swapped else "Mend the axis.")
        )
    if np.abs(lon).max() > 720:
        raise InputError(f"{file}: longitude: got values up to {np.abs(lon).max():g}, expected degrees up to 360.")
    if lat.size >= 4 and lon.size >= 4 and np.ptp(lat) > 1.5 and np.ptp(lat) <= np.pi + 1e-3 and 3 < np.ptp(lon) < 6.3:
        raise InputError(
            f"{file}: latitude from {lat.min():.4g} to {lat.max():.4g} and longitude from {lon.min():.4g} to "
            f"{lon.max():.4g} look like radians; files have to give degrees. Write numpy.degrees(...) of both."
        )
    return np.clip(lat, -90.0, 90.0), lon


def _disordered(file: str, name: str, values: np.ndarray, what: str) -> InputError:
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return InputError(
        f"{file}: {name}: the axis {what} (it begins {shown} and ends {values[-1]:g}), expected one that runs in order "
        "and names each place once. Sort the file along it; for scattered points give both of every point."
    )
