"""What a network of ``geoattn pointclouds`` reads of each cloud, and how training clouds are varied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from geoattn.datasets.pointclouds import PointCloudData
from geoattn.domains.pointclouds.augment import TurnedSamples
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.rotations import Rotations
from geoattn.errors import InputError

NEIGHBORS = 24
LEVELS: dict[str, list[list[int]]] = {
    "classification": [[128, 16], [32, 24]],
    "segmentation": [[256, 16], [64, 16]],
    "normals": [[256, 16], [64, 16]],
}
UP_NEIGHBORS = 8


@dataclass
class FeatureOptions:
    """What a network reads of each cloud, and how training clouds are varied.

    Args:
        num_points: points that are sampled of each cloud, the farthest from each other.
        levels: risur: centres and neighbours of each level, e.g. [[128,16],[32,24]]; by task if left out.
        up_neighbors: risur, tasks on points: nearest centres of each point on the way back, one number per level.
        normals: estimated from the points, or given by the files: then every cloud has to have them, always.
        normal_neighbors: points from which a normal is estimated.
        scale: unit brings every cloud to the unit sphere; keep, where size says what a thing is, keeps the file's unit.
        up: the axis of the data that points up; for rotate z, and for what is measured on clouds turned about it.
        rotate: turn training clouds at random: not at all, about the up axis (z), or anyhow (SO3); risur needs none.
        variants: of each training cloud, of which all but the first lack points and are shaken; made once and kept.
        dropout: a variant lacks up to this share of the points.
        jitter: standard deviation by which points of a variant are shifted, in radii of the cloud.
        stretch: training clouds are up to this share larger or smaller.
    """

    num_points: int = 1024
    levels: list[list[int]] | None = None
    up_neighbors: list[int] | None = None
    normals: Literal["estimated", "given"] = "estimated"
    normal_neighbors: int = NEIGHBORS
    scale: Literal["unit", "keep"] = "unit"
    up: Literal["x", "y", "z"] = "z"
    rotate: Rotations = "none"
    variants: int = 2
    dropout: float = 0.1
    jitter: float = 0.01
    stretch: float = 0.1


def read_clouds(data: PointCloudData, name: str, options: Mapping[str, Any]) -> None:
    """Say in ``data.preprocess`` what networks read of a cloud, and let ``data`` make batches of it.

    Args:
        data: after ``setup``.
        name: of the network.
        options: of `FeatureOptions`.

    Raises:
        InputError: an option out of its range, or normals that the data do not have.
    """
    _check(options)
    read = FeatureOptions(**options)
    on_points = data.task != "classification"
    levels = read.levels if read.levels is not None else LEVELS[data.task]
    up = read.up_neighbors if read.up_neighbors is not None else [UP_NEIGHBORS] * len(levels) * on_points
    if name != "risur":
        levels, up = [], []
    elif len(up) != len(levels) * on_points:
        raise InputError(
            f"features.up_neighbors: got {len(up)} numbers for {len(levels)} levels, expected "
            + ("one per level, for a task on points." if on_points else "none, for classification.")
        )
    if read.normals == "given" and data.task == "normals":
        raise InputError("features.normals: got 'given', but normals are what this task learns. Use estimated.")
    if read.normals == "given" and not data.preprocess["normals"]:
        raise InputError("features.normals: got 'given', but some training clouds have no normals. Use estimated.")
    data.preprocess |= {
        "num_points": read.num_points,
        "levels": [list(level) for level in levels],
        "up_neighbors": list(up),
        "normals": read.normals,
        "normal_neighbors": read.normal_neighbors,
        "scale": read.scale,
        "up": read.up,
        "rotate": read.rotate,
    }
    train = Featurizer(
        data.preprocess,
        variants=read.variants,
        dropout=read.dropout,
        jitter=read.jitter,
        stretch=read.stretch,
        keep=True,
    )
    turned = train if read.rotate == "none" else TurnedSamples(train, read.rotate, read.up)
    data.use(turned, Featurizer(data.preprocess, keep=True))


def _check(options: Mapping[str, Any]) -> None:
    for name, least in (("num_points", 2), ("normal_neighbors", 3), ("variants", 1)):
        if options[name] < least:
            raise InputError(f"features.{name}: got {options[name]}, expected at least {least}.")
    for name, below in (("dropout", 1.0), ("jitter", 1.0), ("stretch", 10.0)):
        if not 0 <= options[name] < below:
            raise InputError(f"features.{name}: got {options[name]}, expected a number from 0 to below {below:g}.")
    levels = options["levels"] or []
    if any(len(level) != 2 or min(level) < 1 for level in levels):
        raise InputError(f"features.levels: got {levels}, expected pairs of centres and neighbours.")
    if levels and min(options["up_neighbors"] or [1]) < 1:
        raise InputError(f"features.up_neighbors: got {options['up_neighbors']}, expected numbers of at least 1.")
