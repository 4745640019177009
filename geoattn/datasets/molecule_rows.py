"""From records to samples and a table: the steps that training and prediction share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from torch_geometric.data import Data

from geoattn.datasets.rejections import Rejections
from geoattn.datasets.target_values import read_targets
from geoattn.domains.molecules.chemistry import canonical_smiles
from geoattn.domains.molecules.records import Record, RecordError
from geoattn.domains.molecules.targets import Kind


def with_targets(records: list[Record], targets: Sequence[str], task: Kind, rejections: Rejections) -> list[Record]:
    """The records whose targets can be read and are not all missing, with ``y`` filled in."""
    kept = []
    for record in records:
        try:
            record.y = read_targets(record, targets, task)
            if np.isnan(record.y).all():
                raise RecordError(", ".join(targets), "", "no target has a value")
            kept.append(record)
        except RecordError as error:
            rejections.add(record.file, record.line, error)
    return kept


def usable(
    stream: Iterable[tuple[Record, Data | RecordError]], rejections: Rejections
) -> tuple[list[Record], list[Data]]:
    """The records that could be featurised, and their graphs."""
    records: list[Record] = []
    samples: list[Data] = []
    for record, result in stream:
        if isinstance(result, RecordError):
            rejections.add(record.file, record.line, result)
        else:
            records.append(record)
            samples.append(result)
    return records, samples


def table_of(records: list[Record], targets: Sequence[str], column: str | None = None) -> pd.DataFrame:
    """One row per usable record."""
    table = pd.DataFrame(
        {
            "id": [record.id for record in records],
            "file": [record.file for record in records],
            "line": [record.line for record in records],
            "smiles": [_smiles(record) for record in records],
        }
    )
    for i, name in enumerate(targets):
        table[name] = [record.y[i] for record in records]
    if column is not None and column not in table:
        table[column] = [record.fields.get(column) for record in records]
    return table


def _smiles(record: Record) -> str:
    """As written in a table, canonical for SDF; for coordinates the readable SMILES that came with them, if any."""
    if record.smiles is not None and record.numbers is None:
        return record.smiles
    try:
        return canonical_smiles(record)
    except RecordError:
        return ""  # coordinates need no SMILES: only baselines and pictures would have used them
