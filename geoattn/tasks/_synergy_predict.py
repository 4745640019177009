"""``geoattn synergy predict``: a file of any length, chunk by chunk; what was done is not done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError
from geoattn.datasets.synergy import read_chunks
from geoattn.datasets.synergy_columns import SynergyColumns
from geoattn.datasets.synergy_frames import expression_of
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.drugs import checked_drug
from geoattn.domains.synergy.expression import Scale, apply_expression
from geoattn.domains.synergy.featurize import KEYS, sizes
from geoattn.domains.synergy.records import CellLine, Combination, Drug
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device, load_model, overlap_counts
from geoattn.tasks._parts import Parts, checked_out
from geoattn.tasks._run import say
from geoattn.tasks._synergy_evaluate import TASK, collator, members_of, pair_keys, predict_pairs, prediction_table

SHOWN = 5
PREPROCESS = (
    "expression",
    "task",
    "score",
    "positive",
    "negative",
    "graph",
    "train_cells",
    "train_drugs",
    "drug_features",
    "target",
)
EXPRESSION = ("genes", "kind", "scale", "mean", "sd")


def load(model: str | Path) -> Pretrained:
    """A synergy model from a model folder, a run folder, or by the name of a shipped one."""
    return _checked_preprocess(load_model(model, TASK))


def _checked_preprocess(loaded: Pretrained) -> Pretrained:
    """The model, once its ``preprocess.json`` has what reading new data needs, and fits the network."""
    file, preprocess = loaded.folder / "preprocess.json", loaded.preprocess
    advice = "Was it changed, or made by another version? Take the folder as it was written."

    def check(found: Any, keys: Collection[str], where: str) -> None:
        missing = sorted(set(keys) - set(found)) if isinstance(found, Mapping) else ["everything"]
        if missing:
            raise InputError(f"{file}: {where}{', '.join(missing)} missing. {advice}")

    check(preprocess, PREPROCESS, "")
    check(preprocess["expression"], EXPRESSION, "expression: ")
    check(preprocess["drug_features"], KEYS, "drug_features: ")
    check(preprocess["target"], ("mean", "sd"), "target: ")
    expression = preprocess["expression"]
    lengths = {f"expression: {name}": len(expression[name]) for name in ("genes", "mean", "sd")}
    wanted = dict.fromkeys(lengths, "num_genes")
    for name, size in sizes(preprocess["drug_features"]).items():
        lengths[f"drug_features: {name}"], wanted[f"drug_features: {name}"] = size, name
    config = members_of(loaded.model)[0].config
    for name, size in lengths.items():
        if size != config[wanted[name]]:
            raise InputError(f"{file}: {name}: got {size}, but the network has {config[wanted[name]]}. {advice}")
    return loaded


def predict_file(
    model: str,
    data: str,
    expression: str,
    out: str,
    drugs: str | None = None,
    on_error: OnError = "raise",
    chunk_size: int = 20_000,
    drug_a_column: str | None = None,
    drug_b_column: str | None = None,
    cell_column: str | None = None,
    tissue_column: str | None = None,
    smiles_a_column: str | None = None,
    smiles_b_column: str | None = None,
    id_column: str | None = None,
    drug_name_column: str | None = None,
    drug_smiles_column: str | None = None,
    expression_scale: Scale | None = None,
    expression_cell_column: str | None = None,
    expression_transposed: bool = False,
    join_names: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict how the drug pairs of a file of any length act together, with a trained model.

    The file is read and predicted in chunks, with constant memory. Each finished chunk is kept beside ``out``; the same
    command goes on after an interruption. The chunks are joined at the end. Pairs are marked by how many of their drugs
    the model was trained on, and by whether it was trained on the cell line.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        data: table of pairs, .csv, .tsv, .txt (also .gz) or .parquet: drug_a, drug_b, cell_line.
        expression: table of gene expression, a row per cell line.
        out: the file to write, .csv or .parquet: id, line, drug_a, drug_b, cell_line, tissue, predicted_score or
            probability, its standard deviation for an ensemble, drugs_seen (0, 1 or 2 of the pair's) and cell_seen.
        drugs: table of drugs with name and SMILES, unless the table of pairs has smiles_a and smiles_b.
        on_error: raise stops at the first bad row; skip leaves bad rows out and lists them in <out>.rejected.csv.
        chunk_size: pairs per chunk.
        drug_a_column: the column with one drug, if it is not found by its usual names.
        drug_b_column: the column with the other.
        cell_column: the column with the cell line.
        tissue_column: the column with the tissue.
        smiles_a_column: the column with the SMILES of drug_a.
        smiles_b_column: the column with the SMILES of drug_b.
        id_column: the column that names rows.
        drug_name_column: in the table of drugs, the column with names.
        drug_smiles_column: in the table of drugs, the column with SMILES.
        expression_scale: tpm, log2 or zscore; that of training if left out.
        expression_cell_column: in the table of expression, the column with cell lines.
        expression_transposed: the table of expression has a row per gene.
        join_names: take names that differ in punctuation and case alone for the same.
        device: cpu, cuda or cuda:1; the GPU if there is one.
        quiet: say nothing but errors.
    """
    options = {name: value for name, value in locals().items() if name not in ("model", "out", "device", "quiet")}
    target, device = checked_out(out), checked_device(device)
    if chunk_size < 1:
        raise InputError(f"--chunk-size: got {chunk_size}, expected at least 1.")
    loaded = load(model)
    parts = Parts(target, identity(loaded, options, ("data", "expression", "drugs")))
    done = parts.begin()
    if done:
        say(f"Going on after {done} chunks of {chunk_size} that are done.", quiet=quiet)
    chunks = read_chunks(
        data,
        expression,
        loaded.preprocess,
        drugs=drugs,
        chunk_size=chunk_size,
        skip=done,
        columns=SynergyColumns(
            drug_a=drug_a_column,
            drug_b=drug_b_column,
            cell_line=cell_column,
            tissue=tissue_column,
            smiles_a=smiles_a_column,
            smiles_b=smiles_b_column,
            id=id_column,
        ),
        drug_columns=(drug_name_column, drug_smiles_column),
        expression_scale=expression_scale,
        expression_cell_column=expression_cell_column,
        expression_transposed=expression_transposed,
        join_names=join_names,
        on_error=on_error,
    )
    predicted = rejected = 0
    unseen, keys = Unseen(loaded.preprocess), loaded.split.get("keys", {})
    trained_on = {part: set(keys.get(part, ())) for part in ("train", "valid")}
    counts: Counter[str] = Counter()
    collate, notes = None, []
    for chunk in track(chunks, None, f"Predict, chunks of {chunk_size}", show=not quiet):
        collate = collate or collator(loaded.preprocess, chunk.cells)
        found = predict_pairs(loaded.model, chunk.samples, collate, loaded.preprocess, device)
        table = prediction_table(chunk.table.drop(columns="score"), chunk.samples, *found, loaded.preprocess)
        parts.write(chunk.number, table, chunk.rejected)
        unseen.add(chunk.samples)
        for part, known in trained_on.items():
            counts[part] += sum(key in known for key in pair_keys(chunk.samples))
        notes = chunk.notes
        predicted, rejected = predicted + len(table), rejected + len(chunk.rejected)
    parts.join()
    overlap = [overlap_counts(counts, predicted, "pairs")] if keys and predicted else []
    for note in [*notes, *overlap, *unseen.warnings()]:
        say(note, quiet=quiet)
    note = f", {rejected} rejected" if rejected else ""
    say(f"{predicted} pairs predicted{note}{f', {done} chunks before' if done else ''}: {target}", quiet=quiet)


