"""``geoattn synergy screen``: all pairs of a list of drugs in given cell lines, streamed and ranked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geoattn.datasets.progress import track
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.datasets.synergy_expression import read_expression
from geoattn.datasets.synergy_frames import expression_of
from geoattn.datasets.synergy_names import Names
from geoattn.domains.records import RecordError
from geoattn.domains.synergy.expression import Expression, Scale, apply_expression
from geoattn.domains.synergy.featurize import DrugFeaturizer
from geoattn.domains.synergy.records import Drug
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._model import checked_device
from geoattn.tasks._parts import Parts, checked_out
from geoattn.tasks._run import say
from geoattn.tasks._synergy_evaluate import PREDICTED, in_units, members_of, pair_key
from geoattn.tasks._synergy_predict import drug_of, identity, load, loaded_of, unseen_text

DRUGS_AT_ONCE = 256
PAIRS_AT_ONCE = {"cpu": 4096, "cuda": 65_536}
"""Pairs that a network sees at once: on a CPU those whose vectors stay in its cache."""
TOP = 10_000
CHUNK = 200_000


@dataclass
class Screen:
    """What is screened.

    Attributes:
        drugs: distinct molecules; the first ``num_against`` are combined with all, or all with all.
        num_against: as many drugs stand first in each pair.
        cells: name -> ``[G]`` standardised expression.
        tissue: name -> tissue.
        rejected: rows of the list of drugs that cannot be used.
        notes: what was done to drugs and expression.
    """

    drugs: list[Drug]
    num_against: int
    cells: dict[str, np.ndarray]
    tissue: Mapping[str, str]
    rejected: pd.DataFrame
    notes: list[str]

    @property
    def num_pairs(self) -> int:
        """Pairs in one cell line."""
        return int(self._starts[-1])

    def pairs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The drugs of pairs ``start`` to ``stop`` of a cell line: drug 0 with all behind it, then drug 1 ..."""
        number = np.arange(start, min(stop, self.num_pairs))
        first = np.searchsorted(self._starts, number, side="right") - 1
        return first, first + 1 + number - self._starts[first]

    @property
    def _starts(self) -> np.ndarray:
        partners = len(self.drugs) - 1 - np.arange(self.num_against)
        return np.concatenate([[0], np.cumsum(partners)])


