"""Where sampling begins and ends in each graph, for all implementations of `farthest_points` alike."""

import itertools

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._search import check_finite, checked_pointer, squared_distances


def graphs_and_starts(x: Tensor, ptr: Tensor | None, num: int, starts: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Where graphs begin in ``x`` and in the samples, ``[B+1]`` each, and their first rows ``[B]`` (an empty one: any).

    Checks the values of all arguments.
    """
    check_finite("x", x)
    ptr = checked_pointer("ptr", ptr, x)
    sizes = ptr.diff()
    ptr_out = torch.cat([ptr.new_zeros(1), sizes.clamp(max=num).cumsum(0)])
    if starts is None:
        return ptr, ptr_out, _farthest_from_centroid(x, ptr)
    outside = (sizes > 0) & ((starts < 0) | (starts >= sizes))
    if outside.any():
        graph = int(outside.nonzero()[0])
        raise ShapeError(
            "start", f"{int(starts[graph])} in graph {graph}", f"0 to {int(sizes[graph]) - 1}, the points of that graph"
        )
    return ptr, ptr_out, ptr[:-1] + starts


def _farthest_from_centroid(x: Tensor, ptr: Tensor) -> Tensor:
    """The row of each graph that is farthest from its mean, the lowest of those that tie."""
    rows = [
        begin + squared_distances(x[begin:end].double().mean(0, keepdim=True).to(x.dtype), x[begin:end]).argmax()
        if end > begin
        else ptr.new_tensor(begin)
        for begin, end in itertools.pairwise(ptr.tolist())
    ]
    return torch.stack(rows) if rows else ptr[:0]
