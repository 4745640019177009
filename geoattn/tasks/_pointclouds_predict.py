"""``geoattn pointclouds predict``: clouds of files, chunk by chunk; what was done is not done again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn._numbers import counted
from geoattn.datasets.pointcloud_chunks import Chunk, read_chunks
from geoattn.datasets.pointcloud_files import checked
from geoattn.datasets.pointcloud_output import CloudFormat, file_names, point_table, write_points
from geoattn.datasets.pointcloud_raw import CloudError, Raw
from geoattn.datasets.pointcloud_sets import CloudColumns, Entry, list_clouds
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError, Rejections, none_left
from geoattn.domains.pointclouds.featurize import LARGEST, Featurizer
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device, load_model
from geoattn.tasks._parts import FORMATS, Parts, checked_out, identity_of
from geoattn.tasks._pointclouds_evaluate import TASK, Answers, predict_clouds, prediction_table
from geoattn.tasks._pointclouds_scan import predict_scan
from geoattn.tasks._run import say

CHUNK_SIZE = 64
UNITS_APART = 10.0
"""A model that was trained on sizes is warned of clouds that are by more than this larger or smaller."""


def load(model: str | Path) -> Pretrained:
    """A pointclouds model from a model folder, a run folder, or by the name of a shipped one."""
    return load_model(model, TASK)


def predict_file(
    model: str,
    data: str,
    out: str,
    format: CloudFormat | None = None,
    block: float | None = None,
    margin: float | None = None,
    on_error: OnError = "raise",
    chunk_size: int | None = None,
    file_column: str | None = None,
    id_column: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict what clouds, or their points, are, with a trained model.

    Clouds are read and predicted in chunks. Each finished chunk is kept beside ``out``; the same command goes on after
    an interruption. No labels are needed; where folders or tables say them, they stand beside the predictions.

    A model of whole clouds writes one row per cloud. A model of points writes one row per point to a .csv or .parquet
    file, or to a folder a file per cloud, with predictions.csv, one row per cloud, whose column written names the file;
    every point of the file gets what the nearest of the sampled points has. Of a large scan a model sees more in
    blocks, and memory holds one of them: ``--block SIZE --out FILE.npy`` writes the class, or the normal, of each point
    in the order of the file.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: a folder of clouds (in sub-folders or not), a table of files, an .npz with many clouds, or one file.
        out: the file to write, .csv or .parquet; for models of points also a folder.
        format: of the files in the folder: ply (if left out), npz or csv.
        block: models of points, one file: edge of the blocks over the ground, in the unit of the file.
        margin: how far a block reaches into its neighbours; a tenth of block if left out.
        on_error: raise stops at the first bad file; skip leaves bad files out and lists them in <out>.rejected.csv.
        chunk_size: clouds per chunk; 64 if left out.
        file_column: the column of files of a table, if it is not found by its usual names.
        id_column: the column that names clouds.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    device = checked_device(device)
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"--chunk-size: got {chunk_size}, expected at least 1.")
    loaded = load(model)
    if block is not None:
        given = {"format": format, "chunk_size": chunk_size, "file_column": file_column, "id_column": id_column}
        given["on_error"] = None if on_error == "raise" else on_error
        _refuse(given, "with --block, which reads one file and writes one .npy")
        predict_scan(loaded, data, out, block, margin, device, quiet=quiet)
        return
    _refuse({"margin": margin}, "without --block")
    target, folder = _target(out, loaded.preprocess["task"])
    if folder is None:
        _refuse({"format": format}, "where --out is a table; it is of the files in a folder")
    format, chunk_size = format or "ply", chunk_size or CHUNK_SIZE
    columns = CloudColumns(file=file_column, id=id_column)
    listed = Rejections(on_error, "clouds")
    entries = list_clouds(data, columns, listed).entries
    names = file_names([entry.id for entry in entries], format)
    options = {"list of clouds": _listing(entries), "format": format, "on_error": on_error, "chunk_size": chunk_size}
    options |= {"file_column": file_column, "id_column": id_column}
    parts = Parts(target, identity_of(loaded, data, options))
    done = parts.begin()
    if done:
        say(f"Going on after what is done: {counted(done, 'chunk')} of {chunk_size}.", quiet=quiet)
    featurizer = Featurizer(loaded.preprocess)
    chunks = read_chunks(data, loaded.preprocess, chunk_size=chunk_size, skip=done, columns=columns, on_error=on_error)
    predicted, rejected = 0, list[pd.DataFrame]()
    notes: list[str] = []
    for chunk in track(chunks, None, f"Predict, chunks of {chunk_size}", show=not quiet):
        check_clouds(chunk.clouds, loaded.preprocess)
        answers = predict_clouds(loaded.model, chunk.clouds, featurizer, device)
        if folder is not None:
            begin = chunk.number * chunk_size
            files = _files_of(chunk, entries[begin : begin + chunk_size], names[begin : begin + chunk_size])
            _write_clouds(folder, chunk.clouds, files, answers, loaded.preprocess)
            chunk.table = chunk.table.assign(written=files)
        long = folder is None and loaded.preprocess["task"] != "classification"
        table = _rows(chunk, answers, loaded.preprocess, per_point=long)
        parts.write(chunk.number, table, chunk.rejected)
        predicted += len(chunk.clouds)
        rejected.append(chunk.rejected)
        found = (
            *chunk.notes,
            *unit_notes(chunk.clouds, loaded.preprocess),
            *size_notes(chunk.clouds, loaded.preprocess),
        )
        notes += [note for note in found if note not in notes]
    if not predicted and not done:
        shutil.rmtree(parts.folder)
        raise none_left(data, "cloud", pd.concat(rejected or [listed.table()]))
    parts.join()
    for text in notes:
        say(text, quiet=quiet)
    number = sum(map(len, rejected))
    note = f", {number} rejected" if number else ""
    before = f", {counted(done, 'chunk')} before" if done else ""
    say(f"{counted(predicted, 'cloud')} predicted{note}{before}: {out}", quiet=quiet)


def predict_arrays(
    model: str | Path | Pretrained,
    clouds: Sequence[np.ndarray | Cloud],
    device: str | None = None,
) -> pd.DataFrame:
    """What a trained model says of clouds.

    For files see ``geoattn pointclouds predict`` (`predict_file`).

    Args:
        model: model folder, run folder, name of a shipped model, or what ``from_pretrained`` returned.
        clouds: arrays ``[N, 3]``, ``[N, 6]`` with normals, or `Cloud`.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.

    Returns:
        Classification: one row per cloud: ``predicted``, ``probability`` and ``p_CLASS`` of every class. Else one row
        per point: ``cloud`` (its place in the list), ``x, y, z``, then ``segment, probability`` or ``nx, ny, nz``.

    Raises:
        InputError: an array of another shape, without points, or with a value that is no number; it names the cloud.
    """
    loaded = model if isinstance(model, Pretrained) else load(model)
    read = [cloud if isinstance(cloud, Cloud) else _from_array(cloud, k) for k, cloud in enumerate(clouds)]
    check_clouds(read, loaded.preprocess)
    answers = predict_clouds(loaded.model, read, Featurizer(loaded.preprocess), checked_device(device))
    if loaded.preprocess["task"] == "classification":
        return prediction_table(pd.DataFrame(index=range(len(read))), read, answers, loaded.preprocess)
    tables = [_points(cloud, answers, k, loaded.preprocess) for k, cloud in enumerate(read)]
    return pd.concat([t.assign(cloud=k)[["cloud", *t]] for k, t in enumerate(tables)], ignore_index=True)


def check_clouds(clouds: Sequence[Cloud], preprocess: Mapping[str, Any]) -> None:
    """Refuse clouds without normals for a model that reads them.

    Raises:
        InputError: names the first such cloud.
    """
    if preprocess["normals"] != "given":
        return
    missing = next((cloud for cloud in clouds if cloud.normals is None), None)
    if missing is not None:
        raise InputError(
            f"{missing.file or missing.id}: cloud {missing.id!r} has no normals, and this model reads them. Give x y z "
            "nx ny nz, or use a model that estimates them."
        )


def unit_notes(clouds: Sequence[Cloud], preprocess: Mapping[str, Any]) -> list[str]:
    """A sentence if a model that reads sizes gets clouds of quite other sizes."""
    if preprocess["scale"] != "keep" or not clouds:
        return []
    size, known = float(np.median([np.ptp(cloud.points, axis=0).max() for cloud in clouds])), preprocess["size"]
    if known / UNITS_APART <= size <= known * UNITS_APART:
        return []
    return [
        f"Warning: the clouds are {size:.3g} long, those of the training part {known:.3g}, and the model reads sizes. "
        "Are they in the same unit?"
    ]


def size_notes(clouds: Sequence[Cloud], preprocess: Mapping[str, Any]) -> list[str]:
    """A sentence if a model of points sees few of the points of a cloud."""
    largest = max(map(len, clouds), default=0)
    if preprocess["task"] == "classification" or largest <= LARGEST:
        return []
    return [
        f"Warning: a cloud has {largest:,} points, of which the model sees {preprocess['num_points']}; the others get "
        "what the nearest has. See --block."
    ]


def _from_array(points: np.ndarray, place: int) -> Cloud:
    values = np.asarray(points)
    if values.ndim != 2 or values.shape[1] not in (3, 6) or values.dtype.kind not in "fiu":
        raise InputError(
            f"clouds[{place}]: got {values.dtype} of shape {values.shape}, expected numbers [N, 3] or [N, 6]."
        )
    normals = values[:, 3:] if values.shape[1] == 6 else None
    try:
        return checked(Raw(values[:, :3], normals=normals), str(place), "")
    except CloudError as error:
        raise InputError(f"clouds[{place}]: {error.place}: {error}") from error


def _refuse(options: Mapping[str, Any], where: str) -> None:
    """Options that were given where they change nothing."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')}: got {value}, which has no effect {where}. Leave it out.")


