"""What the searches share: arguments, graphs, and the one rule for distances.

The rule that makes every implementation find the same neighbours in the same order: the squared distance is
``sum_d (y_d - x_d)^2``, from differences, dimensions added in ascending order, each operation rounded on its own (no
fused multiply-add, no matrix product) in the dtype of the coordinates (16-bit coordinates: float32). Neighbours are
ordered by (squared distance, index).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from geoattn.errors import ShapeError

CHUNK = 2**24
"""Most distances the reference holds at once."""


def check_points(
    x: Tensor, y: Tensor | None, ptr_x: Tensor | None, ptr_y: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Sources, queries and their graphs, ``y`` filled in; points detached and in the dtype distances have."""
    check_cloud("x", x)
    if y is None:
        if ptr_y is not None:
            raise ShapeError("ptr_y", "a tensor", "None when y is None", "The points of x are the queries; drop it.")
    else:
        check_cloud("y", y)
        if y.shape[1] != x.shape[1]:
            raise ShapeError("y", f"{y.shape[1]} columns", f"as many as x, {x.shape[1]}")
        if (ptr_x is None) != (ptr_y is None):
            missing = "ptr_x" if ptr_x is None else "ptr_y"
            raise ShapeError(missing, "None", "the graphs of both x and y, or of neither")
    check_integers("ptr_x", ptr_x, "[B+1]")
    check_integers("ptr_y", ptr_y, "[B+1]")
    dtype = torch.promote_types(x.dtype, torch.float32 if y is None else torch.promote_types(y.dtype, torch.float32))
    x = x.detach().to(dtype).contiguous()
    if y is None:
        return x, x, ptr_x, ptr_x
    return x, y.detach().to(dtype).contiguous(), ptr_x, ptr_y


def check_count(argument: str, value: int) -> None:
    """A number of neighbours is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt) or value < 1:
        raise ShapeError(argument, repr(value), "an integer of at least 1")


def graph_pointers(x: Tensor, y: Tensor, ptr_x: Tensor | None, ptr_y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where each graph begins in ``x`` and ``y`` (``[B+1]`` int64), after checking the values of all arguments."""
    check_finite("x", x)
    if y is not x:
        check_finite("y", y)
    ptr_x = checked_pointer("ptr_x", ptr_x, x)
    ptr_y = checked_pointer("ptr_y", ptr_y, y)
    if len(ptr_x) != len(ptr_y):
        raise ShapeError("ptr_y", f"{len(ptr_y) - 1} graphs", f"as many as ptr_x, {len(ptr_x) - 1}")
    return ptr_x, ptr_y


def squared_radius(r: float, dtype: torch.dtype) -> float:
    """``r`` rounded to ``dtype`` and squared in it, so that a difference of exactly ``(r, 0, ..)`` is within ``r``."""
    rounded = torch.tensor(r, dtype=dtype)
    return float(rounded * rounded)


def distance_chunks(
    x: Tensor, y: Tensor, ptr_x: Tensor, ptr_y: Tensor, exclude_self: bool
) -> Iterator[tuple[slice, int, Tensor]]:
    """Graph by graph, in the order of the queries: rows of ``y``, first source, squared distances ``[rows, n]``.

    With ``exclude_self`` the distance of a point to itself is NaN, which no comparison accepts and sorting puts last.
    """
    starts_x, starts_y = ptr_x.tolist(), ptr_y.tolist()
    for graph in range(len(starts_x) - 1):
        first, last = starts_x[graph : graph + 2]
        step = max(1, CHUNK // max(1, last - first))
        for begin in range(starts_y[graph], starts_y[graph + 1], step):
            rows = slice(begin, min(begin + step, starts_y[graph + 1]))
            dist2 = squared_distances(y[rows], x[first:last])
            if exclude_self:
                dist2.diagonal(begin - first).fill_(torch.nan)
            yield rows, first, dist2


def squared_distances(y: Tensor, x: Tensor) -> Tensor:
    """``[M, N]``, by the rule of this file."""
    total = y.new_zeros(len(y), len(x))
    for d in range(x.shape[1]):
        difference = y[:, d, None] - x[:, d]
        total += difference * difference
    return total


def check_cloud(argument: str, points: Tensor) -> None:
    """Coordinates are ``[N, D]`` floating-point numbers."""
    if points.ndim != 2 or points.shape[1] == 0:
        raise ShapeError(argument, f"shape {tuple(points.shape)}", "[N, D] coordinates")
    if not points.is_floating_point():
        raise ShapeError(argument, f"dtype {points.dtype}", "a floating-point dtype", "Call .float() on it.")


def check_integers(argument: str, value: Tensor | None, shape: str) -> None:
    """``value`` is None or a vector of integers."""
    if value is not None and (value.ndim != 1 or value.is_floating_point() or value.dtype == torch.bool):
        raise ShapeError(argument, f"{value.dtype} of shape {tuple(value.shape)}", f"{shape} integers")


def check_finite(argument: str, points: Tensor) -> None:
    """Coordinates hold neither nan nor inf."""
    points = points.detach()
    if points.dtype in (torch.float32, torch.float64) and points.device.type == "cpu":
        # numpy computes on this thread; torch would wait for its others, on a busy machine far longer than this takes
        fine = bool(np.isfinite(points.numpy()).all())
    else:
        fine = bool(points.isfinite().all())
    if not fine:
        row = int((~points.isfinite()).any(1).nonzero()[0])
        raise ShapeError(argument, f"nan or inf in row {row}: {points[row].tolist()}", "finite coordinates")


def checked_pointer(argument: str, ptr: Tensor | None, points: Tensor) -> Tensor:
    """``[B+1]`` int64 on the device of the points; one graph for None."""
    if ptr is None:
        return torch.tensor([0, len(points)], device=points.device)
    ptr = ptr.to(points.device, torch.int64)
    values = ptr.tolist()
    if not values or values[0] != 0 or values[-1] != len(points) or values != sorted(values):
        raise ShapeError(argument, str(values), f"ascending integers from 0 to the number of points, {len(points)}")
    return ptr
