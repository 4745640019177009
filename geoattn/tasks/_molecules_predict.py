"""``geoattn molecules predict``: a file of any length, chunk by chunk; what was done is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from geoattn.datasets.molecule_files import Columns
from geoattn.datasets.molecules import read_chunks
from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError
from geoattn.domains.molecules.featurize import featurize_many
from geoattn.domains.molecules.records import Record, RecordError
from geoattn.domains.molecules.targets import TargetTransform
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._model import default_device, load_model
from geoattn.tasks._molecules_evaluate import predict_samples, prediction_table
from geoattn.tasks._parts import Parts, checked_out, identity_of
from geoattn.tasks._run import say

TASK = "molecules"


def load(model: str | Path) -> Pretrained:
    """A molecules model from a model folder, a run folder, or by the name of a shipped one."""
    return load_model(model, TASK)


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
    target = checked_out(out)
    if chunk_size < 1:
        raise InputError(f"--chunk-size: got {chunk_size}, expected at least 1.")
    loaded = load(model)
    options = {"on_error": on_error, "chunk_size": chunk_size, "smiles_column": smiles_column, "id_column": id_column}
    parts = Parts(target, identity_of(loaded, data, options))
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
