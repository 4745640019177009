"""Many clouds: a folder per class, a table that lists files, one ``.npz``, or one file; read one by one.

Listing looks at names, and at the first lines of texts that stand beside folders; the files are read later, perhaps in
other processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from geoattn.datasets.headers import named_column, usual_column
from geoattn.datasets.pointcloud_arrays import CloudArrays
from geoattn.datasets.pointcloud_files import NUM_SAMPLES, SUFFIXES, TEXT, load_cloud
from geoattn.datasets.pointcloud_raw import CloudError
from geoattn.datasets.pointcloud_text import begins_with_points
from geoattn.datasets.rejections import Rejections
from geoattn.datasets.splits import PART_NAMES
from geoattn.datasets.tables import open_table
from geoattn.domains.molecules.parallel import available_cores
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError, nearest_hint

FILE_NAMES = ("file", "path", "filename", "file_name", "cloud")
LABEL_NAMES = ("label", "class", "category", "class_name")
ID_NAMES = ("id", "name", "cloud_id", "object_id", "model_id")
TABLES = (".csv", ".tsv", ".parquet")
CHUNK = 256
"""Files that are read at a time."""
LARGE = 32 << 20
"""Bytes of a chunk of files from which several processes are worth their start."""
NUM_NAMED = 5
"""Files that a note names."""


@dataclass(frozen=True)
class CloudColumns:
    """Names of columns of a table that the user chose; None looks for the usual ones."""

    file: str | None = None
    label: str | None = None
    id: str | None = None
    required: Sequence[str] = ()


@dataclass(frozen=True)
class Entry:
    """One cloud of a set, before it is read.

    Attributes:
        id: its name.
        file: where its points stand.
        line: of the table that lists it; None for folders and arrays.
        table: that lists it.
        label: the name of its class, or None.
        fields: other cells of the table, or the part (``split``) that its folder says.
    """

    id: str
    file: str
    line: int | None = None
    label: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None


@dataclass
class CloudSet:
    """What `list_clouds` finds.

    Attributes:
        entries: in the order of the table, or of the sorted names of files.
        arrays: the content of an ``.npz`` with many clouds; None for files.
        class_names: that the ``.npz`` gives, or sorted names of the classes that occur.
        segment_names: that the ``.npz`` gives, else None.
        notes: sentences about what was found.
    """

    entries: list[Entry]
    arrays: CloudArrays | None = None
    class_names: list[str] = field(default_factory=list)
    segment_names: list[str] | None = None
    notes: list[str] = field(default_factory=list)

    def read(
        self, rows: Sequence[int], num_samples: int = NUM_SAMPLES, processes: int | None = None
    ) -> Iterator[tuple[int, Cloud | CloudError, list[str]]]:
        """(row, cloud or what is wrong with it, notes) of these entries, in order.

        Args:
            rows: of ``entries``.
            num_samples: points that are drawn of a mesh.
            processes: that read files; None takes one per available core. Small files are read in this process.
        """
        if self.arrays is not None:
            for row in rows:
                yield row, self._named(row, self.arrays.cloud(row)), []
            return
        left = iter(rows)
        while chunk := list(islice(left, CHUNK)):
            found = _read_files([self.entries[row].file for row in chunk], num_samples, processes)
            for row, (cloud, notes) in zip(chunk, found, strict=True):
                yield row, self._named(row, cloud), notes

    def _named(self, row: int, cloud: Cloud | CloudError) -> Cloud | CloudError:
        if isinstance(cloud, CloudError):
            return cloud
        entry = self.entries[row]
        label = cloud.label if entry.label is None else self.class_names.index(entry.label)
        return replace(cloud, id=entry.id, label=label, line=entry.line)


def list_clouds(
    file: str | Path, columns: CloudColumns | None = None, rejections: Rejections | None = None
) -> CloudSet:
    """The clouds of ``file``, unread.

    ====================  ==========================================================================================
    folder                ``CLASS/cloud.xyz``; parts may stand above the classes (``train/CLASS/...``) or below them
                          (``CLASS/train/...``). Clouds that stand in no folder have no class; texts and tables
                          beside the folders that hold no points are not read, which a note says.
    table                 ``.csv .tsv .parquet`` with a column of files (relative to the table), and, if there are any,
                          of labels, ids and a split; all other columns are kept for the split
    ``.npz``              many clouds, see `geoattn.datasets.pointcloud_arrays.CloudArrays`
    file                  one cloud
    ====================  ==========================================================================================

    Raises:
        InputError: no such file or folder, nothing in it that can be read, a missing column, two clouds with one id, or
            a bad row of the table where ``rejections`` raises.
    """
    path, columns = Path(file), columns or CloudColumns()
    if path.is_dir():
        found = _list_folder(path)
    elif not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file or folder. {nearest_hint(path.name, names) if names else ''}".rstrip())
    elif path.suffix.lower() == ".npz" and CloudArrays.fits(path):
        return _list_arrays(path)
    elif path.suffix.lower() in TABLES and _is_table(path, columns):
        found = _list_table(path, columns, Rejections() if rejections is None else rejections)
    else:
        found = CloudSet([Entry(path.name, str(path))])
    found.class_names = sorted({entry.label for entry in found.entries if entry.label is not None}, key=_by_number)
    _note_formats(found)
    return found


def _list_folder(folder: Path) -> CloudSet:
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    files = [path for path in files if not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)]
    known = [path for path in files if path.suffix.lower() in SUFFIXES]
    if any(path.parent != folder for path in known):
        known = [path for path in known if path.parent != folder or not _is_other_text(path)]
    read = set(known)
    unread = [path.relative_to(folder).as_posix() for path in files if path not in read]
    entries = []
    for path in known:
        inside = path.relative_to(folder)
        folders = list(inside.parts[:-1])
        part = next((name for name in folders if name.lower() in PART_NAMES), None)
        if part is not None:
            folders.remove(part)
        if len(folders) > 1:
            raise InputError(
                f"{path}: stands {len(folders)} folders deep below {folder}, expected CLASS/file, train/CLASS/file or "
                "CLASS/train/file. Name the folder that holds the classes, or list the files in a table."
            )
        fields = {} if part is None else {"split": PART_NAMES[part.lower()]}
        entries.append(Entry(inside.as_posix(), str(path), label=folders[0] if folders else None, fields=fields))
    if not entries:
        other = f" Other files: {_some(unread)}." if unread else ""
        raise InputError(f"{folder}: there is no point cloud in the folder. Known: {', '.join(SUFFIXES)}.{other}")
    notes = []
    if unread:
        count = "1 file of the folder was" if len(unread) == 1 else f"{len(unread)} files of the folder were"
        notes.append(f"{count} not read as point clouds: {_some(unread)}.")
    return CloudSet(entries, notes=notes)


def check_folders(folder: Path, found: CloudSet, need_classes: bool) -> None:
    """Refuse folders that cannot be learned from; predictions are made for whatever stands in them.

    Raises:
        InputError: no sub-folder that names a class, where there should be; some files stand in folders of parts and
            others do not.
    """
    entries = found.entries
    table = "list the files in a table (.csv) with the columns file and label"
    with_part = [entry for entry in entries if "split" in entry.fields]
    if 0 < len(with_part) < len(entries):
        outside = next(entry for entry in entries if "split" not in entry.fields)
        raise InputError(
            f"{folder}: {len(with_part)} of {len(entries)} files stand in folders of parts (train, test), and "
            f"{outside.id} does not. Put all of them there, or none; if {Path(with_part[0].id).parts[0]!r} is a class, "
            f"{table}."
        )
    inside = any(Path(entry.file).suffix.lower() == ".npz" for entry in entries)  # these may hold their class
    if need_classes and not inside and not found.class_names:
        parts = ", ".join(sorted({Path(entry.id).parts[0] for entry in with_part}))
        what = f"the sub-folders ({parts}) are parts of a split" if parts else "there are no sub-folders"
        raise InputError(
            f"{folder}: {what}, and sub-folders name the classes. Put each cloud into the folder of its class, "
            f"or {table}."
        )


def _is_other_text(path: Path) -> bool:
    """A table or text beside the folders that holds no points."""
    return path.suffix.lower() in TEXT and not begins_with_points(path)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more


def _is_table(path: Path, columns: CloudColumns) -> bool:
    """A ``.csv`` may also be a cloud: it lists clouds if it has a column of files."""
    if columns.file is not None or path.suffix.lower() == ".parquet":
        return True
    try:
        with open_table(path, Rejections()) as (header, _):
            return usual_column(path, header, FILE_NAMES, "--file-column") is not None
    except InputError:
        return False


def _list_table(path: Path, columns: CloudColumns, rejections: Rejections) -> CloudSet:
    entries: list[Entry] = []
    lines: dict[str, int] = {}  # of each id
    with open_table(path, rejections) as (header, rows):

        def place(chosen: str | None, names: Sequence[str], option: str) -> int | None:
            name = named_column(path, header, chosen) if chosen else usual_column(path, header, names, option)
            return None if name is None else header.index(name)

        file = place(columns.file, FILE_NAMES, "--file-column")
        label = place(columns.label, LABEL_NAMES, "--label-column")
        name = place(columns.id, ID_NAMES, "--id-column")
        if file is None:
            raise InputError(f"{path}: there is no column of files. Name it with --file-column.")
        for column in columns.required:
            named_column(path, header, column)
        for line, cells in rows:
            text = cells[file].strip()
            wrong = "no file" if not text else "no class" if label is not None and not cells[label].strip() else ""
            if wrong:
                column = header[file if not text or label is None else label]
                rejections.add(str(path), line, CloudError(column, "", f"the row names {wrong}"))
                continue
            known = cells[name].strip() if name is not None else text
            if known in lines:
                hint = "Ids must differ, because predictions and splits name clouds by them."
                raise InputError(f"{path}:{line}: {known!r} is also the id of line {lines[known]}. {hint}")
            lines[known] = line
            entries.append(
                Entry(
                    id=known,
                    file=str(path.parent / text),
                    line=line,
                    label=cells[label].strip() if label is not None else None,
                    fields=dict(zip(header, cells, strict=True)),
                    table=str(path),
                )
            )
    return CloudSet(entries)


def _list_arrays(path: Path) -> CloudSet:
    arrays = CloudArrays(path)
    entries = [
        Entry(
            id=arrays.ids[row],
            file=str(path),
            label=None if arrays.label is None or arrays.label[row] < 0 else arrays.class_names[arrays.label[row]],
            fields={key: str(values[row]) for key, values in arrays.columns.items()},
        )
        for row in range(len(arrays))
    ]
    return CloudSet(entries, arrays, arrays.class_names, arrays.segment_names)


def _note_formats(found: CloudSet) -> None:
    suffixes = Counter(Path(entry.file).suffix.lower() for entry in found.entries)
    if len(suffixes) > 1:
        kinds = ", ".join(f"{suffix} ({count})" for suffix, count in suffixes.most_common())
        found.notes.append(
            f"The files have several formats: {kinds}. Are they made alike, with the same units and axes?"
        )


def _by_number(name: str) -> tuple[bool, int, str]:
    """Names that are numbers in their order, then the others."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def _read_files(
    files: Sequence[str], num_samples: int, processes: int | None
) -> list[tuple[Cloud | CloudError, list[str]]]:
    workers = processes or available_cores()
    if workers == 1 or len(files) < 2 * workers or sum(_size(file) for file in files) < LARGE:
        return [_read_file(file, num_samples) for file in files]
    from joblib import Parallel, delayed

    return Parallel(n_jobs=workers, batch_size=4)(delayed(_read_file)(file, num_samples) for file in files)


def _size(file: str) -> int:
    path = Path(file)
    return path.stat().st_size if path.is_file() else 0


def _read_file(file: str, num_samples: int) -> tuple[Cloud | CloudError, list[str]]:
    try:
        return load_cloud(Path(file), num_samples)
    except CloudError as error:
        return error, []
