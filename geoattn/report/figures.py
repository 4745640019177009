"""The figures of the reports: each takes arrays and returns a matplotlib Figure that no display is needed for.

All of them leave out values that are not finite and say how many, and draw an empty frame that says why when nothing
is left to draw. Colours (Okabe and Ito, 2008) can be told apart with every kind of colour vision; where colour carries
meaning, shape or line style carries it too.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from geoattn._numbers import GAP, format_number
from geoattn.errors import ShapeError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B6770")
INK, GREY, PALE = "#1F2933", "#7B8794", "#E4E7EB"
HEXBIN_FROM = 5000
"""More points than this are drawn as a density of hexagons."""

_DENSITY = LinearSegmentedColormap.from_list("geoattn_density", ["#A9D2EC", PALETTE[0], "#06223A"])
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 3)))
_RASTER_FROM = 1000  # more markers than this are embedded as one picture, to keep the file small
_LEVEL = 0.95
_SMALL: dict[str, Any] = {"fontsize": 8.5, "labelcolor": INK}
_LEGEND: dict[str, Any] = {"edgecolor": PALE, "framealpha": 0.9, **_SMALL}

Curves = Mapping[str, ArrayLike] | ArrayLike


def parity(
    true: ArrayLike, predicted: ArrayLike, *, label: str = "", unit: str = "", std: ArrayLike | None = None
) -> Figure:
    """Predicted against true values, the diagonal, and the band that holds 95 % of the errors.

    Args:
        true: ``[n]``; NaN marks a gap.
        predicted: ``[n]``, in the same unit.
        label: what is predicted.
        unit: its unit, shown on both axes.
        std: ``[n]``, the model's own uncertainty, drawn as bars of one standard deviation (up to 1,000 points).

    Returns:
        a Figure.
    """
    columns, dropped = _finite(true=true, predicted=predicted, **({} if std is None else {"std": std}))
    x, y = columns["true"], columns["predicted"]
    figure, axes = _frame()
    axes.set_xlabel(_quantity("true", label, unit))
    axes.set_ylabel(_quantity("predicted", label, unit))
    if not x.size:
        return _nothing(figure, axes, "no pairs of values", dropped)
    low, high = _range(np.concatenate([x, y]))
    axes.plot([low, high], [low, high], color=INK, linewidth=1, zorder=3)
    half = float(np.quantile(np.abs(y - x), _LEVEL))
    band = f"95 % of the errors: within ±{format_number(half)}"
    for side in (-half, half):
        axes.plot([low, high], [low + side, high + side], color=GREY, linewidth=0.9, linestyle="--", zorder=3)
    axes.plot([], [], color=GREY, linewidth=0.9, linestyle="--", label=band)
    _cloud(figure, axes, x, y, extent=(low, high, low, high))
    if std is not None and x.size <= _RASTER_FROM:
        axes.errorbar(x, y, yerr=np.abs(columns["std"]), fmt="none", ecolor=PALETTE[0], alpha=0.35, elinewidth=0.8)
        axes.plot([], [], color=PALETTE[0], alpha=0.5, label="one standard deviation")
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, **_SMALL)
    _note(axes, _scores(x, y), _left_out(dropped))
    return figure


def residuals(true: ArrayLike, predicted: ArrayLike, *, label: str = "", unit: str = "") -> Figure:
    """Errors (predicted - true) against the prediction, with their running median and their histogram.

    Args:
        true: ``[n]``; NaN marks a gap.
        predicted: ``[n]``, in the same unit.
        label: what is predicted.
        unit: its unit.
    """
    columns, dropped = _finite(true=true, predicted=predicted)
    x, error = columns["predicted"], columns["predicted"] - columns["true"]
    figure, axes = _frame()
    axes.set_xlabel(_quantity("predicted", label, unit))
    axes.set_ylabel(_quantity("predicted " + "\N{MINUS SIGN}" + " true", "", unit))
    if not x.size:
        return _nothing(figure, axes, "no pairs of values", dropped)
    left, right = _range(x)
    size = np.abs(error)
    reach = min(float(size.max()), 5 * float(np.quantile(size, _LEVEL))) * 1.08 or float(size.max()) * 1.08 or 0.5
    outside = size > reach
    _cloud(figure, axes, x[~outside], error[~outside], extent=(left, right, -reach, reach), colorbar=False)
    for sign, marker in ((1, "^"), (-1, "v")):
        beyond = outside & (np.sign(error) == sign)
        axes.scatter(x[beyond], np.full(beyond.sum(), sign * reach * 0.97), marker=marker, s=22, color=PALETTE[1])
    axes.axhline(0, color=INK, linewidth=1, zorder=3)
    if x.size >= 50:
        groups = np.array_split(np.argsort(x, kind="stable"), 10)
        axes.plot(
            [np.median(x[group]) for group in groups],
            [np.median(error[group]) for group in groups],
            color=PALETTE[1],
            marker="o",
            markersize=3.5,
            zorder=4,
            label="median of each tenth",
        )
        axes.legend(loc="lower left", **_LEGEND)
    axes.set(xlim=(left, right), ylim=(-reach, reach))
    side = axes.inset_axes((1.03, 0, 0.22, 1), sharey=axes)
    side.hist(error, bins=_bins(-reach, reach, x.size), orientation="horizontal", color=PALETTE[0], alpha=0.75)
    side.axhline(0, color=INK, linewidth=1)
    side.axis("off")
    spread = f", sd {format_number(error.std(ddof=1))}" if x.size > 1 else ""
    beyond_note = f"{outside.sum():,} beyond the frame (triangles)" if outside.any() else ""
    _note(axes, f"n = {x.size:,}, mean {format_number(error.mean())}{spread}", beyond_note, _left_out(dropped))
    return figure


def learning_curve(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    xlabel: str = "epoch",
    ylabel: str = "loss",
    best: float | None = None,
) -> Figure:
    """Losses or metrics over the training; a logarithmic axis where the values span more than a factor of 20.

    Args:
        curves: name -> (x, y), each ``[n]`` with its own n; NaN marks a gap.
        xlabel: what x counts.
        ylabel: what y is, with its unit.
        best: the x whose weights were kept, marked.
    """
    figure, axes = _frame()
    axes.set_xlabel(_plain(xlabel))
    axes.set_ylabel(_plain(ylabel))
    drawn = {name: _finite(x=x, y=y)[0] for name, (x, y) in curves.items()}
    drawn = {name: columns for name, columns in drawn.items() if columns["y"].size}
    if not drawn:
        return _nothing(figure, axes, "nothing was logged", 0)
    for k, (name, columns) in enumerate(drawn.items()):
        marker = "o" if columns["y"].size <= 20 else None
        axes.plot(columns["x"], columns["y"], label=_plain(name), marker=marker, markersize=3.5, **_line(k))
    values = np.concatenate([columns["y"] for columns in drawn.values()])
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
    if best is not None:
        axes.axvline(best, color=GREY, linewidth=1, linestyle=":", label=f"kept: {best:g}")
    _whole_numbers(axes, np.concatenate([columns["x"] for columns in drawn.values()]))
    axes.legend(loc="upper right", **_LEGEND)
    return figure


def roc(labels: ArrayLike, scores: Curves, *, label: str = "") -> Figure:
    """Receiver operating characteristic: true against false positive rate, and the area below.

    Args:
        labels: ``[n]`` of 0 and 1; NaN marks a gap.
        scores: ``[n]``, higher for class 1, or name -> ``[n]`` for several models on the same rows.
        label: what class 1 is.
    """
    from sklearn.metrics import auc, roc_curve

    figure, axes = _frame()
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    pairs, dropped = _two_classes(labels, scores)
    if not pairs:
        return _nothing(figure, axes, "both classes are needed", dropped)
    for k, (name, (truth, score)) in enumerate(pairs.items()):
        false_rate, true_rate, _ = roc_curve(truth, score)
        area = f"area {auc(false_rate, true_rate):.3f}"
        axes.plot(false_rate, true_rate, label=f"{_plain(name)}: {area}" if name else area, **_line(k))
    _class_note(axes, pairs, label, dropped)
    return figure


def precision_recall(labels: ArrayLike, scores: Curves, *, label: str = "") -> Figure:
    """Precision against recall with the average precision; the dashed line is what guessing reaches.

    Args:
        labels: ``[n]`` of 0 and 1; NaN marks a gap.
        scores: ``[n]``, higher for class 1, or name -> ``[n]`` for several models on the same rows.
        label: what class 1 is.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _frame()
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    pairs, dropped = _two_classes(labels, scores)
    if not pairs:
        return _nothing(figure, axes, "both classes are needed", dropped)
    for k, (name, (truth, score)) in enumerate(pairs.items()):
        precision, recall, _ = precision_recall_curve(truth, score)
        area = f"average precision {average_precision_score(truth, score):.3f}"
        text = f"{_plain(name)}: {area}" if name else area
        axes.plot(recall, precision, label=text, drawstyle="steps-post", **_line(k))
    axes.axhline(next(iter(pairs.values()))[0].mean(), color=GREY, linewidth=1, linestyle="--")
    _class_note(axes, pairs, label, dropped)
    return figure


