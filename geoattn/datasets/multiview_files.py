"""Scenes of a file or folder, whatever their format: listed, read, checked, resized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from geoattn.datasets.multiview_arrays import read_npz
from geoattn.datasets.multiview_colmap import PLACES, colmap_folder, read_colmap
from geoattn.datasets.multiview_nerf import SUFFIXES, nerf_files, read_nerf
from geoattn.datasets.multiview_raw import RawScene, finish
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import Rejections
from geoattn.datasets.splits import PART_NAMES
from geoattn.domains.multiview.records import Scene, check_apart
from geoattn.domains.records import RecordError
from geoattn.errors import InputError, nearest_hint

TABLE = "scenes.csv"
EXPECTED = "transforms.json (NeRF) or cameras.txt and images.txt (COLMAP)"


@dataclass
class SceneSet:
    """What `read_scenes` finds.

    Attributes:
        scenes: usable ones, in the order of the file or of the sorted names of folders.
        columns: per scene, what a split may read: columns of the file, and the part its folder says under split.
        parts: per scene, the part of each view that its files say; None where they say none.
        notes: sentences about what was found.
    """

    scenes: list[Scene] = field(default_factory=list)
    columns: list[Mapping[str, str]] = field(default_factory=list)
    parts: list[list[str] | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_scenes(
    file: str | Path,
    size: int | None = None,
    min_views: int = 1,
    rejections: Rejections | None = None,
    progress: bool = False,
    apart: int | None = None,
) -> SceneSet:
    """The scenes of ``file``, in the lengths of the file.

    ==========  ======================================================================================================
    ``.npz``    many scenes, see `geoattn.datasets.multiview_arrays.read_npz`
    folder      one scene: ``transforms.json`` (NeRF, Blender, nerfstudio), ``transforms_train.json`` and its like, or
                COLMAP's text files; or a folder per scene, which may stand in ``train``, ``valid`` and ``test``. A
                table ``scenes.csv`` beside the folders (column id, the name of a folder) may hold columns for a split.
    ==========  ======================================================================================================

    Args:
        file: file or folder.
        size: of the images, see `finish`.
        min_views: a scene with fewer views is a bad one.
        rejections: what becomes of bad scenes; raises at the first if left out.
        progress: show how far reading is.
        apart: a scene of which so many views may stand in one place is a bad one, see `check_apart`.

    Raises:
        InputError: nothing that can be read, or a bad scene where ``rejections`` raises.
    """
    found = SceneSet()
    for _, raw, scene in each_scene(file, size, min_views, rejections, progress, apart=apart):
        if raw is not None and scene is not None:
            found.scenes.append(scene)
            found.columns.append(raw.columns)
            found.parts.append(raw.parts)
            found.notes += raw.notes
    return found


def each_scene(
    file: str | Path,
    size: int | None = None,
    min_views: int = 1,
    rejections: Rejections | None = None,
    progress: bool = False,
    skip: int = 0,
    apart: int | None = None,
    hint: str = "Lower --data.num-inputs.",
) -> Iterator[tuple[int, RawScene | None, Scene | None]]:
    """As `read_scenes`, scene by scene, so that images of folders need not be in memory together.

    Args:
        file, size, min_views, rejections, progress, apart: see `read_scenes`.
        skip: so many scenes from the beginning.
        hint: what to do about too few views.

    Yields:
        The number of the scene, what was read, and the scene; None twice for a bad one.
    """
    path = Path(file)
    rejections = Rejections() if rejections is None else rejections
    readers = _readers(path)
    seen = {name for name, _ in readers[:skip]}
    for number, (name, read) in enumerate(track(readers[skip:], len(readers) - skip, "Read", show=progress), skip):
        try:
            raw = read()
            if raw.id in seen:
                raise RecordError("id", raw.id, "two scenes have this name", "Splits and predictions go by names.")
            seen.add(raw.id)
            if len(raw.sizes) < min_views:
                reason = f"fewer than {min_views}, the views that are given and one to ask for"
                raise RecordError("views", len(raw.sizes), reason, hint)
            scene = finish(raw, size)
            if apart is not None:
                check_apart(scene, apart)
        except RecordError as error:
            rejections.add(str(path), number, error, place=f"scene {name!r}")
            yield number, None, None
            continue
        yield number, raw, scene


def scene_names(file: str | Path) -> list[str]:
    """Names of all scenes of a file, of bad ones too; errors are those of `read_scenes`."""
    return [name for name, _ in _readers(Path(file))]


def _readers(path: Path) -> list[tuple[str, Callable[[], RawScene]]]:
    """Names of scenes, and what reads each."""
    if path.is_file() and path.suffix.lower() == ".npz":
        return [(raw.id, partial(_as_it_is, raw)) for raw in read_npz(path)]
    if not path.is_dir():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        if path.is_file():
            raise InputError(f"{path}: expected an .npz file or a folder with transforms.json or COLMAP's cameras.txt.")
        raise InputError(f"{path}: no such file or folder. {nearest_hint(path.name, names)}".rstrip())
    if _is_scene(path):
        name = path.resolve().name
        return [(name, partial(_read_folder, path, name, {}))]
    rows, folders = _table(path / TABLE), list(_scene_folders(path))
    good = [(folder, part) for folder, part in folders if _is_scene(folder)]
    if not good:
        odd = [(folder, traces) for folder in (path, *(folder for folder, _ in folders)) if (traces := _traces(folder))]
        found = f" Found {', '.join(odd[0][1])} in {odd[0][0]}." if odd else ""
        raise InputError(
            f"{path}: there is no scene in the folder, expected {EXPECTED} in it or its sub-folders.{found}"
        )
    if len({part is None for _, part in good}) > 1:
        raise InputError(f"{path}: some scenes stand in folders of parts (train, test) and others do not.")
    readers: list[tuple[str, Callable[[], RawScene]]] = []
    for folder, part in folders:
        name = folder.relative_to(path).as_posix()
        if (folder, part) not in good:
            readers.append((name, partial(_refuse_folder, folder)))
            continue
        if rows and name not in rows:
            hint = nearest_hint(name, list(rows))
            raise InputError(f"{path / TABLE}: there is no row for the scene {name!r}. {hint}")
        columns = rows.get(name, {}) | ({} if part is None else {"split": part})
        readers.append((name, partial(_read_folder, folder, name, columns)))
    return readers


def _is_scene(folder: Path) -> bool:
    return bool(nerf_files(folder)) or colmap_folder(folder) is not None


def _scene_folders(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Folders of scenes, and of what may have been meant as one, and the part in whose folder each stands."""
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if _is_scene(folder):
            yield folder, None
        elif folder.name.lower() in PART_NAMES:
            inside = sorted(p for p in folder.iterdir() if p.is_dir() and _known(p))
            yield from ((scene, PART_NAMES[folder.name.lower()]) for scene in inside or [folder] if _known(scene))
        elif _traces(folder):
            yield folder, None


