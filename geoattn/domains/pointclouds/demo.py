"""Shapes that geoattn makes itself: data for the demo, with exact normals and named parts, and no download.

Each class is put together from a few surfaces whose proportions are drawn; shapes of one class differ from each other,
and their classes are told apart by what is fixed to what. Points are drawn by area, inner ones (a leg below its seat)
too, as in models that people draw.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from geoattn.domains.pointclouds.records import Cloud
from geoattn.domains.pointclouds.rotations import Rotations, random_rotation, rotated
from geoattn.domains.pointclouds.shapes import Box, Cone, Ellipsoid, Surface, Torus
from geoattn.errors import InputError, nearest_hint

SEGMENT_NAMES = (
    "table top", "table leg", "chair seat", "chair back", "chair leg", "mug body", "mug handle", "lamp foot",
    "lamp pole", "lamp shade", "airplane body", "airplane wing", "airplane tail", "bottle body", "bottle neck",
    "barbell bar", "barbell weight",
)  # fmt: skip
"""What the numbers of ``Cloud.segment`` mean; no part occurs in two classes."""

Part = tuple[str, Surface]
ALONG_Y = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
ALONG_X = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])


def demo_clouds(
    num_clouds: int = 500,
    num_points: int = 1024,
    seed: int = 0,
    *,
    rotations: Rotations = "SO3",
    scales: bool = True,
    noise: float = 0.0,
) -> list[Cloud]:
    """Shapes of `CLASS_NAMES` in turn, so that classes are equally frequent.

    Args:
        num_clouds: of all classes together.
        num_points: per cloud.
        seed: the same seed gives the same shapes; the k-th does not depend on how many follow.
        rotations: how the shapes are turned: ``"none"`` (z points up, fronts along y), ``"z"`` or ``"SO3"``.
        scales: whether sizes are drawn too, between 0.5 and 2; otherwise shapes are about 1 in size.
        noise: standard deviation of what is added to each coordinate, as a share of the size; normals stay exact.

    Returns:
        Clouds with normals, ``label`` (into `CLASS_NAMES`) and ``segment`` (into `SEGMENT_NAMES`).

    Raises:
        InputError: no cloud, or fewer points than a cloud needs.
    """
    if num_clouds < 1 or num_points < 8:
        raise InputError(f"demo: got {num_clouds} clouds of {num_points} points, expected at least 1 of at least 8.")
    clouds = []
    for k in range(num_clouds):
        rng = np.random.default_rng([seed, k])
        label = k % len(CLASS_NAMES)
        cloud = make_shape(CLASS_NAMES[label], num_points, rng, name=f"{CLASS_NAMES[label]}_{k:04d}")
        size = float(rng.uniform(0.5, 2.0)) if scales else 1.0
        jitter = rng.normal(scale=noise, size=cloud.points.shape).astype(np.float32) if noise else 0.0
        turned = rotated(cloud, random_rotation(rng, rotations))
        points = ((turned.points + jitter) * np.float32(size)).astype(np.float32)
        clouds.append(replace(turned, points=points))
    return clouds


def make_shape(kind: str, num_points: int, rng: np.random.Generator, name: str = "") -> Cloud:
    """One shape with z up: about its middle, and with the longest edge of its box equal to 1.

    Raises:
        InputError: an unknown kind, with the nearest one.
    """
    if kind not in _MAKERS:
        raise InputError(f"kind: got {kind!r}. {nearest_hint(kind, list(_MAKERS))}")
    parts = _MAKERS[kind](rng)
    areas = np.array([surface.area for _, surface in parts])
    counts = rng.multinomial(num_points, areas / areas.sum())
    sampled = [surface.sample(rng, int(count)) for (_, surface), count in zip(parts, counts, strict=True)]
    points, normals = (np.concatenate(values) for values in zip(*sampled, strict=True))
    segment = np.repeat([SEGMENT_NAMES.index(f"{kind} {part}") for part, _ in parts], counts)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) / (high - low).max()
    order = rng.permutation(num_points)
    return Cloud(
        id=name or kind,
        points=points[order].astype(np.float32),
        normals=normals[order].astype(np.float32),
        label=CLASS_NAMES.index(kind),
        segment=segment[order].astype(np.int64),
        origin=np.zeros(3),
        file="",
        line=None,
    )


def write_demo(folder: str | Path, clouds: Sequence[Cloud], suffix: str = ".xyz") -> Path:
    """Clouds of `demo_clouds` as files, a folder per class, beside a table that lists them.

    Args:
        folder: is made.
        clouds: with normals and parts.
        suffix: ``".xyz"`` (columns x y z nx ny nz part) or ``".ply"`` (the same properties).

    Returns:
        The table, ``clouds.csv``, with the columns ``file, label, id, split``; every fifth cloud of a class is test.

    Raises:
        InputError: another suffix.
    """
    if suffix not in (".xyz", ".ply"):
        raise InputError(f"suffix: got {suffix!r}, expected '.xyz' or '.ply'.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seen = [0] * len(CLASS_NAMES)
    with open(folder / "clouds.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label", "id", "split"])
        for cloud in clouds:
            assert cloud.label is not None and cloud.normals is not None and cloud.segment is not None
            kind = CLASS_NAMES[cloud.label]
            place = Path(kind, f"{cloud.id}{suffix}")
            (folder / kind).mkdir(exist_ok=True)
            table = np.column_stack([cloud.points, cloud.normals, cloud.segment])
            header = _PLY.format(count=len(cloud)) if suffix == ".ply" else ""
            np.savetxt(folder / place, table, fmt=["%.6g"] * 6 + ["%d"], header=header, comments="")
            writer.writerow([place.as_posix(), kind, cloud.id, "test" if seen[cloud.label] % 5 == 4 else "train"])
            seen[cloud.label] += 1
    return folder / "clouds.csv"


_PLY = (
    "ply\nformat ascii 1.0\nelement vertex {count}\n"
    + "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
    + "property int label\nend_header"
)


# --- classes: parts from the floor up, fronts along y ----------------------------------------------------------------


def _legs(rng: np.random.Generator, x: float, y: float, height: float, thick: float) -> list[Part]:
    places = [(sx * (x - thick) / 2, sy * (y - thick) / 2, height / 2) for sx in (-1, 1) for sy in (-1, 1)]
    if rng.random() < 0.5:
        return [("leg", Box(center=place, size=(thick, thick, height))) for place in places]
    return [("leg", Cone(center=place, bottom=0.35 * thick, top=thick / 2, height=height)) for place in places]


def _table(rng: np.random.Generator) -> list[Part]:
    x, y, height = rng.uniform(0.8, 1.4), rng.uniform(0.6, 1.0), rng.uniform(0.4, 0.8)
    thick = rng.uniform(0.04, 0.1)
    if rng.random() < 0.3:  # round, on one leg
        plate = Cone(center=(0, 0, height), bottom=y / 2, top=y / 2, height=thick)
        foot = Cone(center=(0, 0, height / 2), bottom=rng.uniform(0.1, 0.25), top=0.06, height=height)
        return [("top", plate), ("leg", foot)]
    top = Box(center=(0, 0, height + thick / 2), size=(x, y, thick))
    return [("top", top), *_legs(rng, x, y, height, rng.uniform(0.06, 0.12))]


def _chair(rng: np.random.Generator) -> list[Part]:
    x, y, height = rng.uniform(0.45, 0.6), rng.uniform(0.45, 0.6), rng.uniform(0.35, 0.5)
    thick, back = rng.uniform(0.04, 0.1), rng.uniform(0.35, 0.7)
    seat = Box(center=(0, 0, height + thick / 2), size=(x, y, thick))
    rest = Box(center=(0, -(y - thick) / 2, height + thick + back / 2), size=(x, thick, back))
    return [("seat", seat), ("back", rest), *_legs(rng, x, y, height, rng.uniform(0.04, 0.08))]


def _mug(rng: np.random.Generator) -> list[Part]:
    radius, height = rng.uniform(0.3, 0.45), rng.uniform(0.6, 1.0)
    top = radius * rng.uniform(0.9, 1.2)
    body = Cone(bottom=radius, top=top, height=height, caps=(True, False))
    ring, tube = height * rng.uniform(0.22, 0.34), rng.uniform(0.03, 0.06)
    handle = Torus(center=((radius + top) / 2, 0, 0), rotation=ALONG_Y, ring=ring, tube=tube, arc=np.pi)
    return [("body", body), ("handle", handle)]


def _lamp(rng: np.random.Generator) -> list[Part]:
    height, foot, thick = rng.uniform(0.6, 1.0), rng.uniform(0.15, 0.3), rng.uniform(0.03, 0.06)
    wide, shade = rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.4)
    return [
        ("foot", Cone(center=(0, 0, thick / 2), bottom=foot, top=foot * rng.uniform(0.7, 1), height=thick)),
        ("pole", Cone(center=(0, 0, height / 2), bottom=thick / 2, top=thick / 2, height=height)),
        (
            "shade",
            Cone(
                center=(0, 0, height), bottom=wide, top=wide * rng.uniform(0.3, 0.8), height=shade, caps=(False, False)
            ),
        ),
    ]


def _airplane(rng: np.random.Generator) -> list[Part]:
    length, radius = 1.0, rng.uniform(0.05, 0.09)
    span, chord = rng.uniform(0.8, 1.2), rng.uniform(0.12, 0.22)
    place, tail = rng.uniform(-0.05, 0.12), rng.uniform(0.3, 0.45)
    return [
        ("body", Ellipsoid(radii=(radius, length / 2, radius))),
        ("wing", Box(center=(0, place, 0), size=(span, chord, 0.02))),
        ("tail", Box(center=(0, -0.42, 0.02), size=(tail, 0.5 * chord, 0.015))),
        ("tail", Box(center=(0, -0.42, 0.12), size=(0.015, 0.6 * chord, 0.2))),
    ]


def _bottle(rng: np.random.Generator) -> list[Part]:
    radius, height = rng.uniform(0.14, 0.25), rng.uniform(0.5, 0.75)
    neck, shoulder, tall = radius * rng.uniform(0.25, 0.45), rng.uniform(0.08, 0.2), rng.uniform(0.1, 0.3)
    return [
        ("body", Cone(center=(0, 0, height / 2), bottom=radius, top=radius, height=height, caps=(True, False))),
        (
            "body",
            Cone(center=(0, 0, height + shoulder / 2), bottom=radius, top=neck, height=shoulder, caps=(False, False)),
        ),
        (
            "neck",
            Cone(center=(0, 0, height + shoulder + tall / 2), bottom=neck, top=neck, height=tall, caps=(False, True)),
        ),
    ]


def _barbell(rng: np.random.Generator) -> list[Part]:
    length, thick = 1.0, rng.uniform(0.02, 0.05)
    radius, wide = rng.uniform(0.12, 0.25), rng.uniform(0.06, 0.2)
    bar = Cone(rotation=ALONG_X, bottom=thick, top=thick, height=length)
    if rng.random() < 0.4:
        return [("bar", bar), *(("weight", Ellipsoid(center=(s * 0.5, 0, 0), radii=(radius,) * 3)) for s in (-1, 1))]
    weights = [Cone(center=(s * 0.42, 0, 0), rotation=ALONG_X, bottom=radius, top=radius, height=wide) for s in (-1, 1)]
    return [("bar", bar), *(("weight", weight) for weight in weights)]


_MAKERS: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "airplane": _airplane,
    "barbell": _barbell,
    "bottle": _bottle,
    "chair": _chair,
    "lamp": _lamp,
    "mug": _mug,
    "table": _table,
}
CLASS_NAMES = tuple(_MAKERS)
"""What the numbers of ``Cloud.label`` mean."""