def predict_arrays(
    model: str | Path | Pretrained,
    smiles_a: Sequence[str],
    smiles_b: Sequence[str],
    cell_line: Sequence[str],
    expression: pd.DataFrame,
    device: str | None = None,
    expression_scale: Scale | None = None,
) -> pd.DataFrame:
    """Predictions for drug pairs in cell lines, pair by pair.

    For files, of any length, see ``geoattn synergy predict`` (`predict_file`).

    Args:
        model: model folder, run folder, name of a shipped model, or what ``from_pretrained`` returned.
        smiles_a, smiles_b: the drugs of each pair, in either order.
        cell_line: names in the index of ``expression``.
        expression: a row per cell line, a column per gene; checked as a file is.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.
        expression_scale: ``"tpm"``, ``"log2"`` or ``"zscore"``; that of training if left out.

    Returns:
        One row per pair: ``smiles_a``, ``smiles_b``, ``cell_line``, ``predicted_score`` or ``probability``, for an
        ensemble its standard deviation, ``drugs_seen`` and ``cell_seen``.

    Raises:
        InputError: lists of different length, a drug or cell line that cannot be used; it names the place.
    """
    loaded, device = loaded_of(model), checked_device(device)
    for name, given in {"smiles_a": smiles_a, "smiles_b": smiles_b, "cell_line": cell_line}.items():
        if isinstance(given, str) or not hasattr(given, "__len__"):
            raise InputError(f"{name}: got a {type(given).__name__}, expected a list with one value per pair.")
        if len(given) != len(smiles_a):
            raise InputError(f"{name}: got {len(given)} values, expected {len(smiles_a)}, one per smiles_a.")
    table = expression_of(expression)
    values = apply_expression(loaded.preprocess["expression"], table, expression_scale)[0]
    cells = dict(zip(table.cells, values, strict=True))
    samples = []
    for k, (a, b, cell) in enumerate(zip(smiles_a, smiles_b, cell_line, strict=True)):
        try:
            one, other = (
                drug_of(text, text, name, loaded.preprocess) for name, text in (("smiles_a", a), ("smiles_b", b))
            )
            if one.molecule == other.molecule:
                raise RecordError("smiles_b", b, "a pair of the same molecule")
            if cell not in cells:
                raise RecordError("cell_line", cell, "not in the index of expression")
        except RecordError as error:
            raise InputError(f"pair {k}: {error}") from error
        samples.append(Combination(str(k), one, other, CellLine(cell, table.tissue.get(cell, ""))))
    collate = collator(loaded.preprocess, cells)
    found = predict_pairs(loaded.model, samples, collate, loaded.preprocess, device)
    rows = pd.DataFrame({"smiles_a": list(smiles_a), "smiles_b": list(smiles_b), "cell_line": list(cell_line)})
    return prediction_table(rows, samples, *found, loaded.preprocess)


