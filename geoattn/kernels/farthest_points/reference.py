"""The definition of `farthest_points`: distances to the nearest taken point, brought up to date point by point."""

import itertools

import torch
from torch import Tensor

from geoattn.kernels._operation import uncompiled
from geoattn.kernels._search import squared_distances
from geoattn.kernels.farthest_points._graphs import graphs_and_starts


@uncompiled  # loops over graphs, and a compiler may fuse multiply and add
def farthest_search(x: Tensor, ptr: Tensor | None, num: int, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """See :func:`geoattn.kernels.farthest_points`; any device."""
    ptr, ptr_out, first = graphs_and_starts(x, ptr, num, starts)
    taken = [
        _sample(x[begin:end], min(num, end - begin), row - begin) + begin
        for (begin, end), row in zip(itertools.pairwise(ptr.tolist()), first, strict=True)
    ]
    return torch.cat(taken) if taken else ptr[:0], ptr_out


def _sample(points: Tensor, count: int, row: Tensor) -> Tensor:
    taken = torch.empty(count, dtype=torch.int64, device=points.device)
    nearest = points.new_full((len(points),), torch.inf)
    for place in range(count):
        taken[place] = row
        nearest = torch.minimum(nearest, squared_distances(points[row, None], points)[0])
        nearest[taken[: place + 1]] = -1  # never again
        row = nearest.argmax()  # the first of several
    return taken
