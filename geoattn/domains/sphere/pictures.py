"""Maps of fields: the whole globe in Mollweide's projection, in which equal areas look equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import ShapeError

INK, MISSING = "#1F2933", "#D5DAE0"
PALETTE = (
    "#E4DFD3", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B6770", "#F0E442", "#7F3C8D",
    "#8C564B", "#11A579", "#3949AB", "#AFB42B", "#E91E63", "#006064",
)  # fmt: skip
_SCATTERED_BELOW = 500  # fewer points than this are drawn as dots
_RASTER = (180, 360)


def draw_maps(
    grid: SphereGrid,
    fields: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    label: str = "",
    signed: bool | None = None,
) -> Figure:
    """Fields on one colour scale, side by side.

    Args:
        grid: their points; missing values are grey.
        fields: ``[N]`` each.
        titles: of each.
        label: of the scale: the variable and its unit.
        signed: a scale that is white at 0 and the same on both sides, for errors and winds; if left out, where the
            fields have both signs and neither is less than a quarter of the other.

    Raises:
        ShapeError: another number of titles than of fields, or of values than of points.

    Example:
        >>> grid = SphereGrid("healpix", size=4, order="ring")
        >>> figure = draw_maps(grid, [grid.points.xyz[:, 2].numpy()], ["height above the equator"])
        >>> len(figure.axes)  # the map and the scale
        2
    """
    _check(grid, fields, titles)
    known = np.concatenate([field[np.isfinite(field)] for field in fields] or [np.zeros(0)])
    low, high = (float(x) for x in np.quantile(known, [0.002, 0.998])) if len(known) else (0.0, 1.0)
    both = low < 0 < high and min(-low, high) > max(-low, high) / 4
    if both if signed is None else signed:
        high = max(abs(low), abs(high)) or 1.0
        options: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -high, "vmax": high}
    else:
        options = {"cmap": "viridis", "vmin": low, "vmax": high if high > low else low + 1}
    figure, axes = _panels(titles)
    for panel, field in zip(axes, fields, strict=True):
        mappable = _draw(panel, grid, np.asarray(field, dtype=np.float64), options)
    if len(fields):
        bar = figure.colorbar(
            mappable, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.04, extend="both"
        )
        bar.set_label(label, color=INK)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    return figure


def draw_errors(
    grid: SphereGrid, truth: np.ndarray, predicted: np.ndarray, *, label: str = ""
) -> tuple[Figure, Figure]:
    """The truth beside the prediction, and predicted minus true on a scale of its own."""
    beside = draw_maps(grid, [truth, predicted], ["true", "predicted"], label=label)
    error = predicted.astype(np.float64) - truth
    return beside, draw_maps(grid, [error], ["predicted \N{MINUS SIGN} true"], label=label, signed=True)


def draw_classes(
    grid: SphereGrid, fields: Sequence[np.ndarray], titles: Sequence[str], class_names: Sequence[str]
) -> Figure:
    """Maps of classes ``[N]`` with a legend; -1 is grey."""
    _check(grid, fields, titles)
    colours = [PALETTE[k % len(PALETTE)] for k in range(max(len(class_names), 1))]
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    figure, axes = _panels(titles)
    for panel, field in zip(axes, fields, strict=True):
        values = np.where(field >= 0, field, np.nan).astype(np.float64)
        _draw(panel, grid, values, {"cmap": ListedColormap(colours), "norm": norm})
    for colour, name in zip(colours, class_names, strict=False):
        axes[0].plot([], [], "s", color=colour, label=name)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def _panels(titles: Sequence[str]) -> tuple[Figure, list[Any]]:
    columns = min(len(titles), 2) or 1
    rows = -(-len(titles) // columns) or 1
    figure = Figure(figsize=(4.6 * columns, 2.75 * rows + 0.6), layout="constrained")
    axes = []
    for k, title in enumerate(titles):
        panel = figure.add_subplot(rows, columns, k + 1, projection="mollweide")
        panel.set_title(title, fontsize=10, color=INK)
        panel.set_facecolor(MISSING)
        panel.set_xticks(np.radians([-120, -60, 0, 60, 120]), labels=[])
        panel.set_yticks(np.radians([-60, -30, 0, 30, 60]), labels=[])
        panel.grid(color=INK, alpha=0.18, linewidth=0.4)
        axes.append(panel)
    return figure, axes


def _draw(panel: Any, grid: SphereGrid, field: np.ndarray, options: dict[str, Any]) -> Any:
    shape = grid.shape
    if shape is not None and min(shape) > 1:
        east = (np.array(grid.longitude) + 180) % 360 - 180
        order = np.argsort(east)
        inner = (east[order][1:] + east[order][:-1]) / 2
        rows = np.array(grid.latitude)
        lat = np.concatenate([[90.0], (rows[1:] + rows[:-1]) / 2, [-90.0]])
        lon = np.concatenate([[-180.0], inner, [180.0]])
        values = field.reshape(shape)[:, order]
    elif grid.num_points < _SCATTERED_BELOW:
        places = grid.points
        lon = (places.longitude.numpy() + np.pi) % (2 * np.pi) - np.pi
        size = float(np.clip(6000 / grid.num_points, 8, 60))
        return panel.scatter(lon, np.pi / 2 - places.colatitude.numpy(), c=field, s=size, **options)
    else:  # the nearest point of each cell of a raster: no holes between pixels
        lat, lon = np.linspace(90, -90, _RASTER[0] + 1), np.linspace(-180, 180, _RASTER[1] + 1)
        middle = np.radians((lat[1:] + lat[:-1]) / 2)[:, None], np.radians((lon[1:] + lon[:-1]) / 2)[None]
        xyz = np.stack(
            np.broadcast_arrays(
                np.cos(middle[0]) * np.cos(middle[1]), np.cos(middle[0]) * np.sin(middle[1]), np.sin(middle[0])
            ),
            axis=-1,
        )
        values = field[cKDTree(grid.points.xyz.numpy()).query(xyz)[1]]
    return panel.pcolormesh(
        np.radians(lon), np.radians(lat), np.ma.masked_invalid(values), rasterized=True, shading="flat", **options
    )


def _check(grid: SphereGrid, fields: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    if len(fields) != len(titles):
        raise ShapeError("titles", f"{len(titles)}", f"{len(fields)}, one per field")
    for field in fields:
        if field.shape != (grid.num_points,):
            raise ShapeError("fields", f"shape {field.shape}", f"[{grid.num_points}], one value per point")
