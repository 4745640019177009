"""Many clouds in one ``.npz``: the fastest way to keep thousands of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from geoattn.datasets.pointcloud_files import checked
from geoattn.datasets.pointcloud_raw import CloudError, Raw, whole_numbers
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError

NAMES = ("class_names", "segment_names")
PER_POINT = {"normals": (3,), "segment": ()}


class CloudArrays:
    """The arrays of an ``.npz`` with B clouds of N points in all.

    =================  =============================================================================================
    ``points``         ``[N, 3]`` numbers, cloud after cloud
    ``ptr``            ``[B + 1]`` whole numbers: cloud b has the points ``ptr[b]`` to ``ptr[b + 1]``
    ``normals``        ``[N, 3]``, optional
    ``segment``        ``[N]`` the class of each point, -1 where it is not known, optional
    ``label``          ``[B]`` whole numbers (into ``class_names``) or names; -1 or ``""`` where not known, optional
    ``id``             ``[B]`` names that differ, optional; otherwise the number of the cloud
    ``split``          ``[B]`` train, valid or test, optional
    ``class_names``    ``[K]`` names, optional; sorted names or numbers of the labels otherwise
    ``segment_names``  ``[S]`` names of the classes of points, optional
    others ``[B]``     kept as columns for the split (``column:NAME``)
    =================  =============================================================================================

    Args:
        path: the file; read as a whole, with coordinates as float32 and 64 bits where they need them.

    Raises:
        InputError: arrays that do not fit together; it names the key, what it holds and what is expected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: numpy cannot read it ({error}). Make it again.") from error
        self.points, self.ptr = arrays.pop("points"), arrays.pop("ptr")
        if self.points.shape[1:] != (3,) or self.points.dtype.kind not in "fiu":
            self._refuse("points", self.points, "[N, 3] numbers")
        whole = self.ptr.ndim == 1 and len(self.ptr) > 1 and self.ptr.dtype.kind in "iu"
        if not whole or self.ptr[0] != 0 or self.ptr[-1] != len(self.points) or (self.ptr[1:] < self.ptr[:-1]).any():
            self._refuse("ptr", self.ptr, f"whole numbers that rise from 0 to {len(self.points)}, the number of points")
        num = len(self)
        for key, shape in PER_POINT.items():
            values = arrays.get(key)
            if values is not None and (values.shape != (len(self.points), *shape) or values.dtype.kind not in "fiub"):
                self._refuse(key, values, f"numbers of shape {(len(self.points), *shape)}")
        self.normals, self.segment = arrays.pop("normals", None), arrays.pop("segment", None)
        names = {key: arrays.pop(key, None) for key in NAMES}
        for key, values in names.items():
            if values is not None and values.ndim != 1:
                self._refuse(key, values, "a list of names")
        self.columns = {key: values for key, values in arrays.items() if values.shape == (num,)}
        for key in arrays.keys() - self.columns.keys():
            self._refuse(key, arrays[key], f"one value for each of the {num} clouds")
        self.ids = [str(value) for value in self.columns.get("id", np.arange(num))]
        first: dict[str, int] = {}
        for row, name in enumerate(self.ids):
            if first.setdefault(name, row) != row:
                hint = "Ids must differ, because predictions and splits name clouds by them."
                raise InputError(f"{path}: id: {name!r} stands in rows {first[name]} and {row}. {hint}")
        self.class_names, self.label = self._labels(names["class_names"])
        self.segment_names = None if names["segment_names"] is None else [str(name) for name in names["segment_names"]]
        known = self.segment_names
        if known is not None and self.segment is not None and self.segment.max(initial=-1) >= len(known):
            self._refuse("segment", self.segment, f"numbers below {len(known)}, the number of segment_names")

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @staticmethod
    def fits(path: Path) -> bool:
        """Whether the file has the keys ``points`` and ``ptr``: others hold one cloud."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return {"points", "ptr"} <= set(file.files)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile):
            return False

    def cloud(self, row: int) -> Cloud | CloudError:
        """One cloud, or what is wrong with it."""
        part = slice(self.ptr[row], self.ptr[row + 1])
        raw = Raw(
            self.points[part],
            normals=None if self.normals is None else self.normals[part],
            segment=None if self.segment is None else self.segment[part],
            label=None if self.label is None or self.label[row] < 0 else int(self.label[row]),
        )
        try:
            return checked(raw, self.ids[row], str(self.path))
        except CloudError as error:
            error.place = f"cloud {self.ids[row]}, {error.place}"
            return error

    def _labels(self, given: np.ndarray | None) -> tuple[list[str], np.ndarray | None]:
        """Names of the classes, and ``[B]`` the number of each cloud's, -1 where it is not known."""
        label = self.columns.get("label")
        if label is None:
            return [], None
        known = None if given is None else [str(name) for name in given]
        if label.dtype.kind in "US":
            return self._named_labels(label.astype(str), known)
        most = np.inf if known is None else len(known) - 1
        if label.dtype.kind not in "iubf" or not whole_numbers(label) or label.min() < -1 or label.max() > most:
            places = "" if known is None else f" 0 to {len(known) - 1} (places in class_names)"
            self._refuse("label", label, f"whole numbers{places}, -1 where the class is not known, or names")
        label = label.astype(np.int64)
        if known is not None:
            return known, label
        values = np.unique(label[label >= 0])
        return [str(value) for value in values], np.where(label < 0, -1, np.searchsorted(values, label))

    def _named_labels(self, label: np.ndarray, known: list[str] | None) -> tuple[list[str], np.ndarray]:
        names = sorted({*label.tolist()} - {""}) if known is None else known
        place = {"": -1} | {name: k for k, name in enumerate(names)}
        unknown = sorted({*label.tolist()} - {*place})
        if unknown:
            raise InputError(f"{self.path}: label: {unknown[0]!r} is not among class_names {names}.")
        return names, np.array([place[name] for name in label.tolist()])

    def _refuse(self, key: str, values: np.ndarray, expected: str) -> None:
        shown = f"shape {values.shape} of {values.dtype}"
        if values.ndim == 1 and len(values) and values.dtype.kind in "iuf":
            shown += f" from {values.min()} to {values.max()}"
        raise InputError(f"{self.path}: {key}: got {shown}, expected {expected}.")
