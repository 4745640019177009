"""Do points cover the globe? Attention by area needs that every point stands for its surroundings alone."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError
from geoattn.geometry.sphere import healpix

MAX_SHARE = 0.1
"""Of the sphere, for one point."""
MAX_GAP = 30.0
"""Degrees between neighbouring meridians, or from the last row to the pole; more if all rows are as far apart."""
MAX_HOLE = 60.0
"""Degrees from any place to the nearest of scattered points."""


def check_coverage(file: str, grid: SphereGrid) -> None:
    """Refuse points of a region: those at its edge would stand for all the rest of the globe.

    Args:
        file: for the message.
        grid: the points.

    Raises:
        InputError: one point stands for more than a tenth of the sphere; a grid whose longitudes leave more than 30
            degrees, or whose latitudes stop more than 30 degrees short of a pole (unless it is that coarse
            everywhere); scattered points with a hole of more than 60 degrees around its middle.

    Example:
        >>> check_coverage("coarse.nc", SphereGrid("lat_lon", (67.5, 22.5, -22.5, -67.5), (0.0, 90.0, 180.0, 270.0)))
    """
    what = _grid_gap(grid) if grid.shape is not None else ""
    if not what and grid.num_points:
        share = float(grid.points.weight.max()) / (4 * np.pi)
        what = f"one point stands for {share:.0%} of the globe" if share > MAX_SHARE else ""
    if not what and grid.kind == "scattered":
        distance, _ = cKDTree(grid.points.xyz.numpy()).query(healpix(8).xyz.numpy())
        hole = float(np.degrees(2 * np.arcsin(min(distance.max() / 2, 1.0))))
        what = f"some places are {hole:.0f} degrees away from the nearest point" if hole > MAX_HOLE else ""
    if what:
        raise InputError(
            f"{file}: the points do not cover the globe: {_covered(grid)}; {what}. Attention by area needs fields of "
            "the whole globe: give global fields (missing values are allowed), or put the region onto a global grid "
            "with missing values elsewhere."
        )


def _grid_gap(grid: SphereGrid) -> str:
    lon, lat = np.sort(grid.longitude), np.sort(grid.latitude)
    gaps = np.diff(np.append(lon, lon[0] + 360))
    if gaps.max() > max(MAX_GAP, 1.5 * float(np.median(gaps))):
        return f"its longitudes leave a gap of {gaps.max():.0f} degrees"
    coarse = 1.5 * float(np.median(np.diff(lat))) if len(lat) > 1 else 0.0
    for pole, short in (("north", 90 - lat[-1]), ("south", lat[0] + 90)):
        if short > max(MAX_GAP, coarse):
            return f"its latitudes stop {short:.0f} degrees short of the {pole} pole"
    return ""


def _covered(grid: SphereGrid) -> str:
    """Latitudes and longitudes between which the points lie; the longitudes from the east end of the largest gap."""
    lat, lon = np.array(grid.latitude), np.sort(grid.longitude)
    if not lat.size:
        return str(grid)
    last = int(np.argmax(np.diff(np.append(lon, lon[0] + 360))))
    west, east = lon[(last + 1) % len(lon)], lon[last]
    west = west - 360 if west > east else west
    return f"latitudes from {lat.min():g} to {lat.max():g}, longitudes from {west:g} to {east:g} degrees"
