"""Meshes and clouds of ``.ply .off .obj .stl .glb``, read by trimesh; meshes are sampled uniformly by area."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from geoattn._optional import require
from geoattn.datasets.pointcloud_raw import CloudError, Raw
from geoattn.datasets.pointcloud_text import COLOURS, NORMAL, POINT, SEGMENT

BROKEN = "Is it complete, and of the format that its name says?"


def read_mesh(path: Path, num_samples: int) -> Raw:
    """``num_samples`` points of a mesh with the normals of their faces, or the points of a file without faces.

    Points are drawn uniformly by area, with a seed that follows from the vertices: the same mesh gives the same points
    wherever it stands. A mesh of several pieces is one mesh.
    """
    trimesh = require("trimesh", "pointclouds")
    promised = _ply_vertices(path) if path.suffix.lower() == ".ply" else 0
    options = {"skip_materials": True} if path.suffix.lower() == ".obj" else {}
    try:
        loaded = trimesh.load(str(path), process=False, **options)
    except Exception as error:  # trimesh's parsers raise whatever a broken file leads them to
        raise CloudError(
            "file", path.name, f"trimesh cannot read it ({type(error).__name__}: {error})", BROKEN, place="header"
        ) from error
    pieces = _pieces(loaded)
    found = sum(len(vertices) for vertices, _, _ in pieces)
    if found < promised:  # trimesh goes on with those that are there
        raise CloudError("vertex", found, f"the header says {promised} vertices", BROKEN, place="end of the file")
    faces = [(vertices, faces) for vertices, faces, _ in pieces if faces is not None and len(faces)]
    if faces:
        return _sampled(faces, num_samples)
    clouds = [(vertices, extra) for vertices, _, extra in pieces if len(vertices)]
    if not clouds:
        raise CloudError("file", path.name, "trimesh finds no vertex in it", BROKEN, place="header")
    extra = clouds[0][1] if len(clouds) == 1 else {}
    raw = Raw(np.concatenate([vertices for vertices, _ in clouds]))
    if set(NORMAL) <= set(extra):
        raw.normals = np.stack([extra[name] for name in NORMAL], axis=1)
    segment = next((name for name in SEGMENT if name in extra), None)
    raw.segment = None if segment is None else extra[segment]
    return raw


def _pieces(loaded: Any) -> list[tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]]:
    """Vertices, faces and properties of vertices of each geometry, in the coordinates of the scene."""
    if not hasattr(loaded, "geometry"):
        faces = getattr(loaded, "faces", None)
        data = loaded.metadata.get("_ply_raw", {}).get("vertex", {}).get("data", {})
        names = data.dtype.names if isinstance(data, np.ndarray) else tuple(data)
        extra = {name.lower(): np.asarray(data[name]).reshape(-1) for name in names or ()}
        return [(np.asarray(loaded.vertices), None if faces is None else np.asarray(faces), extra)]
    found = []
    for node in loaded.graph.nodes_geometry:
        transform, name = loaded.graph[node]
        for vertices, faces, extra in _pieces(loaded.geometry[name]):
            found.append((vertices @ transform[:3, :3].T + transform[:3, 3], faces, extra))
    return found


def _sampled(pieces: list[tuple[np.ndarray, np.ndarray]], num_samples: int) -> Raw:
    corners = np.concatenate([vertices[faces] for vertices, faces in pieces]).astype(np.float64)  # [F, 3, 3]
    bad = np.flatnonzero(~np.isfinite(corners).all(axis=(1, 2)))
    if len(bad):
        raise CloudError("vertex", corners[bad[0]].tolist(), "not a number", place=f"face {bad[0]}")
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    if not area.sum() > 0:
        raise CloudError("faces", len(area), "all faces have the area 0, so that no point can be drawn", place="faces")
    rng = np.random.default_rng(zlib.crc32(corners.tobytes()))
    face = np.searchsorted(np.cumsum(area) / area.sum(), rng.random(num_samples), side="right")
    face = np.minimum(face, len(area) - 1)
    u, v = rng.random((2, num_samples, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = (corners[face, k] for k in range(3))
    normals = cross[face] / area[face, None]
    return Raw(a + u * (b - a) + v * (c - a), normals=normals)


def _ply_vertices(path: Path) -> int:
    """The number of vertices by the header; says more clearly than trimesh that there is none, or no coordinates."""
    with path.open("rb") as file:
        if file.readline().strip() != b"ply":
            raise CloudError("file", path.name, "the first line is not 'ply'", BROKEN, line=1)
        names: list[str] = []
        inside, count = False, 0
        for line in file:
            words = line.decode("ascii", errors="replace").split()
            if words[:1] == ["element"]:
                inside = words[1:2] == ["vertex"]
                count = int(words[2]) if inside and words[2:] and words[2].isdigit() else count
            elif words[:1] == ["property"] and inside:
                names.append(words[-1])
            elif words[:1] == ["end_header"]:
                break
        else:
            raise CloudError("header", path.name, "there is no line 'end_header'", BROKEN, place="header")
    missing = [name for name in POINT if name not in names]
    if missing:
        colours = [name for name in names if name in COLOURS]
        reason = f"the vertices have no {missing[0]}" + (
            "; colours (" + ", ".join(colours) + ") are no points" if colours else ""
        )
        raise CloudError("vertex", " ".join(names), reason, place="header")
    return count