def _target(out: str, task: str) -> tuple[Path, Path | None]:
    """The table to write, and the folder for files of single clouds if one is wanted."""
    path = Path(out)
    if path.suffix in FORMATS or task == "classification":
        return checked_out(out), None
    if path.suffix:
        kinds = " or ".join(FORMATS)
        raise InputError(
            f"--out: {out}: got the suffix {path.suffix!r}, expected {kinds}, or a folder for models of points."
        )
    beginning = path / "predictions.csv.parts"
    if path.exists() and not path.is_dir():
        raise InputError(f"--out: {path} is a file, expected a folder. Choose another name.")
    if path.is_dir() and any(path.iterdir()) and not beginning.is_dir():
        raise InputError(f"--out: {path} exists and is not empty; nothing is ever overwritten. Choose another --out.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out: the folder {path.parent} does not exist. Make it first.")
    path.mkdir(exist_ok=True)
    return path / "predictions.csv", path


def _files_of(chunk: Chunk, entries: Sequence[Entry], names: Sequence[str]) -> list[str]:
    """The file name of each usable cloud of a chunk, from those of all its entries."""
    left = iter(zip(entries, names, strict=True))
    return [next(name for entry, name in left if _place(entry) == _place(cloud)) for cloud in chunk.clouds]


def _place(one: Entry | Cloud) -> tuple[str, int | None]:
    return one.id, one.line


