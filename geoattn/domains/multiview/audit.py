"""What the parts of a split share: whole scenes, single images, and images that are nearly the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geoattn.domains.multiview.records import Scene

PAIRS = (("train", "test"), ("train", "valid"), ("valid", "test"))
THUMBNAIL = 16
"""Pixels along each side of the grey images by which near copies are found."""
NEAR = 1.5
"""Grey levels of 255 by which thumbnails of near copies differ, root mean square; JPEG files of one image do by 1."""
AT_ONCE = 1024
"""Thumbnails of the second part that are compared with all of the first."""


def audit(scenes: Sequence[Scene], split: Mapping[str, Sequence[int]], *, by_view: bool) -> dict[str, Any]:
    """Count what the parts of a split share.

    Every count is of samples of the second part: scenes, or views where one scene is split by its views.
    ``identical``: one of the first part has the same images, in any order. ``shared_image``: one of the first part has
    one of its images (identical ones count too). ``near_image``: one of its images differs from one of the first part
    by less than noise in grey thumbnails (these count the others too): a frame of the same video, say.

    Args:
        scenes: all; one, by view.
        split: row numbers under train, valid and test, of scenes or of views.
        by_view: what a row is.

    Returns:
        ``{"sizes": {part: n}, "what": "scenes" or "views", "duplicates": n, "pairs": {"train/test": {"identical": n,
        "shared_image": n, "near_image": n}, ...}, "rows": [{"parts", "what", "count", "of", "percent"}, ...]}``, JSON
        values; ``duplicates`` are samples with the images of an earlier one.

    Cost: 0.1 ms per image and, for each pair of parts, the product of their numbers of images times 256 operations.

    Example:
        >>> from geoattn.domains.multiview.scenes import make_scenes
        >>> a, b = make_scenes(2, views=3, size=16)
        >>> audit([a, b, a], {"train": [0], "valid": [1], "test": [2]}, by_view=False)["pairs"]["train/test"]
        {'identical': 1, 'shared_image': 1, 'near_image': 1}
    """
    samples = list(scenes[0].images[:, None]) if by_view else [scene.images for scene in scenes]
    keys = [[image_key(image) for image in images] for images in samples]
    wholes = ["".join(sorted(of_sample)) for of_sample in keys]
    thumbs = [thumbnails(images) for images in samples]
    sizes = {part: len(rows) for part, rows in split.items()}
    pairs = {f"{a}/{b}": _shared(split[a], split[b], wholes, keys, thumbs) for a, b in PAIRS}
    rows = [
        {"parts": pair, "what": what, "count": count, "of": size, "percent": round(100 * count / max(1, size), 1)}
        for pair, counts in pairs.items()
        for what, count in counts.items()
        for size in [sizes[pair.split("/")[1]]]
    ]
    return {
        "sizes": sizes,
        "what": "views" if by_view else "scenes",
        "duplicates": len(wholes) - len(set(wholes)),
        "pairs": pairs,
        "rows": rows,
    }


def image_key(image: np.ndarray) -> str:
    """The same for the same pixels ``[..., 3]``, and for nothing else."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=12).hexdigest()


def scene_key(scene: Scene) -> str:
    """The same for scenes of the same images, in whatever order."""
    together = "".join(sorted(image_key(image) for image in scene.images))
    return hashlib.blake2b(together.encode(), digest_size=12).hexdigest()


def thumbnails(images: np.ndarray) -> np.ndarray:
    """``[V, 256]`` float32 grey levels 0..255 of images ``[V, H, W, 3]``: means over 16 x 16 areas, or the pixels."""
    grey = images.astype(np.float32).mean(-1)
    for axis in (1, 2):
        size = grey.shape[axis]
        starts = np.unique(np.arange(THUMBNAIL) * size // THUMBNAIL)
        lengths = np.diff([*starts, size]).astype(np.float32)
        sums = np.add.reduceat(grey, starts, axis=axis)
        grey = sums / (lengths[:, None] if axis == 1 else lengths)
    return grey.reshape(len(images), -1)


def _shared(
    first: Sequence[int],
    second: Sequence[int],
    wholes: Sequence[str],
    keys: Sequence[Sequence[str]],
    thumbs: Sequence[np.ndarray],
) -> dict[str, int]:
    known, images = {wholes[row] for row in first}, {key for row in first for key in keys[row]}
    exact = np.array([any(key in images for key in keys[row]) for row in second], dtype=bool)
    near = exact.copy()
    if len(first) and len(second):
        base = np.concatenate([thumbs[row] for row in first])
        asked = np.concatenate([thumbs[row] for row in second])
        of = np.repeat(np.arange(len(second)), [len(thumbs[row]) for row in second])
        near[of[_near(base, asked)]] = True
    return {
        "identical": sum(wholes[row] in known for row in second),
        "shared_image": int(exact.sum()),
        "near_image": int(near.sum()),
    }


def _near(base: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Which rows of ``asked`` are near one of ``base``."""
    middle = base.mean(0)  # small numbers, so that the difference of squares keeps its digits
    base, asked = base - middle, asked - middle
    squares, limit = (base**2).sum(1), NEAR**2 * base.shape[1]
    found = np.zeros(len(asked), dtype=bool)
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        apart = squares + (some**2).sum(1, keepdims=True) - 2 * some @ base.T
        found[start : start + AT_ONCE] = (apart < limit).any(1)
    return found