def _known(folder: Path) -> bool:
    return _is_scene(folder) or bool(_traces(folder))


def _traces(folder: Path) -> list[str]:
    """Files by which a folder that is no scene seems to be meant as one: images or COLMAP's; one of each kind."""
    texts = [folder / place / name for name in ("cameras.txt", "images.txt") for place in PLACES]
    images = sorted(p for place in (".", "images") for p in (folder / place).glob("*") if p.suffix in SUFFIXES)
    traces = [*(p for p in texts if p.is_file()), *images[:1]]
    named = [*sorted(folder.glob("*.json"))[:1], *traces] if traces else []
    return [p.relative_to(folder).as_posix() for p in named]


def _refuse_folder(folder: Path) -> RawScene:
    raise RecordError("folder", ", ".join(_traces(folder)), f"it is no scene, expected {EXPECTED} in {folder}")


def _as_it_is(raw: RawScene) -> RawScene:
    return raw


def _read_folder(folder: Path, name: str, columns: Mapping[str, str]) -> RawScene:
    raw = read_nerf(folder) if nerf_files(folder) else read_colmap(folder)
    raw.id, raw.columns = name, dict(columns)
    return raw


def _table(path: Path) -> dict[str, dict[str, str]]:
    """Rows of ``scenes.csv`` by their id; empty if there is no such file."""
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "id" not in table:
        raise InputError(f"{path}: there is no column 'id'. {nearest_hint('id', table.columns.tolist())}")
    return {row["id"]: {str(k): v for k, v in row.items() if k != "id"} for row in table.to_dict("records")}
