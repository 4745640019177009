"""A scene as its files say it, and the way from there to a checked `Scene` of the wanted size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from geoattn._optional import require
from geoattn.domains.multiview.records import Scene, check_cameras
from geoattn.domains.records import RecordError
from geoattn.geometry.rays import scale_intrinsics

Size = tuple[int, int]
"""Height and width in pixels."""
NUM_NAMED = 5
"""Views that a message names."""


@dataclass(eq=False)
class RawScene:
    """Views and cameras, before images are read.

    Attributes:
        id, file: as in `Scene`.
        views: V names.
        images: V files, or ``[V, H, W, 3 or 4]`` uint8.
        extrinsics, intrinsics: as in `Scene`; intrinsics are in pixels of images of ``sizes``.
        sizes: V sizes that the file gives; None where the images themselves tell.
        parts: V parts (train, valid, test) that the file gives; None if it gives none.
        columns: cells of the row of a table, which a split may read.
        notes: sentences about what was found.
    """

    id: str
    file: str
    views: list[str]
    images: Sequence[Path] | np.ndarray
    extrinsics: np.ndarray
    intrinsics: np.ndarray
    sizes: list[Size]
    parts: list[str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def image_size(path: Path) -> Size:
    """Size of an image file, from its head.

    Raises:
        RecordError: there is no such file, or it is no image.
    """
    pil = require("PIL.Image", "multiview")
    if not path.is_file():
        raise RecordError("image", path.name, f"{path}: no such file", "Restore it, or take its pose out.")
    try:
        with pil.open(path) as image:
            width, height = image.size
    except (OSError, ValueError) as error:
        raise RecordError("image", path.name, f"it cannot be read ({error})") from error
    return height, width


def refuse_missing(paths: Sequence[Path]) -> None:
    """Refuse poses without images, all at once.

    Raises:
        RecordError: it says how many, and names the first.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        more = f" and {len(missing) - NUM_NAMED} more" if len(missing) > NUM_NAMED else ""
        names = ", ".join(path.name for path in missing[:NUM_NAMED]) + more
        reason = f"{len(paths)} poses and {len(paths) - len(missing)} of their images; missing in {missing[0].parent}"
        raise RecordError("images", names, reason, "Restore them, or take their poses out.")


def finish(raw: RawScene, size: int | None) -> Scene:
    """The scene itself: cameras checked, images read, cut to the square in their middle and resized.

    Resizing averages over areas; transparent parts become white. Intrinsics follow.

    Args:
        raw: as read.
        size: height and width that images shall have; None leaves them as they are, and all must have one size.

    Raises:
        RecordError: as `check_cameras`; an image that cannot be read or has another size than its camera; images of
            several sizes where none is asked for, or smaller ones than are asked for.
    """
    check_cameras(raw.views, raw.extrinsics, raw.intrinsics, raw.sizes)
    if size is None and len(set(raw.sizes)) > 1:
        (height, width), other = raw.sizes[0], next(k for k, one in enumerate(raw.sizes) if one != raw.sizes[0])
        value = f"{raw.sizes[other][1]} x {raw.sizes[other][0]}"
        reason = f"image {raw.views[other]} has another size than {raw.views[0]}, which is {width} x {height}"
        raise RecordError("images", value, reason, "Choose one size for all with --data.image-size.")
    small = next((k for k, one in enumerate(raw.sizes) if size is not None and min(one) < size), None)
    if small is not None:
        height, width = raw.sizes[small]
        hint = "Choose a smaller --data.image-size."
        raise RecordError(f"size of {raw.views[small]}", f"{width} x {height}", f"smaller than {size} pixels", hint)
    images, cameras = [], torch.from_numpy(raw.intrinsics).clone()
    for k, (view, given) in enumerate(zip(raw.views, raw.sizes, strict=True)):
        source = raw.images[k]
        pixels = _read(source) if isinstance(source, Path) else source
        if pixels.shape[:2] != given:
            value, reason = f"{pixels.shape[1]} x {pixels.shape[0]}", f"its camera has {given[1]} x {given[0]} pixels"
            hint = "Give the camera of the image as it is, or the image that the camera was measured with."
            raise RecordError(f"size of {view}", value, reason, hint)
        if size is not None:
            side = min(given)
            top, left = (given[0] - side) // 2, (given[1] - side) // 2
            pixels = _resized(pixels[top : top + side, left : left + side], size)
            cameras[k, :2, 2] -= torch.tensor([left, top], dtype=torch.float64)
            cameras[k] = scale_intrinsics(cameras[k], (side, side), (size, size))
        images.append(pixels)
    return Scene(raw.id, np.stack(images), raw.extrinsics, cameras.numpy(), raw.views, raw.file)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """``[..., 3]`` uint8 of RGB or RGBA ``[..., 3 or 4]``: transparent parts become white."""
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    pil = require("PIL.Image", "multiview")
    try:
        with pil.open(path) as image:
            if image.mode.startswith(("I", "F")):
                reason = f"pixels of mode {image.mode}, expected 8 bits per channel"
                raise RecordError("image", path.name, reason, "Save it as an 8-bit RGB image.")
            clear = "A" in image.mode or "transparency" in image.info
            return on_white(np.asarray(image.convert("RGBA" if clear else "RGB")))
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError("image", path.name, f"it cannot be read ({error})") from error


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """``[size, size, 3]``: the mean of ``pixels [n, n, 3]`` over the area of each new pixel."""
    if len(pixels) == size:
        return pixels
    areas = _areas(len(pixels), size)
    return np.round(np.einsum("ih,hwc,jw->ijc", areas, pixels, areas, optimize=True)).astype(np.uint8)


@cache
def _areas(old: int, new: int) -> np.ndarray:
    """``[new, old]``: the share of each old pixel in each new one, along one axis."""
    edges = np.arange(new + 1) * (old / new)
    cells = np.arange(old)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.maximum(overlap, 0) * (new / old)
