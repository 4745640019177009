"""What a report is made of: sections, and the blocks they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Text:
    """Running text; an empty line starts a new paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """A command or a listing, kept as it is."""

    text: str


@dataclass(frozen=True)
class WarningBox:
    """Something the reader must not miss."""

    text: str


@dataclass(frozen=True)
class KeyValues:
    """Names and their values, e.g. the settings of a run."""

    items: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        columns: the heads.
        rows: one sequence per row, as long as ``columns``. Numbers are rounded for reading; a cell may also be an entry
            of ``metrics.json`` (``{"value", "ci95", "n"}``).
        caption: what the table shows.
        best: column -> whether its smallest or largest number is highlighted.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    best: Mapping[str, Literal["min", "max"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """A figure with its caption.

    Attributes:
        figure: a matplotlib Figure, or the text of an SVG picture.
        caption: what to see in it.
        alt: what screen readers say; the caption if empty.
    """

    figure: Figure | str
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class ImageGrid:
    """Small pictures side by side, e.g. molecules.

    Attributes:
        images: (text of an SVG picture, its caption; line breaks are kept).
        caption: what they have in common.
    """

    images: Sequence[tuple[str, str]]
    caption: str = ""


Block = Text | Code | WarningBox | KeyValues | Table | Plot | ImageGrid


@dataclass(frozen=True)
class Section:
    """A titled part of the report."""

    title: str
    blocks: Sequence[Block]
