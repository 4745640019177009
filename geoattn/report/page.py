"""The report as one HTML file that needs nothing but itself."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

import geoattn
from geoattn._files import atomic_write_text
from geoattn._numbers import format_number, measure_parts
from geoattn.errors import ShapeError
from geoattn.report.blocks import Block, Code, ImageGrid, KeyValues, Plot, Section, Table, Text, WarningBox
from geoattn.report.svg import figure_svg, inline_svg


def write_report(
    path: str | os.PathLike[str],
    title: str,
    sections: Sequence[Section],
    *,
    summary: str = "",
    headline: Mapping[str, Any] | None = None,
) -> None:
    """Write a report: one HTML file with its pictures inside, without scripts, for screens, phones and paper.

    All text is escaped. The file appears whole or not at all.

    Args:
        path: the file to write.
        title: the report's title.
        sections: its parts, in order.
        summary: a few sentences under the title: what was done and what came out.
        headline: the few numbers that matter most, name -> number, text or entry of ``metrics.json``.

    Raises:
        InputError: the file cannot be written, or a picture is not SVG.
        ShapeError: a table row is not as long as its heads.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/report.html"
        >>> write_report(path, "Trial", [Section("Data", [Text("Ten molecules.")])], headline={"RMSE": 0.5})
    """
    atomic_write_text(path, render_report(title, sections, summary=summary, headline=headline))


def render_report(
    title: str, sections: Sequence[Section], *, summary: str = "", headline: Mapping[str, Any] | None = None
) -> str:
    """The HTML text that `write_report` writes."""
    environment = Environment(
        loader=PackageLoader("geoattn.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = count(1)
    return environment.get_template("report.html.jinja").render(
        title=title,
        summary=_paragraphs(summary),
        headline=[_tile(name, value) for name, value in (headline or {}).items()],
        sections=[{"title": section.title, "groups": _groups(section.blocks, pictures)} for section in sections],
        version=geoattn.__version__,
    )


def _groups(blocks: Sequence[Block], pictures: "count[int]") -> list[dict[str, Any]]:
    """The blocks as the template wants them; figures that follow each other share a row where the page is wide."""
    groups: list[dict[str, Any]] = []
    for block in blocks:
        shown = _show(block, pictures)
        if shown["kind"] == "figures" and groups and groups[-1]["kind"] == "figures":
            groups[-1]["figures"] += shown["figures"]
        else:
            groups.append(shown)
    return groups


def _show(block: Block, pictures: "count[int]") -> dict[str, Any]:
    match block:
        case Text(text):
            return {"kind": "text", "paragraphs": _paragraphs(text)}
        case Code(text):
            return {"kind": "code", "words": re.split(r"(\s+)", text.strip())}
        case WarningBox(text):
            return {"kind": "warning", "paragraphs": _paragraphs(text)}
        case KeyValues(items):
            return {
                "kind": "key-values",
                "items": [(name, " ".join(_cell_parts(value))) for name, value in items.items()],
            }
        case Table():
            return {"kind": "table", **_table(block)}
        case Plot(figure, caption, alt):
            picture = _picture(figure, next(pictures), alt or caption)
            return {"kind": "figures", "figures": [{"picture": picture, "caption": caption}]}
        case ImageGrid(images, caption):
            shown = [{"picture": _picture(svg, next(pictures), text), "caption": text} for svg, text in images]
            return {"kind": "images", "images": shown, "caption": caption}
    raise TypeError(f"{type(block).__name__} is not a block of a report.")


def _picture(figure: Figure | str, number: int, description: str) -> Markup:
    return inline_svg(figure if isinstance(figure, str) else figure_svg(figure), f"p{number}-", description)


def _table(table: Table) -> dict[str, Any]:
    for k, row in enumerate(table.rows):
        if len(row) != len(table.columns):
            raise ShapeError(f"rows[{k}]", f"{len(row)} cells", f"{len(table.columns)}, one per column")
    best = {}
    for column, which in table.best.items():
        numbers = [_number(row[list(table.columns).index(column)]) for row in table.rows]
        finite = [number for number in numbers if number is not None]
        if len(finite) > 1:
            best[column] = min(finite) if which == "min" else max(finite)
    rows = [
        [
            {
                "text": text,
                "spread": spread,
                "number": _number(value) is not None or value is None,
                "best": column in best and _number(value) == best[column],
            }
            for column, value in zip(table.columns, row, strict=True)
            for text, spread in [_cell_parts(value)]
        ]
        for row in table.rows
    ]
    numeric = [bool(rows) and all(row[k]["number"] for row in rows) for k in range(len(table.columns))]
    heads = [{"text": str(column), "number": numeric[k]} for k, column in enumerate(table.columns)]
    return {"heads": heads, "rows": rows, "caption": table.caption, "marks_best": bool(best)}


def _number(value: Any) -> float | None:
    """The finite number in a cell, if there is one."""
    if isinstance(value, Mapping):
        value = value.get("value")
    if value is None or isinstance(value, str | bool) or not hasattr(value, "__float__"):
        return None
    return float(value) if math.isfinite(value) else None


def _cell_parts(value: Any) -> tuple[str, str]:
    return measure_parts(value) if isinstance(value, Mapping) else (format_number(value), "")


def _tile(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {"name": name, "value": format_number(value), "note": ""}
    number, spread = measure_parts(value)
    count = f"n = {format_number(value['n'])}" if value.get("n") else ""
    return {"name": name, "value": number, "note": ", ".join(filter(None, [spread.replace("[", "95 % ["), count]))}


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]
