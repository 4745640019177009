"""Values over a few settings, as lines."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from geoattn.report.figures import GREY, INK, PALE, PALETTE

_STYLES = ("-", "--", "-.", ":")


def line_figure(
    lines: Mapping[str, Sequence[float]],
    x: Sequence[float],
    *,
    xlabel: str,
    ylabel: str,
    top: float | None = None,
) -> Figure:
    """One line per name over the same settings, on a linear axis from 0; the legend stands below the axes.

    Args:
        lines: name -> ``[n]``; NaN marks a gap.
        x: ``[n]`` the settings, which are the ticks.
        xlabel: what was set.
        ylabel: what was measured, with its unit.
        top: where the axis ends; at the data if left out.
    """
    figure = Figure(figsize=(4.8, 4.1), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for k, (name, values) in enumerate(lines.items()):
        axes.plot(
            x,
            values,
            label=name.replace("$", r"\$"),
            color=PALETTE[k % len(PALETTE)],
            linestyle=_STYLES[k % len(_STYLES)],
            marker="o",
            markersize=3.5,
            clip_on=False,
        )
    axes.set_xticks(list(x))
    axes.set_ylim(0, top)
    axes.set_xlabel(xlabel, color=INK, fontsize=10)
    axes.set_ylabel(ylabel, color=INK, fontsize=10)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelcolor=INK, labelsize=9, color=GREY, width=0.8, length=3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure
