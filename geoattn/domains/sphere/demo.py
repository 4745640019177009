"""Files of shallow-water states that geoattn makes: for demonstrations, benchmarks and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from geoattn._files import atomic_path
from geoattn.domains.sphere.shallow_water import DEGREES, NAMES, UNITS, trajectories
from geoattn.geometry.sphere import latitudes


def write_states(
    path: str | Path,
    num: int,
    steps: int,
    *,
    interval: float = 1800.0,
    nlat: int = 32,
    nlon: int = 64,
    seed: int = 0,
    degrees: int = DEGREES,
) -> Path:
    """Write trajectories of the shallow-water equations as an .npz of fields.

    Args:
        path: the file; it appears whole.
        num: trajectories.
        steps: states after the first of each.
        interval: seconds between two states.
        nlat, nlon: the Gauss-Legendre grid.
        seed: of the first states.
        degrees: of `geoattn.domains.sphere.shallow_water.trajectories`; fewer give stronger fields.

    Returns:
        The file, with ``height``, ``vorticity`` and ``divergence`` ``[num, steps + 1, nlat, nlon]``.
    """
    states = trajectories(num, steps, interval, nlat=nlat, nlon=nlon, seed=seed, degrees=degrees)
    colatitude, _ = latitudes(nlat, "legendre-gauss")
    fields = {name: states[:, :, k] for k, name in enumerate(NAMES)}
    units = {f"{name}_units": np.array(unit) for name, unit in zip(NAMES, UNITS, strict=True)}
    lat, lon = 90 - torch.rad2deg(colatitude).numpy(), np.arange(nlon) * 360 / nlon
    target = Path(path)
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez(file, lat=lat, lon=lon, interval_seconds=interval, **fields, **units)  # type: ignore[arg-type]
    return target
