"""Surfaces of which shapes are put together: boxes, cylinders, cones, spheres, tori; sampled by area, exact normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Sampled = tuple[np.ndarray, np.ndarray]
"""Points and outward normals, ``[N, 3]`` float64 each."""


@dataclass(frozen=True)
class Surface:
    """A surface about the origin, its axis along z, moved by ``rotation`` and then by ``center``."""

    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: np.ndarray | None = None

    @property
    def area(self) -> float:
        """Of the surface."""
        raise NotImplementedError

    def sample(self, rng: np.random.Generator, count: int) -> Sampled:
        """``count`` points drawn uniformly by area, with outward normals."""
        points, normals = self._local(rng, count)
        if self.rotation is not None:
            points, normals = points @ self.rotation.T, normals @ self.rotation.T
        return points + self.center, normals

    def _local(self, rng: np.random.Generator, count: int) -> Sampled:
        raise NotImplementedError


@dataclass(frozen=True)
class Box(Surface):
    """A box with edges ``size``."""

    size: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def area(self) -> float:
        return float(self._faces().sum())

    def _faces(self) -> np.ndarray:
        x, y, z = self.size
        return np.repeat([y * z, x * z, x * y], 2)

    def _local(self, rng: np.random.Generator, count: int) -> Sampled:
        faces = self._faces()
        face = rng.choice(6, size=count, p=faces / faces.sum())
        points = rng.uniform(-0.5, 0.5, (count, 3))
        normals = np.zeros((count, 3))
        rows, side = np.arange(count), np.where(face % 2, 1.0, -1.0)
        points[rows, face // 2] = side / 2
        normals[rows, face // 2] = side
        return points * self.size, normals


@dataclass(frozen=True)
class Cone(Surface):
    """The part of a cone, or a cylinder, between two circles; ``caps`` says which of them are closed."""

    bottom: float = 1.0
    top: float = 1.0
    height: float = 1.0
    caps: tuple[bool, bool] = (True, True)

    @property
    def area(self) -> float:
        return float(self._parts().sum())

    def _parts(self) -> np.ndarray:
        slant = np.hypot(self.height, self.bottom - self.top)
        closed = np.array([self.bottom**2, self.top**2]) * self.caps
        return np.pi * np.r_[(self.bottom + self.top) * slant, closed]

    def _local(self, rng: np.random.Generator, count: int) -> Sampled:
        parts = self._parts()
        part = rng.choice(3, size=count, p=parts / parts.sum())
        angle, u = rng.uniform(0, 2 * np.pi, count), rng.random(count)
        side, top = part == 0, part == 2
        # on the side the radius r has a density that grows with r: r^2 is uniform between those of the circles
        radius = np.sqrt(self.bottom**2 + u * (self.top**2 - self.bottom**2))
        share = u if self.bottom == self.top else (radius - self.bottom) / (self.top - self.bottom)
        radius = np.where(side, radius, np.sqrt(u) * np.where(top, self.top, self.bottom))
        z = np.where(side, (share - 0.5) * self.height, np.where(top, 0.5, -0.5) * self.height)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        slant = np.hypot(self.height, self.bottom - self.top)
        normals = np.c_[circle * (self.height / slant), np.full(count, (self.bottom - self.top) / slant)]
        normals[~side] = np.array([0, 0, 1.0]) * np.where(top, 1, -1)[~side, None]
        return np.c_[circle * radius[:, None], z], normals


@dataclass(frozen=True)
class Ellipsoid(Surface):
    """A sphere that is stretched to half-axes ``radii``; sampled by area, by rejection."""

    radii: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def area(self) -> float:
        """By Thomsen's formula, whose error is below 1.1 %; exact for a sphere."""
        a, b, c = self.radii
        p = 1.6075
        return float(4 * np.pi * (((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3) ** (1 / p))

    def _local(self, rng: np.random.Generator, count: int) -> Sampled:
        radii, kept = np.array(self.radii), np.empty((0, 3))
        while len(kept) < count:
            unit = rng.normal(size=(2 * count + 8, 3))
            unit /= np.linalg.norm(unit, axis=1, keepdims=True)
            stretch = np.linalg.norm(unit / radii, axis=1) * radii.min()  # of area at that place, at most 1
            kept = np.r_[kept, unit[rng.random(len(unit)) < stretch]]
        unit = kept[:count]
        normals = unit / radii
        return unit * radii, normals / np.linalg.norm(normals, axis=1, keepdims=True)


@dataclass(frozen=True)
class Torus(Surface):
    """A tube of radius ``tube`` about a circle of radius ``ring`` in the plane of x and y, over an angle ``arc``."""

    ring: float = 1.0
    tube: float = 0.25
    arc: float = 2 * np.pi

    @property
    def area(self) -> float:
        return float(self.arc * self.ring * 2 * np.pi * self.tube)

    def _local(self, rng: np.random.Generator, count: int) -> Sampled:
        kept = np.empty(0)
        while len(kept) < count:  # the outer side of the tube has more area
            angle = rng.uniform(0, 2 * np.pi, 2 * count + 8)
            dense = (self.ring + self.tube * np.cos(angle)) / (self.ring + self.tube)
            kept = np.r_[kept, angle[rng.random(len(angle)) < dense]]
        v, u = kept[:count], rng.uniform(-self.arc / 2, self.arc / 2, count)
        normals = np.stack([np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)], axis=1)
        circle = np.stack([np.cos(u), np.sin(u), np.zeros(count)], axis=1)
        return self.ring * circle + self.tube * normals, normals
