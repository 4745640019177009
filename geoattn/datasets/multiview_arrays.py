"""Many scenes in one ``.npz``, as CLEVR-TR is kept: read and write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geoattn._files import atomic_path
from geoattn.datasets.multiview_raw import RawScene, on_white
from geoattn.domains.multiview.records import Scene
from geoattn.errors import InputError, nearest_hint

NEEDED = ("images", "extrinsics", "intrinsics")


def read_npz(path: Path) -> list[RawScene]:
    """The scenes of a file.

    =============  ==================================================================================================
    images         ``[S, V, H, W, 3]`` or with alpha 4, uint8, or floating-point in 0..1; ``[V, H, W, 3]`` is one scene
    extrinsics     ``[S, V, 4, 4]`` world -> camera, axes of OpenCV
    intrinsics     ``[S, V, 3, 3]`` in pixels, or ``[3, 3]`` for all
    id             ``[S]`` names; numbers from 0 if left out
    views          ``[S, V]`` or ``[V]`` names of views; numbers from 0 if left out
    other          ``[S]`` columns that a split may read
    =============  ==================================================================================================

    Raises:
        InputError: a key is missing, arrays do not fit each other, or images have another range.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not an .npz file of arrays ({error}).") from error
    for key in NEEDED:
        if key not in arrays:
            raise InputError(f"{path}: there is no array {key!r}. {nearest_hint(key, list(arrays))}")
    if arrays["images"].ndim == 4:
        arrays |= {key: arrays[key][None] for key in ("images", "extrinsics")}
        if arrays["intrinsics"].ndim == 3:
            arrays["intrinsics"] = arrays["intrinsics"][None]
    images = _images(path, arrays.pop("images"))
    (num, views, height, width), poses = images.shape[:4], arrays.pop("extrinsics")
    if poses.shape != (num, views, 4, 4):
        raise InputError(
            f"{path}: images have {num} scenes of {views} views, and extrinsics shape {poses.shape}, expected "
            f"{(num, views, 4, 4)}. Give one pose per image."
        )
    cameras = arrays.pop("intrinsics")
    if cameras.shape not in ((3, 3), (num, views, 3, 3)):
        raise InputError(f"{path}: intrinsics: got shape {cameras.shape}, expected [3, 3] or {(num, views, 3, 3)}.")
    cameras = np.broadcast_to(cameras, (num, views, 3, 3)).astype(np.float64)
    ids = _names(path, "id", arrays.pop("id", np.arange(num)), (num,))
    names = _names(path, "views", arrays.pop("views", np.arange(views)), (num, views))
    columns = {key: values.astype(str) for key, values in arrays.items() if values.shape == (num,)}
    return [
        RawScene(
            id=str(ids[row]),
            file=str(path),
            views=names[row].tolist(),
            images=images[row],
            extrinsics=poses[row].astype(np.float64),
            intrinsics=cameras[row],
            sizes=[(height, width)] * views,
            columns={key: str(values[row]) for key, values in columns.items()},
        )
        for row in range(num)
    ]


def write_npz(path: str | Path, scenes: Sequence[Scene], **columns: Sequence[str]) -> None:
    """Write scenes with equally many views of one size; `read_npz` reads the same. Lengths are those of the scenes.

    Args:
        path: of the new file.
        scenes: S of them.
        columns: more arrays ``[S]``, such as ``split``.

    Raises:
        InputError: scenes that differ in the number or size of views.
    """
    shapes = {scene.images.shape for scene in scenes}
    if len(shapes) != 1:
        raise InputError(
            f"scenes: got images of shapes {sorted(shapes)}, expected one shape. Write a folder per scene."
        )
    arrays: dict[str, np.ndarray] = {
        "images": np.stack([scene.images for scene in scenes]),
        "extrinsics": np.stack([scene.extrinsics for scene in scenes]),
        "intrinsics": np.stack([scene.intrinsics for scene in scenes]),
        "id": np.array([scene.id for scene in scenes]),
        "views": np.array([scene.views for scene in scenes]),
    } | {key: np.array(values) for key, values in columns.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _images(path: Path, images: np.ndarray) -> np.ndarray:
    if images.ndim != 5 or images.shape[-1] not in (3, 4):
        raise InputError(f"{path}: images: got shape {images.shape}, expected [S, V, H, W, 3].")
    if images.dtype == np.uint8:
        return on_white(images)
    if not np.issubdtype(images.dtype, np.floating) or not (images.min(initial=0) >= 0 and images.max(initial=0) <= 1):
        span = f"{images.min(initial=0):g} to {images.max(initial=0):g}"
        hint = "Divide by the largest value that a pixel may have."
        raise InputError(f"{path}: images: got {images.dtype} from {span}, expected uint8 or numbers in 0..1. {hint}")
    return on_white(np.round(images * 255).astype(np.uint8))


def _names(path: Path, key: str, names: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.broadcast_to(names, shape).astype(str)
    except ValueError:
        raise InputError(f"{path}: {key}: got shape {names.shape}, expected {shape}.") from None
