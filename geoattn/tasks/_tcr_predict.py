"""``geoattn tcr predict``: a file of any length, chunk by chunk; what was done is not done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError
from geoattn.datasets.tcr import read_chunks
from geoattn.datasets.tcr_columns import Anchors, TCRColumns
from geoattn.datasets.tcr_rows import checked_protein, receptor_of
from geoattn.domains.records import RecordError
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.records import Epitope, Pair
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device, load_model
from geoattn.tasks._parts import Parts, checked_out, identity_of
from geoattn.tasks._run import say
from geoattn.tasks._tcr_evaluate import TASK, predict_pairs, prediction_table

SHOWN = 5


def load(model: str | Path) -> Pretrained:
    """A tcr model from a model folder, a run folder, or by the name of a shipped one."""
    return load_model(model, TASK)


def predict_file(
    model: str,
    data: str,
    out: str,
    anchors: Anchors | None = None,
    epitopes: list[str] | None = None,
    on_error: OnError = "raise",
    chunk_size: int = 20_000,
    tcr_column: str | None = None,
    v_column: str | None = None,
    j_column: str | None = None,
    full_column: str | None = None,
    epitope_column: str | None = None,
    smiles_column: str | None = None,
    id_column: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict which receptors of a file of any length bind which epitopes, with a trained model.

    The file is read and predicted in chunks, with constant memory. Each finished chunk is kept beside ``out``; the same
    command goes on after an interruption. The chunks are joined at the end. Pairs whose epitope was not in the training
    part are marked: what a model says about those is hardly better than chance.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: AIRR, VDJdb, IEDB, McPAS-TCR, 10x contigs or own table: .csv, .tsv, .txt (also .gz) or .parquet.
        out: the file to write, .csv or .parquet: id, line, cdr3, v, j, epitope, epitope_seen, probability and, for an
            ensemble, probability_std.
        anchors: do CDR3s stand with the conserved C and F or W (yes, no, none for unchecked); known formats imply it.
        epitopes: peptides, separated by commas: each receptor is paired with each of them instead of the file's own.
        on_error: raise stops at the first bad row; skip leaves bad rows out and lists them in <out>.rejected.csv.
        chunk_size: pairs per chunk.
        tcr_column: the column with the CDR3, if it is not found by its usual names.
        v_column: the column with the V gene.
        j_column: the column with the J gene.
        full_column: the column with the whole variable domain.
        epitope_column: the column with the peptide.
        smiles_column: the column with the peptide's SMILES.
        id_column: the column that names pairs.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    target, device = checked_out(out), checked_device(device)
    if chunk_size < 1:
        raise InputError(f"--chunk-size: got {chunk_size}, expected at least 1.")
    loaded = load(model)
    columns = TCRColumns(
        tcr=tcr_column,
        v=v_column,
        j=j_column,
        full=full_column,
        epitope=epitope_column,
        smiles=smiles_column,
        id=id_column,
    )
    options = {"anchors": anchors, "epitopes": epitopes, "on_error": on_error, "chunk_size": chunk_size}
    parts = Parts(target, identity_of(loaded, data, options | vars(columns)))
    done = parts.begin()
    if done:
        say(f"Going on after {done} chunks of {chunk_size} that are done.", quiet=quiet)
    featurizer = Featurizer(loaded.preprocess)
    chunks = read_chunks(
        data,
        loaded.preprocess,
        chunk_size=chunk_size,
        skip=done,
        columns=columns,
        anchors=anchors,
        epitopes=list(dict.fromkeys(epitopes or ())),
        on_error=on_error,
    )
    predicted = rejected = 0
    notes: list[str] = []
    unseen: Counter[str] = Counter()
    for chunk in track(chunks, None, f"Predict, chunks of {chunk_size}", show=not quiet):
        probability, spread = predict_pairs(loaded.model, chunk.pairs, featurizer, device)
        table = prediction_table(_with_seen(chunk.table, loaded.preprocess), probability, spread)
        unseen.update(table.loc[~table["epitope_seen"], "epitope"])
        parts.write(chunk.number, table, chunk.rejected)
        predicted, rejected, notes = predicted + len(table), rejected + len(chunk.rejected), chunk.notes
    parts.join()
    for text in notes:
        say(text, quiet=quiet)
    if unseen:
        say(f"Warning: {unseen_text(unseen)}", quiet=quiet)
    note = f", {rejected} rejected" if rejected else ""
    say(f"{predicted} pairs predicted{note}{f', {done} chunks before' if done else ''}: {target}", quiet=quiet)


def predict_arrays(
    model: str | Path | Pretrained,
    cdr3: Sequence[str],
    epitope: Sequence[str],
    v: Sequence[str] | None = None,
    j: Sequence[str] | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """Probabilities that receptors bind epitopes, pair by pair.

    For files, of any length, see ``geoattn tcr predict`` (`predict_file`).

    Args:
        model: model folder, run folder, name of a shipped model, or what ``from_pretrained`` returned.
        cdr3: of the beta chain, with the conserved C and F or W, in upper case.
        epitope: amino acids in upper case, one per CDR3.
        v, j: IMGT names of the genes; a model that reads the full variable domain needs them.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.

    Returns:
        One row per pair: ``cdr3``, ``epitope``, ``epitope_seen``, ``probability`` and, for an ensemble,
        ``probability_std``.

    Raises:
        InputError: lists of different length, or a sequence or gene that cannot be used; it names the place.
    """
    loaded = model if isinstance(model, Pretrained) else load(model)
    device = checked_device(device)
    genes = {name: [""] * len(cdr3) if given is None else given for name, given in (("v", v), ("j", j))}
    for name, values in {"epitope": epitope, **genes}.items():
        if len(values) != len(cdr3):
            raise InputError(f"{name}: got {len(values)} values, expected {len(cdr3)}, one per cdr3.")
    full = loaded.preprocess["tcr"] == "full"
    featurizer, pairs = Featurizer(loaded.preprocess), []
    for k, (one, peptide, v_gene, j_gene) in enumerate(zip(cdr3, epitope, genes["v"], genes["j"], strict=True)):
        try:
            pair = Pair(
                str(k),
                receptor_of(one, v_gene, j_gene, full=full),
                Epitope(checked_protein("epitope", peptide, "epitope")),
            )
            featurizer.epitope(pair.epitope)
        except RecordError as error:
            raise InputError(f"pair {k}: {error}") from error
        pairs.append(pair)
    probability, spread = predict_pairs(loaded.model, pairs, featurizer, device)
    table = pd.DataFrame({"cdr3": list(cdr3), "epitope": list(epitope)})
    return prediction_table(_with_seen(table, loaded.preprocess), probability, spread)


def unseen_text(unseen: Mapping[str, int]) -> str:
    """What to say about epitopes that were not in the training part, with their numbers of pairs."""
    names = ", ".join(list(unseen)[:SHOWN]) + (", ..." if len(unseen) > SHOWN else "")
    return (
        f"{len(unseen)} epitope{'s were' if len(unseen) > 1 else ' was'} not in the training part ({names}; "
        f"{sum(unseen.values())} pairs). No published model, this one included, ranks receptors for such epitopes "
        "reliably better than chance; see epitope_seen."
    )


def _with_seen(table: pd.DataFrame, preprocess: Mapping[str, Any]) -> pd.DataFrame:
    """The columns that are written, and whether the epitope was in the training part."""
    table = table.drop(columns=[name for name in ("file", "full", "label", "study") if name in table])
    return table.assign(epitope_seen=table["epitope"].isin(preprocess["epitopes"]))