def calibration(labels: ArrayLike, probabilities: ArrayLike, *, label: str = "", bins: int = 10) -> Figure:
    """How often class 1 came true among predictions of about the same probability, with 95 % Wilson intervals.

    Args:
        labels: ``[n]`` of 0 and 1; NaN marks a gap.
        probabilities: ``[n]`` between 0 and 1.
        label: what class 1 is.
        bins: number of equal slices of the probability.

    Raises:
        ShapeError: a probability outside 0 to 1.
    """
    columns, dropped = _finite(labels=labels, probabilities=probabilities)
    truth, p = columns["labels"], columns["probabilities"]
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ShapeError("probabilities", f"values from {p.min():.3g} to {p.max():.3g}", "0 to 1", "Apply a sigmoid.")
    figure, axes = _frame()
    axes.set(xlabel="predicted probability", ylabel="observed fraction", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    if not p.size:
        return _nothing(figure, axes, "no predictions", dropped)
    slices = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(slices, minlength=bins)
    used = count > 0
    n = count[used]
    center = np.bincount(slices, p, bins)[used] / n
    share = np.bincount(slices, truth, bins)[used] / n
    low, high = _wilson(share, n)
    axes.bar((np.arange(bins) + 0.5) / bins, 0.25 * count / count.max(), width=0.9 / bins, color=PALETTE[0], alpha=0.15)
    axes.errorbar(
        center, share, yerr=[share - low, high - share], fmt="o-", color=PALETTE[0], markersize=4.5, capsize=2.5
    )
    error = float((n * np.abs(share - center)).sum() / n.sum())
    counts = f"n = {p.size:,}, mean gap {format_number(error)}; pale bars: share of the predictions"
    _note(axes, label, counts, _left_out(dropped))
    return figure


def coverage(true: ArrayLike, predicted: ArrayLike, std: ArrayLike, *, label: str = "") -> Figure:
    """Whether the uncertainty is honest: the share of true values inside the central interval of each level.

    Below the diagonal the model is too sure of itself, above it too timid. The errors are taken as normal.

    Args:
        true: ``[n]``; NaN marks a gap.
        predicted: ``[n]``.
        std: ``[n]``, the predicted standard deviation.
        label: what is predicted.
    """
    from scipy.special import ndtr

    columns, dropped = _finite(true=true, predicted=predicted, std=std)
    figure, axes = _frame()
    axes.set(xlabel="nominal level of the interval", ylabel="share of true values inside", aspect="equal")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    size = columns["true"].size
    if not size:
        return _nothing(figure, axes, "no predictions", dropped)
    error, width = np.abs(columns["true"] - columns["predicted"]), np.abs(columns["std"])
    with np.errstate(divide="ignore", invalid="ignore"):
        level_needed = np.where(error == 0, 0.0, 2 * ndtr(error / width) - 1)
    level = np.linspace(0, 1, 101)
    inside = np.searchsorted(np.sort(level_needed), level, side="right") / size
    low, high = _wilson(inside, np.full_like(inside, size))
    axes.fill_between(level, low, high, color=PALETTE[0], alpha=0.2, linewidth=0, label="95 % interval")
    axes.plot(level, inside, **_line(0))
    axes.legend(loc="lower right", **_LEGEND)
    _note(axes, label, f"n = {size:,}; at 95 %: {100 * inside[95]:.0f} % inside", _left_out(dropped))
    return figure


def bars(
    names: Sequence[str],
    values: ArrayLike,
    intervals: ArrayLike | None = None,
    *,
    label: str = "",
    unit: str = "",
    highlight: int | None = 0,
    reference: float | None = None,
) -> Figure:
    """One horizontal bar per model, in the order given, with its value and its interval.

    Args:
        names: one per bar, top to bottom.
        values: ``[n]``; NaN draws no bar.
        intervals: ``[n, 2]``, lower and upper end; NaN draws none.
        label: what is compared, e.g. ``"RMSE"``.
        unit: its unit.
        highlight: which bar is the model of this report; None for none.
        reference: a value drawn as a dashed line, e.g. what guessing reaches.
    """
    value = np.asarray(values, dtype=float).reshape(-1)
    ends = np.full((value.size, 2), np.nan) if intervals is None else np.asarray(intervals, dtype=float)
    if len(names) != value.size or ends.shape != (value.size, 2):
        got = f"{len(names)} names, {value.size} values, intervals {ends.shape}"
        raise ShapeError("values", got, "one value and one (low, high) per name")
    figure, axes = _frame(height=max(2.4, 0.9 + 0.38 * value.size))
    axes.set_xlabel(_quantity("", label, unit))
    axes.grid(visible=False, axis="y")
    if not np.isfinite(value).any():
        return _nothing(figure, axes, "no values", 0)
    position = np.arange(value.size)
    colors = [PALETTE[0] if k == highlight else "#B8C4CE" for k in position]
    axes.barh(position, np.nan_to_num(value, posinf=0, neginf=0), color=colors, height=0.62)
    shown = np.where(np.isfinite(ends), ends, value[:, None])
    for k in position[np.isfinite(ends).any(axis=1) & np.isfinite(value)]:
        axes.plot(shown[k], [k, k], color=INK, linewidth=1.3, marker="|", markersize=6)
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=1, linestyle="--")
    edge = np.nanmax(np.where(np.isfinite(shown), shown, 0), axis=1, initial=0)
    for k in range(value.size):
        axes.annotate(
            format_number(value[k]) if np.isfinite(value[k]) else GAP,
            (edge[k], k),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=9,
            fontweight="bold" if k == highlight else "normal",
        )
    axes.set_yticks(position, [_plain("\n".join(wrap(str(name), 26))) for name in names])
    axes.tick_params(axis="y", length=0)
    low, high = min(0.0, float(np.nanmin(shown))), float(edge.max())
    axes.set_xlim(low * 1.05, high + 0.16 * ((high - low) or 1.0))
    axes.set_ylim(value.size - 0.4, -0.6)
    return figure