def screen_files(
    model: str,
    drugs: str,
    expression: str,
    out: str,
    cells: list[str] | None = None,
    against: list[str] | None = None,
    top: int = TOP,
    on_error: OnError = "raise",
    chunk_size: int = CHUNK,
    drug_name_column: str | None = None,
    drug_smiles_column: str | None = None,
    expression_scale: Scale | None = None,
    expression_cell_column: str | None = None,
    expression_transposed: bool = False,
    join_names: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> None:
    """Predict all pairs of a list of drugs in given cell lines, and write them ranked.

    Every drug and every drug in a cell line is computed once, pairs go through in blocks. With ``top``, the best so far
    alone are kept. Finished chunks stand beside ``out``; the same command goes on after an interruption.

    Args:
        model: model folder, run folder, or the name of a shipped model.
        drugs: table of drugs with name and SMILES, .csv, .tsv, .txt (also .gz) or .parquet.
        expression: table of gene expression, a row per cell line.
        out: the file to write, .csv or .parquet: rank, drug_a, drug_b, cell_line, tissue, predicted_score or
            probability, its standard deviation for an ensemble, drugs_seen, cell_seen, and measured_in (train, valid or
            test if the model's own data have this pair in this cell line).
        cells: cell lines, separated by commas; all of the table of expression if left out.
        against: drugs of the list, separated by commas: only pairs with one of these.
        top: keep so many pairs, the highest predictions first; 0 keeps all, not sorted, by cell line.
        on_error: raise stops at the first bad drug; skip leaves bad drugs out and lists them in <out>.rejected.csv.
        chunk_size: pairs per chunk.
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
    _check_top(top)
    loaded = load(model)
    rejections = Rejections(on_error, "drugs")
    table = DrugTable(
        drugs, drug_name_column, drug_smiles_column, join=join_names, space=loaded.preprocess["graph"] == "3d"
    )
    found = read_expression(expression, expression_cell_column, expression_transposed)
    screen = _screen(
        loaded, table.all(rejections), found, cells, against, expression_scale, join_names, table.names, rejections
    )
    screen.notes[:0] = table.notes
    parts = Parts(target, identity(loaded, options, ("drugs", "expression")))
    done = parts.begin()
    if done:
        say(f"Going on after {done} chunks of {chunk_size:,} pairs that are done.", quiet=quiet)
    for note in screen.notes:
        say(note, quiet=quiet)
    best = _Best(top, PREDICTED[loaded.preprocess["task"]])
    measured = _Measured(loaded, screen)
    for chunk in parts.tables() if done and top else ():
        best.add(chunk)
    total = len(screen.cells) * screen.num_pairs
    sizes = f"{len(screen.drugs):,} drugs, {screen.num_pairs:,} pairs, {len(screen.cells):,} cell lines: {total:,}"
    say(f"{sizes} predictions.", quiet=quiet)
    began, predicted = time.monotonic(), 0
    chunks = _chunks(loaded, screen, device, chunk_size, done, quiet)
    for number, chunk, size in chunks:
        kept = best.add(chunk) if top else measured.marked(chunk)
        parts.write(number, kept, screen.rejected if number == 0 else screen.rejected[:0])
        predicted += size
    seconds = time.monotonic() - began
    parts.join(measured.marked(best.ranked()) if top else None)
    for warning in _unseen(loaded.preprocess, screen):
        say(warning, quiet=quiet)
    rate = f"{predicted / seconds:,.0f} a second, features of drugs included" if seconds else ""
    what = f"the first {min(top, total):,}, ranked" if top else "all, not sorted"
    note = f", {len(screen.rejected)} drugs rejected" if len(screen.rejected) else ""
    say(f"{predicted:,} predictions ({rate}){note}; {what}: {target}", quiet=quiet)


def screen_arrays(
    model: str | Path | Pretrained,
    drugs: Mapping[str, str],
    expression: pd.DataFrame,
    cells: Sequence[str] | str | None = None,
    against: Sequence[str] | str | None = None,
    top: int = TOP,
    device: str | None = None,
    expression_scale: Scale | None = None,
) -> pd.DataFrame:
    """All pairs of some drugs in some cell lines, ranked: what ``geoattn synergy screen`` writes.

    Args:
        model: model folder, run folder, name of a shipped model, or what ``from_pretrained`` returned.
        drugs: name -> SMILES.
        expression: a row per cell line, a column per gene; checked as a file is.
        cells: a name in the index of ``expression``, or several; all if left out.
        against: a name among ``drugs``, or several: only pairs with one of these.
        top: so many, the highest predictions first; 0 for all, not sorted, by cell line.
        device: ``"cpu"``, ``"cuda"`` ...; the GPU if there is one.
        expression_scale: ``"tpm"``, ``"log2"`` or ``"zscore"``; that of training if left out.

    Returns:
        The columns of `screen_files`.

    Raises:
        InputError: a drug, cell line or expression that cannot be used.
    """
    _check_top(top)
    if not isinstance(drugs, Mapping):
        raise InputError(f"drugs: got a {type(drugs).__name__}, expected a dict of names and SMILES.")
    loaded, device = loaded_of(model), checked_device(device)
    distinct: dict[str, Drug] = {}
    for name, smiles in drugs.items():
        try:
            drug = drug_of(name, smiles, "smiles", loaded.preprocess)
        except RecordError as error:
            raise InputError(f"drug {name!r}: {error}") from error
        distinct.setdefault(drug.molecule, drug)
    names, rejections = Names([str(name) for name in drugs], "drug", "drugs"), Rejections("raise", "drugs")
    found = expression_of(expression)
    screen = _screen(loaded, list(distinct.values()), found, cells, against, expression_scale, False, names, rejections)
    best = _Best(top, PREDICTED[loaded.preprocess["task"]])
    tables = (table for _, table, _ in _chunks(loaded, screen, device, CHUNK, 0, True))
    if not top:
        return _Measured(loaded, screen).marked(pd.concat(tables, ignore_index=True))
    for table in tables:
        best.add(table)
    return _Measured(loaded, screen).marked(best.ranked())


def _check_top(top: int) -> None:
    if top < 0:
        raise InputError(f"--top: got {top}, expected the number of pairs to keep, or 0 for all.")


def _listed(option: str, names: Sequence[str] | str | None) -> list[str] | None:
    """Distinct names that an option gives, one name or several; None if it was left out."""
    if names is None:
        return None
    found = [names] if isinstance(names, str) else [str(name) for name in names]
    found = list(dict.fromkeys(name.strip() for name in found))
    if not any(found):
        raise InputError(f"{option}: got no name. Give one at least, or leave {option} out.")
    return found


def _screen(
    loaded: Pretrained,
    drugs: list[Drug],
    expression: Expression,
    cells: Sequence[str] | str | None,
    against: Sequence[str] | str | None,
    scale: Scale | None,
    join: bool,
    names: Names,
    rejections: Rejections,
) -> Screen:
    """What the options ask for, with every name found."""
    cells, against = _listed("--cells", cells), _listed("--against", against)
    values, notes = apply_expression(loaded.preprocess["expression"], expression, scale)
    known = Names(expression.cells, "cell line", expression.file, join)
    first: list[Drug] = []
    try:
        chosen = [known.find("--cells", name) for name in cells or dict.fromkeys(expression.cells)]
        wanted = [names.find("--against", name) for name in against or ()]
    except RecordError as error:
        raise InputError(str(error)) from error
    for name in wanted:
        drug = next((drug for drug in drugs if drug.name == name), None)
        if drug is None:
            raise InputError(f"--against: drug {name!r} was left out: it is bad, or the same molecule as another name.")
        first.append(drug)
    if len(drugs) < 2:
        raise InputError(f"drugs: {len(drugs)} usable, distinct molecules; a pair needs two.")
    place = {name: row for row, name in enumerate(expression.cells)}
    return Screen(
        drugs=[*first, *(drug for drug in drugs if drug not in first)],
        num_against=len(first) or len(drugs),
        cells={name: values[place[name]] for name in chosen},
        tissue=expression.tissue,
        rejected=rejections.table(),
        notes=[*expression.notes, *notes, *known.notes],
    )


def _chunks(
    loaded: Pretrained, screen: Screen, device: str, size: int, skip: int, quiet: bool
) -> Iterator[tuple[int, pd.DataFrame, int]]:
    """Number, table and number of pairs of each chunk; a chunk is of one cell line."""
    per_cell = -(-screen.num_pairs // size)
    tasks = [(cell, block) for cell in screen.cells for block in range(per_cell)]
    if skip == len(tasks):
        return
    members = [member.eval().to(device) for member in members_of(loaded.model)]
    columns = _Columns(loaded, screen)
    with torch.inference_mode():
        drugs = _encode_drugs(members, screen.drugs, loaded.preprocess, device, quiet)  # [K][D, C]
        current, states, context = None, [], []
        show = track(range(skip, len(tasks)), len(tasks) - skip, f"Screen, chunks of {size:,} pairs", show=not quiet)
        for number in show:
            cell, block = tasks[number]
            if cell != current:
                expression = torch.from_numpy(screen.cells[cell])[None].to(device)
                context = [member.encode_cells(expression) for member in members]
                states = [_in_cell(*of_member) for of_member in zip(members, drugs, context, strict=True)]
                current = cell
            first, second = screen.pairs(block * size, (block + 1) * size)
            outputs = [_combine(*parts, first, second) for parts in zip(members, states, context, strict=True)]
            yield number, columns.table(cell, first, second, torch.stack(outputs)), len(first)


def _encode_drugs(
    members: Sequence[Any], drugs: Sequence[Drug], preprocess: Mapping[str, Any], device: str, quiet: bool
) -> list[Tensor]:
    """``[D, C]`` of each member; features are made block by block and not kept."""
    featurizer = DrugFeaturizer(preprocess["drug_features"], processes=None)
    found: list[list[Tensor]] = [[] for _ in members]
    blocks = range(0, len(drugs), DRUGS_AT_ONCE)
    for start in track(blocks, len(blocks), f"Drugs, {DRUGS_AT_ONCE} at once", show=not quiet):
        batch = featurizer(drugs[start : start + DRUGS_AT_ONCE]).to(device)
        for rows, member in zip(found, members, strict=True):
            rows.append(member.encode_drugs(batch))
    return [torch.cat(rows) for rows in found]


def _in_cell(member: Any, drugs: Tensor, cell: Tensor) -> Tensor:
    """``[D, C]`` states of all drugs in one cell line ``[1, C]``."""
    blocks = drugs.split(PAIRS_AT_ONCE[drugs.device.type])
    return torch.cat([member.in_cell(block, cell.expand(len(block), -1)) for block in blocks])


def _combine(member: Any, states: Tensor, cell: Tensor, first: np.ndarray, second: np.ndarray) -> Tensor:
    """``[P]`` outputs for pairs of drugs in one cell line, in blocks, on the CPU."""
    found, size = [], PAIRS_AT_ONCE[states.device.type]
    for start in range(0, len(first), size):
        a, b = (torch.from_numpy(rows[start : start + size]).to(states.device) for rows in (first, second))
        found.append(member.combine(states[a], states[b], cell.expand(len(a), -1)).cpu())
    return torch.cat(found)


class _Columns:
    """Makes the table of a chunk."""

    def __init__(self, loaded: Pretrained, screen: Screen) -> None:
        self.preprocess, self.screen = loaded.preprocess, screen
        self.names = np.array([drug.name for drug in screen.drugs], dtype=object)
        known = set(loaded.preprocess["train_drugs"])
        self.seen = np.array([drug.identity in known for drug in screen.drugs])
        self.column = PREDICTED[loaded.preprocess["task"]]

    def table(self, cell: str, first: np.ndarray, second: np.ndarray, outputs: Tensor) -> pd.DataFrame:
        """Of pairs in a cell line, from the outputs ``[K, P]`` of the members."""
        prediction, spread = in_units(outputs, self.preprocess)
        columns = {
            "drug_a": self.names[first],
            "drug_b": self.names[second],
            "cell_line": np.full(len(first), cell, dtype=object),
            "tissue": np.full(len(first), self.screen.tissue.get(cell, ""), dtype=object),
            self.column: prediction,
        }
        columns |= {} if spread is None else {f"{self.column}_std": spread}
        columns["drugs_seen"] = self.seen[first].astype(int) + self.seen[second]
        columns["cell_seen"] = np.full(len(first), cell in self.preprocess["train_cells"])
        return pd.DataFrame(columns)


class _Measured:
    """Finds the pairs that stand in a model's own data."""

    def __init__(self, loaded: Pretrained, screen: Screen) -> None:
        keys = loaded.split.get("keys", {})
        self._part = {key: part for part in ("test", "valid", "train") for key in keys.get(part, ())}
        self._identity = {drug.name: drug.identity for drug in screen.drugs}

    def marked(self, table: pd.DataFrame) -> pd.DataFrame:
        """With the column ``measured_in``: train, valid, test, or empty."""
        rows = zip(table["drug_a"], table["drug_b"], table["cell_line"], strict=True)
        keys = (pair_key(self._identity[a], self._identity[b], cell) for a, b, cell in rows)
        return table.assign(measured_in=[self._part.get(key, "") for key in keys])


class _Best:
    """The rows of the highest predictions so far, in bounded memory."""

    def __init__(self, top: int, column: str) -> None:
        self.top, self.column = top, column
        self._rows: pd.DataFrame | None = None

    def add(self, chunk: pd.DataFrame) -> pd.DataFrame:
        """Take in a chunk; those of its rows that are among the best so far."""
        if self._rows is not None and len(self._rows) == self.top:
            chunk = chunk[chunk[self.column] > self._rows[self.column].iloc[-1]]
        chunk = chunk.sort_values(self.column, ascending=False, kind="stable")[: self.top]
        rows = chunk if self._rows is None else pd.concat([self._rows, chunk])
        self._rows = rows.sort_values(self.column, ascending=False, kind="stable")[: self.top]
        return chunk

    def ranked(self) -> pd.DataFrame:
        """The best, numbered from 1."""
        assert self._rows is not None
        table = self._rows.reset_index(drop=True)
        table.insert(0, "rank", np.arange(1, len(table) + 1))
        return table


def _unseen(preprocess: Mapping[str, Any], screen: Screen) -> list[str]:
    """What to say about drugs and cell lines that the model was not trained on."""
    known = set(preprocess["train_drugs"])
    drugs = [drug.name for drug in screen.drugs if drug.identity not in known]
    cells = [name for name in screen.cells if name not in preprocess["train_cells"]]
    said = []
    if drugs:
        said.append(f"Warning: {unseen_text(drugs, 'drug')}; predictions for them are less reliable, see drugs_seen.")
    if cells:
        said.append(f"Warning: {unseen_text(cells, 'cell line')}; see cell_seen.")
    return said
