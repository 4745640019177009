"""What ``test`` is in every task: the rows that are measured, and the folder with what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from geoattn.errors import InputError
from geoattn.tasks._report import Page, write_page
from geoattn.tasks._run import RunFolder, command_line, say

Rows = Literal["all", "test"]


def chosen_rows(rows: Rows, keys: Sequence[str], known: Mapping[str, Sequence[str]], data: str, what: str) -> list[int]:
    """All rows of a file, or those that are in the test part of a model.

    Args:
        rows: which.
        keys: one per row, the same for samples that are the same.
        known: part -> keys of the model's samples.
        data: the file.
        what: a sample is called.
    """
    if rows == "all":
        return list(range(len(keys)))
    wanted = set(known.get("test", ()))
    chosen = [row for row, key in enumerate(keys) if key in wanted]
    if not chosen:
        raise InputError(f"--rows test: no {what} of {data} is in the test part of the model. Use --rows all.")
    return chosen


def training_rows(keys: Sequence[str], known: Mapping[str, Sequence[str]]) -> list[int]:
    """The rows of a file that a model was trained on; none if the file does not have all of them."""
    wanted = set(known.get("train", ()))
    return [row for row, key in enumerate(keys) if key in wanted] if wanted <= set(keys) else []


def write_test(
    folder: RunFolder,
    task: str,
    options: Mapping[str, str | None],
    page: Page,
    *,
    title: str,
    metrics: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    rejected: pd.DataFrame,
    notes: Sequence[str],
    quiet: bool,
) -> None:
    """The folder of a model that was measured on a file; the report is the last file.

    Args:
        folder: not made yet.
        task: word on the command line.
        options: that were given, without their dashes; those of None are left out.
        page: of the report.
        title: of the model.
        metrics: what stands in ``metrics.json``.
        tables: file name -> table.
        rejected: the rows that were not used.
        notes: sentences about the file.
        quiet: say nothing.
    """
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    command = command_line([task, "test", *words])
    folder.make()
    folder.write_environment(command)
    for name, table in tables.items():
        folder.write_table(name, table)
    folder.write_table("rejected.csv", rejected)
    folder.write_json("metrics.json", metrics)
    write_page(folder.path, title, page, data=[], rejected=rejected, notes=notes, command=command)
    say(f"Report: {folder.path / 'report.html'}", quiet=quiet)
