"""A folder that remembers what RDKit computed for a molecule, so that a second run starts at once."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geoattn._files import atomic_path
from geoattn._optional import require
from geoattn.domains.molecules.records import RecordError
from geoattn.errors import InputError

FORMAT = 1
"""Raise this when what `chemistry` computes changes for the same molecule and options."""

Arrays = dict[str, np.ndarray]


def default_folder() -> Path:
    """``$GEOATTN_CACHE``, else ``~/.cache/geoattn``."""
    return Path(os.environ.get("GEOATTN_CACHE") or Path.home() / ".cache" / "geoattn")


class ChemistryCache:
    """Arrays, or the reason of a failure, by molecule.

    There is one subfolder for each set of options, RDKit version and format of this cache, so that nothing stale is
    ever read. It holds files of many molecules each, which are written once and never changed: several processes may
    use one cache at the same time without locks, and a killed process leaves nothing half-written behind. A file that
    cannot be read is passed over, and its molecules are computed again.

    Args:
        folder: of the cache; made when something is stored.
        options: everything besides the molecule that the arrays depend on (JSON values).
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        version = require("rdkit", "molecules").__version__
        key = json.dumps([FORMAT, version, dict(options)], sort_keys=True)
        self.folder = folder / "molecules" / _digest(key)
        self.writable = True
        self._file_of: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self._file_of.update(dict.fromkeys(_keys(path), path))

    @staticmethod
    def key(source: str) -> str:
        """The name of a molecule in the cache, from its SMILES or mol block."""
        return _digest(source)

    def load(self, keys: list[str]) -> dict[str, Arrays | RecordError]:
        """What is known about some molecules; the others are left out."""
        wanted: dict[Path, list[str]] = {}
        for key in dict.fromkeys(keys):
            if key in self._file_of:
                wanted.setdefault(self._file_of[key], []).append(key)
        found: dict[str, Arrays | RecordError] = {}
        for path, names in wanted.items():
            found.update(_read(path, names))
        return found

    def store(self, results: Mapping[str, Arrays | RecordError]) -> None:
        """Remember some molecules, in one new file that appears whole or not at all.

        Where the folder cannot be written a warning says so, and nothing is remembered.
        """
        if not results or not self.writable:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(results)
        except (OSError, InputError) as error:
            self.writable = False
            warnings.warn(f"embeddings and descriptors are not cached: {error}", stacklevel=2)

    def _write(self, results: Mapping[str, Arrays | RecordError]) -> None:
        from safetensors.numpy import save_file

        path = self.folder / f"{_digest(' '.join(sorted(results)))}.safetensors"
        tensors: Arrays = {}
        for key, result in results.items():
            arrays = {"error": _encode(result)} if isinstance(result, RecordError) else result
            tensors.update({f"{key}.{name}": np.ascontiguousarray(array) for name, array in arrays.items()})
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
        self._file_of.update(dict.fromkeys(results, path))


def _keys(path: Path) -> set[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {name.split(".", 1)[0] for name in file.keys()}  # noqa: SIM118 - the file is no dict
    except (SafetensorError, OSError):
        return set()


def _read(path: Path, keys: list[str]) -> dict[str, Arrays | RecordError]:
    from safetensors import SafetensorError, safe_open

    found: dict[str, Arrays | RecordError] = {}
    try:
        with safe_open(path, framework="np") as file:
            names: dict[str, list[str]] = {key: [] for key in keys}
            for name in file.keys():  # noqa: SIM118
                key, field = name.split(".", 1)
                if key in names:
                    names[key].append(field)
            for key, fields in names.items():
                arrays = {field: file.get_tensor(f"{key}.{field}") for field in fields}
                found[key] = _decode(arrays["error"]) if "error" in arrays else arrays
    except (SafetensorError, OSError):
        return {}
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _encode(error: RecordError) -> np.ndarray:
    text = json.dumps([error.column, error.value, error.reason, error.hint])
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _decode(array: np.ndarray) -> RecordError:
    return RecordError(*json.loads(array.tobytes().decode()))
