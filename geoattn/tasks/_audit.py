"""What ``audit`` is in every task: its options, and the file of its counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from geoattn._files import atomic_path
from geoattn.errors import InputError
from geoattn.tasks._parser import TaskParser, expand_arguments


def counts_file(out: str | None) -> Path | None:
    """The file that ``--out`` of an audit names, if it can be written."""
    target = Path(out) if out is not None else None
    if target is not None and (target.exists() or target.suffix != ".csv"):
        raise InputError(f"--out: {out} must be a .csv file that does not exist yet.")
    return target


def write_counts(target: Path | None, counts: pd.DataFrame, examples: pd.DataFrame | None = None) -> pd.DataFrame:
    """The counts into the file, the examples into ``.examples.csv`` beside it; returns the counts."""
    if target is not None:
        for path, table in ((target, counts), (target.with_suffix(".examples.csv"), examples)):
            if table is not None:
                with atomic_path(path) as temporary:
                    table.to_csv(temporary, index=False)
    return counts


def run_audit(task: str, parser: TaskParser, audit: Callable[..., Any], arguments: list[str]) -> None:
    """The verb, from the words of the command line behind it; the parser has the options of the data."""
    parser.add_argument("--out", type=str | None, help="a .csv file for the counts")
    config = parser.parse_args(expand_arguments(task, arguments)).as_dict()
    audit(config["data"], config["out"])
