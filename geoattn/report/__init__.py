"""The report of a run: one HTML file, with figures by matplotlib."""

from geoattn.report.blocks import Block, Code, ImageGrid, KeyValues, Plot, Section, Table, Text, WarningBox
from geoattn.report.page import render_report, write_report
from geoattn.report.tables import metrics_table, symmetry_section

__all__ = [
    "Block",
    "Code",
    "ImageGrid",
    "KeyValues",
    "Plot",
    "Section",
    "Table",
    "Text",
    "WarningBox",
    "metrics_table",
    "render_report",
    "symmetry_section",
    "write_report",
]
