"""``geoattn molecules predict``: a file of any length, chunk by chunk; what was done is not done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import torch

from geoattn._files import atomic_path, atomic_write_text, remove_leftovers
from geoattn.datasets.molecule_files import Columns
from geoattn.datasets.molecules import read_chunks
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError
from geoattn.domains.molecules.featurize import featurize_many
from geoattn.domains.molecules.records import Record, RecordError
from geoattn.domains.molecules.targets import TargetTransform
from geoattn.errors import InputError
from geoattn.hub import Pretrained, from_pretrained
from geoattn.tasks._molecules_evaluate import predict_samples, prediction_table
from geoattn.tasks._run import say

TASK = "molecules"
FORMATS = (".csv", ".parquet")


def load(model: str | Path) -> Pretrained:
    """A molecules model from a model folder, a run folder, or by the name of a shipped one.

    Raises:
        InputError: there is none, it is broken, or it is a model of another task.
    """
    path = Path(model)
    loaded = from_pretrained(path / "model" if (path / "model" / "config.json").is_file() else model)
    if loaded.task != TASK:
        raise InputError(f"--model: {model} is a model for {loaded.task}. Use: geoattn {loaded.task} ...")
    return loaded


def default_device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def predict_file(
    model: str,
    data: str,
    out: str,
    on_error: OnError = "raise",
    chunk_size: int = 1000,
    smiles_column: str | None = None,
    id_column: str | None = None,
    processes: int | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict a file of any length with a trained model.

    The file is read, featurised and predicted in chunks, with constant memory. Each finished chunk is kept beside
    ``out``; the same command goes on after an interruption. The chunks are joined at the end.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: CSV, TSV, Parquet, SDF or extended XYZ.
        out: the file to write, .csv or .parquet: id, line, smiles, a column <target>_pred per target and, for an
            ensemble, <target>_std.
        on_error: raise stops at the first bad row; skip leaves bad rows out and lists them in <out>.rejected.csv.
        chunk_size: molecules per chunk.
        smiles_column: the column with SMILES, if it is called otherwise than in the training file.
        id_column: the column that names molecules, if it is called otherwise.
        processes: for embedding and descriptors; one per available core if left out.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    target = _checked_out(out)
    if chunk_size < 1:
        raise InputError(f"--chunk_size: got {chunk_size}, expected at least 1.")
    loaded = load(model)
    parts = Parts(target, _identity(loaded, data, on_error, chunk_size, smiles_column, id_column))
    done = parts.begin()
    if done:
        say(f"Going on after {done} chunks of {chunk_size} that are done.", quiet=quiet)
    preprocess = loaded.preprocess
    transform = TargetTransform.from_dict(preprocess["target_transform"])
    columns = Columns(smiles_column or preprocess["smiles_column"], id_column or preprocess["id_column"])
    chunks = read_chunks(
        data,
        preprocess,
        chunk_size=chunk_size,
        skip=done,
        columns=columns,
        on_error=on_error,
        processes=processes,
    )
    predicted = rejected = 0
    for chunk in track(chunks, None, f"Predict, chunks of {chunk_size}", show=not quiet):
        mean, std = predict_samples(loaded.model, chunk.samples, transform, device or default_device())
        table = prediction_table(chunk.table.drop(columns="file"), preprocess["targets"], mean, std)
        parts.write(chunk.number, table, chunk.rejected)
        predicted, rejected = predicted + len(table), rejected + len(chunk.rejected)
    parts.join()
    note = f", {rejected} rejected" if rejected else ""
    say(f"{predicted} molecules predicted{note}{f', {done} chunks before' if done else ''}: {target}", quiet=quiet)


def predict_molecules(model: str | Path | Pretrained, smiles: Sequence[str], device: str | None = None) -> pd.DataFrame:
    """Predictions for some SMILES; a row of NaN and the ``reason`` where a molecule cannot be used."""
    loaded = model if isinstance(model, Pretrained) else load(model)
    preprocess = loaded.preprocess
    records = [Record(id=str(k), line=k, smiles=text) for k, text in enumerate(smiles)]
    results = [result for _, result in featurize_many(records, preprocess)]
    usable = [k for k, result in enumerate(results) if not isinstance(result, RecordError)]
    transform = TargetTransform.from_dict(preprocess["target_transform"])
    mean, std = predict_samples(loaded.model, [results[k] for k in usable], transform, device or default_device())
    table = prediction_table(pd.DataFrame(index=usable), preprocess["targets"], mean, std).reindex(range(len(smiles)))
    table.insert(0, "smiles", list(smiles))
    table["reason"] = [str(result) if isinstance(result, RecordError) else "" for result in results]
    return table


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
            if changed:
                raise InputError(
                    f"{self.folder} holds the beginning of a prediction with another {changed[0]} "
                    f"({before.get(changed[0])!r}, now {self.identity[changed[0]]!r}). Delete that folder to start "
                    "anew, or choose another --out."
                )
            remove_leftovers(self.folder)
        else:
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError as error:
                raise InputError(f"--out: {self.folder} cannot be made: {error.strerror or error}.") from error
            atomic_write_text(journal, json.dumps(self.identity, indent=1) + "\n")
        return len(self._files())

    def write(self, number: int, table: pd.DataFrame, rejected: pd.DataFrame) -> None:
        """Keep a chunk; its rejected rows first, so that a chunk that is done is done entirely."""
        if len(rejected):
            with atomic_path(self.folder / f"{number:08d}.rejected.csv") as temporary:
                rejected.to_csv(temporary, index=False)
        with atomic_path(self.folder / f"{number:08d}.parquet") as temporary:
            table.astype({"id": str, "smiles": str}).to_parquet(temporary, index=False)

    def join(self) -> None:
        """Write ``out`` and the list of rejected rows, and remove the chunks."""
        rejected = sorted(self.folder.glob("*.rejected.csv"))
        if rejected:
            with atomic_path(self.rejected) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                for k, part in enumerate(rejected):
                    pd.read_csv(part, dtype=str, keep_default_na=False).to_csv(file, index=False, header=k == 0)
        with atomic_path(self.out) as temporary:
            self._join_tables(temporary)
        shutil.rmtree(self.folder)

    def _join_tables(self, path: Path) -> None:
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


def _checked_out(out: str) -> Path:
    target = Path(out)
    if target.suffix not in FORMATS:
        raise InputError(f"--out: {out}: got the suffix {target.suffix!r}, expected {' or '.join(FORMATS)}.")
    if target.exists():
        raise InputError(f"--out: {out} exists; nothing is ever overwritten. Choose another name, or delete it.")
    if not target.absolute().parent.is_dir():
        raise InputError(f"--out: the folder {target.parent} does not exist. Make it first.")
    return target


def _identity(
    loaded: Pretrained, data: str, on_error: str, chunk_size: int, smiles_column: str | None, id_column: str | None
) -> dict[str, Any]:
    file = Path(data).absolute()
    state = file.stat() if file.is_file() else None
    return {
        "data": str(file),
        "size of the file": state.st_size if state else None,
        "time of the file": state.st_mtime_ns if state else None,
        "model": loaded.config["sha256"],
        "on_error": on_error,
        "chunk_size": chunk_size,
        "smiles_column": smiles_column,
        "id_column": id_column,
    }
