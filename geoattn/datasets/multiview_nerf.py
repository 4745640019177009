"""``transforms.json`` of NeRF, Blender, instant-ngp and nerfstudio: read and write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoattn._files import atomic_path, atomic_write_text
from geoattn._optional import require
from geoattn.datasets.multiview_raw import RawScene, Size, image_size, refuse_missing
from geoattn.datasets.splits import PART_NAMES, PARTS
from geoattn.domains.multiview.records import Scene
from geoattn.domains.records import RecordError
from geoattn.geometry.cameras import to_opengl

ONE = "transforms.json"
SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenGL's camera axes (y up, z backward) to OpenCV's."""


def nerf_files(folder: Path) -> dict[str, Path]:
    """The files of poses in a folder: ``transforms.json`` under "", or those of parts under train, valid and test."""
    if (folder / ONE).is_file():
        return {"": folder / ONE}
    found = {path.stem.removeprefix("transforms_"): path for path in sorted(folder.glob("transforms_*.json"))}
    by_part = {PART_NAMES[name]: path for name, path in found.items() if name in PART_NAMES}
    return {part: by_part[part] for part in PARTS if part in by_part}


def read_nerf(folder: Path) -> RawScene:
    """The scene of a folder with ``transforms.json``, or with ``transforms_train.json`` and so on.

    A frame has ``file_path`` (relative to the folder, the suffix may be missing) and ``transform_matrix``, camera ->
    world with OpenGL's camera axes. Focal lengths are ``fl_x`` and ``fl_y`` in pixels, or ``camera_angle_x`` in
    radians, of the file or of a frame; the principal point is ``cx``, ``cy``, or the middle.

    Raises:
        RecordError: a file that is no JSON, a frame without its keys, an image that is missing, lens distortion.
    """
    views, paths, poses, settings, parts = [], [], [], [], []
    for part, path in nerf_files(folder).items():
        content = _content(path)
        for number, frame in enumerate(content["frames"]):
            where = f"{path.name}, frame {number}"
            if not isinstance(frame, Mapping) or not {"file_path", "transform_matrix"} <= set(frame):
                raise RecordError(where, frame, "expected file_path and transform_matrix")
            views.append(str(frame["file_path"]).removeprefix("./"))
            paths.append(_image_path(folder, views[-1]))
            poses.append(_matrix(where, frame["transform_matrix"]))
            settings.append({**{key: value for key, value in content.items() if key != "frames"}, **frame})
            parts.append(part)
    refuse_missing(paths)
    sizes = [image_size(path) for path in paths]
    cameras = [_intrinsics(view, own, size) for view, own, size in zip(views, settings, sizes, strict=True)]
    matrices = np.linalg.inv(np.stack(poses) @ FLIP) if poses else np.empty((0, 4, 4))
    return RawScene(
        id=folder.name,
        file=str(folder),
        views=views,
        images=paths,
        extrinsics=matrices,
        intrinsics=np.array(cameras).reshape(-1, 3, 3),
        sizes=sizes,
        parts=None if "" in parts else parts,
    )


def nerf_cameras(path: Path, size: Size) -> tuple[list[str], np.ndarray, np.ndarray | None, list[Size]]:
    """Names, extrinsics, intrinsics and sizes of the cameras of a ``transforms.json``, whether it has images or not.

    Intrinsics are None if the file has none. Sizes are ``w`` and ``h`` of the file or a frame, else ``size``.

    Raises:
        RecordError: as `read_nerf`, but for images.
    """
    content = _content(path)
    names, poses, cameras, sizes = [], [], [], []
    shared = {key: value for key, value in content.items() if key != "frames"}
    for number, frame in enumerate(content["frames"]):
        where = f"{path.name}, frame {number}"
        if not isinstance(frame, Mapping) or "transform_matrix" not in frame:
            raise RecordError(where, frame, "expected transform_matrix")
        names.append(str(frame.get("file_path", f"camera_{number:04d}")).removeprefix("./"))
        poses.append(_matrix(where, frame["transform_matrix"]))
        own = {**shared, **frame}
        for key in {"w", "h"} & set(own):
            if _number(where, own, key, 1) < 1:
                raise RecordError(f"{key} of {where}", own[key], "expected pixels, at least 1")
        sizes.append((int(_number(where, own, "h", size[0])), int(_number(where, own, "w", size[1]))))
        if {"fl_x", "camera_angle_x"} & set(own):
            cameras.append(_intrinsics(names[-1], own, sizes[-1]))
    if 0 < len(cameras) < len(names):
        raise RecordError(path.name, f"{len(cameras)} of {len(names)}", "some frames have a focal length, others none")
    matrices = np.linalg.inv(np.stack(poses) @ FLIP) if poses else np.empty((0, 4, 4))
    return names, matrices, np.array(cameras) if cameras else None, sizes


def write_nerf(folder: str | Path, scene: Scene) -> None:
    """Write a scene as ``transforms.json`` and PNG files in ``images``; `read_nerf` reads the same.

    Lengths are those of the scene; names of views become names of files.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    height, width = scene.size
    poses = to_opengl(torch.from_numpy(scene.extrinsics))
    for view, pixels, pose, camera in zip(scene.views, scene.images, poses, scene.intrinsics, strict=True):
        name = f"images/{Path(view).stem}.png"
        write_png(folder / name, pixels)
        keys = {"fl_x": camera[0, 0], "fl_y": camera[1, 1], "cx": camera[0, 2], "cy": camera[1, 2]}
        frames.append({"file_path": name, "transform_matrix": pose.tolist(), **keys, "w": width, "h": height})
    atomic_write_text(folder / ONE, json.dumps({"frames": frames}, indent=1))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write ``[H, W, 3]`` uint8 as a PNG file."""
    pil = require("PIL.Image", "multiview")
    with atomic_path(path) as temporary:
        pil.fromarray(pixels).save(temporary)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(path.name, path, f"not JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise RecordError(path.name, path, "expected an object with a list 'frames'")
    return content


def _image_path(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    beside = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
    return next((other for other in beside if other.is_file()), path)


def _matrix(where: str, rows: Any) -> np.ndarray:
    try:
        matrix = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RecordError(where, rows, "transform_matrix holds values that are not numbers") from error
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
    if matrix.shape != (4, 4):
        raise RecordError(where, f"shape {matrix.shape}", "transform_matrix must be 4 x 4")
    if not np.isfinite(matrix).all():
        raise RecordError(where, matrix.tolist(), "transform_matrix holds values that are not numbers")
    if abs(np.linalg.det(matrix)) < 1e-12:
        raise RecordError(where, matrix.tolist(), "transform_matrix has no inverse")
    return matrix


def _intrinsics(view: str, own: Mapping[str, Any], size: Size) -> np.ndarray:
    height, width = size
    number = lambda key, usual: _number(view, own, key, usual)  # noqa: E731
    distorted = [key for key in DISTORTION if number(key, 0.0) != 0]
    if distorted or "FISHEYE" in str(own.get("camera_model", "")).upper():
        value = distorted[0] if distorted else own["camera_model"]
        raise RecordError(f"camera of {view}", value, "the lens distorts", "Undistort the images first.")
    given = (int(number("h", height)), int(number("w", width)))
    if given != size:
        reason = f"its camera has {given[1]} x {given[0]} pixels"
        hint = "Give the camera of the image as it is, or the image that the camera was measured with."
        raise RecordError(f"size of {view}", f"{width} x {height}", reason, hint)
    angle = number("camera_angle_x", float("nan"))
    if "fl_x" not in own and not (np.isnan(angle) or 0 < angle < np.pi):
        raise RecordError(f"camera_angle_x of {view}", angle, "expected radians between 0 and pi")
    focal = number("fl_x", width / 2 / np.tan(angle / 2))
    if np.isnan(focal):
        raise RecordError(f"camera of {view}", "", "no focal length", "Expected fl_x (pixels) or camera_angle_x (rad).")
    across = number("fl_y", focal)
    return np.array([[focal, 0, number("cx", width / 2)], [0, across, number("cy", height / 2)], [0, 0, 1.0]])


def _number(view: str, own: Mapping[str, Any], key: str, usual: float) -> float:
    value = own.get(key, usual)
    absent = key not in own
    if isinstance(value, bool) or not isinstance(value, int | float) or not (absent or np.isfinite(value)):
        raise RecordError(f"{key} of {view}", value, "not a number")
    return float(value)
