"""Cameras without images, from which a model shall draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from geoattn.datasets.multiview_nerf import nerf_cameras
from geoattn.datasets.multiview_raw import Size
from geoattn.domains.multiview.records import Scene, check_cameras
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint
from geoattn.geometry.rays import scale_intrinsics


@dataclass(frozen=True, eq=False)
class Cameras:
    """New cameras, in the frame and the unit of length of the file of the scene.

    Attributes:
        names: T of them.
        extrinsics: ``[T, 4, 4]`` float64, world -> camera, axes of OpenCV.
        intrinsics: ``[T, 3, 3]`` float64 in pixels of images of ``size``; None for those of the given views.
        size: height and width.
    """

    names: list[str]
    extrinsics: np.ndarray
    intrinsics: np.ndarray | None = None
    size: Size | None = None


def read_cameras(file: str | Path, size: Size) -> Cameras:
    """The cameras of a file.

    ===========  ====================================================================================================
    ``.json``    as ``transforms.json`` of NeRF, images may be missing; ``w`` and ``h`` are the size of the images that
                 ``fl_x`` and the like are given for, else they are for images of ``size``; without ``fl_x`` and
                 ``camera_angle_x`` the cameras have the intrinsics of the given views
    ``.npz``     ``extrinsics [T, 4, 4]`` world -> camera with axes of OpenCV; ``intrinsics [3, 3]`` or ``[T, 3, 3]``
                 in pixels of images of ``size`` and ``views``, T names, may be missing
    ===========  ====================================================================================================

    Args:
        file: to read.
        size: height and width of the images of the model.

    Raises:
        InputError: another kind of file, a key that is missing, or cameras that are none.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"--cameras: {path}: no such file.")
    try:
        if path.suffix == ".json":
            names, extrinsics, intrinsics, sizes = nerf_cameras(path, size)
        elif path.suffix == ".npz":
            names, extrinsics, intrinsics = _from_npz(path)
            sizes = [size] * len(names)
        else:
            raise InputError(f"--cameras: {path}: got the suffix {path.suffix!r}, expected .json or .npz.")
        stand_in = np.tile(np.diag([size[1], size[0], 1.0]), (len(names), 1, 1))
        check_cameras(names, extrinsics, stand_in if intrinsics is None else intrinsics, sizes)
        if len(set(sizes)) > 1:
            raise RecordError("size", f"{sizes[0]} and others", "cameras of one file need one size")
    except RecordError as error:
        raise InputError(f"--cameras: {path}: {error}") from error
    return Cameras(names, extrinsics, intrinsics, sizes[0])


def placed(cameras: Cameras, scene: Scene, given: int) -> tuple[np.ndarray, np.ndarray]:
    """Extrinsics ``[T, 4, 4]`` and intrinsics ``[T, 3, 3]`` of new cameras as a scene has them.

    Args:
        cameras: in the unit of the file of the scene.
        scene: in a unit of its own.
        given: the view whose intrinsics cameras without any get.
    """
    extrinsics = cameras.extrinsics.copy()
    extrinsics[:, :3, 3] /= scene.scale
    if cameras.intrinsics is None or cameras.size is None:
        return extrinsics, np.tile(scene.intrinsics[given], (len(extrinsics), 1, 1))
    (height, width), (wanted_height, wanted_width) = cameras.size, scene.size
    intrinsics = torch.from_numpy(cameras.intrinsics).clone()
    if wanted_height == wanted_width:  # images are cut to the square in their middle, as those of scenes are
        side = min(height, width)
        intrinsics[:, :2, 2] -= torch.tensor([(width - side) // 2, (height - side) // 2], dtype=torch.float64)
        height = width = side
    return extrinsics, scale_intrinsics(intrinsics, (height, width), scene.size).numpy()


def _from_npz(path: Path) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--cameras: {path}: not an .npz file of arrays ({error}).") from error
    if "extrinsics" not in arrays:
        hint = nearest_hint("extrinsics", list(arrays))
        raise InputError(f"--cameras: {path}: there is no array 'extrinsics'. {hint}")
    extrinsics = arrays["extrinsics"]
    if extrinsics.ndim != 3 or extrinsics.dtype.kind not in "fiu":
        raise RecordError("extrinsics", f"{extrinsics.dtype} {extrinsics.shape}", "expected numbers [T, 4, 4]")
    intrinsics = arrays.get("intrinsics")
    if intrinsics is not None and intrinsics.shape == (3, 3):
        intrinsics = np.tile(intrinsics, (len(extrinsics), 1, 1))
    names = np.ravel(arrays.get("views", [f"camera_{k:04d}" for k in range(len(extrinsics))])).astype(str).tolist()
    if len(names) != len(extrinsics):
        raise RecordError("views", names, f"expected {len(extrinsics)} names, one for each pose in extrinsics")
    return names, extrinsics.astype(np.float64), None if intrinsics is None else intrinsics.astype(np.float64)
