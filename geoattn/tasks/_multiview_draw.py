"""Images from new cameras, drawn by a trained model of scenes: from arrays, and for the files of ``predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from geoattn.datasets.multiview_cameras import Cameras, placed
from geoattn.datasets.multiview_raw import RawScene, finish
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.multiview.batch import ask
from geoattn.domains.multiview.records import Scene, check_cameras, in_unit, in_unit_of
from geoattn.domains.records import RecordError
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device, load_model
from geoattn.tasks._multiview_evaluate import PIXELS_AT_ONCE, TASK

Asked = tuple[list[str], np.ndarray, np.ndarray]
"""New cameras as a scene has them: names, extrinsics ``[T, 4, 4]``, intrinsics ``[T, 3, 3]``."""


def predict_views(
    model: str | Path | Pretrained,
    images: ArrayLike,
    extrinsics: ArrayLike,
    intrinsics: ArrayLike,
    target_extrinsics: ArrayLike,
    target_intrinsics: ArrayLike | None = None,
    device: str | None = None,
) -> np.ndarray:
    """What new cameras see of one scene.

    For files see ``geoattn multiview predict`` (`predict_file`).

    Args:
        model: model folder, run folder, name of a shipped model, or what ``from_pretrained`` returned.
        images: ``[V, H, W, 3]`` uint8, or numbers in 0..1: the views that are given. They are cut to the square in
            their middle and resized if the model has seen others.
        extrinsics: ``[V, 4, 4]`` world -> camera, axes of OpenCV (x right, y down, z forward); in the unit of the
            training file if all its scenes shared one (``--data.unit data``).
        intrinsics: ``[V, 3, 3]`` or ``[3, 3]`` in pixels of ``images``; the centre of the first pixel is (0.5, 0.5).
        target_extrinsics: ``[T, 4, 4]`` of the new cameras.
        target_intrinsics: ``[T, 3, 3]`` or ``[3, 3]`` in pixels of images like the given ones; those of the first given
            view if left out.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.

    Returns:
        ``[T, H', W', 3]`` float32 in 0..1, of the size of the model's images.

    Raises:
        InputError: arrays that do not fit each other, or cameras that are none; see
            `geoattn.domains.multiview.records.check_cameras`.
    """
    loaded = model if isinstance(model, Pretrained) else load_model(model, TASK)
    pixels, poses = _pixels(images), _numbers("extrinsics", extrinsics)
    num, new = len(pixels), _numbers("target_extrinsics", target_extrinsics)
    size = (pixels.shape[1], pixels.shape[2])
    lenses = _lenses("intrinsics", intrinsics, num)
    names = [f"view {k}" for k in range(num)]
    asked = Cameras(
        [f"target {k}" for k in range(len(new))],
        new,
        None if target_intrinsics is None else _lenses("target_intrinsics", target_intrinsics, len(new)),
        size,
    )
    try:
        check_cameras(asked.names, new, np.tile(lenses[0], (len(new), 1, 1)), [size] * len(new))
        if asked.intrinsics is not None:
            check_cameras(asked.names, new, asked.intrinsics, [size] * len(new))
        raw = RawScene("scene", "", names, pixels, poses, lenses, [size] * num)
        scene = in_model_unit(finish(raw, image_size(loaded.preprocess)), range(num), loaded.preprocess)
    except RecordError as error:
        raise InputError(str(error)) from error
    check_size("images", scene, loaded.preprocess)
    return draw(loaded, scene, range(num), (asked.names, *placed(asked, scene, 0)), checked_device(device))[0]


def draw(
    loaded: Pretrained, scene: Scene, given: Sequence[int], asked: Asked, device: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """``[T, H, W, 3]`` float32 in 0..1 and, for an ensemble, the spread of its members.

    Args:
        loaded: the model.
        scene: in the model's unit of length.
        given: rows of the views that the model sees.
        asked: the new cameras.
        device: where to compute.
    """
    model = loaded.model.eval().to(device)
    _, extrinsics, intrinsics = asked
    height, width = scene.size
    size = max(1, PIXELS_AT_ONCE // (height * width))
    means, spreads = [np.empty((0, height, width, 3), np.float32)], list[np.ndarray]()
    with torch.inference_mode():
        for start in range(0, len(extrinsics), size):
            some = slice(start, start + size)
            batch = ask(scene, given, extrinsics[some], intrinsics[some], loaded.preprocess["frame"]).to(device)
            members = model.members(batch) if isinstance(model, Ensemble) else model(batch)[None]
            images = members[:, 0].unflatten(2, (height, width))
            means.append(images.mean(0).cpu().numpy())
            spreads.append(images.std(0, correction=0).cpu().numpy())
    return np.concatenate(means), np.concatenate(spreads) if spreads and isinstance(model, Ensemble) else None


def image_size(preprocess: Mapping[str, Any]) -> int | None:
    """What new images are cut and resized to; None if those of the model are not square, then theirs must be alike."""
    height, width = preprocess["height"], preprocess["width"]
    return height if height == width else None


def check_size(data: str, scene: Scene, preprocess: Mapping[str, Any]) -> None:
    """Refuse images that a model of other than square images has not seen the like of."""
    height, width = preprocess["height"], preprocess["width"]
    if scene.size != (height, width):
        raise InputError(
            f"{data}: scene {scene.id!r} has images of {scene.size[1]} x {scene.size[0]} pixels, the model knows "
            f"{width} x {height}. Resize them."
        )


def in_model_unit(scene: Scene, given: Sequence[int], preprocess: Mapping[str, Any]) -> Scene:
    """A scene in the unit of length of a model: one for all scenes, or that of the given views, see `in_unit_of`."""
    unit = preprocess["unit"]
    return in_unit_of(scene, given) if unit is None else in_unit(scene, unit)


def _pixels(images: ArrayLike) -> np.ndarray:
    pixels = np.asarray(images)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or not len(pixels) or pixels.dtype.kind not in "fu":
        raise InputError(f"images: got {pixels.dtype} of shape {pixels.shape}, expected [V, H, W, 3] uint8 or in 0..1.")
    if pixels.dtype == np.uint8:
        return pixels
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputError(
            f"images: got {pixels.dtype} from {pixels.min():g} to {pixels.max():g}, expected 0..1 or uint8."
        )
    return np.round(pixels * 255).astype(np.uint8)


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: got {type(values).__name__}, expected an array of numbers ({error}).") from error


def _lenses(name: str, values: ArrayLike, num: int) -> np.ndarray:
    found = _numbers(name, values)
    return np.tile(found, (num, 1, 1)) if found.shape == (3, 3) else found
