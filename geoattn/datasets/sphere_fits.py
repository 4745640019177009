"""Reader of HEALPix maps in FITS files, by astropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoattn._optional import require
from geoattn.datasets.sphere_files import FieldFile, chosen, masked, missing_notes
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError


def read_healpix(path: Path, names: Sequence[str] | None = None, optional: Sequence[str] = ()) -> FieldFile:
    """Read the first HEALPix table of a file: a column each is a variable of one sample.

    Raises:
        InputError: no such table, no order of pixels in its header, or a number of pixels that is not of its nside.
    """
    fits = require("astropy.io.fits", "sphere")
    try:
        opened = fits.open(path, memmap=False)
    except OSError as error:
        raise InputError(f"{path}: astropy cannot read it as FITS ({error}).") from error
    with opened as units:
        table = next((unit for unit in units if "NSIDE" in unit.header and getattr(unit, "columns", None)), None)
        if table is None:
            raise InputError(f"{path}: no table of the file has NSIDE in its header, as HEALPix maps have.")
        header, data = table.header, table.data
        nside, order = int(header["NSIDE"]), str(header.get("ORDERING", "")).strip().lower()
        order = {"nest": "nested"}.get(order, order)
        if order not in ("ring", "nested"):
            raise InputError(f"{path}: ORDERING: got {order!r}, expected RING or NESTED. Mend the header.")
        explicit = str(header.get("INDXSCHM", "IMPLICIT")).strip().upper() == "EXPLICIT"
        known = [column.name for column in table.columns if not (explicit and column.name.upper() == "PIXEL")]
        pixel = np.asarray(data["PIXEL"]).reshape(-1).astype(np.int64) if explicit else None
        values, missing = {}, {}
        for name in chosen(str(path), known, names, optional):
            full = _full(path, name, np.asarray(data[name]).reshape(-1), nside, pixel)
            values[name], count = masked(full[None])
            missing[name] = (count, full.size)
        stated = {column.name: str(column.unit) for column in table.columns if column.unit}
        frame = _frame(header)
    return FieldFile(
        str(path),
        SphereGrid("healpix", size=nside, order=order),
        values,
        [path.name.split(".")[0]],
        np.zeros(1, dtype=np.int64),
        units={name: unit for name, unit in stated.items() if name in values},
        notes=[*frame, *missing_notes(missing)],
    )


def _full(path: Path, name: str, column: np.ndarray, nside: int, pixel: np.ndarray | None) -> np.ndarray:
    """``[12 nside^2]``: a map of a part of the sky has NaN elsewhere."""
    size = 12 * nside**2
    if pixel is not None:
        full = np.full(size, np.nan)
        full[pixel] = column
        return full
    if len(column) != size:
        side = math.isqrt(len(column) // 12)
        raise InputError(
            f"{path}: {name}: got {len(column):,} pixels (nside {side}), expected {size:,} as NSIDE = {nside} says."
        )
    return column


def _frame(header: Any) -> list[str]:
    names = {"G": "galactic", "C": "equatorial", "E": "ecliptic"}
    frame = names.get(str(header.get("COORDSYS", "")).strip().upper()[:1])
    return [f"The map is in {frame} coordinates; latitude and longitude are those of that frame."] if frame else []
