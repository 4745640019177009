"""Predictions of files of any length: finished chunks are kept until the last one is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from geoattn._files import atomic_path, atomic_write_text, remove_leftovers
from geoattn.errors import InputError
from geoattn.hub import Pretrained

FORMATS = (".csv", ".parquet")


class Parts:
    """The finished chunks of a prediction, in a folder beside the file that they become.

    ``journal.json`` says what is predicted, so that chunks of something else are never joined. A chunk is done when
    its file is there, for files appear whole.

    Args:
        out: the file to write.
        identity: what is predicted, JSON values.
    """

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.out, self.identity = out, identity
        self.folder = out.with_name(out.name + ".parts")
        self.rejected = out.with_name(out.name + ".rejected.csv")

    def begin(self) -> int:
        """Make the folder, or find it; the number of chunks that are done.

        Raises:
            InputError: the folder belongs to a prediction with other options, or of another file or model.
        """
        journal = self.folder / "journal.json"
        if journal.is_file():
            before = json.loads(journal.read_text(encoding="utf-8"))
            changed = [key for key, value in self.identity.items() if before.get(key) != value]
            if changed and self._files():
                raise InputError(
                    f"{self.folder} holds the beginning of a prediction with another {changed[0]} "
                    f"({before.get(changed[0])!r}, now {self.identity[changed[0]]!r}). Delete that folder to start "
                    "anew, or choose another --out."
                )
            remove_leftovers(self.folder)
        if not self._files():
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError as error:
                raise InputError(f"--out: {self.folder} cannot be made: {error.strerror or error}.") from error
            atomic_write_text(journal, json.dumps(self.identity, indent=1) + "\n")
        return len(self._files())

    def write(self, number: int, table: pd.DataFrame, rejected: pd.DataFrame) -> None:
        """Keep a chunk; its rejected rows first, so that a chunk that is done is done entirely."""
        self.write_rejected(number, rejected)
        with atomic_path(self.folder / f"{number:08d}.parquet") as temporary:
            table.astype({name: str for name in ("id", "smiles", "entity") if name in table}).to_parquet(
                temporary, index=False
            )

    def write_rejected(self, number: int, rejected: pd.DataFrame) -> None:
        """Keep the rejected rows of a chunk, if there are any."""
        if len(rejected):
            with atomic_path(self.folder / f"{number:08d}.rejected.csv") as temporary:
                rejected.to_csv(temporary, index=False)

    def tables(self) -> Iterator[pd.DataFrame]:
        """The chunks that are done, one by one."""
        return map(pd.read_parquet, self._files())

    def join(self, whole: pd.DataFrame | None = None) -> None:
        """Write ``out`` and the list of rejected rows, and remove the chunks.

        Args:
            whole: what to write; all chunks behind one another if left out.
        """
        rejected = sorted(self.folder.glob("*.rejected.csv"))
        if rejected:
            with atomic_path(self.rejected) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                for k, part in enumerate(rejected):
                    pd.read_csv(part, dtype=str, keep_default_na=False).to_csv(file, index=False, header=k == 0)
        with atomic_path(self.out) as temporary:
            if whole is None:
                self._join_parts(temporary)
            elif self.out.suffix == ".parquet":
                whole.to_parquet(temporary, index=False)
            else:
                whole.to_csv(temporary, index=False)
        shutil.rmtree(self.folder)

    def _join_parts(self, path: Path) -> None:
        files = self._files()
        if self.out.suffix == ".parquet":
            with pyarrow.parquet.ParquetWriter(path, pyarrow.parquet.read_schema(files[0])) as writer:
                for part in files:
                    writer.write_table(pyarrow.parquet.read_table(part))
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            for k, part in enumerate(files):
                pd.read_parquet(part).to_csv(file, index=False, header=k == 0)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))


def identity_of(loaded: Pretrained, data: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What is predicted, for `Parts`: the model, the file as it is now, and the options."""
    file = Path(data).absolute()
    state = file.stat() if file.is_file() else None
    return {
        "data": str(file),
        "size of the file": state.st_size if state else None,
        "time of the file": state.st_mtime_ns if state else None,
        "model": loaded.config["sha256"],
        **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
    }


def checked_out(out: str, formats: Sequence[str] = FORMATS) -> Path:
    """The file that ``--out`` of a prediction names, if it can be written."""
    target = Path(out)
    if target.suffix not in formats:
        raise InputError(f"--out: {out}: got the suffix {target.suffix!r}, expected {' or '.join(formats)}.")
    if target.exists():
        raise InputError(f"--out: {out} exists; nothing is ever overwritten. Choose another name, or delete it.")
    if not target.absolute().parent.is_dir():
        raise InputError(f"--out: the folder {target.parent} does not exist. Make it first.")
    return target
