"""``geoattn multiview predict``: what new cameras see of scenes, as files; what was done is not done again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from geoattn._numbers import counted
from geoattn.datasets.multiview_cameras import Cameras, placed, read_cameras
from geoattn.datasets.multiview_files import each_scene, scene_names
from geoattn.datasets.multiview_nerf import write_png
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError, Rejections, none_left
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.multiview.metrics import psnr
from geoattn.domains.multiview.orbit import orbit as on_circle
from geoattn.domains.multiview.records import Scene
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device, load_model
from geoattn.tasks._multiview_draw import Asked, check_size, draw, image_size, in_model_unit
from geoattn.tasks._multiview_evaluate import TASK
from geoattn.tasks._parts import Parts, identity_of
from geoattn.tasks._run import say

CHUNK_SIZE = 16
TABLE = "predictions.csv"
COLUMNS = ["id", "view", "given", "file"]
IMAGES = (".png", ".jpg", ".jpeg")


def predict_file(
    model: str,
    data: str,
    out: str,
    given: str | None = None,
    cameras: str | None = None,
    orbit: int | None = None,
    on_error: OnError = "raise",
    chunk_size: int | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Draw what new cameras see of scenes, with a trained model.

    Writes a folder with a folder of PNG files for each scene, and predictions.csv, which names them: one row per image.
    New cameras are those of the scene's own views that are not given (their images, which the model does not see, are
    compared: column psnr), those of a file, or a circle round the scene. Scenes are read and drawn in chunks; the same
    command goes on after an interruption.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: an .npz with many scenes, a folder of one (NeRF, Blender, COLMAP), or a folder with a folder per scene.
        out: folder to write.
        given: the views that the model sees, names or numbers from 0, as a,b; the first ones if left out, as many as in
            training.
        cameras: a file with new cameras for all scenes, in the frame and unit of the data: transforms.json without
            images, or .npz with extrinsics.
        orbit: so many new cameras on a circle round each scene, as far and as high as the given ones.
        on_error: raise stops at the first bad scene; skip leaves bad scenes out and lists them in
            predictions.csv.rejected.csv.
        chunk_size: scenes per chunk; 16 if left out.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    device = checked_device(device)
    words = None if given is None else [word.strip() for word in given.split(",")]
    if words is not None and (not all(words) or len(set(words)) < len(words)):
        raise InputError(f"--given: got {given!r}, expected names or numbers of different views, as 0,1.")
    if cameras is not None and orbit is not None:
        raise InputError("--cameras and --orbit exclude each other: both say where the new cameras are.")
    for name, value in (("chunk-size", chunk_size), ("orbit", orbit)):
        if value is not None and value < 1:
            raise InputError(f"--{name}: got {value}, expected at least 1.")
    loaded = load_model(model, TASK)
    height, width = loaded.preprocess["height"], loaded.preprocess["width"]
    new = None if cameras is None else read_cameras(cameras, (height, width))
    chunk_size, names = chunk_size or CHUNK_SIZE, scene_names(data)
    folder, folders = _folder(out), file_names(names)
    identity = {"given": given, "cameras": cameras, "orbit": orbit, "on_error": on_error, "chunk_size": chunk_size}
    parts = Parts(folder / TABLE, identity_of(loaded, data, {**identity, "scenes": len(names)}))
    done = parts.begin()
    if done:
        say(f"Going on after what is done: {counted(done, 'chunk')} of {chunk_size}.", quiet=quiet)
    own = new is None and orbit is None
    columns = [*COLUMNS, *(["psnr"] if own else []), *(["std"] if isinstance(loaded.model, Ensemble) else [])]
    rejections, wanted = Rejections(on_error, "scenes"), _views_needed(loaded, given, own)
    hint = f"The model was trained with {loaded.preprocess['num_inputs']} given views; choose others with --given."
    scenes = each_scene(data, image_size(loaded.preprocess), wanted, rejections, skip=done * chunk_size, hint=hint)
    num_chunks, images, rejected = -(-len(names) // chunk_size) - done, 0, list[pd.DataFrame]()
    chunks = iter(lambda: list(islice(scenes, chunk_size)), [])
    for number, chunk in enumerate(track(chunks, num_chunks, f"Predict, chunks of {chunk_size}", show=not quiet), done):
        tables = [pd.DataFrame(columns=columns)]  # so that a chunk without a usable scene has all of them too
        for place, scene in ((place, scene) for place, _, scene in chunk if scene is not None):
            check_size(data, scene, loaded.preprocess)
            try:
                rows = _rows(scene, given, loaded.preprocess["num_inputs"])
                scene = in_model_unit(scene, rows, loaded.preprocess)
                asked, truth = _asked(scene, rows, new, orbit)
            except RecordError as error:
                if error.column == "--given" and on_error == "raise":
                    raise InputError(f"{error} It was asked of scene {scene.id!r} of {data}.") from error
                rejections.add(data, place, error, place=f"scene {scene.id!r}")
                continue
            drawn, spread = draw(loaded, scene, rows, asked, device)
            tables.append(_written(folder, folders[place], scene, rows, asked, drawn, spread, truth))
        parts.write(number, pd.concat(tables, ignore_index=True), rejections.table())
        images += sum(map(len, tables))
        rejected.append(rejections.table())
        rejections.clear()
    if not images and not done:
        shutil.rmtree(parts.folder)
        raise none_left(data, "scene", pd.concat(rejected))
    parts.join()
    bad = sum(map(len, rejected))
    note = f", {counted(bad, 'scene')} rejected" if bad else ""
    before = f", {counted(done, 'chunk')} before" if done else ""
    say(f"{counted(images, 'image')} drawn{note}{before}: {folder}", quiet=quiet)


def file_names(names: Sequence[str]) -> list[str]:
    """Names for files or folders, all different on whatever disk, in the order of ``names``.

    >>> file_names(["images/r_0.png", "r_0", "R 0", "scene.v2"])
    ['r_0', 'r_0_2', 'R_0_3', 'scene.v2']
    """
    taken: set[str] = set()
    found = []
    for name in names:
        path = Path(name)
        stem = path.stem if path.suffix.lower() in IMAGES else path.name
        plain = re.sub(r"[^\w.-]+", "_", stem).strip("._") or "view"
        unique, count = plain, 1
        while unique.casefold() in taken:
            count += 1
            unique = f"{plain}_{count}"
        taken.add(unique.casefold())
        found.append(unique)
    return found


def _folder(out: str) -> Path:
    """The folder to write in, if it can be."""
    path = Path(out)
    if path.suffix in (".csv", ".parquet", ".png"):
        raise InputError(f"--out: {out}: got a file, expected a folder: images and {TABLE} are written there.")
    if path.exists() and not path.is_dir():
        raise InputError(f"--out: {path} is a file, expected a folder. Choose another name.")
    if path.is_dir() and any(path.iterdir()) and not (path / f"{TABLE}.parts").is_dir():
        raise InputError(f"--out: {path} exists and is not empty; nothing is ever overwritten. Choose another --out.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out: the folder {path.parent} does not exist. Make it first.")
    path.mkdir(exist_ok=True)
    return path


def _views_needed(loaded: Pretrained, given: str | None, own: bool) -> int:
    return 1 if given is not None else loaded.preprocess["num_inputs"] + own


def _rows(scene: Scene, given: str | None, num: int) -> list[int]:
    """The rows of the views that the model sees."""
    if given is None:
        return list(range(num))
    by_name = {Path(view).stem: row for row, view in enumerate(scene.views)}
    by_name |= {view: row for row, view in enumerate(scene.views)}
    rows = []
    for word in (word.strip() for word in given.split(",")):
        row = by_name.get(word, int(word) if word.isdecimal() else -1)
        if not 0 <= row < len(scene):
            raise RecordError(
                "--given", word, f"no view of the scene, which has {len(scene)}", nearest_hint(word, scene.views)
            )
        rows.append(row)
    if len(set(rows)) < len(rows):
        raise RecordError("--given", given, "names a view twice")
    return rows


def _asked(
    scene: Scene, given: Sequence[int], new: Cameras | None, num_around: int | None
) -> tuple[Asked, np.ndarray | None]:
    """The new cameras, and the images that they took if they are the scene's own."""
    if new is not None:
        return (new.names, *placed(new, scene, given[0])), None
    if num_around is not None:
        extrinsics = on_circle(scene.extrinsics[list(given)], num_around)
        names = [f"orbit_{k:04d}" for k in range(num_around)]
        return (names, extrinsics, np.tile(scene.intrinsics[given[0]], (num_around, 1, 1))), None
    rows = [row for row in range(len(scene)) if row not in given]
    if not rows:
        raise RecordError("views", len(scene), "all are given, none is left to ask for", "Use --cameras or --orbit.")
    own = scene.take(rows)
    return (own.views, own.extrinsics, own.intrinsics), own.images.astype(np.float32) / 255


def _written(
    folder: Path,
    name: str,
    scene: Scene,
    given: Sequence[int],
    asked: Asked,
    drawn: np.ndarray,
    spread: np.ndarray | None,
    truth: np.ndarray | None,
) -> pd.DataFrame:
    """Writes the images of a scene; the rows of the table."""
    views = asked[0]
    files = [f"{name}/{view}.png" for view in file_names(views)]
    (folder / name).mkdir(exist_ok=True)
    for file, image in zip(files, drawn, strict=True):
        write_png(folder / file, np.round(image * 255).astype(np.uint8))
    table = pd.DataFrame(
        {"id": scene.id, "view": views, "given": " ".join(scene.views[k] for k in given), "file": files}
    )
    if truth is not None:
        table["psnr"] = psnr(truth, drawn)
    if spread is not None:
        table["std"] = spread.mean(axis=(1, 2, 3))
    return table
