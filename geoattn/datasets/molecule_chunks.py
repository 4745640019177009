"""Molecule files of any length for a trained model, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch_geometric.data import Data

from geoattn.datasets.molecule_files import Columns, read_records
from geoattn.datasets.molecule_rows import table_of, usable, with_targets
from geoattn.datasets.rejections import OnError, Rejections
from geoattn.domains.molecules.featurize import featurize_many


@dataclass
class Chunk:
    """Some molecules of a file that is read for prediction or testing.

    Attributes:
        number: of the chunk, from 0.
        samples: one graph per usable molecule; ``row`` counts within the chunk.
        table: the same rows: id, file, line, smiles and, if they were read, the targets.
        rejected: file, line, column, value and reason of each row of this chunk that cannot be used.
    """

    number: int
    samples: list[Data]
    table: pd.DataFrame
    rejected: pd.DataFrame


def read_chunks(
    file: str | Path,
    preprocess: dict[str, Any],
    *,
    chunk_size: int = 1000,
    skip: int = 0,
    need_targets: bool = False,
    columns: Columns | None = None,
    on_error: OnError = "raise",
    processes: int | None = 1,
    cache_dir: str | Path | None = None,
) -> Iterator[Chunk]:
    """Read and featurise a file of any length for a trained model, chunk by chunk, with constant memory.

    Args:
        file: as for `MoleculesData`.
        preprocess: of the model.
        chunk_size: molecules per chunk, usable or not.
        skip: pass over so many chunks, which an interrupted run has already done.
        need_targets: read the targets too (units of the file, in ``y [1, T]`` and in the table); a molecule without any
            is then rejected.
        columns: other names of the SMILES and id columns than the training file had.
        on_error: ``"raise"`` at the first bad row, or ``"skip"`` and list it in ``rejected``.
        processes, cache_dir: see `featurize_many`.

    Raises:
        InputError: for a file that cannot be read, and for a bad row when ``on_error="raise"``.
    """
    rejections = Rejections(on_error)
    targets = preprocess["targets"] if need_targets else []
    columns = columns or Columns(preprocess["smiles_column"], preprocess["id_column"])
    stream = read_records(file, rejections, replace(columns, required=targets))
    for number in count():
        records = list(islice(stream, chunk_size))
        if not records and not len(rejections):
            return
        if number >= skip:
            if need_targets:
                records = with_targets(records, targets, preprocess["task"], rejections)
            results = featurize_many(records, preprocess, processes=processes, cache_dir=cache_dir)
            records, samples = usable(results, rejections)
            for row, sample in enumerate(samples):
                sample["row"] = torch.tensor([row])
            yield Chunk(number, samples, table_of(records, targets), rejections.table())
        rejections.clear()
