"""Normals of clouds that come without: by Open3D where it is installed, else by geoattn."""

from __future__ import annotations

import contextlib
from typing import Literal

import numpy as np
import torch

from geoattn._optional import require
from geoattn.geometry.normals import estimate_normals, orient_normals

Method = Literal["auto", "open3d", "geoattn"]


def oriented_normals(points: np.ndarray, k: int = 24, method: Method = "auto") -> np.ndarray:
    """``[N, 3]`` float32 unit normals with sides that agree between neighbours and look outward on the whole.

    Args:
        points: ``[N, 3]``, one cloud.
        k: neighbours of each point.
        method: open3d, geoattn, or auto: Open3D if it is installed. Both fit a plane to the neighbours and spread the
            sides over a spanning tree; Open3D gives all neighbours the same weight and is faster on large clouds, the
            result of geoattn turns with the points. Flat clouds, which Open3D refuses, are done by geoattn.

    Raises:
        ImportError: ``"open3d"`` without Open3D; names the extra.
    """
    if method == "open3d":
        require("open3d", "pointclouds")
    if method != "geoattn" and len(points) > k:  # Open3D's orientation needs more points than neighbours
        with contextlib.suppress(ImportError, RuntimeError):  # it is not installed; all points lie in a plane
            return _by_open3d(points, k)
    pos = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64))
    normal, _ = estimate_normals(pos, k)
    return orient_normals(pos, normal).numpy().astype(np.float32)


def _by_open3d(points: np.ndarray, k: int) -> np.ndarray:
    open3d = require("open3d", "pointclouds")
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64)))
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(k))
    cloud.orient_normals_consistent_tangent_plane(k)
    normals = np.asarray(cloud.normals)
    away = points - points.mean(0)
    outermost = np.linalg.norm(away, axis=1).argmax()
    side = -1.0 if normals[outermost] @ away[outermost] < 0 else 1.0
    return (side * normals).astype(np.float32)
