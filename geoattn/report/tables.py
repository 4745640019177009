"""Blocks that every task's report has."""

from collections.abc import Mapping
from typing import Any

from geoattn._numbers import arrow, counts_text, format_number, lower_is_better, metric_name, rows_of
from geoattn.report.blocks import Block, Section, Table, Text, WarningBox


def metrics_table(metrics: Mapping[str, Any], split: str = "test", *, model: str = "this model") -> Table:
    """The model beside its baselines on one split.

    Args:
        metrics: the ``metrics.json`` mapping.
        split: ``"test"`` or ``"valid"``.
        model: what the model's row is called.
    """
    rows = dict(rows_of(metrics, split, model))
    columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    heads = {metric: f"{metric_name(metric)}{arrow(metric)}" for metric in columns}
    counts = counts_text(rows)
    caption = f"{split.capitalize()} split" + (f", {counts}" if counts else "")
    if any(measure.get("ci95") for row in rows.values() for measure in row.values()):
        caption += "; in brackets the 95 % interval"
    return Table(
        columns=["", *heads.values()],
        rows=[[name, *(row.get(metric) for metric in columns)] for name, row in rows.items()],
        caption=f"{caption}. An arrow says which way is better.",
        best={heads[metric]: "min" if lower_is_better(metric) else "max" for metric in columns if arrow(metric)},
    )


def symmetry_section(errors: Mapping[str, float], symmetry: str, *, tolerance: Mapping[str, float]) -> Section:
    """The measured equivariance error per dtype, with a warning where it is larger than it may be.

    Args:
        errors: dtype -> largest relative error over random transformations, e.g. ``{"float32": 3e-7}``.
        symmetry: what leaves the prediction unchanged, or what it follows.
        tolerance: dtype -> what rounding explains.
    """
    rows = [[dtype, format_number(error), format_number(tolerance[dtype])] for dtype, error in errors.items()]
    broken = [dtype for dtype, error in errors.items() if not error <= tolerance[dtype]]
    blocks: list[Block] = [Text(symmetry), Table(["dtype", "largest relative error", "explained by rounding"], rows)]
    if broken:
        blocks.append(WarningBox(f"The symmetry is broken in {', '.join(broken)}: do not trust this model."))
    return Section("Symmetry", blocks)
