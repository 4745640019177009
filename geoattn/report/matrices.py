"""A table of counts as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from geoattn.report.figures import GREY, INK, PALE


def confusion_figure(counts: pd.DataFrame) -> Figure:
    """How often each true class (rows) was taken for each class (columns): the count, shaded by its share of the row.

    Args:
        counts: whole numbers; index and columns are the names.
    """
    values = counts.to_numpy(dtype=np.float64)
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    edge = 2.2 + 0.36 * len(counts)
    figure = Figure(figsize=(edge, edge * 0.9), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for row, column in zip(*np.nonzero(values), strict=True):
        colour = "white" if share[row, column] > 0.6 else INK
        axes.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    names = [str(name).replace("$", r"\$") for name in counts.columns]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8.5, color=INK)
    axes.set_yticks(range(len(names)), names, fontsize=8.5, color=INK)
    axes.set_xlabel("predicted", color=INK, fontsize=10)
    axes.set_ylabel("true", color=INK, fontsize=10)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color(GREY)
    return figure
