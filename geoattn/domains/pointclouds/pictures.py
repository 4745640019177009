"""What a report shows of clouds: points coloured by class, by attention or by error, as SVG text."""

from __future__ import annotations

from html import escape
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from geoattn.domains.pointclouds.batch import CloudBatch
from geoattn.domains.pointclouds.risur_model import RISurModel
from geoattn.errors import ShapeError
from geoattn.kernels import interpolate

SIZE, DRAWN = 190, 1024
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B6770", "#F0E442", "#7F3C8D", "#8C564B",
    "#11A579", "#3949AB", "#AFB42B", "#E91E63", "#006064", "#BC8F8F", "#3E2723", "#9E9E9E", "#80DEEA", "#F48FB1",
)  # fmt: skip
"""Of classes of points, in turn; the first can be told apart with every kind of colour vision."""
_TURN, _TILT = np.radians(-55), np.radians(22)
_LOW, _HIGH = np.array([225, 232, 238]), np.array([190, 60, 0])


def draw_cloud(
    points: np.ndarray,
    colours: list[str],
    *,
    up: Literal["x", "y", "z"] = "z",
    size: int = SIZE,
) -> str:
    """A cloud seen from the side and a little from above, as an ``<svg>`` element; near points cover far ones.

    Args:
        points: ``[N, 3]``; at most 1,024 of them are drawn, taken evenly.
        colours: of each point, ``"#rrggbb"``; ``"none"`` leaves a point out.
        up: the axis that points up in the picture.
        size: of the picture in pixels.

    Raises:
        ShapeError: another number of colours than of points.
    """
    if len(points) != len(colours):
        raise ShapeError("colours", f"{len(colours)}", f"{len(points)}, one per point")
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), DRAWN)).round().astype(int))
    x = np.roll(points[chosen].astype(np.float64), 2 - "xyz".index(up), axis=1)
    x = x - (x.min(axis=0) + x.max(axis=0)) / 2
    x /= np.linalg.norm(x, axis=1).max() or 1.0
    right = np.cos(_TURN) * x[:, 0] - np.sin(_TURN) * x[:, 1]
    away = np.sin(_TURN) * x[:, 0] + np.cos(_TURN) * x[:, 1]
    high, near = np.cos(_TILT) * x[:, 2] + np.sin(_TILT) * away, np.sin(_TILT) * x[:, 2] - np.cos(_TILT) * away
    half = size / 2
    dots = []
    for k in np.argsort(near, kind="stable"):
        colour = colours[int(chosen[k])]
        if colour != "none":
            place = f"cx='{half + 0.92 * half * right[k]:.1f}' cy='{half - 0.92 * half * high[k]:.1f}'"
            dots.append(f"<circle {place} r='{1.7 + 0.5 * near[k]:.1f}' fill='{escape(colour)}'/>")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{size}px' height='{size}px' viewBox='0 0 {size} {size}'>"
        f"{''.join(dots)}</svg>"
    )


def class_colours(classes: np.ndarray) -> list[str]:
    """The colour of each class ``[N]``; points of class -1 are not drawn."""
    return [PALETTE[k % len(PALETTE)] if k >= 0 else "none" for k in classes.tolist()]


def shaded(values: np.ndarray, low: float = 0.0, high: float | None = None) -> list[str]:
    """From pale to orange by ``values [N]``, between ``low`` and ``high`` (the 98th percentile if left out)."""
    top = float(np.quantile(values, 0.98)) if high is None and len(values) else (high or 1.0)
    part = np.clip((values - low) / max(top - low, 1e-12), 0, 1)[:, None]
    return ["#{:02x}{:02x}{:02x}".format(*row) for row in (_LOW + part * (_HIGH - _LOW)).astype(int)]


def legend(names: list[str]) -> str:
    """Which colour means which class of points, as an ``<svg>`` element."""
    cells, x, y = [], 0, 0
    for k, name in enumerate(names):
        width = 22 + 7 * len(name)
        if x and x + width > 640:
            x, y = 0, y + 18
        cells.append(
            f"<rect x='{x}' y='{y + 2}' width='11' height='11' fill='{PALETTE[k % len(PALETTE)]}'/>"
            f"<text x='{x + 15}' y='{y + 12}' font-size='11' fill='#1f2933'>{escape(name)}</text>"
        )
        x += width
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='640px' height='{y + 18}px' viewBox='0 0 640 {y + 18}' "
        f"font-family='sans-serif'>{''.join(cells)}</svg>"
    )


@torch.no_grad()
def attention_of_points(model: nn.Module, batch: CloudBatch) -> Tensor | None:
    """``[N]`` how much of each point's surroundings enters the others, or None for a model without such attention.

    In the attention among the centres of the last level of a `RISurModel` every centre receives a weighted mean of the
    others. This is what a centre gives in all, 1 on average over its cloud; points take it from the three nearest
    centres. It shows what the network compares, not why it decides.
    """
    if not isinstance(model, RISurModel):
        return None
    convs: Any = model.network.get_submodule("encoder.convs")
    attention = convs[-1].centers
    if attention is None:
        return None
    given: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
        x, mask = inputs
        weight = attention.attention(x, mask).sum(-1)
        given.append(weight.flatten() if mask is None else weight[mask])

    handle = attention.register_forward_pre_hook(keep)
    try:
        model.eval()(batch)
    finally:
        handle.remove()
    clouds, level = batch.pyramid, len(convs)
    counts, begins = clouds.ptr[level].diff(), clouds.ptr[0][:-1]
    places = torch.arange(int(counts.sum())) - clouds.ptr[level][:-1].repeat_interleave(counts)
    centers = clouds.pos[begins.repeat_interleave(counts) + places]  # a level is the first part of the points
    found = interpolate(
        given[0][:, None], centers, clouds.pos, 3, ptr_source=clouds.ptr[level], ptr_target=clouds.ptr[0]
    )
    return found[:, 0]
