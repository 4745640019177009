"""Tables of drug pairs of any length for a trained model, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.synergy_columns import SynergyColumns
from geoattn.datasets.synergy_drugs import DrugTable
from geoattn.datasets.synergy_expression import read_expression
from geoattn.datasets.synergy_files import CombinationReader, Source
from geoattn.datasets.synergy_names import Names
from geoattn.datasets.synergy_pairs import labelled, table_of
from geoattn.domains.synergy.expression import Scale, apply_expression
from geoattn.domains.synergy.records import Combination
from geoattn.domains.synergy.responses import ResponseScale


@dataclass
class Chunk:
    """Some combinations of a file that is read for prediction or testing.

    Attributes:
        number: of the chunk, from 0.
        samples: the usable ones.
        table: the same rows, as `geoattn.datasets.synergy.SynergyData` has them.
        cells: name -> ``[G]`` standardised expression of the cell lines that may occur.
        rejected: file, line, column, value and reason of each row of this chunk that cannot be used.
        notes: sentences about what was done to the rows so far.
    """

    number: int
    samples: list[Combination]
    table: pd.DataFrame
    cells: dict[str, np.ndarray]
    rejected: pd.DataFrame
    notes: list[str]


def read_chunks(
    file: str | Path,
    expression: str | Path,
    preprocess: dict[str, Any],
    *,
    drugs: str | Path | None = None,
    chunk_size: int = 10_000,
    skip: int = 0,
    need_scores: bool = False,
    source: Source = "column",
    response_scale: ResponseScale | None = None,
    columns: SynergyColumns | None = None,
    drug_columns: tuple[str | None, str | None] = (None, None),
    expression_scale: Scale | None = None,
    expression_cell_column: str | None = None,
    expression_transposed: bool = False,
    join_names: bool = False,
    on_error: OnError = "raise",
) -> Iterator[Chunk]:
    """Read a table of pairs in chunks of ``chunk_size`` rows; repeated rows are not merged.

    Args:
        file: the table.
        expression: of its cell lines; others than those of training may occur.
        preprocess: of the model.
        drugs: table of drugs, unless the pairs bring SMILES.
        chunk_size: rows per chunk.
        skip: chunks that are read and not given, for a run that goes on.
        need_scores: read scores, or labels if the model was trained with labels; the thresholds of training apply.
        source, response_scale: where scores come from.
        columns, drug_columns: names of columns that are not found by the usual ones.
        expression_scale, expression_cell_column, expression_transposed, join_names, on_error: as
            `geoattn.datasets.synergy.SynergyData`; the scale is that of training if left out.

    Raises:
        InputError: for a file that cannot be read, and for a bad row when ``on_error="raise"``.
    """
    table = read_expression(expression, expression_cell_column, expression_transposed)
    values, notes = apply_expression(preprocess["expression"], table, expression_scale)
    cells = dict(zip(table.cells, values, strict=True))
    rejections = Rejections(on_error)
    reader = CombinationReader(
        file,
        rejections,
        DrugTable(drugs, *drug_columns, join=join_names, space=preprocess["graph"] == "3d"),
        Names(table.cells, "cell line", str(expression), join_names),
        table.tissue,
        columns,
        labels=preprocess["task"] == "classification" and preprocess["positive"] is None,
        scores=need_scores,
        source=source,
        response_scale=response_scale,
    )
    stream = iter(reader)
    for number in count():
        samples = list(islice(stream, chunk_size))
        if not samples and not len(rejections):
            return
        if number >= skip:
            said = [*table.notes, *notes, *reader.notes]
            if need_scores and preprocess["positive"] is not None:
                samples, _ = labelled(samples, preprocess["positive"], preprocess["negative"], said)
            yield Chunk(number, samples, table_of(samples), cells, rejections.table(), said)
        rejections.clear()
