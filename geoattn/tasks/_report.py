"""Parts of a report that are the same in every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from geoattn._numbers import format_number, lower_is_better
from geoattn.report import Block, Code, KeyValues, Plot, Section, Table, Text, symmetry_section, write_report
from geoattn.report.figures import learning_curve
from geoattn.tasks._model import SYMMETRY_TOLERANCE, Symmetry
from geoattn.tasks._run import environment

REASONS_SHOWN = 10
TEST_PART = "of the test part, which took part in no decision."
"""Which samples the page of a fit is about."""


@dataclass
class Page:
    """What a report shows of a model and the samples that it was measured on, of a fit or of a file.

    Attributes:
        summary: the sentence below the title: what was measured, on how many samples, and which.
        headline: the few numbers that matter most.
        results: the sections before that of the training.
        symmetry: of `symmetry_sections`.
        worst: the sections after that of the training.
    """

    summary: str
    headline: Mapping[str, Any]
    results: Sequence[Section]
    symmetry: Sequence[Section]
    worst: Sequence[Section] = ()


def write_page(
    folder: Path,
    title: str,
    page: Page,
    *,
    data: Sequence[Block],
    rejected: pd.DataFrame,
    notes: Sequence[str],
    command: str,
    training: Section | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """``report.html``: the page of a task among what every report has.

    Args:
        folder: where to write it.
        title: of the model.
        page: of the task.
        data: what is said of the data before the rejected rows.
        rejected: the rows that were not used.
        notes: sentences about the data.
        command: that was given.
        training: of a fit.
        config: all options of a fit.
    """
    sections = [
        *page.results,
        *([training] if training else []),
        *page.worst,
        Section("Data", [*data, *rejected_blocks(rejected), *(Text(note) for note in notes)]),
        *page.symmetry,
        reproduce_section(command, config),
    ]
    write_report(folder / "report.html", title, sections, summary=page.summary, headline=page.headline)


def symmetry_sections(symmetry: Symmetry) -> list[Section]:
    """The measured symmetry beside what rounding allows."""
    return [symmetry_section(symmetry.errors, symmetry.text, tolerance=SYMMETRY_TOLERANCE)]


def beaten_by(metrics: Mapping[str, Any], headline: str) -> str:
    """The baselines that are no worse than the model, by the metric ``headline``."""
    own = metrics["test"][headline]["value"]
    sign = 1 if lower_is_better(headline) else -1
    found = []
    for name, row in metrics["baselines"]["test"].items():
        value = row[headline]["value"]
        if own is not None and value is not None and sign * value <= sign * own:
            found.append(name.replace("_", " "))
    return ", ".join(found)


def training_section(
    history: pd.DataFrame,
    best_epochs: Sequence[int],
    seconds: float,
    ylabel: str = "loss (normalised targets)",
    *,
    keep: str = "best",
) -> Section:
    """The learning curve, and which epochs were kept: the best, or the last."""
    curves: dict[str, Any] = {}
    for seed, part in history.groupby("seed"):
        suffix = f", seed {seed}" if history["seed"].nunique() > 1 else ""
        for name in ("train_loss", "valid_loss"):
            curves[name.replace("_", " ") + suffix] = (part["epoch"].to_numpy(), part[name].to_numpy())
    best = float(best_epochs[0]) if len(best_epochs) == 1 else None
    figure = learning_curve(curves, ylabel=ylabel, best=best)
    kept = ", ".join(map(str, best_epochs))
    which = "the last" if keep == "last" else "the best on the validation part"
    text = (
        f"{history['epoch'].max()} epochs in {format_number(seconds / 60)} minutes. Kept: the weights of epoch "
        f"{kept}, {which}. The training loss is of the weights while they change, the validation loss of their average "
        "if one is taken."
    )
    return Section("Training", [Plot(figure, "Learning curve."), Text(text)])


def overlap_table(rows: Sequence[Mapping[str, Any]], what: str) -> Table:
    """What the parts of a split share, from the rows of an audit; ``what`` names the samples: pairs, say."""
    cells = [[row["parts"], row["what"].replace("_", " "), row["count"], row["of"], row["percent"]] for row in rows]
    caption = "What the parts of the split share; counted in the second part of each pair."
    return Table(["parts", "shared", what, "of", "%"], cells, caption=caption)


def rejected_blocks(rejected: pd.DataFrame) -> list[Block]:
    """The reasons why rows were not used; nothing if all were."""
    if not len(rejected):
        return []
    counts = rejected.groupby(["column", "reason"]).size().sort_values(ascending=False)
    rows = [[column, reason, count] for (column, reason), count in counts.head(REASONS_SHOWN).items()]
    caption = f"{len(rejected):,} rows were not used; rejected.csv lists each with its line."
    return [Table(["column", "reason", "rows"], rows, caption=caption)]


def reproduce_section(command: str, config: Mapping[str, Any] | None) -> Section:
    """The command, the versions and, of a training, all options."""
    blocks: list[Block] = [Code(command), KeyValues(environment())]
    if config is not None:
        blocks.append(Code(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)))
    return Section("Command and versions", blocks)