def _write_clouds(
    folder: Path, clouds: Sequence[Cloud], files: Sequence[str], answers: Answers, preprocess: Mapping[str, Any]
) -> None:
    for k, (cloud, file) in enumerate(zip(clouds, files, strict=True)):
        write_points(folder / file, cloud, preprocess["segment_names"], **_said(answers, k, preprocess))


def _rows(chunk: Chunk, answers: Answers, preprocess: Mapping[str, Any], *, per_point: bool) -> pd.DataFrame:
    if per_point:
        tables = [_points(cloud, answers, k, preprocess) for k, cloud in enumerate(chunk.clouds)]
        tables = [t.assign(id=c.id)[["id", *t]] for t, c in zip(tables, chunk.clouds, strict=True)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"id": []})
    table = chunk.table.assign(label=chunk.table["label"].astype(object).where(chunk.table["label"].notna(), ""))
    return prediction_table(table, chunk.clouds, answers, preprocess)


def _points(cloud: Cloud, answers: Answers, place: int, preprocess: Mapping[str, Any]) -> pd.DataFrame:
    return point_table(cloud, preprocess["segment_names"], **_said(answers, place, preprocess))


def _said(answers: Answers, place: int, preprocess: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if preprocess["task"] == "normals":
        return {"normals": answers.points[place]}
    return {"classes": answers.points[place], "probability": answers.probability[place]}


def _listing(entries: Sequence[Entry]) -> str:
    """A hash of the clouds of a set: their names and files, and how large and old these are."""
    states: dict[str, list[int]] = {}
    digest = hashlib.blake2b(digest_size=8)
    for entry in entries:
        if entry.file not in states:
            file = Path(entry.file)
            state = file.stat() if file.is_file() else None
            states[entry.file] = [state.st_size, state.st_mtime_ns] if state else []
        digest.update(json.dumps([entry.id, entry.file, *states[entry.file]]).encode())
    return digest.hexdigest()