def histogram(values: Curves, *, label: str = "", unit: str = "", bins: int = 30) -> Figure:
    """How values are distributed; several sets share their bins and are scaled to the same area.

    Args:
        values: ``[n]``, or name -> ``[n]``.
        label: what is counted.
        unit: its unit.
        bins: number of bins over the range of all sets.
    """
    sets = _named(values)
    columns = {name: _finite(values=array) for name, array in sets.items()}
    dropped = sum(number for _, number in columns.values())
    filled = {name: found["values"] for name, (found, _) in columns.items() if found["values"].size}
    figure, axes = _frame()
    axes.set_xlabel(_quantity("", label, unit))
    axes.set_ylabel("count" if len(sets) == 1 else "density")
    if not filled:
        return _nothing(figure, axes, "no values", dropped)
    edges = np.linspace(*_range(np.concatenate(list(filled.values()))), bins + 1)
    for k, (name, array) in enumerate(filled.items()):
        height, _ = np.histogram(array, edges, density=len(sets) > 1)
        line = _line(k)
        axes.stairs(height, edges, fill=True, color=line["color"], alpha=0.25 if len(sets) > 1 else 0.75)
        axes.stairs(height, edges, label=f"{_plain(name)} (n = {array.size:,})", **line)
    axes.set_ylim(bottom=0)
    _note(axes, f"n = {filled[''].size:,}" if "" in filled else "", _left_out(dropped))
    if "" not in filled:
        axes.legend(loc="best", **_LEGEND)
    return figure


