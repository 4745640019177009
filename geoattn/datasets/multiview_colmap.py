"""COLMAP's text files ``cameras.txt`` and ``images.txt``: read and write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from geoattn._files import atomic_write_text
from geoattn.datasets.multiview_nerf import write_png
from geoattn.datasets.multiview_raw import RawScene, Size, image_size, refuse_missing
from geoattn.domains.multiview.records import Scene
from geoattn.domains.records import RecordError
from geoattn.errors import InputError
from geoattn.geometry.cameras import from_colmap, to_colmap

PLACES = (".", "sparse/0", "sparse", "0")
"""Where the text files may stand in a scene's folder."""
PARAMETERS = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}


def colmap_folder(folder: Path) -> Path | None:
    """The folder that holds ``cameras.txt``, in or below that of the scene; None if there is none.

    Raises:
        InputError: the files are there in COLMAP's binary format.
    """
    for place in PLACES:
        if (folder / place / "cameras.txt").is_file():
            return folder / place
    for place in PLACES:
        if (folder / place / "cameras.bin").is_file():
            raise InputError(
                f"{folder / place}: cameras.bin is COLMAP's binary format, expected text. Convert it with: colmap "
                f"model_converter --input_path {folder / place} --output_path {folder / place} --output_type TXT"
            )
    return None


def read_colmap(folder: Path) -> RawScene:
    """The scene of a folder with COLMAP's text files; images stand in ``images`` or in the folder itself.

    Raises:
        RecordError: a missing or broken file (with its line), a camera that is no pinhole, an image that is missing or
            has another size than its camera.
    """
    place = colmap_folder(folder)
    if place is None or not (place / "images.txt").is_file():
        raise RecordError("images.txt", folder, "there must be cameras.txt and images.txt")
    cameras = _cameras(place / "cameras.txt")
    views, used, poses = _images(place / "images.txt", cameras)
    root = folder / "images" if (folder / "images").is_dir() else folder
    paths = [root / view for view in views]
    refuse_missing(paths)
    sizes = [image_size(path) for path in paths]
    for view, camera, size in zip(views, used, sizes, strict=True):
        height, width = cameras[camera][1]
        if size != (height, width):
            hint = "Give the images that COLMAP has seen, or its undistorted images with their own cameras."
            reason = f"its camera has {width} x {height} pixels"
            raise RecordError(f"size of {view}", f"{size[1]} x {size[0]}", reason, hint)
    notes = []
    if root.name == "images":
        suffixes = {path.suffix for path in paths}
        without = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in suffixes} - {*views}
        if without:
            notes.append(f"{folder.name}: {len(without)} images have no pose and are not used, such as {min(without)}.")
    return RawScene(
        id=folder.name,
        file=str(folder),
        views=views,
        images=paths,
        extrinsics=np.array(poses).reshape(-1, 4, 4),
        intrinsics=np.array([cameras[camera][0] for camera in used]).reshape(-1, 3, 3),
        sizes=sizes,
        notes=notes,
    )


def write_colmap(folder: str | Path, scene: Scene) -> None:
    """Write a scene as ``cameras.txt``, ``images.txt`` and PNG files in ``images``; `read_colmap` reads the same.

    Lengths are those of the scene; names of views become names of files.
    """
    folder, (height, width) = Path(folder), scene.size
    (folder / "images").mkdir(parents=True, exist_ok=True)
    quaternions, translations = to_colmap(torch.from_numpy(scene.extrinsics))
    cameras, images = (
        ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"],
        ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"],
    )
    for k, (view, camera) in enumerate(zip(scene.views, scene.intrinsics, strict=True)):
        name = f"{Path(view).stem}.png"
        write_png(folder / "images" / name, scene.images[k])
        values = (camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2])
        cameras.append(f"{k + 1} PINHOLE {width} {height} {' '.join(repr(float(value)) for value in values)}")
        numbers = [*quaternions[k].tolist(), *translations[k].tolist()]
        images += [f"{k + 1} {' '.join(map(repr, numbers))} {k + 1} {name}", ""]
    atomic_write_text(folder / "cameras.txt", "\n".join(cameras) + "\n")
    atomic_write_text(folder / "images.txt", "\n".join(images) + "\n")


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(path.name, path, "not a text file") from error
    return [(k, line.strip()) for k, line in enumerate(text.splitlines(), 1) if not line.lstrip().startswith("#")]


def _cameras(path: Path) -> dict[str, tuple[np.ndarray, Size]]:
    cameras = {}
    for number, line in _lines(path):
        if not line:
            continue
        where, words = f"{path.name}:{number}", line.split()
        if len(words) < 5:
            raise RecordError(where, line, "expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS")
        if words[1] not in PARAMETERS:
            hint = "Undistort the images first (colmap image_undistorter), which gives PINHOLE cameras."
            raise RecordError(where, words[1], "the camera is no pinhole", hint)
        values = _numbers(where, line, words[2:])
        if len(values) != 2 + PARAMETERS[words[1]]:
            reason = f"{words[1]} needs {PARAMETERS[words[1]]} parameters, and there are {len(values) - 2}"
            raise RecordError(where, line, reason)
        width, height, *parameters = values
        fx, fy, cx, cy = parameters if words[1] == "PINHOLE" else (parameters[0], *parameters)
        cameras[words[0]] = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), (int(height), int(width))
    return cameras


def _images(path: Path, cameras: dict[str, tuple[np.ndarray, Size]]) -> tuple[list[str], list[str], list[np.ndarray]]:
    """Names of images, of their cameras, and poses; the line behind each image is of its points."""
    views, used, poses = [], [], []
    lines = iter(_lines(path))
    for number, line in lines:
        if not line:
            continue
        where, words = f"{path.name}:{number}", line.split(maxsplit=9)
        points = next(lines, (0, ""))[1].split()
        if len(points) % 3:
            hint = "Leave that line empty if there are no points."
            raise RecordError(where, line, "the line behind it does not hold points X Y ID", hint)
        if len(words) < 10:
            raise RecordError(
                where, line, "expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", "One line is of points."
            )
        values = _numbers(where, line, words[1:8])
        if abs(np.linalg.norm(values[:4]) - 1) > 0.01:
            raise RecordError(where, line, "the quaternion QW QX QY QZ does not have the length 1")
        if words[8] not in cameras:
            raise RecordError(where, words[8], "cameras.txt has no such camera")
        quaternion, translation = torch.tensor(values, dtype=torch.float64).split([4, 3])
        views.append(words[9])
        used.append(words[8])
        poses.append(from_colmap(quaternion, translation).numpy())
    return views, used, poses


def _numbers(where: str, line: str, words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise RecordError(where, line, "a value is not a number") from error
    if not np.isfinite(values).all():
        raise RecordError(where, line, "a value is not a finite number")
    return values
