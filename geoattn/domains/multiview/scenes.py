"""Scenes to try things on: coloured spheres and boxes on a chequered ground, drawn by a small ray tracer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoattn.domains.multiview.records import Scene
from geoattn.errors import InputError

MARGIN = 1e-3
"""A ray that leaves a surface starts this far from it, lest it meets the surface again."""
AREA = 1.4
"""Objects stand within this distance of the middle of the ground."""
FIELD_OF_VIEW = np.deg2rad(48)
AMBIENT = 0.25
FOG = 14.0
"""Distance at which the ground has gone over into the sky by 1 - 1/e: far checks are too small to be drawn."""


@dataclass(frozen=True, eq=False)
class Thing:
    """A sphere or a box that stands on the ground.

    Attributes:
        kind: sphere or box.
        center: ``[3]``.
        half: ``[3]`` half of the edges of a box; the radius, three times, of a sphere.
        angle: of a box about the vertical, in radians.
        color: ``[3]`` in 0..1.
    """

    kind: Literal["sphere", "box"]
    center: np.ndarray
    half: np.ndarray
    angle: float
    color: np.ndarray


@dataclass(frozen=True, eq=False)
class World:
    """What there is to be seen. Coordinates of its own: z upward, the ground at z = 0, things around the origin.

    Attributes:
        things: on the ground.
        ground: ``[2, 3]`` the two colours of its checks, which are 1 wide.
        sky: ``[2, 3]`` the colours at the horizon and above.
        light: ``[3]`` of length 1, toward the light.
        frame: ``[4, 4]`` float64, from coordinates of its own to those in which poses are given.
    """

    things: Sequence[Thing]
    ground: np.ndarray
    sky: np.ndarray
    light: np.ndarray
    frame: np.ndarray


def make_scenes(
    num: int, views: int = 6, size: int = 32, seed: int = 0, *, moved: bool = True, supersample: int = 3
) -> list[Scene]:
    """Scenes of two to five things, each seen by cameras on a dome that look near the middle, without roll.

    Scene k depends on ``seed``, ``k`` and the options alone, whatever ``num`` is.

    Args:
        num: scenes.
        views: of each scene.
        size: height and width of the images.
        seed: of everything drawn.
        moved: each scene has a world frame of its own, turned about the vertical and shifted by some units, so that
            absolute poses of one scene say nothing about another.
        supersample: rays per pixel along each axis.

    Example:
        >>> scenes = make_scenes(2, views=3, size=16)
        >>> scenes[1].id, scenes[1].images.shape, scenes[1].images.dtype
        ('scene_0001', (3, 16, 16, 3), dtype('uint8'))
    """
    if min(num, views, size, supersample) < 1:
        raise InputError(f"got num {num}, views {views}, size {size}, supersample {supersample}: expected 1 or more.")
    scenes = []
    for k in range(num):
        rng = np.random.default_rng([seed, k])
        world = draw_world(rng, moved=moved)
        extrinsics = draw_poses(rng, world, views)
        intrinsics = np.tile(pinhole(size), (views, 1, 1))
        images = render(world, extrinsics, intrinsics, (size, size), supersample)
        names = [f"view_{view:03d}" for view in range(views)]
        scenes.append(Scene(f"scene_{k:04d}", images, extrinsics, intrinsics, names, "made by make_scenes"))
    return scenes


def draw_world(rng: np.random.Generator, *, moved: bool = True) -> World:
    """A world of two to five things that do not overlap."""
    things: list[Thing] = []
    wanted = int(rng.integers(2, 6))
    while len(things) < wanted:
        thing = _draw_thing(rng)
        reach = [np.hypot(*(thing.center - other.center)[:2]) - _reach(thing) - _reach(other) for other in things]
        if min(reach, default=1.0) > 0.05:
            things.append(thing)
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.2)
    light = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    tone = rng.uniform(0.75, 1.0, 3)
    ground = np.stack([tone * 0.95, tone * rng.uniform(0.45, 0.65)])
    sky = np.array([[0.85, 0.9, 0.95], [0.35, 0.55, 0.85]])
    frame = np.eye(4)
    if moved:
        frame[:3, :3] = _about_vertical(rng.uniform(0, 2 * np.pi))
        frame[:3, 3] = rng.uniform(-1, 1, 3) * [5.0, 5.0, 1.0]
    return World(things, ground, sky, light, frame)


def draw_poses(rng: np.random.Generator, world: World, views: int) -> np.ndarray:
    """``[V, 4, 4]`` float64 extrinsics (world -> camera, OpenCV axes) on a dome, in the frame of the world."""
    azimuth, height = rng.uniform(0, 2 * np.pi, views), rng.uniform(0.35, 1.05, views)
    distance = rng.uniform(3.6, 4.8, views)
    eye = distance * np.stack([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    aim = np.array([0, 0, 0.3]) + rng.uniform(-0.3, 0.3, (views, 3))
    return np.stack([look_at(e, a) @ np.linalg.inv(world.frame) for e, a in zip(eye.T, aim, strict=True)])


def look_at(eye: np.ndarray, aim: np.ndarray) -> np.ndarray:
    """``[4, 4]`` extrinsics of a camera at ``eye`` that looks at ``aim``, its x axis level; not straight down or up."""
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose


def pinhole(size: int) -> np.ndarray:
    """``[3, 3]`` intrinsics of square images with the field of view of `make_scenes`."""
    focal = size / 2 / np.tan(FIELD_OF_VIEW / 2)
    return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])


def render(
    world: World, extrinsics: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], supersample: int = 3
) -> np.ndarray:
    """``[V, H, W, 3]`` uint8: Lambert shading with one light, shadows, some ambient light and a sky.

    Args:
        world: what is there.
        extrinsics: ``[V, 4, 4]`` world -> camera, in the frame of the world.
        intrinsics: ``[V, 3, 3]`` in pixels.
        size: height and width.
        supersample: rays per pixel along each axis, averaged.
    """
    (height, width), k = size, supersample
    y, x = np.meshgrid((np.arange(height * k) + 0.5) / k, (np.arange(width * k) + 0.5) / k, indexing="ij")
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    images = []
    for pose, camera in zip(extrinsics @ world.frame, intrinsics, strict=True):
        direction = pose[:3, :3].T @ (np.linalg.inv(camera) @ pixels)
        direction /= np.linalg.norm(direction, axis=0)
        origin = np.broadcast_to((-pose[:3, :3].T @ pose[:3, 3])[:, None], direction.shape)
        color = _shade(world, origin.astype(np.float32), direction.astype(np.float32))
        images.append(color.reshape(3, height, k, width, k).mean(axis=(2, 4)).transpose(1, 2, 0))
    return np.round(np.clip(np.stack(images), 0, 1) * 255).astype(np.uint8)


def _draw_thing(rng: np.random.Generator) -> Thing:
    import colorsys

    radius, azimuth = AREA * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    color = np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.7, 1.0), rng.uniform(0.75, 1.0)))
    if rng.uniform() < 0.5:
        kind: Literal["sphere", "box"] = "sphere"
        half = np.full(3, rng.uniform(0.25, 0.5))
    else:
        kind, half = "box", rng.uniform([0.2, 0.2, 0.2], [0.4, 0.4, 0.6])
    center = np.array([radius * np.cos(azimuth), radius * np.sin(azimuth), half[2]])
    return Thing(kind, center, half, rng.uniform(0, 2 * np.pi), color)


def _reach(thing: Thing) -> float:
    """How far it goes from its axis."""
    return float(thing.half[0] if thing.kind == "sphere" else np.hypot(*thing.half[:2]))


def _about_vertical(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


# --- rays: origin and direction [3, N], float32 -----------------------------------------------------------------------


def _shade(world: World, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """``[3, N]`` what each ray sees."""
    up = np.clip(direction[2], 0, 1) ** 0.5
    color = (world.sky[0][:, None] * (1 - up) + world.sky[1][:, None] * up).astype(np.float32)
    with np.errstate(divide="ignore"):
        depth = np.where(direction[2] < 0, -origin[2] / direction[2], np.inf).astype(np.float32)
    nearest = np.full(len(depth), -1)
    for k, thing in enumerate(world.things):
        distance = _distance(thing, origin, direction)
        closer = distance < depth
        depth[closer], nearest[closer] = distance[closer], k
    seen = np.flatnonzero(np.isfinite(depth))
    depth, nearest = depth[seen], nearest[seen]
    point = origin[:, seen] + depth * direction[:, seen]
    normal = np.zeros_like(point)
    albedo = np.empty_like(point)
    ground = nearest < 0
    checks = np.floor(point[:2, ground]).sum(axis=0).astype(int) % 2
    normal[2, ground], albedo[:, ground] = 1, world.ground[checks].T
    for k, thing in enumerate(world.things):
        mine = nearest == k
        normal[:, mine], albedo[:, mine] = _normal(thing, point[:, mine]), thing.color[:, None]
    light = world.light.astype(np.float32)
    facing = light @ normal
    lit = np.flatnonzero(facing > 0)
    start = point[:, lit] + MARGIN * normal[:, lit]
    toward = np.broadcast_to(light[:, None], start.shape)
    shadow = np.zeros(len(lit), dtype=bool)
    for thing in world.things:
        shadow |= np.isfinite(_distance(thing, start, toward))
    facing[lit[shadow]] = 0
    bright = albedo * (AMBIENT + (1 - AMBIENT) * np.maximum(facing, 0))
    clear = np.exp(-((depth / FOG) ** 2))
    color[:, seen] = clear * bright + (1 - clear) * color[:, seen]
    return color


def _distance(thing: Thing, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """``[N]`` float32: how far each ray of length 1 goes until it enters the thing; inf if it does not."""
    origin = origin - thing.center[:, None].astype(np.float32)
    if thing.kind == "sphere":
        middle = -(origin * direction).sum(axis=0)
        off = middle**2 - (origin**2).sum(axis=0) + np.float32(thing.half[0] ** 2)
        near = middle - np.sqrt(np.maximum(off, 0))
        return np.where((off > 0) & (near > 0), near, np.float32(np.inf))
    turn = _about_vertical(-thing.angle).astype(np.float32)
    origin, direction = turn @ origin, turn @ direction
    half = thing.half[:, None].astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (-half - origin) / direction, (half - origin) / direction
    enter, leave = np.minimum(first, second).max(axis=0), np.maximum(first, second).min(axis=0)
    return np.where((enter < leave) & (enter > 0), enter, np.float32(np.inf))


def _normal(thing: Thing, point: np.ndarray) -> np.ndarray:
    """``[3, N]`` of the surface at points on it, outward."""
    local = point - thing.center[:, None].astype(np.float32)
    if thing.kind == "sphere":
        return local / np.float32(thing.half[0])
    local = _about_vertical(-thing.angle) @ local / thing.half[:, None]
    face = np.abs(local).argmax(axis=0)
    columns = np.arange(local.shape[1])
    normal = np.zeros_like(local)
    normal[face, columns] = np.sign(local[face, columns])
    return _about_vertical(thing.angle) @ normal