# ------------------------------------------------------------------------------------------------------------- parts


def _frame(width: float = 4.8, height: float = 4.1) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` inches with one quiet pair of axes, free of pyplot and of global settings."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=6)
    axes.tick_params(colors=INK, labelsize=9, color=GREY, width=0.8, length=3)
    axes.xaxis.label.set(color=INK, fontsize=10)
    axes.yaxis.label.set(color=INK, fontsize=10)
    return figure, axes


def _cloud(
    figure: Figure,
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    extent: tuple[float, float, float, float],
    colorbar: bool = True,
) -> None:
    """Points, or hexagons coloured by their number on a logarithmic scale where points would hide each other."""
    if x.size <= HEXBIN_FROM:
        alpha = float(np.clip(12 / np.sqrt(x.size), 0.25, 0.8))
        style: dict[str, Any] = {"alpha": alpha, "edgecolors": "none", "rasterized": x.size > _RASTER_FROM}
        axes.scatter(x, y, s=18 if x.size < 500 else 10, color=PALETTE[0], zorder=2, **style)
        return
    hexagons = axes.hexbin(x, y, gridsize=60, bins="log", mincnt=1, cmap=_DENSITY, extent=extent, linewidths=0.1)
    if colorbar:
        bar = figure.colorbar(hexagons, ax=axes, shrink=0.75, pad=0.02)
        bar.set_label("points", color=INK, fontsize=9)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)


def _nothing(figure: Figure, axes: Axes, why: str, dropped: int) -> Figure:
    for line in list(axes.lines):
        line.remove()
    text = "\n".join(filter(None, [f"Nothing to draw: {why}.", _left_out(dropped)]))
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=10)
    axes.set(xticks=[], yticks=[], aspect="auto", xlabel="", ylabel="")
    axes.spines[:].set_visible(False)
    figure.set_figheight(1.6)
    return figure


def _note(axes: Axes, *lines: str) -> None:
    """What the numbers say, above the frame, where it hides no point."""
    axes.set_title(_plain("\n".join(line for line in lines if line)), loc="left", fontsize=8.5, color=INK)


def _class_note(axes: Axes, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], label: str, dropped: int) -> None:
    truth = next(iter(pairs.values()))[0]
    _note(axes, label, f"{int(truth.sum()):,} of {truth.size:,} positive", _left_out(dropped))
    axes.legend(loc="best", **_LEGEND)


def _line(k: int) -> dict[str, Any]:
    return {"color": PALETTE[k % len(PALETTE)], "linestyle": _LINES[k % len(_LINES)], "linewidth": 1.6}


def _plain(text: str) -> str:
    """A user's text, in which matplotlib shall see no formula."""
    return str(text).replace("$", r"\$")


def _quantity(kind: str, label: str, unit: str) -> str:
    name = " ".join(part for part in (kind, label) if part)
    return _plain(f"{name} ({unit})" if unit else name)


def _named(values: Curves) -> dict[str, ArrayLike]:
    return dict(values) if isinstance(values, Mapping) else {"": values}


def _finite(**columns: ArrayLike) -> tuple[dict[str, np.ndarray], int]:
    """The columns as flat float64 arrays without the rows where one of them is not finite, and how many those are."""
    arrays = {name: np.asarray(values, dtype=np.float64).reshape(-1) for name, values in columns.items()}
    sizes = {name: array.size for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ShapeError(next(iter(arrays)), f"lengths {got}", "the same number of values in each")
    keep = np.logical_and.reduce([np.isfinite(array) for array in arrays.values()])
    return {name: array[keep] for name, array in arrays.items()}, int((~keep).sum())


def _two_classes(labels: ArrayLike, scores: Curves) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """Name -> (labels, scores) of the models that were scored on both classes, and the largest number of gaps."""
    pairs, dropped = {}, 0
    for name, score in _named(scores).items():
        columns, gaps = _finite(labels=labels, scores=score)
        truth, dropped = columns["labels"], max(dropped, gaps)
        if not np.isin(truth, (0, 1)).all():
            raise ShapeError("labels", f"values like {truth[~np.isin(truth, (0, 1))][0]:g}", "0 and 1")
        if np.unique(truth).size == 2:
            pairs[name] = (truth, columns["scores"])
    return pairs, dropped


def _left_out(dropped: int) -> str:
    return f"{dropped:,} without a value, left out" if dropped else ""


def _scores(true: np.ndarray, predicted: np.ndarray) -> str:
    error = predicted - true
    parts = [f"n = {true.size:,}", f"MAE {format_number(np.abs(error).mean())}"]
    parts.append(f"RMSE {format_number(np.sqrt((error**2).mean()))}")
    spread = ((true - true.mean()) ** 2).sum()
    if true.size > 1 and spread > 0:
        parts.append(f"R² {format_number(1 - (error**2).sum() / spread)}")
    return ", ".join(parts)


def _range(values: np.ndarray) -> tuple[float, float]:
    """The range of the values with a margin; around values that cannot be told apart a range of some width."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    margin = 0.05 * (high - low) if high - low > 1e-9 * size else max(0.05 * size, 0.5)
    return low - margin, high + margin


def _bins(low: float, high: float, n: int) -> list[float]:
    return np.linspace(low, high, int(np.clip(np.sqrt(n) * 1.5, 8, 60)) // 2 * 2 + 2).tolist()


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share that was observed in ``n`` cases (Wilson, 1927)."""
    z2 = 1.959964**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.minimum(center - half, share), np.maximum(center + half, share)


def _whole_numbers(axes: Axes, x: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    if np.array_equal(x, np.round(x)):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
