"""Receptor files of any length for a trained model, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn.datasets.rejections import OnError, Rejections
from geoattn.datasets.tcr_columns import Anchors, TCRColumns
from geoattn.datasets.tcr_files import PairReader
from geoattn.datasets.tcr_pairs import table_of, usable
from geoattn.domains.tcr.featurize import Featurizer
from geoattn.domains.tcr.records import Pair


@dataclass
class Chunk:
    """Some pairs of a file that is read for prediction or testing.

    Attributes:
        number: of the chunk, from 0.
        pairs: the usable ones.
        table: the same rows: id, file, line, cdr3, v, j, full (if it is read), epitope, label, study.
        rejected: file, line, column, value and reason of each row of this chunk that cannot be used.
        notes: sentences about what was done to the rows so far.
    """

    number: int
    pairs: list[Pair]
    table: pd.DataFrame
    rejected: pd.DataFrame
    notes: list[str]


def read_chunks(
    file: str | Path,
    preprocess: dict[str, Any],
    *,
    chunk_size: int = 10_000,
    skip: int = 0,
    need_labels: bool = False,
    columns: TCRColumns | None = None,
    anchors: Anchors | None = None,
    epitopes: Sequence[str] = (),
    on_error: OnError = "raise",
) -> Iterator[Chunk]:
    """Read a file of any length for a trained model, chunk by chunk, with constant memory.

    Args:
        file: as for `TCRData`, or 10x contig annotations.
        preprocess: of the model.
        chunk_size: pairs per chunk, before those whose epitope cannot be encoded are left out.
        skip: pass over so many chunks, which an interrupted run has already done.
        need_labels: read labels; a row without one is then rejected.
        columns: names of columns that are not found by the usual ones.
        anchors: do the CDR3s have the conserved C and F or W; known formats imply it.
        epitopes: peptides to pair every receptor with, instead of those of the file.
        on_error: ``"raise"`` at the first bad row, or ``"skip"`` and list it in ``rejected``.

    Raises:
        InputError: for a file that cannot be read, and for a bad row when ``on_error="raise"``.
    """
    rejections, featurizer = Rejections(on_error), Featurizer(preprocess)
    full = preprocess["tcr"] == "full"
    reader = PairReader(file, rejections, columns, anchors=anchors, epitopes=epitopes, labels=need_labels, full=full)
    stream = iter(reader)
    for number in count():
        pairs = list(islice(stream, chunk_size))
        if not pairs and not len(rejections):
            return
        if number >= skip:
            pairs = usable(pairs, featurizer, rejections)
            yield Chunk(number, pairs, table_of(pairs), rejections.table(), reader.notes)
        rejections.clear()
