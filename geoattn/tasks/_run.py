"""The run folder: the same files in every task, each written whole, nothing ever overwritten."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

import geoattn
from geoattn._files import TEMPORARY_PREFIX, atomic_path, atomic_write_text, remove_leftovers
from geoattn.errors import InputError

PACKAGES = (
    "torch",
    "torch-geometric",
    "lightning",
    "numpy",
    "scipy",
    "pandas",
    "numba",
    "scikit-learn",
    "rdkit",
    "ase",
    "trimesh",
    "laspy",
    "open3d-cpu",
    "open3d",
)


class RunFolder:
    """Where one run keeps everything: ``config.yaml``, ``split.json``, ``metrics.json``, ``report.html`` ...

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, task: str, out: str | os.PathLike[str] | None, *, resume: bool | None) -> RunFolder:
        """Choose the folder and check it; nothing is made yet.

        Args:
            task: names the folder where ``out`` is None: ``runs/<task>-<date>-<time>``.
            out: the folder.
            resume: go on in a folder that has content; None for a verb that cannot.

        Raises:
            InputError: the folder has content and ``resume`` is not set, or it cannot be written to.
        """
        path = Path(out) if out is not None else _fresh_name(task)
        if path.exists() and not path.is_dir():
            raise InputError(f"--out: {path} is a file, expected a folder. Choose another name.")
        if not resume and path.is_dir() and any(not p.name.startswith(TEMPORARY_PREFIX) for p in path.iterdir()):
            advice = (
                "Choose another" if resume is None else "Add --resume to go on with the run in it, or choose another"
            )
            raise InputError(f"--out: {path} exists and is not empty. {advice} --out; nothing is ever overwritten.")
        exists = next(parent for parent in [path.absolute(), *path.absolute().parents] if parent.exists())
        if not exists.is_dir() or not os.access(exists, os.W_OK):
            raise InputError(f"--out: {path} cannot be made: no permission to write in {exists}. Choose another --out.")
        return cls(path)

    def make(self) -> None:
        """Make the folder, and clear away what a killed process left half written."""
        try:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out: {self.path} cannot be made: {error.strerror or error}.") from error
        remove_leftovers(self.path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """``config.yaml``: every option with its value."""
        atomic_write_text(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """A JSON file; numbers that do not exist (NaN) must have been replaced by None."""
        atomic_write_text(self.path / name, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run; None if it is not there yet."""
        file = self.path / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """A CSV file."""
        with atomic_path(self.path / name) as temporary:
            table.to_csv(temporary, index=False)

    def write_environment(self, command: str) -> None:
        """``environment.txt``: the command, the machine and the versions."""
        lines = [f"{name}: {value}" for name, value in {"command": command, **environment()}.items()]
        atomic_write_text(self.path / "environment.txt", "\n".join(lines) + "\n")


def read_config(path: Path) -> dict[str, Any] | None:
    """The ``config.yaml`` of a run folder; None if the run was stopped before it was written."""
    file = path / "config.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None


def environment() -> dict[str, str]:
    """Machine and versions, as they stand in ``environment.txt`` and in the report."""
    found = {
        "geoattn": geoattn.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line(arguments: Sequence[str]) -> str:
    """The command as it would be typed again."""
    import shlex

    return shlex.join(["geoattn", *arguments])


def _processor() -> str:
    """The name of the CPU; Linux alone tells more than the architecture."""
    with_name = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", with_name.read_text()) if with_name.is_file() else None
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} logical cores"


def _fresh_name(task: str) -> Path:
    base = Path("runs") / f"{task}-{time.strftime('%Y%m%d-%H%M%S')}"
    number, path = 2, base
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def say(text: str, *, quiet: bool = False) -> None:
    """Talk goes to standard error; standard output is for data."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)
