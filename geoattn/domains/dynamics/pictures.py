"""Systems as SVG text for reports: where bodies start, where they end and where they were predicted to end."""

from __future__ import annotations

import numpy as np

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B6770")
MARGIN = 14.0


def draw_system(
    pos: np.ndarray,
    vel: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    charge: np.ndarray | None = None,
    width: int = 220,
    height: int = 180,
) -> str:
    """One system as an ``<svg>`` element, seen along the direction in which it is flattest.

    A ring where a body starts with a line along its velocity, a disc where it ends, a cross where it was predicted to
    end, dotted between the two. Charges colour the bodies (blue positive, red negative); without charges each body has
    a colour of its own.

    Args:
        pos, vel: ``[n, d]`` at the start.
        true, predicted: ``[n, d]`` at the end.
        charge: ``[n]``.
        width, height: in pixels.
    """
    points = np.concatenate([pos, true, predicted])
    view = _flattened(points)
    directions = _flattened(np.concatenate([points, pos + vel]), like=points)[len(points) :]
    low, high = view.min(axis=0), view.max(axis=0)
    scale = min((np.array([width, height]) - 2 * MARGIN) / np.maximum(high - low, 1e-9 * max(1.0, np.abs(view).max())))
    place = lambda p: (p - (low + high) / 2) * scale + np.array([width, height]) / 2  # noqa: E731
    n = len(pos)
    start, end, guess = place(view[:n]), place(view[n : 2 * n]), place(view[2 * n :])
    arrow = place(directions) - start
    longest = max(np.linalg.norm(arrow, axis=1).max(initial=0.0), 1e-9)
    arrow *= min(1.0, 0.2 * min(width, height) / longest)
    shapes = []
    for k in range(n):
        color = _color(k, charge)
        (x, y), (u, v), (a, b) = start[k], end[k], guess[k]
        shapes += [
            _line(x, y, u, v, "#B8C0C8", "stroke-dasharray='4 3'"),
            _line(x, y, x + arrow[k, 0], y + arrow[k, 1], color, "stroke-width='1.6'"),
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.2' fill='none' stroke='{color}' stroke-width='1.4'/>",
            _line(u, v, a, b, color, "stroke-dasharray='1.5 2'"),
            f"<circle cx='{u:.1f}' cy='{v:.1f}' r='4.2' fill='{color}' fill-opacity='0.85'/>",
            f"<path d='M{a - 4:.1f} {b - 4:.1f}l8 8m0 -8l-8 8' stroke='#1F2933' stroke-width='1.4' fill='none'/>",
        ]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}px' height='{height}px' "
        f"viewBox='0 0 {width} {height}'>{''.join(shapes)}</svg>"
    )


def _flattened(points: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """``[m, 2]``: coordinates along the two widest axes of ``like`` (of the points themselves if None)."""
    like = points if like is None else like
    center = like.mean(axis=0)
    axes = np.linalg.svd(like - center, full_matrices=True)[2][:2]
    view = (points - center) @ axes.T
    return view if view.shape[1] == 2 else np.column_stack([view, np.zeros(len(view))])


def _color(body: int, charge: np.ndarray | None) -> str:
    if charge is None:
        return COLORS[body % len(COLORS)]
    return COLORS[0] if charge[body] > 0 else COLORS[1] if charge[body] < 0 else COLORS[6]


def _line(x: float, y: float, u: float, v: float, color: str, more: str) -> str:
    return f"<path d='M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}' stroke='{color}' fill='none' {more}/>"
