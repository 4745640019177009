"""A field on the sphere, after its reader checked it, and the points on which it lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from geoattn.errors import InputError, nearest_hint
from geoattn.geometry.sphere import SpherePoints, cubed_sphere, healpix, lat_lon_points, scattered

KINDS = ("lat_lon", "scattered", "healpix", "cubed_sphere")


@dataclass(frozen=True)
class SphereGrid:
    """What a file says about its points, in numbers that JSON can hold.

    Attributes:
        kind: "lat_lon" (rows and columns), "scattered" (stations), "healpix" or "cubed_sphere".
        latitude: degrees, of the rows from north to south, or of each station; else empty.
        longitude: degrees in [0, 360), of the columns eastwards, or of each station; else empty.
        size: nside of HEALPix, cells along an edge of the cubed sphere; else 0.
        order: "ring" or "nested" for HEALPix; else empty.

    Example:
        >>> grid = SphereGrid("healpix", size=2, order="ring")
        >>> grid.num_points, SphereGrid.from_dict(grid.to_dict()) == grid, str(grid)
        (48, True, 'HEALPix, nside 2, ring')
    """

    kind: str
    latitude: tuple[float, ...] = ()
    longitude: tuple[float, ...] = ()
    size: int = 0
    order: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"grid: got kind {self.kind!r}. {nearest_hint(self.kind, KINDS)}")

    @cached_property
    def points(self) -> SpherePoints:
        """The points with their quadrature weights."""
        if self.kind == "healpix":
            return healpix(self.size, self.order)
        if self.kind == "cubed_sphere":
            return cubed_sphere(self.size)
        make = lat_lon_points if self.kind == "lat_lon" else scattered
        return make(torch.tensor(self.latitude, dtype=torch.float64), torch.tensor(self.longitude, dtype=torch.float64))

    @property
    def shape(self) -> tuple[int, int] | None:
        """Rows and columns of a latitude-longitude grid, None for other points."""
        return (len(self.latitude), len(self.longitude)) if self.kind == "lat_lon" else None

    @property
    def num_points(self) -> int:
        """N."""
        per_size = {"healpix": 12, "cubed_sphere": 6}.get(self.kind)
        if per_size:
            return per_size * self.size**2
        return len(self.latitude) * (len(self.longitude) if self.kind == "lat_lon" else 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "kind": self.kind,
            "latitude": list(self.latitude),
            "longitude": list(self.longitude),
            "size": self.size,
            "order": self.order,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SphereGrid:
        """The grid that `to_dict` described."""
        lists = {name: tuple(float(x) for x in values[name]) for name in ("latitude", "longitude")}
        return cls(values["kind"], **lists, size=int(values["size"]), order=str(values["order"]))

    def same(self, other: SphereGrid) -> bool:
        """Are the points the same, up to the rounding of files?"""
        if (self.kind, self.size, self.order, self.num_points, self.shape) != (
            other.kind, other.size, other.order, other.num_points, other.shape,
        ):  # fmt: skip
            return False
        turn = np.abs(np.subtract(self.longitude, other.longitude))
        return bool(
            np.allclose(self.latitude, other.latitude, rtol=0, atol=1e-3)
            and (np.minimum(turn, 360 - turn) < 1e-3).all()
        )

    def __str__(self) -> str:
        if self.kind == "lat_lon":
            return f"{len(self.latitude)} latitudes x {len(self.longitude)} longitudes ({self.points.kind})"
        if self.kind == "healpix":
            return f"HEALPix, nside {self.size}, {self.order}"
        return f"cubed sphere, 6 x {self.size} x {self.size}" if self.size else f"{self.num_points:,} scattered points"


@dataclass(frozen=True, eq=False)
class FieldSample:
    """What is known and what is wanted at the N points of a grid.

    Attributes:
        id: its name.
        inputs: ``[C, N]`` float32 in the units of the file, NaN where a value is missing.
        targets: ``[Ct, N]`` float32 with NaN where missing; for segmentation ``[1, N]`` int64, -1 where missing; None
            if they are not known.
        used: ``[N]`` bool, the points whose targets are learned or measured.
        label: time, member or another name of the moment.
        file: where it stands.
        line: None; fields have no lines. It stands here as in the records of other data.
    """

    id: str
    inputs: np.ndarray
    targets: np.ndarray | None
    used: np.ndarray
    label: str
    file: str
    line: int | None = None

    @property
    def known(self) -> np.ndarray:
        """``[Ct, N]`` bool: where targets are there and used."""
        if self.targets is None:
            return np.zeros((0, len(self.used)), dtype=bool)
        there = self.targets >= 0 if self.targets.dtype.kind == "i" else np.isfinite(self.targets)
        return there & self.used
