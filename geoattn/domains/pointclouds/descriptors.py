"""Descriptors of clouds that need no training: distances of pairs of points, and an occupancy grid."""

from __future__ import annotations

import numpy as np

from geoattn.domains.pointclouds.records import Cloud

D2_BINS = 64
D2_RANGE = 3.0
GRID = 12


def d2_histogram(cloud: Cloud, num_pairs: int = 8192, seed: int = 0) -> np.ndarray:
    r"""``[64]`` shares of the distances of random pairs of points, the shape distribution D2.

    Distances are in units of their mean, from 0 to 3; longer ones count in the last bin. The numbers do not change
    when a cloud is moved, rotated or scaled, but depend a little on the pairs that are drawn: those of two samples of
    one surface differ by about 0.1 in all (sum of absolute differences), with 8,192 pairs.

    Source: Osada et al., "Shape Distributions", 2002.
    """
    rng = np.random.default_rng(seed)
    if len(cloud) < 2:
        return np.eye(D2_BINS)[0]
    first = rng.integers(len(cloud), size=num_pairs)
    second = (first + rng.integers(1, len(cloud), size=num_pairs)) % len(cloud)  # never the same point
    distance = np.linalg.norm(cloud.points[first] - cloud.points[second], axis=1)
    unit = distance.mean() or 1.0
    places = np.minimum((distance * (D2_BINS / D2_RANGE / unit)).astype(np.int64), D2_BINS - 1)
    return np.bincount(places, minlength=D2_BINS) / num_pairs


def occupancy(cloud: Cloud, cells: int = GRID) -> np.ndarray:
    """``[cells ** 3]`` whether there is a point in each cell of a cube about the cloud.

    The cloud is moved to the middle of its box, and its farthest point lies on the sphere within the cube. Rotations
    change the numbers, moving and scaling do not.
    """
    points = in_unit_sphere(cloud.points)
    place = np.clip(((points + 1) * (cells / 2)).astype(np.int64), 0, cells - 1)
    grid = np.zeros((cells, cells, cells), dtype=np.float32)
    grid[tuple(place.T)] = 1.0
    return grid.reshape(-1)


def in_unit_sphere(points: np.ndarray) -> np.ndarray:
    """``points [N, 3]`` about the middle of their box, the farthest at distance 1."""
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    return points / (np.linalg.norm(points, axis=1).max() or 1.0)