def loaded_of(model: str | Path | Pretrained) -> Pretrained:
    """The model that a caller from Python gives: its folder, its name, or what ``from_pretrained`` returned."""
    if not isinstance(model, Pretrained):
        return load(model)
    if model.task != TASK:
        raise InputError(f"model: it is a model for {model.task}. Use: geoattn.tasks.{model.task}.")
    return _checked_preprocess(model)


def drug_of(name: Any, smiles: Any, column: str, preprocess: Mapping[str, Any]) -> Drug:
    """A drug that a caller from Python gives, with the checks of a table of drugs.

    Raises:
        RecordError: no text, a SMILES that cannot be used, or a metal complex where positions are needed.
    """
    if not isinstance(smiles, str):
        raise RecordError(column, smiles, f"a {type(smiles).__name__}, not the text of a SMILES")
    drug = checked_drug(str(name), smiles, column)[0]
    if drug.metal and preprocess["graph"] == "3d":
        raise RecordError(column, smiles, "a metal complex: no force field for its geometry")
    return drug


class Unseen:
    """Counts pairs with drugs and cell lines that a model was not trained on."""

    def __init__(self, preprocess: Mapping[str, Any]) -> None:
        self._drugs, self._cells = set(preprocess["train_drugs"]), set(preprocess["train_cells"])
        self.drugs: Counter[str] = Counter()
        self.cells: Counter[str] = Counter()
        self.pairs = self.both = self.total = 0

    def add(self, samples: Iterable[Combination]) -> None:
        """Count these too."""
        for sample in samples:
            new = [drug.name for drug in (sample.drug_a, sample.drug_b) if drug.identity not in self._drugs]
            self.drugs.update(new)
            self.cells.update([sample.cell.name] * (sample.cell.name not in self._cells))
            self.pairs, self.both, self.total = self.pairs + bool(new), self.both + (len(new) == 2), self.total + 1

    def warnings(self) -> list[str]:
        """What to say about them; nothing if there are none."""
        said = []
        if self.drugs:
            said.append(
                f"Warning: {unseen_text(self.drugs, 'drug')}: {self.pairs:,} of {self.total:,} "
                f"pairs have such a drug, {self.both:,} two. Predictions for those are much less reliable; see "
                "drugs_seen."
            )
        if self.cells:
            said.append(
                f"Warning: {unseen_text(self.cells, 'cell line')}: "
                f"{sum(self.cells.values()):,} of {self.total:,} pairs; see cell_seen."
            )
        return said


def unseen_text(names: Iterable[str], what: str) -> str:
    """``3 drugs (A, B, C) were not in the training part``."""
    found = list(names)
    shown = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    verb = "s ({}) were" if len(found) > 1 else " ({}) was"
    return f"{len(found):,} {what}{verb.format(shown)} not in the training part"


def identity(loaded: Pretrained, options: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """What is predicted, for `Parts`: the model, the files as they are now, and the options."""
    found: dict[str, Any] = {"model": loaded.config["sha256"]}
    for name, value in options.items():
        found[name] = value
        if name in files and value is not None:
            file = Path(value).absolute()
            state = file.stat() if file.is_file() else None
            found[name] = str(file)
            found |= {f"size of {name}": state and state.st_size, f"time of {name}": state and state.st_mtime_ns}
    return found
